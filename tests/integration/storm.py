# SPDX-License-Identifier: Apache-2.0
"""Run by 63-storm.sh: COUNT"""
import collections
import threading

from kit import *

env = Env()
host = env.hub
NET = os.environ["NET"]
count = int(sys.argv[1])
SHARED = f"{NET}.90"
K = new_key()
FLEET, STORM = [f"f{i}" for i in range(20)], [f"s{i}" for i in range(50)]
for did in FLEET + STORM:
    put_device(env, did, K)


def link(did, source):
    m = Mqtt(tls(host, 8883, env.ca, source=source, timeout=10))
    return m, m.connect(did, hub_user(host, did), sas(f"{host}/devices/{did}", K))


# --- N3: a flood from the address of a fleet ---------------------------------------------------------------------------------------------
stop, opened, lost = threading.Event(), [0], [0]


def flood():
    mine = collections.deque()
    while not stop.is_set():
        try:
            s = socket.socket()
            s.bind((SHARED, 0))
            s.setblocking(False)
            s.connect_ex((host, 8883))
            mine.append(s)
            opened[0] += 1
        except OSError:
            pass
        if len(mine) > 2000:
            mine.popleft().close()
        stop.wait(0.003)  # some hundreds a second
    for s in mine:
        s.close()


m, c = link("f0", SHARED)
row("N3 one of the fleet is connected before", c, 0)
fl = threading.Thread(target=flood, daemon=True)
fl.start()
until(20, lambda: opened[0] >= 1000)
tries, late = [], []
for did in FLEET[1:]:
    t0 = time.monotonic()
    for n in range(1, 30):
        try:
            x, c = link(did, SHARED)
        except OSError:
            c = None
        if c == 0:
            break
        lost[0] += c is not None and c != 3
    tries.append(n)
    late.append(time.monotonic() - t0)
stop.set()
fl.join(10)
print(f"# flood of {opened[0]} from one address; {len(tries)} of the same address got in after {sum(tries) / len(tries):.1f} tries and {sum(late) / len(late):.2f} s on the average, {max(late):.2f} s at most")
row("N3 the flood was over the budget", env.metrics(0).get('berth_connections_refused_total{why="budget"}', next((v for k, v in env.metrics(0).items() if "refused" in k and "connections" in k), None)), lambda v: v is not None and v > 0)
row("N3 the whole fleet got in", (c, max(late) < 20), (0, True))
row("N3 nobody was told anything wrong", lost[0], 0)
row("N3 who was connected is", m.publish("devices/f0/messages/events/", "x"), True)

# --- M47: a storm of honest connects --------------------------------------------------------------------------------------------------------
codes, lock = collections.Counter(), threading.Lock()


def worker(n, per):
    for i in range(per):
        try:
            x, c = link(STORM[(n * per + i) % len(STORM)], f"{NET}.{100 + n}")
            x.close()
        except OSError as e:
            c = type(e).__name__
        with lock:
            codes[c] += 1


t0 = time.monotonic()
ts = [threading.Thread(target=worker, args=(n, count // 15)) for n in range(15)]
for t in ts:
    t.start()
for t in ts:
    t.join()
took = time.monotonic() - t0
print(f"# {sum(codes.values())} connects in {took:.1f} s ({sum(codes.values()) / took:.0f}/s, the tester's own speed): {dict(codes)}")
row("M47 no connect with a good credential is told 5", codes[5], 0)
row("M47 each is accepted, or told to try again", [c for c in codes if c not in (0, 3)], [])
row("M47 and the hub is well", m.publish("devices/f0/messages/events/", "x", pid=2), True)
done()
