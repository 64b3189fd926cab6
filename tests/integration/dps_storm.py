# SPDX-License-Identifier: Apache-2.0
"""A storm of registrations: none lost, none doubled, all told when to come back, nobody slowed but who guesses. Run by 41-storm.sh."""
import heapq
import statistics
import threading
from concurrent.futures import ThreadPoolExecutor
from dps_kit import *

N, THREADS = 2000, 24
HUB_PIDS = [int(p) for p in os.environ["HUB_PIDS"].split()]
key = new_key()
fleet_att = key_att(key)
enroll("enrollmentGroups", "fleet", fleet_att)


class From(Http):
    """A connection from an address of one's own."""

    def __init__(self, source):
        self.host, self.rest = env.dps, b""
        self.s = tls(env.dps, 443, env.ca, timeout=20, source=source)


class Device:
    def __init__(self, rid, source):
        self.rid, self.source, self.conn, self.op, self.result = rid, source, None, None, None
        self.token = device_token(rid, derive(key, rid), ttl=3600)
        self.waits, self.bad, self.n_429, self.n_503 = [], [], 0, 0

    def step(self):
        """One request; the seconds to wait before the next, None when it is over."""
        if self.conn is None:
            self.conn = From(self.source)
        a = device_ask(self.conn, *(("PUT", self.rid, "/register") if self.op is None else ("GET", self.rid, "/operations/" + self.op)), token=self.token)
        if a.status in (202, 429, 503):  # 503: its enrollment changed again and again
            after = a.headers.get("retry-after", "")
            if not after.isdigit() or not 1 <= int(after) <= 120:
                self.bad.append(after)
            self.waits.append(int(after) if after.isdigit() else 1)
            self.n_429 += a.status == 429
            self.n_503 += a.status == 503
            self.op = a.json.get("operationId", self.op)
            return self.waits[-1]
        self.result = (a.status, a.json.get("status"), a.json.get("registrationState", {}).get("deviceId"))
        self.conn.close()
        return None


def drive(devices, seconds):
    """All at once, each coming back when it was told; True when all are over in time."""
    due, lock, left = [(0.0, i, d) for i, d in enumerate(devices)], threading.Condition(), [len(devices)]
    heapq.heapify(due)
    end = time.monotonic() + seconds

    def work():
        while True:
            with lock:
                while left[0] and time.monotonic() < end and (not due or due[0][0] > time.monotonic()):
                    lock.wait(min(0.05, max(0.001, due[0][0] - time.monotonic()) if due else 0.05))
                if not left[0] or time.monotonic() >= end:
                    return
                _, i, d = heapq.heappop(due)
            try:
                wait = d.step()
            except (OSError, ssl.SSLError, AssertionError, ValueError) as e:
                d.errors = getattr(d, "errors", 0) + 1
                d.conn, wait = None, 0.5 if d.errors < 20 else None
                if wait is None:
                    d.result = f"{type(e).__name__}: {e}"
            with lock:
                if wait is None:
                    left[0] -= 1
                else:
                    heapq.heappush(due, (time.monotonic() + wait, i, d))
                lock.notify()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return left[0] == 0


class Administrator(threading.Thread):
    """Reads and writes, one after the other, and how long each took."""

    def __init__(self, name):
        super().__init__(daemon=True)
        self.over, self.ms, self.bad, self.prefix = False, [], [], name

    def run(self):
        token, n = cs_token(env.dps_cs, 3600), 0
        conn = Http(env.dps, env.ca, timeout=30)
        head = {"Authorization": token, "Content-Type": "application/json"}
        while not self.over:
            n += 1
            t = time.monotonic()
            a = (conn.ask("GET", f"/admin/settings?api-version={BERTH_VERSION}", head), conn.ask("GET", f"/enrollmentGroups/fleet{DPS_V}", head),
                 conn.ask("PUT", f"/enrollments/{self.prefix}-{n}{DPS_V}", head, json.dumps({"attestation": key_att(key)})))
            self.ms.append((time.monotonic() - t) * 1000)
            self.bad += [x for x in a if x.status != 200]
            time.sleep(0.02)

    def stop(self):
        self.over = True
        self.join()
        ms = sorted(self.ms)
        return f"{len(ms)} rounds of three calls, p50 {ms[len(ms) // 2]:.0f} ms, p99 {ms[len(ms) * 99 // 100]:.0f} ms"


class Hostile(threading.Thread):
    """Bad credentials without a pause over one connection, for a few ids in turn."""

    def __init__(self, source):
        super().__init__(daemon=True)
        self.source, self.over, self.codes, self.waits = source, False, [], []

    def run(self):
        c, n = From(self.source), 0
        bad = {f"victim-{i}": device_token(f"victim-{i}", new_key()) for i in range(8)}
        while not self.over:
            rid = f"victim-{n % 8}"
            n += 1
            a = device_ask(c, "PUT", rid, "/register", bad[rid])
            self.codes.append(a.status)
            if a.status == 429:
                self.waits.append(a.headers.get("retry-after", ""))


class Changer(threading.Thread):
    """Writes the group of the fleet anew, again and again: what admits a device stays as it was."""

    def __init__(self):
        super().__init__(daemon=True)
        self.over, self.n, self.bad = False, 0, []

    def run(self):
        token = cs_token(env.dps_cs, 3600)
        conn = Http(env.dps, env.ca, timeout=30)
        head = {"Authorization": token, "Content-Type": "application/json", "If-Match": "*"}
        while not self.over:
            self.n += 1
            body = {"enrollmentGroupId": "fleet", "attestation": fleet_att, "initialTwin": {"tags": {"n": self.n}, "properties": {"desired": {}}}}
            a = conn.ask("PUT", f"/enrollmentGroups/fleet{DPS_V}", head, json.dumps(body))
            self.bad += [a] if a.status != 200 else []
            time.sleep(0.05)


# --- before: how fast an administrator is when nothing happens -------------------------------------------------------------------------
quiet = Administrator("quiet")
quiet.start()
until(20, lambda: len(quiet.ms) >= 40)
print("# quiet: " + quiet.stop())

# --- the storm -----------------------------------------------------------------------------------------------------------------------------
# 500 from one address, 500 from the address of the hostile one, the rest from many
devices = [Device(f"storm-{i:04d}", "127.0.0.2" if i % 4 == 0 else "127.0.0.3" if i % 4 == 1 else f"127.0.1.{i % 200 + 1}") for i in range(N)]
adm, bad, changer = Administrator("adm"), Hostile("127.0.0.3"), Changer()
adm.start()
changer.start()
bad.start()
t0 = time.monotonic()
row("all came to their end in time", drive(devices, 100))
took = time.monotonic() - t0
changer.over = True
changer.join()
bad.over = True
bad.join()
row("none was lost", [(d.rid, d.result) for d in devices if d.result != (200, "assigned", d.rid)][:5], [])
for name, source in (("of the hostile address", "127.0.0.3"), ("of another one", "127.0.0.2")):
    mine = [d for d in devices if d.source == source]
    row(f"500 good devices {name}", (len(mine), sum(d.result is not None and d.result[1] == "assigned" for d in mine)), (500, 500))
row("dps-device:D39 each 202 and 429 has an integer retry-after", [d.bad for d in devices if d.bad], [])
print(f"# {N} devices in {took:.1f} s; {sum(d.n_429 for d in devices)} answers 429; longest wait told {max(max(d.waits) for d in devices)} s")
print(f"# the group changed {changer.n} times; {sum(d.n_503 for d in devices)} answers 503")
row("an enrollment that changes meanwhile is no refusal", (sum(d.n_429 for d in devices), sum(d.n_503 for d in devices) < N // 20, changer.n > 3, [str(x) for x in changer.bad[:3]]), (0, True, True, []))
row("the administrator was answered", ([str(x) for x in adm.bad[:3]], len(adm.ms) > 20), ([], True))
print("# storm: " + adm.stop())
row("and never waited for long", max(adm.ms) < 10000)
share = bad.codes.count(429) / len(bad.codes)
row("threat:N3 guesses are slowed", (bad.codes.count(401) <= 8 * 14, share > 0.5, set(bad.codes) <= {401, 429}), (True, True, True))
row("and told so, for longer each time", (all(w.isdigit() for w in bad.waits), max(int(w) for w in bad.waits) > 5), (True, True))
print(f"# hostile: {len(bad.codes)} attempts, {bad.codes.count(401)} looked at")


def listed(i):
    return [d["deviceId"] for d in rest(env, env.hub_cs[i], "GET", "/devices?top=1000&api-version=2021-04-12").json]


everywhere = [x for i in range(3) for x in listed(i) if x.startswith("storm-")]
row("none was doubled", (len(everywhere), len(set(everywhere))), (N, N))

# --- the hubs stand still: intents are kept, devices are told to wait longer, and served in their order ----------------------------------------------
def rho_of(devices):
    """Rank correlation of arrival and end."""
    ends = [service("GET", f"/registrations/{d.rid}").json["lastUpdatedDateTimeUtc"] for d in devices]
    rank, n = {e: i for i, e in enumerate(sorted(ends))}, len(ends)
    return 1 - 6 * sum((i - rank[e]) ** 2 for i, e in enumerate(ends)) / (n * (n * n - 1))


queue = [Device(f"queue-{i:03d}", f"127.0.2.{i % 200 + 1}") for i in range(900)]
t0 = time.monotonic()
with hubs_still(), ThreadPoolExecutor(16) as pool:
    list(pool.map(Device.step, queue))
    time.sleep(max(0, t0 + 11 - time.monotonic()))  # hub-timeout-ms is 10 s: calls are given up, and begin again in their place
took = time.monotonic() - t0
row("nobody was refused while the hubs stood still", [(d.rid, d.result) for d in queue if d.result or d.op is None][:3], [])
row("all are assigned in the end", drive(queue, 60))
rho = rho_of(queue[::9])
print(f"# order: rank correlation of arrival and end {rho:.3f}; the hubs stood still for {took:.1f} s")
row("calls were given up meanwhile", "step=create status=0" in env.log("dps"))
# Not when calls failed more often than keeps a place, nor where so many workers call at once (128 each) that hardly anybody waits.
if took < 30 and 3 * 128 * os.cpu_count() <= len(queue):
    row("who came first was served first (rank correlation)", rho, lambda v: v > 0.5)

late = [Device(f"late-{i:03d}", f"127.0.2.{i % 200 + 1}") for i in range(600)]
with hubs_still():
    for d in late[:300]:
        d.step()
    # the last of them: how many began in the second of the first is a matter of how fast this program asks
    grows = until(30, lambda: time.sleep(0.5) or (late[299].step() or 0) > 3)
    for d in late[300:]:
        d.step()
row("polls are told to come later", bool(grows))
row("and so are registrations behind them", statistics.mean(d.waits[-1] for d in late[300:]) > 3)
row("within bounds: few wait", max(d.waits[-1] for d in late) <= 13)
row("all are assigned in the end", drive(late, 60))
row("none was lost", [(d.rid, d.result) for d in late + queue if d.result != (200, "assigned", d.rid)][:5], [])
done()
