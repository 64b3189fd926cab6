# SPDX-License-Identifier: Apache-2.0
"""Grants of streams by hand: what one opens and what it does not, its end by time and by revocation, what is told of it, kill -9."""
from streams_kit import *

env = Env()
hub = Server(env, "hub1", sets=["streams.new-per-second=0", "streams.max-per-device=0"]).take()
hub.start()
P = f"?api-version={BERTH_VERSION}"
OWNER = env.hub_cs[0]
devices = {}
for did in ("g-1", "g-2", "line-3-a", "line-3-b"):
    devices[did] = put_device(env, did)


def listen(did):
    return Device(env, did, devices[did], answer=True)


def put(name, body, conn=OWNER):
    return rest(env, conn, "PUT", f"/admin/streamGrants/{name}{P}", body)


def grant(name, life=600, **k):
    r = put(name, {"streamName": "ssh", "lifeSeconds": life, **(k or {"deviceId": "g-1"})})
    assert r.status == 201, r
    return r.json["connectionString"]


def ask(conn, did="g-1", name="ssh", connect=10):
    """Status of a POST with that connection string, and its answer."""
    return post(env, did, name, connect, 15, token=cs_token(conn))


def pair(dev, conn, did="g-1"):
    r = ask(conn, did)
    assert r.status == 200 and r.headers["iothub-streaming-is-accepted"] == "True", r
    rq = dev.request()
    d = End(env, rq["url"], rq["auth"])
    s = End(env, r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"])
    s.send(b"x")
    assert d.read(1) == b"x"
    return d, s


# --- what is made -----------------------------------------------------------------------------------------------------------------------
dev = listen("g-1")
r = put("first", {"deviceId": "g-1", "streamName": "ssh", "lifeSeconds": 600})
row("made: 201", r.status, 201)
row("its place", r.headers.get("location"), "/admin/streamGrants/first")
row("not to be kept by caches", r.headers.get("cache-control"), "no-store")
first = r.json["connectionString"]
row("a connection string of its own", cs(first)["SharedAccessKeyName"], "stream:first")
row("what it is for", (r.json["deviceId"], r.json["streamName"], r.json["state"], r.json["createdBy"]), ("g-1", "ssh", "active", "iothubowner"))
r = rest(env, OWNER, "GET", f"/admin/streamGrants/first{P}")
row("read again without its key", (r.status, "connectionString" in r.json, cs(first)["SharedAccessKey"] in r.body.decode()), (200, False, False))
row("the same name again", put("first", {"deviceId": "g-1", "streamName": "ssh", "lifeSeconds": 600}).status, 409)
for name, body, text in [("no device", {"streamName": "ssh", "lifeSeconds": 5}, "deviceId"), ("no time", {"deviceId": "g-1", "streamName": "ssh"}, "ArgumentNull"),
                         ("device and prefix", {"deviceId": "g-1", "devicePrefix": "g", "streamName": "ssh", "lifeSeconds": 5}, "either"),
                         ("no time at all", {"deviceId": "g-1", "streamName": "ssh", "lifeSeconds": 0}, "lifeSeconds"),
                         ("too long", {"deviceId": "g-1", "streamName": "ssh", "lifeSeconds": 31 * 86400 + 1}, "lifeSeconds"),
                         ("no name of a stream", {"deviceId": "g-1", "streamName": "a/b", "lifeSeconds": 5}, "streamName"),
                         ("no device id", {"deviceId": "", "streamName": "ssh", "lifeSeconds": 5}, "device id"),
                         ("a member that is none", {"deviceId": "g-1", "streamName": "ssh", "lifeSeconds": 5, "rights": "all"}, "rights")]:
    r = put("bad", body)
    row(f"{name}: 400, and says so", (r.status, text in r.body.decode()), (400, True))
for name in ("a%20b", "a%3Ab", "n" * 41):
    row(f"no name for a grant: {name[:12]}", put(name, {"deviceId": "g-1", "streamName": "ssh", "lifeSeconds": 5}).status, 400)
row("a policy that administrates, without ServiceConnect", rest(env, OWNER, "PUT", f"/admin/policies/configonly{P}",
                                                               {"rights": "", "hiddenRights": "HubConfig"}).status, 201)
keys = rest(env, OWNER, "POST", f"/admin/policies/configonly/listKeys{P}").json
conn = f"HostName={env.hub};SharedAccessKeyName=configonly;SharedAccessKey={keys['primaryKey']}"
row("nobody grants a right that he lacks", put("no", {"deviceId": "g-1", "streamName": "ssh", "lifeSeconds": 5}, conn).status, 401)
row("a policy without administration makes none", put("no", {"deviceId": "g-1", "streamName": "ssh", "lifeSeconds": 5}, first).status, 401)

# --- what it opens ------------------------------------------------------------------------------------------------------------------------
d, s = pair(dev, first)
one = [x for x in rest(env, OWNER, "GET", f"/admin/streams{P}").json["value"] if x["deviceId"] == "g-1"]
row("its stream is listed under its name", [x["policy"] for x in one], ["stream:first"])
d2 = listen("g-2")
row("another device: 401", ask(first, "g-2").status, 401)
row("another name: 401", ask(first, "g-1", "web").status, 401)
row("its name without case: 401", ask(first, "g-1", "SSH").status, 401)
row("no device heard of it", d2.quiet() is None and dev.quiet() is None)
for method, path in [("GET", "/twins/g-1" + HUB_V), ("GET", "/devices/g-1" + HUB_V), ("GET", "/devices" + HUB_V), ("DELETE", "/devices/g-1" + HUB_V),
                     ("GET", f"/admin/streams{P}"), ("GET", f"/admin/streamGrants{P}"), ("DELETE", f"/admin/streamGrants/first{P}"),
                     ("GET", f"/admin/policies{P}"), ("POST", "/twins/g-1/modules/m/streams/ssh" + HUB_V)]:
    row(f"{method} {path.split('?')[0]}: 401", rest(env, OWNER, method, path, token=cs_token(first)).status, 401)
put_module(env, "g-1", "m")
row("a module of its device: 401", rest(env, OWNER, "POST", "/twins/g-1/modules/m/streams/ssh" + HUB_V, token=cs_token(first)).status, 401)
row("and the log says why", "a grant is for devices, not for their modules" in env.log("hub1"))
forged = first[:first.index("SharedAccessKey=")] + "SharedAccessKey=" + new_key()
row("another key: 401", ask(forged).status, 401)
row("no such grant: 401", ask(first.replace("stream:first", "stream:other")).status, 401)
row("a token whose own time is over: 401", post(env, "g-1", "ssh", token=cs_token(first, -1000)).status, 401)
row("a link is not opened by it", hub_link(env, "g-2", None, password=cs_token(first))[1], lambda c: c not in (0, 256))
some, every = grant("some", devicePrefix="line-3-"), grant("every", devicePrefix="")
la, lb = listen("line-3-a"), listen("line-3-b")
row("those that begin alike", (ask(some, "line-3-a").status, ask(some, "line-3-b").status, ask(some, "g-1").status), (200, 200, 401))
row("all", (ask(every, "line-3-a").status, ask(every, "g-2").status, ask(every, "g-2", "web").status), (200, 200, 401))

# --- revoked --------------------------------------------------------------------------------------------------------------------------------
other = grant("other")
od, os_ = pair(dev, other)
t0 = time.monotonic()
row("revoked without its etag: 412", rest(env, OWNER, "DELETE", f"/admin/streamGrants/first{P}").status, 412)
row("revoked: 204", rest(env, OWNER, "DELETE", f"/admin/streamGrants/first{P}", headers={"If-Match": "*"}).status, 204)
row("both ends close with 1008", (d.end(20), s.end(20)), ((1008, "Access was revoked"), (1008, "Access was revoked")))
print(f"# a revoked grant's stream was over after {(time.monotonic() - t0) * 1000:.0f} ms")
row("it opens nothing more", ask(first).status, 401)
os_.send(b"y")
row("a stream of another grant lives on", od.read(1), b"y")
d, s = pair(dev, OWNER)
row("and those of a policy", rest(env, OWNER, "DELETE", f"/admin/streamGrants/other{P}", headers={"If-Match": "*"}).status, 204)
row("the other's ends with it", os_.end(20), (1008, "Access was revoked"))
s.send(b"z")
row("the policy's does not", d.read(1), b"z")
s.close()

# --- the policy itself ------------------------------------------------------------------------------------------------------------------------
for how in ("its key is replaced", "it is deleted"):
    row("a policy for one operator", rest(env, OWNER, "PUT", f"/admin/policies/alice{P}", {"rights": "ServiceConnect"}).status, 201)
    keys = rest(env, OWNER, "POST", f"/admin/policies/alice/listKeys{P}").json
    alice = f"HostName={env.hub};SharedAccessKeyName=alice;SharedAccessKey={keys['primaryKey']}"
    d, s = pair(dev, alice)
    if how == "its key is replaced":
        r = rest(env, OWNER, "POST", f"/admin/policies/alice/regenerateKey{P}", {"policyKey": "both"}, {"If-Match": "*"})
        row("a new key", r.status, 200)
        row(f"{how}: its streams end", (d.end(20), s.end(20)), ((1008, "Access was revoked"), (1008, "Access was revoked")))
    row("away with it", rest(env, OWNER, "DELETE", f"/admin/policies/alice{P}", headers={"If-Match": "*"}).status, 204)
    if how == "it is deleted":
        row(f"{how}: its streams end", (d.end(20), s.end(20)), ((1008, "Access was revoked"), (1008, "Access was revoked")))

# --- its time is over ----------------------------------------------------------------------------------------------------------------------------
for life in (4, 12, 36, 108):  # a slow machine needs longer for the first part
    over = time.time() + life
    brief = grant(f"brief-{life}", life)
    r = ask(brief)
    if r.status != 200:
        continue
    rq = dev.request()
    d = End(env, rq["url"], rq["auth"])
    s = End(env, r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"])
    if d.status == s.status == 101 and time.time() + 1.5 < over:
        break
ended = s.end(120)
late = time.time() - over
row("its time is over: the stream ends", ended, (1008, "Access was revoked"))
row("not before", late > -1.1)  # the hub counts whole seconds
print(f"# a stream whose grant's time was over ended {late * 1000:.0f} ms after (whole seconds are counted)")
row("the device's end too", d.end(20), (1008, "Access was revoked"))
row("and it opens nothing more", ask(brief).status, 401)
row("it is swept", until(40, lambda: rest(env, OWNER, "GET", f"/admin/streamGrants/brief-{life}{P}").status == 404))

# --- what is told of them --------------------------------------------------------------------------------------------------------------------------
def trail():
    return [(x["who"], x["act"], x["result"]) for x in rest(env, OWNER, "GET", f"/admin/audit{P}&top=1000").json["value"]]


def told(who, act, result):
    return until(20, lambda: any(w == who and act in a and r.startswith(result) for w, a, r in trail()))


row("audit: made", told("iothubowner", "PUT /admin/streamGrants/first", "OK"))
row("audit: used", told("stream:first", "open g-1 ssh", "OK"))
row("audit: refused", told("stream:first", "POST /twins/g-2/streams/ssh", "E_SCOPE"))
row("audit: refused for its time", told(f"stream:brief-{life}", "POST /twins/g-1/streams/ssh", "E_EXPIRED") or told("hub", f"grant brief-{life} to g-1 expired", "OK"))
row("audit: revoked", told("iothubowner", "DELETE /admin/streamGrants/first", "OK"))
row("audit: its time was over", told("hub", f"grant brief-{life} to g-1 expired", "OK"))
row("audit: what nobody proved is not there", [x for x in trail() if x[0] == "stream:other" and "POST" in x[1]], [])

# --- kill -9 -----------------------------------------------------------------------------------------------------------------------------------------
kept = grant("kept")
hub.kill()
hub.start()
names = [g["name"] for g in rest(env, OWNER, "GET", f"/admin/streamGrants{P}").json["value"] if g["streamName"] == "ssh"]
row("what was told is there after kill -9", names, ["every", "kept", "some"])
dev = listen("g-1")
d, s = pair(dev, kept)
row("and opens", True)
row("revoked", rest(env, OWNER, "DELETE", f"/admin/streamGrants/kept{P}", headers={"If-Match": "*"}).status, 204)
hub.kill()
hub.start()
dev = listen("g-1")
row("what was revoked stays so after kill -9", ask(kept).status, 401)
log = env.log("hub1")
row("no key in the log", [k for k in (first, some, every, kept) if cs(k)["SharedAccessKey"] in log], [])
hub.stop()
done()
