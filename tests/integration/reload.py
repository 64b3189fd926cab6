# SPDX-License-Identifier: Apache-2.0
"""Run by 70-reload-drain.sh."""
import shutil
import threading

from kit import *

env = Env()
hub = Server(env, "hub1").take()
notify_path = os.path.join(os.environ["T"], "notify")
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(notify_path)
os.environ["NOTIFY_SOCKET"] = notify_path
hub.start()
told = []


def was_told(word, seconds=5):
    end = time.monotonic() + seconds
    while not any(word in t for t in told):
        notify.settimeout(max(0.01, end - time.monotonic()))
        try:
            told.append(notify.recv(4096).decode())
        except (socket.timeout, TimeoutError):
            return False
    return True


row("the service manager hears READY=1", was_told("READY=1"))


class Traffic(threading.Thread):
    def __init__(self, i, m):
        super().__init__(daemon=True)
        self.i, self.m, self.acked, self.stop, self.why = i, m, 0, False, None

    def run(self):
        try:
            while not self.stop:
                if self.m.publish(f"devices/r{self.i}/messages/events/", f"{self.acked}", pid=self.acked % 60000 + 1) is not True:
                    self.why = "closed"
                    return
                self.acked += 1
        except (OSError, ssl.SSLError, TimeoutError, AssertionError) as e:
            self.why = repr(e)


lines = []
for i in range(6):
    k = put_device(env, f"r{i}")
    m, c = hub_link(env, f"r{i}", k)
    assert c == 0
    lines.append(Traffic(i, m))
for t in lines:
    t.start()


def serial():
    s = tls(env.hub, 8883, env.ca)
    d = s.getpeercert()["serialNumber"]
    s.close()
    return d


def grown(n):
    """every device got n more acknowledgements"""
    at = [t.acked for t in lines]
    return until(10, lambda: all(t.why or t.acked >= a + n for t, a in zip(lines, at)))


def log_since(mark):
    return env.log("hub1")[mark:]


def reload_and_wait(word):
    mark = len(env.log("hub1"))
    hub.p.send_signal(signal.SIGHUP)
    return bool(until(5, lambda: word in log_since(mark)))


pem, key = os.path.join(env.dir, "server.pem"), os.path.join(env.dir, "server.key")
T = os.environ["T"]
for p in (pem, key):
    shutil.copy(p, p + ".old")


def ssl_run(*a):
    subprocess.run(["openssl", *a], cwd=T, check=True, capture_output=True, timeout=patience(20))


ssl_run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", "new.key")
ssl_run("req", "-new", "-key", "new.key", "-subj", "/CN=new", "-out", "new.csr")
with open(os.path.join(T, "ext"), "w") as f:
    f.write(f"subjectAltName=IP:{env.hub}\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n")
ssl_run("x509", "-req", "-days", "10", "-in", "new.csr", "-CA", env.ca, "-CAkey", os.path.join(env.dir, "ca.key"), "-set_serial", "0x123456789abc", "-extfile", "ext",
        "-out", "new.pem")
old = serial()
row("devices publish", grown(20))
shutil.copy(os.path.join(T, "new.pem"), pem)
row("certificate without its key is refused, in the log", reload_and_wait("server.reload.refused"))
row("and the old one stays", serial(), old)
with open(pem, "w") as f:
    f.write("no certificate at all\n")
row("garbage is refused", reload_and_wait("server.reload.refused"))
row("and the old one stays, again", serial(), old)
shutil.copy(os.path.join(T, "new.pem"), pem)
shutil.copy(os.path.join(T, "new.key"), key)
row("the new pair is taken", reload_and_wait("server.reload.done"))
row("and shown to who connects", serial(), "123456789ABC")
row("devices publish on", grown(20))
row("not one connection was dropped", [t.why for t in lines], [None] * 6)
conf = os.path.join(env.dir, "hub1", "berth.conf")
with open(conf) as f:
    text = f.read()
with open(conf, "w") as f:
    f.write(text + "\n[no-such-section]\nx = y\n")
row("a bad configuration is refused", reload_and_wait("server.reload.refused"))
with open(conf, "w") as f:
    f.write(text)
row("devices publish on, again", grown(5))
# drain
t0 = time.monotonic()
status = hub.stop()
row("SIGTERM: ends with status 0", status, 0)
row("within the time for draining", within(t0, 8))
row("the service manager hears STOPPING=1", was_told("STOPPING=1"))
row("RELOADING=1 was told before", any("RELOADING=1" in t for t in told))
for t in lines:
    t.stop = True
    t.join(10)
counts = {t.i: t.acked for t in lines}
for p in (pem, key):
    shutil.copy(p + ".old", p)
hub.start()
lost = {}
for i, n in counts.items():
    have = {e["body"] for e in events(env, query=f"from=earliest&follow=false&device=r{i}")}
    missing = [x for x in range(n) if str(x) not in have]
    if missing:
        lost[i] = missing
row(f"all {sum(counts.values())} acknowledged messages are there", lost, {})
done()
