# SPDX-License-Identifier: Apache-2.0
"""Device streams opened, used, stalled and ended in every way at once, by raw WebSocket peers (soak_raw.py) and by berth-agent with
berth stream (soak_agent.py); then: is anything left, and does everybody tell the same totals?

usage: stream_soak.py SECONDS SEED     ENV, T and the programs as from lib.sh; agents burnt as T/unit-1 and T/unit-2"""
import re

from soak_agent import Agents
from soak_raw import RawPeer
from streams_kit import *

seconds, seed = float(sys.argv[1]), int(sys.argv[2])
print(f"# seed {seed}, {seconds:.0f} s", flush=True)
env = Env()
hub = Server(env, "hub1", sets=["streams.new-per-second=0", "streams.max-per-device=0"]).take()
hub.start()
env.j["metrics"]["hubs"][0] = hub.status()["metrics"]
P = f"?api-version={BERTH_VERSION}"
GAUGES = ("berth_hub_streams", "berth_connections_open", "berth_timers", "berth_http_open")


def rss_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int([x for x in f if x.startswith("VmRSS")][0].split()[1])


unseen = set()


def descriptors(name, pid):
    """The least of five looks, without our own question. None: a program that hides its memory hides them as well, but from root."""
    try:
        return min(len(os.listdir(f"/proc/{pid}/fd")) for _ in range(5) if not time.sleep(0.02))
    except PermissionError:
        if name not in unseen:
            unseen.add(name)
            print(f"# descriptors of {name}: for root's eyes; its connections and timers are counted all the same", flush=True)
        return None


def look(agents):
    """What must be as before, once all is quiet."""
    m = env.metrics(0)
    now = {g: int(m[g]) for g in GAUGES}
    for name, pid in {"hub": hub.p.pid, **agents.pids()}.items():
        if (n := descriptors(name, pid)) is not None:
            now["descriptors of " + name] = n
    return now


def memory(agents):
    out = {}
    for name, pid in {"hub": hub.p.pid, **agents.pids()}.items():
        try:
            out[name] = rss_kb(pid)
        except (OSError, IndexError):  # killed a moment ago
            pass
    return out


def steady(agents):
    """The same for two seconds on end."""
    last, since = None, 0
    end = time.monotonic() + 60
    while time.monotonic() < end:
        now = look(agents)
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > 2:
            return now
        time.sleep(0.25)
    return last


def clock(what, t=[time.monotonic()]):
    print(f"# {what}: {time.monotonic() - t[0]:.1f} s", flush=True)
    t[0] = time.monotonic()


stop = threading.Event()
is_short = seconds < 120
agents = Agents(env, stop, seed, is_short)
agents.start_programs()
clock("programs are up")
raws = [RawPeer(env, stop, seed, i) for i in range(4)]
for r in raws:
    r.warm_up()
agents.warm_up()
clock("warm")
row("warm: every way was tried once", [f for x in [*raws, agents] for f in x.failures], [])
for r in raws:
    r.rest()
before = steady(agents)
print(f"# before: {before}", flush=True)
clock("steady")
began = time.monotonic()
for r in raws:
    r.start()
agents.start()
quarter = None
next_line = 60
while time.monotonic() - began < seconds and not any(x.failures for x in [*raws, agents]):
    time.sleep(0.5)
    t = time.monotonic() - began
    if quarter is None and t > seconds / 4:
        quarter = memory(agents)
    if t > next_line:
        next_line += 60
        print(f"# {t:.0f} s: {sum(r.n for r in raws)} raw streams, {agents.n} connections through agents, KiB {memory(agents)}", flush=True)
took = time.monotonic() - began
stop.set()
for r in raws:
    row(f"peer {r.index} came to its end", r.finish())
row("connections through agents came to their end", agents.finish())
row("nothing went wrong on the way", [f for x in [*raws, agents] for f in x.failures], [])
clock("all stopped")
agents.warm_up()  # every forwarder has its session again, as before

# --- what is left ------------------------------------------------------------------------------------------------------------------
def more():
    now = look(agents)
    return {k: (before[k], now[k]) for k in now if now[k] > before[k]}


if is_short:  # the long edition waits until the gateway ends them: a minute
    for s in rest(env, env.hub_cs[0], "GET", f"/admin/streams{P}").json["value"]:
        if s["state"] != "open":
            rest(env, env.hub_cs[0], "DELETE", f"/admin/streams/{s['sid']}{P}")
until(150, lambda: not more())
row("no stream, connection, deadline or descriptor is left", more(), {})
clock("quiet")
left = rest(env, env.hub_cs[0], "GET", f"/admin/streams{P}").json["value"]
row("streams at the hub: one for each forwarder", sorted((s["deviceId"], s["state"]) for s in left), agents.sessions())
after = memory(agents)
print(f"# KiB at a quarter of the time {quarter}, at the end {after}", flush=True)
for name, kb in after.items():
    if quarter and name in quarter and name not in agents.restarted and not SANITIZER:
        row(f"memory of {name} is bounded", kb - quarter[name], lambda v: v < 16384)

# --- totals ------------------------------------------------------------------------------------------------------------------------
closed = {}
log = env.log("hub1")
for line in re.findall(r"event=hub\.stream\.closed (.*)", log):
    f = dict(kv.split("=", 1) for kv in re.findall(r'(\w+=(?:"[^"]*"|\S+))', line))
    closed.setdefault(f["name"], []).append((f["was_open"] in ("true", "yes", "1"), int(f["device_bytes"]), int(f["service_bytes"])))
audit = subprocess.run([os.environ["BERTH"], "hub", "audit", "--env", env.path], capture_output=True, text=True, check=True).stdout
audit = [json.loads(x) for x in audit.splitlines()]
opens = [x for x in audit if re.match(r"stream \w+ open ", x["act"])]
closes = [x for x in audit if re.match(r"stream \w+ close ", x["act"])]
row("audit: what was opened was closed, or is open", len(opens), len(closes) + len(left))
sums = [0, 0]
by_name = {}
for x in closes:
    d, s = (int(v) for v in re.search(r"device_bytes=(\d+) service_bytes=(\d+)", x["result"]).groups())
    sums[0] += d
    sums[1] += s
    by_name.setdefault(x["act"].split(" ", 4)[4], []).append((True, d, s))
in_log = [(o, d, s) for v in closed.values() for o, d, s in v]
m = env.metrics(0)
row("metrics: bytes of ended streams, as in the log", (m['berth_hub_stream_bytes_total{from="device"}'], m['berth_hub_stream_bytes_total{from="service"}']),
    (sum(d for _, d, _ in in_log), sum(s for _, _, s in in_log)))
row("audit: bytes of opened streams, as in the log", tuple(sums), (sum(d for o, d, _ in in_log if o), sum(s for o, _, s in in_log if o)))
row("metrics: streams opened, as in the audit trail", m["berth_hub_stream_opened_total"], len(opens))
wrong = [w for r in raws for w in r.judge(by_name)]
row("each stream's bytes: at most what was sent, at least what arrived; both where it ended in order", wrong[:5], [])
for name, got, want in agents.totals():
    row(name, got, want)
moved = sum(d + s for _, d, s in in_log)
print(f"# {sum(r.n for r in raws)} raw streams and {agents.n} connections through agents in {took:.0f} s, {len(opens)} streams opened, "
      f"{moved / 1e6:.0f} MB through the hub; {agents.told()}; before and after: {before} {look(agents)}", flush=True)
agents.end()
done()
