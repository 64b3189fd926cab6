# SPDX-License-Identifier: Apache-2.0
"""Run by 50-kill.sh: KILLS"""
import random
import threading

from kit import *

kills = int(sys.argv[1])
seed = int(os.environ.get("BERTH_SEED", time.time_ns() & 0xffffffff))
print(f"# seed {seed}", flush=True)
rnd = random.Random(seed)
env = Env()
hub = Server(env, "hub1").take()
hub.start()
WINDOW = 64


class Device(threading.Thread):
    """Publishes QoS 1 in a window until the link breaks, and remembers what was acknowledged, in that order."""
    keys = {}
    sent, acked = {}, {}

    def __init__(self, did):
        super().__init__(daemon=True)
        self.did, self.connected = did, threading.Event()
        self.odd = None

    def run(self):
        try:
            m, c = hub_link(env, self.did, self.keys[self.did])
        except (OSError, ssl.SSLError):
            return
        if c != 0:
            self.odd = None if c in (None, 3) else f"CONNACK {c}"
            return
        self.connected.set()
        sent, acked = self.sent[self.did], self.acked[self.did]
        waiting = []
        try:
            while True:
                raw = b""
                while len(waiting) < WINDOW:
                    n = len(sent)
                    body = f"{self.did}:{n}:" + os.urandom(rng_len[n % len(rng_len)]).hex()
                    pid = n % 65535 + 1
                    raw += publish_packet(f"devices/{self.did}/messages/events/n={n}", body, 1, pid)
                    sent.append(body)
                    waiting.append((pid, n))
                m.send(raw)
                for _ in range(WINDOW // 2):
                    kind, _, b = m.recv(10)
                    pid, n = waiting.pop(0)
                    if kind != PUBACK or struct.unpack(">H", b[:2])[0] != pid:
                        self.odd = f"packet {kind} {b!r}, wanted PUBACK {pid}"
                        return
                    acked.append(n)
        except (OSError, ssl.SSLError, TimeoutError):
            pass


rng_len = [rnd.choice((0, 1, 20, 100, 300, 3000)) for _ in range(97)]
ids = [f"k{i}" for i in range(4)]
for d in ids:
    Device.keys[d] = put_device(env, d)
    Device.sent[d], Device.acked[d] = [], []
times, odd, idle = [], [], 0
for _ in range(kills):
    ds = [Device(d) for d in ids]
    for d in ds:
        d.start()
    for d in ds:
        d.connected.wait(10)
    before = sum(len(a) for a in Device.acked.values())
    hub.p_wait = threading.Event()
    hub.p_wait.wait(rnd.choice((0.0, 0.01, 0.05, 0.12)) * rnd.random() * 2)  # the random instant itself
    hub.kill()
    for d in ds:
        d.join(15)
        if d.odd:
            odd.append(d.odd)
    idle += sum(len(a) for a in Device.acked.values()) == before
    times.append(hub.start())
row("PUBACKs came in order and nothing else came", odd, [])
total = sum(len(a) for a in Device.acked.values())
print(f"# {kills} kills, {total} acknowledged messages, ready again after {sorted(times)[len(times) // 2]:.0f} ms (median), {max(times):.0f} ms (most); {idle} kills before the first PUBACK")
row("devices were publishing", total > kills * 10)
for d in ids:
    stored = {}
    last = -1
    wrong = []
    for e in events(env, query=f"from=earliest&follow=false&device={d}"):
        n = int(e["properties"]["n"])
        if e["body"] != Device.sent[d][n]:
            wrong.append(n)
        if n <= last:
            wrong.append((last, n))
        last = n
        stored[n] = True
    row(f"{d}: stored as sent, in order, once", wrong, [])
    row(f"{d}: none of {len(Device.acked[d])} acknowledged is lost", [n for n in Device.acked[d] if n not in stored], [])
row("ends cleanly", hub.stop(), 0)
done()
