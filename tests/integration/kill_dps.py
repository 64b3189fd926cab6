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
servers = [Server(env, n).take() for n in ("dps", "hub1", "hub2")]
for s in servers:
    s.start()
G = new_key(64)
r = rest(env, env.dps_cs, "PUT", "/enrollmentGroups/g" + DPS_V, {
    "enrollmentGroupId": "g", "allocationPolicy": "hashed",
    "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": G, "secondaryKey": new_key(64)}}})
assert r.status == 200, r
told, began, odd = {}, [], []
lock = threading.Lock()
stopping = threading.Event()


def register(rid, patience):
    """registrationState when final; None when the server went away or nothing was final in time"""
    token = sas(f"{env.scope}/registrations/{rid}", derive(G, rid), "registration")
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


lines = [Line(i) for i in range(5)]
for t in lines:
    t.start()
times = []
for k in range(kills):
    threading.Event().wait(rnd.random() * 0.15)  # the random instant itself
    which = rnd.choice((0, 0, 1, 2))
    servers[which].kill()
    threading.Event().wait(rnd.choice((0, 0, 0.05)))
    times.append(servers[which].start())
stopping.set()
for t in lines:
    t.join(15)
stopping.clear()
print(f"# {kills} kills, {len(began)} registrations begun, {len(told)} told 'assigned'; ready again after {sorted(times)[len(times) // 2]:.0f} ms (median)")
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
