# SPDX-License-Identifier: Apache-2.0
"""Run by 33-dps-migrate.sh: the matrix of docs/protocol/dps-device.md 9, seen from both hubs."""
from dps_kit import *

A, B, C = env.hubs
TWIN = {"tags": {"site": "start"}, "properties": {"desired": {"every": 10}}}
MIGRATE = {"updateHubAssignment": True, "migrateDeviceData": True}
RESET = {"updateHubAssignment": True, "migrateDeviceData": False}
NEVER = {"updateHubAssignment": False, "migrateDeviceData": False}


def enrolled(rid, hub, policy, **more):
    key = new_key(64)
    body = {"registrationId": rid, "attestation": key_att(key), "allocationPolicy": "static", "iotHubs": [hub], "initialTwin": TWIN, **more}
    if policy:
        body["reprovisionPolicy"] = policy
    assert service("PUT", f"/enrollments/{rid}", body).status == 200
    return key


def point_at(rid, hub, **more):
    body = service("GET", f"/enrollments/{rid}").json
    body.update({"iotHubs": [hub], **more})
    for k in ("registrationState", "etag"):
        body.pop(k, None)
    r = service("PUT", f"/enrollments/{rid}", body, {"If-Match": "*"})
    assert r.status == 200, r


def begin(rid, key, version="2021-06-01"):
    """A function that gives the registrationState, which may be that of an operation under way."""
    token = device_token(rid, key)
    h = {"Content-Type": "application/json", "Authorization": token}

    def ask(method, path, body=None):
        c = Http(env.dps, env.ca)  # each its own: what happens between two may take longer than a silent connection lives
        a = c.ask(method, f"/{env.scope}/registrations/{rid}/{path}?api-version={version}", h, body)
        c.close()
        return a

    op = ask("PUT", "register", "{}").json["operationId"]

    def poll():
        p = ask("GET", f"operations/{op}")
        return p.json if p.status == 200 else None

    def end(seconds=30):
        j = until(seconds, lambda: poll() or time.sleep(0.15))
        return j["registrationState"] if j else {"status": "assigning"}
    return end


def register(rid, key, version="2021-06-01"):
    """registrationState"""
    return begin(rid, key, version)()


def what(state):
    return state.get("status"), state.get("assignedHub"), state.get("substatus")


def at(hub, did):
    """enabled, disabled, or None"""
    r = rest(env, env.hub_cs[env.hubs.index(hub)], "GET", f"/devices/{did}{HUB_V}")
    return r.json["status"] if r.status == 200 else None


def where(did):
    return [h for h in env.hubs if at(h, did)]


def twin(hub, did):
    t = rest(env, env.hub_cs[env.hubs.index(hub)], "GET", f"/twins/{did}{HUB_V}").json
    clean = {k: {n: v for n, v in t["properties"][k].items() if n[0] != "$"} for k in ("desired", "reported")}
    return t.get("tags", {}), clean["desired"], clean["reported"]


def edit(hub, did, key):
    """Tags and desired by the service, reported by the device."""
    i = env.hubs.index(hub)
    r = rest(env, env.hub_cs[i], "PATCH", f"/twins/{did}{HUB_V}", {"tags": {"room": 7}, "properties": {"desired": {"every": 20}}})
    assert r.status == 200, r
    m, code = hub_link(env, did, key, hub=i)
    assert code == 0, code
    m.subscribe(("$iothub/twin/res/#", 0))
    m.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", '{"fw":"1.2"}', qos=0)
    m.message()
    m.disconnect()


EDITED = ({"site": "start", "room": 7}, {"every": 20}, {"fw": "1.2"})
FRESH = ({"site": "start"}, {"every": 10}, {})


def moved(rid, policy, substatus, wanted):
    key = enrolled(rid, A, policy)
    row(f"{rid}: first", what(register(rid, key)), ("assigned", A, "initialAssignment"))
    edit(A, rid, key)
    row(f"{rid}: the same hub again", what(register(rid, key)), ("assigned", A, "initialAssignment"))
    row(f"{rid}: its twin there", twin(A, rid), FRESH if policy == RESET else EDITED)
    edit(A, rid, key)
    link, _ = hub_link(env, rid, key, hub=0)
    point_at(rid, B)
    row(f"{rid}: to another hub", what(register(rid, key)), ("assigned", B, substatus))
    row(f"{rid}: the old link ended", link.ends(5))
    row(f"{rid}: twin at the new hub", twin(B, rid), wanted)
    row(f"{rid}: enabled there", at(B, rid), "enabled")
    row(f"{rid}: gone from the old hub", until(5, lambda: where(rid) == [B]))
    row(f"{rid}: its key works there", hub_link(env, rid, key, hub=1)[1], 0)
    row(f"{rid}: and stays", what(register(rid, key)), ("assigned", B, substatus))
    point_at(rid, A)
    row(f"{rid}: back", what(register(rid, key)), ("assigned", A, "reprovisionedToInitialAssignment"))
    row(f"{rid}: only there", until(5, lambda: where(rid) == [A]))


moved("mig", MIGRATE, "deviceDataMigrated", EDITED)
moved("mig-default", None, "deviceDataMigrated", EDITED)
moved("res", RESET, "deviceDataReset", FRESH)

key = enrolled("nev", A, NEVER)
register("nev", key)
edit(A, "nev", key)
point_at("nev", B)
row("never: keeps its hub", what(register("nev", key)), ("assigned", A, "initialAssignment"))
row("never: and its twin", (where("nev"), twin(A, "nev")), ([A], EDITED))

key = enrolled("sticky", A, None)
register("sticky", key, "2018-04-01")
point_at("sticky", B, reprovisionPolicy=None)
row("sticky: 2018-04-01 without a policy", what(register("sticky", key, "2018-04-01")), ("assigned", A, "initialAssignment"))
row("sticky: a newer client moves", what(register("sticky", key)), ("assigned", B, "deviceDataMigrated"))

# what the old hub may have become
key = enrolled("lost", A, MIGRATE)
register("lost", key)
rest(env, env.hub_cs[0], "DELETE", f"/devices/lost{HUB_V}", headers={"If-Match": "*"})
row("a device missing on its hub is made again", (what(register("lost", key)), at(A, "lost"), twin(A, "lost")), (("assigned", A, "initialAssignment"), "enabled", FRESH))
rest(env, env.hub_cs[0], "DELETE", f"/devices/lost{HUB_V}", headers={"If-Match": "*"})
point_at("lost", B)
row("missing on the hub that it leaves: nothing to take along", (what(register("lost", key)), twin(B, "lost")), (("assigned", B, "deviceDataReset"), FRESH))

key = enrolled("held", A, MIGRATE)
register("held", key)
d = rest(env, env.hub_cs[0], "GET", f"/devices/held{HUB_V}").json
d["status"] = "disabled"
rest(env, env.hub_cs[0], "PUT", f"/devices/held{HUB_V}", d, {"If-Match": "*"})
point_at("held", B)
row("disabled by an administrator: stays so where it goes", (what(register("held", key)), at(B, "held")), (("assigned", B, "deviceDataMigrated"), "disabled"))

# an enrollment of a group; another owner at the new hub
G = new_key(64)
r = service("PUT", "/enrollmentGroups/grp", {"enrollmentGroupId": "grp", "attestation": key_att(G), "allocationPolicy": "static", "iotHubs": [A]})
assert r.status == 200, r
for rid in ("g-free", "g-taken"):
    register(rid, derive(G, rid))
put_device(env, "g-taken", hub=1)
service("PUT", "/enrollmentGroups/grp", {"enrollmentGroupId": "grp", "attestation": key_att(G), "allocationPolicy": "static", "iotHubs": [B]}, {"If-Match": "*"})
row("a member of a group moves", (what(register("g-free", derive(G, "g-free"))), until(5, lambda: where("g-free") == [B])), (("assigned", B, "deviceDataMigrated"), True))
s = register("g-taken", derive(G, "g-taken"))
row("the new hub's device is not ours: failed, and it stays", (s["status"], s.get("errorCode"), at(A, "g-taken")), ("failed", 409001, "enabled"))

row("moves are counted", env.metrics(-1).get("berth_dps_moves_total"), 9)

# hubs that are away: bounded, and the device goes on where it is
servers = {n: Server(env, n, ["dps.move-timeout-s=2", "dps.hub-timeout-ms=500"] if n == "dps" else []).take() for n in ("dps", "hub1", "hub2")}
for n in servers.values():
    n.start()
key = enrolled("away", A, MIGRATE)
register("away", key)
point_at("away", B)
servers["hub2"].kill()
s = register("away", key)
row("the new hub is away: told so, nothing changed", (s["status"], s.get("errorCode"), at(A, "away")), ("failed", 400210, "enabled"))
servers["hub2"].start()
servers["hub1"].kill()
s = register("away", key)
row("the old hub is away: told so", (s["status"], s.get("errorCode")), ("failed", 400210))
servers["hub1"].start()
row("and is enabled where it was", until(10, lambda: at(A, "away") == "enabled" and where("away") == [A]))
row("the next attempt moves it", what(register("away", key)), ("assigned", B, "deviceDataMigrated"))
row("away: only there", until(5, lambda: where("away") == [B]))
os.kill(servers["hub1"].p.pid, signal.SIGSTOP)
point_at("away", A)
s = register("away", key)
row("a hub that is silent is away too", (s["status"], s.get("errorCode"), at(B, "away")), ("failed", 400210, "enabled"))
os.kill(servers["hub1"].p.pid, signal.SIGCONT)
row("back again", what(register("away", key)), ("assigned", A, "reprovisionedToInitialAssignment"))

# the move went through, but the old hub died before it heard that the device is to be deleted
key = enrolled("owed", A, MIGRATE)
register("owed", key)
os.kill(servers["hub1"].p.pid, signal.SIGSTOP)
point_at("owed", B)
service("DELETE", "/registrations/owed")
os.kill(servers["hub1"].p.pid, signal.SIGCONT)
row("a deleted record makes a first registration", what(register("owed", key)), ("assigned", B, "initialAssignment"))
row("and leaves the other hub alone", where("owed"), [A, B])

# a request that was thought lost, and comes when the device has long left
key = enrolled("late", A, MIGRATE)
register("late", key)
LATE = {"operationId": "5.late", "owner": f"{env.scope}/individual/late", "mayAdopt": True, "sequence": int(time.time() * 1e6), "authentication": {"type": "sas"}}
point_at("late", B)
row("late: moved", (what(register("late", key)), until(20, lambda: where("late") == [B])), (("assigned", B, "deviceDataMigrated"), True))


def late():
    r = rest(env, env.hub_cs[0], "PUT", f"/provision/devices/late?api-version={BERTH_VERSION}", LATE)
    return r.status, r.headers.get("iothub-errorcode"), where("late")


row("late: the old hub refuses what was sent before", late(), (412, "PreconditionFailed", [B]))
servers["hub1"].kill()
servers["hub1"].start()
row("late: also after a crash", late(), (412, "PreconditionFailed", [B]))
row("late: its log says why", 'code=412001 why="a later operation was on device \\"late\\", which is not here any more"' in env.log("hub1"))
LATE["sequence"] = int(time.time() * 1e6)
point_at("late", A)
row("late: it may come back itself", what(register("late", key)), ("assigned", A, "reprovisionedToInitialAssignment"))
point_at("late", B)
row("late: and away again", (what(register("late", key)), until(20, lambda: where("late") == [B])), (("assigned", B, "deviceDataMigrated"), True))
row("late: refused as before", late(), (412, "PreconditionFailed", [B]))


def caught(rid, key):
    """Its move is under way: the new hub was probed, the old one has not frozen it yet, for it stands still."""
    seen = len(env.log("dps"))
    os.kill(servers["hub1"].p.pid, signal.SIGSTOP)
    end = begin(rid, key)
    row(f"{rid}: between probe and create", until(20, lambda: any("step=freeze" in x and rid in x for x in env.log("dps")[seen:].splitlines())))
    return end


# the new hub goes between probe and create
key = enrolled("gone", A, MIGRATE)
register("gone", key)
point_at("gone", B)
end = caught("gone", key)
servers["hub2"].kill()
os.kill(servers["hub1"].p.pid, signal.SIGCONT)
s = end()
row("gone: nothing can have reached it, so the device stays", (s["status"], s.get("errorCode"), until(20, lambda: at(A, "gone") == "enabled")), ("failed", 400210, True))
servers["hub2"].start()
row("gone: the next registration chooses again", what(register("gone", key)), ("assigned", B, "deviceDataMigrated"))
servers["dps"].stop()
MOVE = int(patience(10))
servers["dps"].sets = [f"dps.move-timeout-s={MOVE}", "dps.hub-timeout-ms=500"]
servers["dps"].start()
key = enrolled("doubt", A, MIGRATE)
register("doubt", key)
point_at("doubt", B)
end = caught("doubt", key)
os.kill(servers["hub2"].p.pid, signal.SIGSTOP)
os.kill(servers["hub1"].p.pid, signal.SIGCONT)


def held():
    r = admin("GET", "refusals/doubt")
    return [x["why"] for x in r.json["refusals"] if x["rule"] == "hub-away"] if r.status == 200 else []


row("doubt: explained", until(MOVE + 30, held), [f"hub {B} does not answer, and may have made the device"])
j = admin("GET", f"linkedHubs/{B}/state").json
row("doubt: the state of its hub", (j["reachable"], j["failures"] > 0, bool(j["error"]), j["registrationsUnderWay"], j["devices"] > 0, j["state"]), (False, True, True, 1, True, "active"))
row("doubt: held where it was", at(A, "doubt"), "disabled")
row("doubt: and not given up", end(1), {"status": "assigning"})
os.kill(servers["hub2"].p.pid, signal.SIGCONT)
row("hub state: none of that name", admin("GET", "linkedHubs/hub9.example/state").status, 404)
row("doubt: goes on by itself", until(40, lambda: where("doubt") == [B] and at(B, "doubt") == "enabled"))

j = admin("GET", f"linkedHubs/{B}/state").json
row("hub state: it answers again", (j["reachable"], j["lastStatus"], j["failures"], j["error"], j["registrationsUnderWay"]), (True, 200, 0, None, 0))
j = admin("GET", f"linkedHubs/{C.upper()}/state").json
row("hub state: never called", (j["reachable"], j["lastCallUtc"], j["devices"]), (None, None, 0))

# unlinked
key = enrolled("bare", C, MIGRATE)
stay = enrolled("bare-never", C, NEVER)
register("bare", key)
register("bare-never", stay)
link = admin("GET", f"linkedHubs/{C}").json
r = admin("DELETE", f"linkedHubs/{C}?force=true", if_match="*")
row("unlinked", r.status, 204)
point_at("bare", A)
row("its hub is not linked any more: made anew", (what(register("bare", key)), twin(A, "bare")), (("assigned", A, "deviceDataReset"), FRESH))
point_at("bare-never", A)
s = register("bare-never", stay)
row("but not against the policy", (s["status"], s.get("errorCode")), ("failed", 400210))
for s in servers.values():
    row(f"{s.name} ends cleanly", s.stop(), 0)
done()
