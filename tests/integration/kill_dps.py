# SPDX-License-Identifier: Apache-2.0
"""Run by 51-kill-dps.sh: KILLS"""
import random
import threading

from kit import *

kills = int(sys.argv[1])
seed = int(os.environ.get("BERTH_SEED", time.time_ns() & 0xffffffff))
print(f"# seed {seed}", flush=True)
rnd = random.Random(seed)
env = Env()
servers = [Server(env, n, ["dps.register-burst=0", "dps.poll-burst=0"] if n == "dps" else []).take() for n in ("dps", "hub1", "hub2")]
for s in servers:
    s.start()
G = new_key(64)
r = rest(env, env.dps_cs, "PUT", "/enrollmentGroups/g" + DPS_V, {
    "enrollmentGroupId": "g", "allocationPolicy": "hashed",
    "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": G, "secondaryKey": new_key(64)}}})
assert r.status == 200, r
told, began, odd, times = {}, [], [], []
lock = threading.Lock()
stopping = threading.Event()


def register(rid, patience, token=None):
    """The answer when it is final; None when the server went away or nothing was final in time"""
    token = token or sas(f"{env.scope}/registrations/{rid}", derive(G, rid), "registration")
    h = {"Authorization": token, "Content-Type": "application/json"}
    end = time.monotonic() + patience
    try:
        c = Http(env.dps, env.ca)
        a = c.ask("PUT", f"/{env.scope}/registrations/{rid}/register{DEV_V}", h, json.dumps({"registrationId": rid}))
        while a.status == 202 and time.monotonic() < end and not stopping.is_set():
            stopping.wait(0.05)
            a = c.ask("GET", f"/{env.scope}/registrations/{rid}/operations/{a.json['operationId']}{DEV_V}", h)
        if a.status == 200:
            return a.json
        if a.status not in (202, 404, 429, 500, 503):
            odd.append((rid, a.status, a.body[:200]))
    except (OSError, ssl.SSLError):
        pass
    return None


class Line(threading.Thread):
    def __init__(self, i):
        super().__init__(daemon=True)
        self.i = i

    def run(self):
        n = 0
        while not stopping.is_set():
            rid = f"u{self.i}-{n}"
            # over the whole time of the kills, however long they take, and fewer than a page of a hub's devices in the end
            while len(began) >= 200 + 1200 * len(times) / kills and not stopping.is_set():
                stopping.wait(0.05)
            with lock:
                began.append(rid)
            j = register(rid, 1.0)
            if j and j["status"] == "assigned":
                with lock:
                    told[rid] = j["registrationState"]["assignedHub"]
            elif j:
                odd.append((rid, j))
            n += 1
            stopping.wait(0.02 if j else 0.1)


# --- devices that move between the hubs all the while ---------------------------------------------------------------------------------

MOVERS = 8
mover_keys = {f"m{i}": new_key(64) for i in range(MOVERS)}
moves, doubles, looks = [0], [], [0]


def service(method, path, body=None):
    """None: nobody answered."""
    try:
        return rest(env, env.dps_cs, method, path + DPS_V, body, {"If-Match": "*"} if method == "PUT" and body.pop("again", False) else None)
    except (OSError, ssl.SSLError, ValueError):
        return None


def point_at(rid, hub, again=True):
    """Until it is stored, or the test ends."""
    body = {"registrationId": rid, "allocationPolicy": "static", "iotHubs": [env.hubs[hub]], "initialTwin": {"tags": {"born": rid}},
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": mover_keys[rid], "secondaryKey": mover_keys[rid]}}}
    while not stopping.is_set():
        r = service("PUT", "/enrollments/" + rid, {**body, "again": again})
        if r is not None and r.status in (200, 409):
            return
        stopping.wait(0.1)


def device_at(hub, rid):
    """(status, generation, etag), None when it is not there, False when nobody answered"""
    try:
        r = rest(env, env.hub_cs[hub], "GET", f"/devices/{rid}{HUB_V}")
    except (OSError, ssl.SSLError, ValueError):
        return False
    if r.status == 404:
        return None
    return (r.json["status"], r.json["generationId"], r.json["etag"]) if r.status == 200 else False


def register_mover(rid, patience):
    token = sas(f"{env.scope}/registrations/{rid}", mover_keys[rid], "registration")
    return register(rid, patience, token)


class Mover(threading.Thread):
    def __init__(self, rids):
        super().__init__(daemon=True)
        self.rids, self.at = rids, {r: 0 for r in rids}

    def run(self):
        mine = random.Random(seed + len(self.rids))
        while not stopping.is_set():
            for rid in self.rids:
                if mine.random() < 0.7:
                    self.at[rid] = 1 - self.at[rid]
                    point_at(rid, self.at[rid])
                j = register_mover(rid, 2.0)
                if j and j["status"] == "assigned":
                    moves[0] += j["registrationState"].get("substatus") != "initialAssignment"
                elif j and j["registrationState"].get("errorCode") != 400210:  # a hub was away for too long
                    odd.append((rid, j))


class Watcher(threading.Thread):
    """Is a device enabled at both hubs at one instant? It is when one hub says the same before and after the other said enabled."""

    def run(self):
        while not stopping.is_set():
            for rid in mover_keys:
                for a, b in ((0, 1), (1, 0)):
                    before = device_at(a, rid)
                    if not before or before[0] != "enabled":
                        continue
                    other = device_at(b, rid)
                    if other and other[0] == "enabled" and device_at(a, rid) == before:
                        doubles.append((rid, before, other))
                    looks[0] += 1


for rid in mover_keys:
    point_at(rid, 0, again=False)
    j = register_mover(rid, 20)
    row(f"{rid} begins", bool(j) and j["status"], "assigned")
    r = rest(env, env.hub_cs[0], "PATCH", f"/twins/{rid}{HUB_V}", {"tags": {"kept": rid}})
    assert r.status == 200, r
rids = sorted(mover_keys)
others = [Mover(rids[:3]), Mover(rids[3:6]), Mover(rids[6:]), Watcher(daemon=True)]
lines = [Line(i) for i in range(5)]
for t in lines + others:
    t.start()
for k in range(kills):
    threading.Event().wait(rnd.random() * 0.15)  # the random instant itself
    which = rnd.choice((0, 0, 1, 2))
    servers[which].kill()
    threading.Event().wait(rnd.choice((0, 0, 0.05)))
    times.append(servers[which].start())
# a few kills on a slow build are over before the first device has moved
until(60, lambda: moves[0] > kills / 10 and looks[0] > kills / 4 and len(told) > kills / 4)
stopping.set()
for t in lines + others:
    t.join(30)
stopping.clear()
print(f"# {kills} kills, {len(began)} registrations begun, {len(told)} told 'assigned'; ready again after {sorted(times)[len(times) // 2]:.0f} ms (median)")
print(f"# {moves[0]} moves told, {looks[0]} looks at both hubs")
row("devices were moving", moves[0] > kills / 10)
row("and were looked at", looks[0] > kills / 4)
row("no device was ever enabled at two hubs", doubles, [])
row("every answer was one of those that are allowed", odd, [])
row("units were registering", len(told) > kills / 4)

# whoever was interrupted provisions now
left = [r for r in began if r not in told]
failed = []


def again(rids):
    for rid in rids:
        j = until(20, lambda: register(rid, 5))
        if not j or j["status"] != "assigned":
            failed.append((rid, j))
        else:
            told[rid] = j["registrationState"]["assignedHub"]


lines = [threading.Thread(target=again, args=(left[i::8],), daemon=True) for i in range(8)]
for t in lines:
    t.start()
for t in lines:
    t.join(60)
row(f"{len(left)} that were interrupted provision afterwards", failed, [])


def devices(hub):
    out, token = {}, None
    r = rest(env, env.hub_cs[hub], "GET", "/devices" + HUB_V + "&top=1000")
    for d in r.json:
        out[d["deviceId"]] = d["authentication"]["symmetricKey"]["primaryKey"]
    return out


# the devices that moved: exactly one hub, the one that the record names, with the twin that went along
lost = []
for rid in rids:
    j = until(30, lambda: register_mover(rid, 8))
    if not j or j["status"] != "assigned":
        lost.append((rid, j))
        continue
    at_hub = env.hubs.index(j["registrationState"]["assignedHub"])
    if not until(20, lambda: device_at(1 - at_hub, rid) is None and (device_at(at_hub, rid) or [""])[0] == "enabled"):
        lost.append((rid, device_at(0, rid), device_at(1, rid)))
    tags = rest(env, env.hub_cs[at_hub], "GET", f"/twins/{rid}{HUB_V}").json.get("tags", {})
    if tags != {"born": rid, "kept": rid}:
        lost.append((rid, tags))
    a = rest(env, env.dps_cs, "GET", f"/registrations/{rid}{DPS_V}")
    if a.status != 200 or a.json.get("assignedHub") != env.hubs[at_hub]:
        lost.append((rid, a))
row("who moved is enabled at one hub, as the record says, with its twin", lost, [])
row("and connects there", [r for r in rids if not any(hub_link(env, r, mover_keys[r], hub=i)[1] == 0 for i in (0, 1))], [])

at = {env.hubs[i]: devices(i) for i in (0, 1)}
row("fewer than a page of devices", all(len(d) < 1000 for d in at.values()))
row("who was told a hub exists there, with its key", [r for r, h in told.items() if at[h].get(r) != derive(G, r)], [])
row("nobody exists at two hubs", sorted(set(at[env.hubs[0]]) & set(at[env.hubs[1]])), [])
bad_records = []
for rid, hub in told.items():
    a = rest(env, env.dps_cs, "GET", f"/registrations/{rid}{DPS_V}")
    if a.status != 200 or a.json.get("assignedHub") != hub or a.json.get("status") != "assigned":
        bad_records.append((rid, hub, a))
row("the record says the same", bad_records, [])
some = rnd.sample(sorted(told), min(10, len(told)))
row("and the device connects", [r for r in some if hub_link(env, r, derive(G, r), hub=env.hubs.index(told[r]))[1] != 0], [])
for s in servers:
    row(f"{s.name} ends cleanly", s.stop(), 0)
done()
