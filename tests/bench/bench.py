# SPDX-License-Identifier: Apache-2.0
"""What run and fleet share: the load generator, a private PKI, servers as children on loopback, CPU and memory of them, medians.

Every server is started from a temporary folder, in the foreground, on loopback ports from $PORT (28800) up, and ended by its process id.
No system service, configuration or data folder is read, started or changed."""

import base64
import hashlib
import hmac
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
PORT = int(os.environ.get("PORT", "28800"))
DEVICE_KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()  # of every device of a benchmark: nothing else knows them
API = "api-version=2021-04-12"
os.environ["PATH"] += ":/usr/sbin:/sbin"


def say(text):
    print(text, file=sys.stderr, flush=True)


def cpu_s(pid):
    """User + system time of a process, from the clock of the kernel (not rounded to ticks)."""
    try:
        return time.clock_gettime((~pid) << 3 | 2)
    except OSError:
        return 0.0


def tree(pid):
    pids = [pid]
    for p in pids:
        try:
            with open(f"/proc/{p}/task/{p}/children") as f:
                pids += [int(x) for x in f.read().split()]
        except OSError:
            pass
    return pids


def rss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return int(re.search(r"^Rss:\s+(\d+)", f.read(), re.M).group(1))


def median(v):
    return statistics.median(v) if v else None


def token(connection_string, ttl_s=86400):
    """A service token of a connection string."""
    d = dict(p.split("=", 1) for p in connection_string.split(";"))
    sr = urllib.parse.quote(d["HostName"], safe="")
    se = int(time.time()) + ttl_s
    mac = hmac.new(base64.b64decode(d["SharedAccessKey"]), f"{sr}\n{se}".encode(), hashlib.sha256).digest()
    sig = urllib.parse.quote(base64.b64encode(mac).decode(), safe="")
    return f"SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn={d['SharedAccessKeyName']}"


class Bed:
    """The temporary folder, the generator, the peers and one sandbox."""

    def __init__(self, build, keep=False):
        self.build = os.path.abspath(build)
        self.berth = os.path.join(self.build, "ctl/berth")
        if not os.access(self.berth, os.X_OK):
            sys.exit(f"bench: {self.berth} is not there: build first (make all)")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.nofile = hard
        self.keep = keep
        self.dir = tempfile.mkdtemp(prefix="berth-bench.")
        self.children = {}
        self.sandbox = None
        self.env = None
        self.load_bin = os.path.join(self.dir, "mqttload")
        self.streamload = os.path.join(self.dir, "streamload")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        cc = os.environ.get("CC", "cc")
        for out in (self.load_bin, self.streamload):
            src = os.path.join(HERE, os.path.basename(out) + ".c")
            subprocess.run([cc, "-O2", "-std=gnu11", "-o", out, src, "-lssl", "-lcrypto", "-lpthread"], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in list(self.children):
            self.stop(name)
        self.sandbox_down()
        if self.keep:
            say(f"kept: {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    # --- load ---------------------------------------------------------------------------------------

    def load(self, label, mode, *args, pid=None):
        """Runs the generator; its RESULT line as a dict (numbers as floats), or None when it gave none."""
        cmd = [self.load_bin, mode, "--quiet", "--label", label, "--settle", "0.3"]
        if pid is not None:
            cmd += ["--pid", ",".join(str(p) for p in (pid if isinstance(pid, list) else [pid]))]
        p = subprocess.run(cmd + [str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        result = None
        for line in p.stdout.splitlines():
            if line.startswith("RESULT"):
                result = {}
                for kv in line.split()[1:]:
                    k, v = kv.split("=", 1)
                    try:
                        result[k] = float(v)
                    except ValueError:
                        result[k] = v
            elif line.startswith("failure") or line.startswith("mqttload:"):
                say(f"  {label}: {line}")
        return result

    def mkcerts(self, name, n, first=0):
        """A folder with ca.pem, server.pem/.key and devices.pem of n device certificates, in parts as asked by part()."""
        d = self.path(name)
        subprocess.run([self.load_bin, "mkcerts", "--dir", d, "-n", str(n), "--first", str(first)], check=True)
        return d

    @staticmethod
    def split_pairs(pki, sizes):
        """devices.pem in consecutive parts: files pairs0.pem, pairs1.pem, ..."""
        names = []
        with open(os.path.join(pki, "devices.pem")) as src:
            for i, n in enumerate(sizes):
                names.append(os.path.join(pki, f"pairs{i}.pem"))
                with open(os.open(names[-1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as dst:
                    left = n
                    while left > 0:
                        line = src.readline()
                        if not line:
                            raise RuntimeError("too few pairs")
                        dst.write(line)
                        left -= line.startswith("-----END PRIVATE KEY")
        return names

    # --- servers ------------------------------------------------------------------------------------

    def start(self, name, port, *cmd):
        log = open(self.path(name + ".log"), "ab")
        p = subprocess.Popen(cmd, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.children[name] = p
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                time.sleep(0.2)
                return p.pid
            except OSError:
                if p.poll() is not None:
                    break
                time.sleep(0.05)
        with open(self.path(name + ".log"), errors="replace") as f:
            say(f"bench: {name} did not start:\n" + "".join(f.readlines()[-5:]))
        self.stop(name)
        return None

    def stop(self, name):
        p = self.children.pop(name, None)
        if p is None or p.poll() is not None:
            return
        p.terminate()
        try:
            p.wait(5)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()

    # --- Berth --------------------------------------------------------------------------------------

    def sandbox_up(self, hubs=1, trust=None):
        """Starts (or starts again) the one sandbox; seconds it took."""
        d = self.path("sandbox")
        cmd = [self.berth, "sandbox", "up", "--dir", d]
        if not os.path.exists(d):
            cmd += ["--hubs", str(hubs), "--https-port", str(PORT + 40), "--mqtts-port", str(PORT + 41)]
        if trust:
            cmd += ["--trust", trust]
        t = time.monotonic()
        p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        t = time.monotonic() - t
        if p.returncode != 0:
            sys.exit(f"bench: berth sandbox up: {p.stdout.strip()}")
        self.sandbox = d
        with open(os.path.join(d, "env.json")) as f:
            self.env = json.load(f)
        return t

    def sandbox_down(self, purge=False):
        if self.sandbox is None:
            return
        subprocess.run([self.berth, "sandbox", "down", "--dir", self.sandbox] + (["--purge"] if purge else []), stdout=subprocess.DEVNULL)
        self.sandbox = None

    def ctl(self, *args):
        p = subprocess.run([self.berth, *args, "--env", os.path.join(self.dir, "sandbox/env.json")], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
        if p.returncode != 0:
            sys.exit(f"bench: berth {' '.join(args)}: {p.stdout.strip()}")
        return p.stdout

    @property
    def dps_pid(self):
        return self.env["pids"]["dps"]

    @property
    def hub_pid(self):
        return self.env["pids"]["hubs"][0]

    def hub_args(self, tls=True):
        host = self.env["hubs"][0]["host"]
        return ["--host", host, "--hub", host, "--sni", "localhost"] + (["--tls13"] if tls else [])

    def dps_args(self):
        return ["--host", self.env["dpsHost"], "--port", self.env["mqttsPort"], "--sni", "localhost", "--tls13", "--scope",
                self.env["idScope"]]

    def hub_mqtt(self):
        return self.hub_args() + ["--port", self.env["mqttsPort"]]

    def hub_https(self):
        return self.hub_args() + ["--port", self.env["httpsPort"]]

    def make_devices(self, n, first=0, id_template="sas%05d", auth=None):
        """Registers devices at the hub over its public REST; server CPU microseconds of each."""
        auth = auth or '{"type":"sas","symmetricKey":{"primaryKey":"%s","secondaryKey":"%s"}}' % (DEVICE_KEY, DEVICE_KEY)
        r = self.load("create", "http", *self.hub_https(), "-m", 64, "-n", n, "--first", first, "--id", id_template, "--timeout", 120,
                      "--method", "PUT", "--path", f"/devices/%s?{API}",
                      "--header", "Authorization: " + token(self.env["hubs"][0]["serviceConnectionString"]),
                      "--body", '{"deviceId":"%s","authentication":' + auth + "}", pid=self.hub_pid)
        if r is None or r["fail"]:
            sys.exit("bench: devices could not be registered")
        return r["srv_us_per_op"]
