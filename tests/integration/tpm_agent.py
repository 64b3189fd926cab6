# SPDX-License-Identifier: Apache-2.0
"""berth-agent and the operator's tools with an identity in a TPM of swtpm. Run by 34-tpm.sh."""
from tpm_kit import *


def run(*a, want=0):
    r = subprocess.run(a, capture_output=True, timeout=patience(60), cwd=T)
    if r.returncode != want:
        raise ValueError(f"{a[0]}: status {r.returncode}: {r.stderr.decode()[-300:]}")
    return r.stdout.decode()


def write(name, text):
    path = os.path.join(T, name)
    with open(path, "w") as f:
        f.write(text)
    return path


class Agent:
    """One start of the agent; its log is NAME.log."""

    def __init__(self, name, chip):
        self.log = os.path.join(T, name + ".log")
        conf = write(name + ".conf", f"[agent]\nidentity = {T}/{name}\nstate = {T}/{name}-state\ntelemetry-interval = 1\ntpm-tcti = {chip.tcti}\n")
        with open(self.log, "ab") as f:
            self.p = subprocess.Popen([os.environ["AGENT"], "--config", conf], stdout=f, stderr=f)
        atexit.register(self.stop)

    def stop(self):
        if self.p.poll() is None:
            self.p.terminate()
            self.p.wait(20)
        return self.p.returncode

    def text(self):
        with open(self.log) as f:
            return f.read()


def telemetry(did):
    out = run(os.environ["BERTH"], "hub", "monitor", "--env", env.path, "--all-hubs", "--from", "earliest", "--no-follow", "--device", did, "--json")
    return out.splitlines()


maker = make_maker("agent")
one, two = Chip("agent1", maker), Chip("agent2", maker)
info = run(os.environ["AGENT"], "--config", write("tcti.conf", f"[agent]\ntpm-tcti = {one.tcti}\n"), "--tpm-info")
one.make_keys()
j = json.loads(info)
row("--tpm-info tells the key at the handle and its id", (base64.b64decode(j["endorsementKey"]), base64.b64decode(j["storageRootKey"]), j["registrationId"]),
    (one.ek, one.srk, one.rid))
row("and the maker's certificate", base64.b64decode(j["endorsementCertificate"]) == one.get("ek-rsa2048.crt"))
row("enroll-tool tpm read tells the same", run(os.environ["ENROLL"], "tpm", "read", "--tcti", one.tcti), info)

# --- one unit, enrolled by its key -----------------------------------------------------------------------------------------------------
conn = ["--env", env.path]
run(os.environ["BERTH"], "dps", "enrollment", "create", "pump-1", "--tpm-info", write("pump-1.json", info), *conn)
run(os.environ["ENROLL"], "burn", "--serial", "PUMP-1", "--registration-id", "pump-1", "--identity", os.path.join(T, "pump-1"), "--tpm", "--tcti", one.tcti,
    "--station", os.path.join(T, "station"), *conn)
row("the identity holds no key", sorted(os.listdir(os.path.join(T, "pump-1/factory"))), ["ca.pem", "identity.json"])
a = Agent("pump-1", one)
row("the agent registers and is connected", until(30, lambda: "agent.hub_up" in a.text()))
row("over HTTPS", "via=https" in a.text())
row("and sends", until(20, lambda: len(telemetry("pump-1")) >= 2))
row("ends well", a.stop(), 0)
row("its key is in the chip", IDENTITY in one.tool("getcap", "handles-persistent").decode().lower())
n = a.text().count("agent.assigned")
a = Agent("pump-1", one)
row("the second start goes straight to the hub", until(30, lambda: a.text().count("agent.hub_up") == 2) and a.text().count("agent.assigned") == n)
a.stop()
# another key at the hub: the agent is refused and registers anew, by itself
r = rest(env, env.hub_cs[0], "GET", "/devices/pump-1" + HUB_V)
d = r.json
d["authentication"]["symmetricKey"] = {"primaryKey": new_key(), "secondaryKey": new_key()}
row("the hub's key is changed", rest(env, env.hub_cs[0], "PUT", "/devices/pump-1" + HUB_V, d, {"If-Match": "*"}).status, 200)
a = Agent("pump-1", one)
row("refused, it registers anew", until(40, lambda: a.text().count("agent.hub_up") == 3 and a.text().count("agent.assigned") == n + 1))
a.stop()
# what it learned of the key is lost: only the DPS can help
one.tool("evictcontrol", "-C", "o", "-c", IDENTITY)
a = Agent("pump-1", one)
row("without its key it registers anew", until(40, lambda: a.text().count("agent.hub_up") == 4 and "agent.token_failed" in a.text()))
a.stop()

# --- a line of units, by the maker's certificate ---------------------------------------------------------------------------------------------
root = os.path.join(maker, "swtpm-localca-rootca-cert.pem")
issuer = os.path.join(maker, "issuercert.pem")
run(os.environ["BERTH"], "dps", "ca", "add", "line-maker", "--cert", issuer, "--usage", "endorsementKey", *conn)
row("an EK root is never verified", run(os.environ["BERTH"], "dps", "ca", "add", "r2", "--cert", root, "--usage", "endorsementKey", "--verified", *conn, want=3), "")
run(os.environ["BERTH"], "dps", "group", "create", "line-9", "--tpm-ca", "line-maker", *conn)
run(os.environ["ENROLL"], "burn", "--serial", "PUMP-2", "--identity", os.path.join(T, "pump-2"), "--tpm", "--tcti", two.tcti,
    "--station", os.path.join(T, "station"), *conn)
two.make_keys()
row("burned under the id of its key", json.load(open(os.path.join(T, "pump-2/factory/identity.json")))["registrationId"], two.rid)
a = Agent("pump-2", two)
row("a unit that nobody listed is admitted by its TPM's certificate", until(30, lambda: "agent.hub_up" in a.text()))
row("and sends", until(20, lambda: len(telemetry(two.rid)) >= 1))
row("ends well", a.stop(), 0)
# a unit without its chip
two.stop()
a = Agent("pump-2", two)
row("without the chip it does not start", until(20, lambda: a.p.poll() is not None) and a.p.returncode, 1)
row("and says so", "TPM: " in a.text())
# --individual enrolls, too
three = Chip("agent3")
run(os.environ["ENROLL"], "burn", "--serial", "PUMP-3", "--identity", os.path.join(T, "pump-3"), "--tpm", "--tcti", three.tcti, "--individual",
    "--station", os.path.join(T, "station"), *conn)
a = Agent("pump-3", three)
row("burn --tpm --individual", until(30, lambda: "agent.hub_up" in a.text()))
a.stop()
done()
