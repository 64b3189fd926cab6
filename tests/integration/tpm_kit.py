# SPDX-License-Identifier: Apache-2.0
"""Software TPMs: swtpm on ports of the kernel's choice, driven by tpm2-tools."""
import shutil

from dps_kit import *

EK, SRK, IDENTITY = "0x81010001", "0x81000001", "0x81000100"
EK_P384 = "0x81010016"
SRK_ATTRIBUTES = "restricted|decrypt|fixedtpm|fixedparent|noda|userwithauth|sensitivedataorigin"
chips = []


def two_ports():
    """swtpm's TCTI wants the control port right behind the data port."""
    while True:
        a, b = socket.socket(), socket.socket()
        try:
            a.bind(("127.0.0.1", 0))
            port = a.getsockname()[1]
            b.bind(("127.0.0.1", port + 1))
            return port
        except (OSError, OverflowError):
            pass
        finally:
            a.close()
            b.close()


class Chip:
    """maker: folder of a CA that issues the certificates of its keys; None: none."""

    def __init__(self, name, maker=None):
        self.dir = os.path.join(T, "tpm-" + name)
        self.state = os.path.join(self.dir, "state")
        os.makedirs(self.state)
        if maker:
            self.manufacture(maker)
        self.port = two_ports()
        self.p = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + self.state,
             "--ctrl", f"type=tcp,port={self.port + 1},bindaddr=127.0.0.1",
             "--server", f"type=tcp,port={self.port},bindaddr=127.0.0.1", "--flags", "not-need-init,startup-clear"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        chips.append(self)
        self.tcti = f"swtpm:host=127.0.0.1,port={self.port}"
        assert until(10, self.answers), "swtpm does not answer"

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port + 1), 1).close()
            return True
        except OSError:
            return False

    def manufacture(self, maker):
        conf = os.path.join(self.dir, "setup.conf")
        with open(conf, "w") as f:
            f.write(f"create_certs_tool = {shutil.which('swtpm_localca')}\ncreate_certs_tool_config = {maker}/localca.conf\n"
                    f"create_certs_tool_options = {maker}/localca.options\n")
        subprocess.run(["swtpm_setup", "--tpm2", "--tpmstate", self.state, "--config", conf, "--create-ek-cert",
                        "--write-ek-cert-files", self.dir, "--overwrite"], check=True, capture_output=True, timeout=patience(60))

    def tool(self, name, *a, stdin=None):
        r = subprocess.run(["tpm2_" + name, *a], cwd=self.dir, env={**os.environ, "TPM2TOOLS_TCTI": self.tcti},
                           input=stdin, capture_output=True, timeout=patience(60))
        if r.returncode != 0:
            raise ValueError(f"tpm2_{name}: {r.stderr.decode()[-300:]}")
        return r.stdout

    def flush(self):
        self.tool("flushcontext", "-t")
        self.tool("flushcontext", "-l")
        self.tool("flushcontext", "-s")

    def path(self, name):
        return os.path.join(self.dir, name)

    def get(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def put(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)

    def make_keys(self, ek="rsa", srk="rsa2048", alg="sha256"):
        """EK and SRK at the handles of docs/protocol/dps-tpm.md 2, unless they are there."""
        handles = self.tool("getcap", "handles-persistent").decode().lower()
        if EK not in handles:
            self.tool("createek", "-c", EK, "-G", ek, "-u", "ek.made")
            self.flush()
        if SRK not in handles:
            self.tool("createprimary", "-C", "o", "-G", srk + ":null:aes128cfb" if srk.startswith("rsa") else srk, "-g", alg,
                      "-a", SRK_ATTRIBUTES, "-c", "srk.ctx")
            self.tool("evictcontrol", "-C", "o", "-c", "srk.ctx", SRK)
            self.flush()
        self.read_keys()

    def read_keys(self, ek=EK):
        self.ek_handle = ek
        self.tool("readpublic", "-c", ek, "-f", "tss", "-o", "ek.pub")
        self.tool("readpublic", "-c", SRK, "-f", "tss", "-o", "srk.pub")
        self.ek, self.srk = self.get("ek.pub"), self.get("srk.pub")

    @property
    def rid(self):
        return base64.b32encode(hashlib.sha256(self.ek).digest()).decode().lower().rstrip("=")

    def open(self, blob):
        """What an SDK does with a blob; the key stays in the chip, at the handle of the identity."""
        f, at = [], 0
        for _ in range(6):
            n = 2 + struct.unpack_from(">H", blob, at)[0]
            f.append(blob[at:at + n])
            at += n
        assert at == len(blob), "bytes behind the sixth field"
        self.put("cred.bin", bytes.fromhex("badcc0de00000001") + f[0] + f[1])
        for i, name in ((2, "dup.bin"), (3, "seed.bin"), (4, "idk.pub")):
            self.put(name, f[i])
        self.flush()
        auth = []  # the profile's high-range keys take a password, which is empty
        if not struct.unpack_from(">I", self.ek, 6)[0] & 0x40:
            self.tool("startauthsession", "--policy-session", "-S", "s.ctx")
            self.tool("policysecret", "-S", "s.ctx", "-c", "e")
            auth = ["-P", "session:s.ctx"]
        try:
            self.tool("activatecredential", "-c", SRK, "-C", self.ek_handle, "-i", "cred.bin", "-o", "inner.bin", *auth)
        finally:
            self.flush()
        self.tool("import", "-C", SRK, "-G", "hmac", "-i", "dup.bin", "-u", "idk.pub", "-r", "idk.priv", "-k", "inner.bin", "-s", "seed.bin")
        self.tool("load", "-C", SRK, "-u", "idk.pub", "-r", "idk.priv", "-c", "idk.ctx")
        if IDENTITY in self.tool("getcap", "handles-persistent").decode().lower():
            self.tool("evictcontrol", "-C", "o", "-c", IDENTITY)
        self.tool("evictcontrol", "-C", "o", "-c", "idk.ctx", IDENTITY)
        self.flush()

    def hmac(self, text):
        out = self.tool("hmac", "-c", IDENTITY, "-g", "sha256", "--hex", stdin=text.encode())
        return bytes.fromhex(out.decode().strip())

    def token(self, resource, skn=None, ttl=600):
        sr, se = quote(resource), str(int(time.time()) + ttl)
        sig = base64.b64encode(self.hmac(sr + "\n" + se)).decode()
        return f"SharedAccessSignature sr={sr}&sig={quote(sig)}&se={se}" + (f"&skn={skn}" if skn else "")

    def stop(self):
        self.p.kill()
        self.p.wait()


def make_maker(name):
    d = os.path.join(T, "maker-" + name)
    os.makedirs(d)
    with open(os.path.join(d, "localca.conf"), "w") as f:
        f.write(f"statedir = {d}\nsigningkey = {d}/signkey.pem\nissuercert = {d}/issuercert.pem\ncertserial = {d}/certserial\n")
    with open(os.path.join(d, "localca.options"), "w") as f:
        f.write("--platform-manufacturer Example\n--platform-version 2.1\n--platform-model Station\n")
    return d


@atexit.register
def stop_chips():
    for c in chips:
        c.stop()
