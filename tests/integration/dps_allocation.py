# SPDX-License-Identifier: Apache-2.0
"""Run by 38-dps-allocation.sh: docs/protocol/dps-service-rest.md B4, with a webhook in this process."""
import threading

from dps_kit import *
from mmdb import mmdb

A, B, C = env.hubs
NET = os.environ["NET"]
HOOK = NET + ".200"  # a loopback address of its own: what asks there is the DPS
dps = Server(env, "dps", ["egress.private-webhooks=no", f"egress.ca={T}/all.pem"]).take()
cert("hook", f"/CN={HOOK}", ext=LEAF.format("serverAuth") + f"subjectAltName=IP:{HOOK}\n")
with open(f"{T}/all.pem", "w") as f:
    f.write(open(env.ca).read() + read("hook.pem"))


# --- the webhook -----------------------------------------------------------------------------------------------------------------

class Hook(threading.Thread):
    """Answers with what `say` holds for the path; keeps what it was asked."""

    def __init__(self, tls=True, port=0):
        super().__init__(daemon=True)
        self.s = socket.create_server((HOOK, port), backlog=64)
        self.port = self.s.getsockname()[1]
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(f"{T}/hook.pem", f"{T}/hook.key")
        self.asked, self.raw, self.say, self.n, self.dies = [], [], {}, 0, 0
        self.start()

    def url(self, path="/"):
        return f"{'https' if self.context else 'http'}://{HOOK}:{self.port}{path}"

    def run(self):
        while True:
            c, _ = self.s.accept()
            self.n += 1
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        try:
            c.settimeout(20)
            if self.dies > 0:
                self.dies -= 1
                c.close()
                return
            if self.context:
                c = self.context.wrap_socket(c, server_side=True)
            text = b""
            while b"\r\n\r\n" not in text:
                text += c.recv(65536) or self.end()
            head, body = text.split(b"\r\n\r\n", 1)
            n = [int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length")][0]
            while len(body) < n:
                body += c.recv(65536) or self.end()
            path = head.split(b" ")[1].decode()
            self.asked.append((head.decode(), json.loads(body)))
            self.raw.append((head.decode(), body))
            status, answer, wait = self.say.get(path, (404, b"", 0))
            answer = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            threading.Event().wait(wait)
            more = f"Location: {self.url('/good')}\r\n" if 300 <= status < 400 else ""
            c.sendall(f"HTTP/1.1 {status} x\r\nContent-Length: {len(answer)}\r\n{more}Connection: close\r\n\r\n".encode() + answer)
            c.close()
        except (OSError, ssl.SSLError):
            c.close()

    def end(self):
        raise OSError("closed")


hook = Hook()


def signed_by(head, body, keys):
    """As docs/protocol/dps-service-rest.md B4 tells a receiver: the version of the key that signed this request; None: nobody did."""
    lines = [x.split(":", 1)[1] for x in head.split("\r\n") if x.lower().startswith("berth-signature:")]
    if len(lines) != 1:
        return None
    f = dict(x.split("=", 1) for x in lines[0].strip().split(","))
    if abs(time.time() - int(f["t"])) > 300 or int(f["k"]) not in keys:
        return None
    want = hmac.new(base64.b64decode(keys[int(f["k"])]), f["t"].encode() + b"." + body, hashlib.sha256).digest()
    return int(f["k"]) if hmac.compare_digest(base64.b64decode(f["v1"]), want) else None


def hook_keys(host):
    r = admin("POST", f"webhooks/{quote(host)}/listKeys")
    assert r.status == 200 and r.headers["cache-control"] == "no-store", r
    return {k["version"]: k["key"] for k in r.json["keys"]}
NO_SECRET = ("primaryKey", "secondaryKey", "certificate\"")


def settings(**more):
    r = admin("PUT", "settings", more)
    assert r.status == 200, r


def custom(rid, url, kind="enrollments", match=None, **more):
    key = new_key(64)
    name = "registrationId" if kind == "enrollments" else "enrollmentGroupId"
    body = {name: rid, "attestation": key_att(key), "allocationPolicy": "custom",
            "customAllocationDefinition": {"webhookUrl": url, "apiVersion": "2019-03-31"}, **more}
    r = service("PUT", f"/{kind}/{rid}", body, {"If-Match": match} if match else None)
    return key if r.status == 200 else r


def register(rid, key, payload=None, conn=None):
    body = {"registrationId": rid}
    if payload is not None:
        body["payload"] = payload
    return final(rid, device_token(rid, key) if key else None, conn, json.dumps(body))[2] or {}


def what(state):
    return state.get("status"), state.get("assignedHub") or state.get("errorCode")


def twin(hub, did):
    return rest(env, env.hub_cs[env.hubs.index(hub)], "GET", f"/twins/{did}{HUB_V}").json


# --- what the settings allow --------------------------------------------------------------------------------------------------------

dps.start()
hook.say["/good"] = (200, {"iotHubHostName": B.upper(), "payload": {"any": ["json"]},
                           "initialTwin": {"tags": {"by": "hook"}, "properties": {"desired": {"x": 1}}}}, 0)
hook.say["/bare"] = (200, {"iotHubHostName": A}, 0)
key = custom("c-good", hook.url("/good"))
row("no host is allowed at first", what(register("c-good", key)), ("failed", 400207))
settings(webhook={"allowedHosts": ["*.example", HOOK], "timeoutSeconds": 2})
row("and then its address is private", what(register("c-good", key)), ("failed", 400207))
row("nobody was connected", hook.n, 0)
row("the log says why", "may not be reached" in env.log("dps"))
row("the settings say so", admin("GET", "settings").json["webhook"], {"allowedHosts": ["*.example", HOOK], "timeoutSeconds": 2})
row("partD:18 plain http", custom("c-http", "http://" + HOOK + "/").code, 400004)
for name, part, bad in (
        ("unknown member", "webhook", {"allowHtp": True}), ("host", "webhook", {"allowedHosts": ["a b"]}), ("type", "webhook", {"allowedHosts": [1]}),
        ("timeout", "webhook", {"timeoutSeconds": 0}), ("key version", "webhook", {"keyVersion": 0}), ("network", "latencyTable", [{"network": "10.0.0.1/8", "latencyMs": {}}]),
        ("prefix", "latencyTable", [{"network": "10.0.0.0/33", "latencyMs": {}}]), ("no prefix", "latencyTable", [{"network": "::", "latencyMs": {}}]),
        ("twice", "latencyTable", [{"network": "10.0.0.0/8", "latencyMs": {}}] * 2), ("ms", "latencyTable", [{"network": "::/0", "latencyMs": {"a": -1}}])):
    r = admin("PUT", "settings", {part: bad})
    row(f"settings, bad {name}", (r.status, r.code), (400, 400004))
dps.stop()
dps.sets = [f"egress.ca={T}/all.pem", "egress.private-webhooks=yes", "dps.register-burst=0", "dps.poll-burst=0", "server.workers=1"]
dps.start()

# --- a webhook that behaves ------------------------------------------------------------------------------------------------------------

s = register("c-good", key, {"modelId": "dtmi:example:m;1"})
row("it chooses", what(s), ("assigned", B))
row("dps-device:D29 its payload reaches the device", s.get("payload"), {"any": ["json"]})
row("and the record", service("GET", "/registrations/c-good").json.get("payload"), {"any": ["json"]})
t = twin(B, "c-good")
row("its twin reaches the hub", (t["tags"], t["properties"]["desired"].get("x")), ({"by": "hook"}, 1))
head, q = hook.asked[-1]
row("it is asked by POST, as JSON", (head.split(" ")[0], "application/json" in head), ("POST", True))
row("members of the question", sorted(q), ["deviceRuntimeContext", "individualEnrollment", "linkedHubs"])
row("the enrollment, without secrets", (q["individualEnrollment"]["attestation"], q["individualEnrollment"]["registrationId"]), ({"type": "symmetricKey"}, "c-good"))
row("its etag is decoded", q["individualEnrollment"]["etag"][0] + q["individualEnrollment"]["etag"][-1], '""')
row("the device", q["deviceRuntimeContext"], {"registrationId": "c-good", "symmetricKey": {}, "payload": {"modelId": "dtmi:example:m;1"}})
row("the hubs", sorted(q["linkedHubs"]), sorted(env.hubs))
keys = hook_keys(HOOK)
row("threat:E2 its keys: this one and the next", [(v, len(base64.b64decode(k))) for v, k in keys.items()], [(1, 32), (2, 32)])
row("threat:E2 the body is signed", signed_by(*hook.raw[-1], keys), 1)
row("threat:E2 another body is not", signed_by(hook.raw[-1][0], hook.raw[-1][1] + b" ", keys), None)
row("threat:E2 the keys of another host sign nothing here", (signed_by(*hook.raw[-1], hook_keys("other.example")), hook_keys("OTHER.example") == hook_keys("other.example")), (None, True))
for bad in ("a b", "a/b", "*", "x" * 254):
    row(f"no keys for {bad[:5]!r}", admin("POST", f"webhooks/{quote(bad)}/listKeys").code, 400004)
row("threat:N6 no compressed answer is asked for", "accept-encoding" in head.lower(), False)
row("no token of ours goes there", "authorization" not in head.lower())
hook.say["/good"] = (200, {"iotHubHostName": C, "payload": [1]}, 0)
s = register("c-good", key)
row("again, elsewhere", (what(s), s.get("substatus")), (("assigned", C), "deviceDataMigrated"))
row("an array is no payload", "payload" in s, False)
row("the twin went along", twin(C, "c-good")["tags"], {"by": "hook"})
q = hook.asked[-1][1]["deviceRuntimeContext"]
row("it hears where the device is", (q.get("currentIotHubHostName"), q.get("currentDeviceId"), "payload" in q), (B, "c-good", False))
bare = custom("c-bare", hook.url("/bare"))
row("dps-device:D30 no payload", "payload" in register("c-bare", bare, {}), False)
narrow = custom("c-narrow", hook.url("/good"), iotHubs=[A, B])
row("only among iotHubs", (what(register("c-narrow", narrow)), sorted(hook.asked[-1][1]["linkedHubs"])), (("failed", 400209), sorted([A, B])))
group = custom("c-group", hook.url("/bare"), "enrollmentGroups")
row("a group", (what(register("c-member", derive(group, "c-member"))), "enrollmentGroup" in hook.asked[-1][1]), (("assigned", A), True))
cert("c-cert", "/CN=c-cert")
r = service("PUT", "/enrollments/c-cert", {"registrationId": "c-cert", "attestation": x509_att("c-cert", member="clientCertificates"), "allocationPolicy": "custom",
                                           "customAllocationDefinition": {"webhookUrl": hook.url("/bare"), "apiVersion": "1"}})
row("a certificate", what(register("c-cert", None, conn=(f"{T}/c-cert.pem", f"{T}/c-cert.key"))), ("assigned", A))
x = hook.asked[-1][1]["deviceRuntimeContext"]["x509"]["clientCertificate"]["info"]
row("described to it", (x["subjectName"], len(x["sha256Thumbprint"])), ("CN=c-cert", 64))
row("no secret in any question", [n for n in NO_SECRET if n in json.dumps([a[1] for a in hook.asked])], [])
settings(webhook={"allowedHosts": [HOOK], "timeoutSeconds": 2, "keyVersion": 2})
row("threat:E2 the next key signs after a change of keyVersion", (what(register("c-bare", bare)), signed_by(*hook.raw[-1], keys), sorted(hook_keys(HOOK))), (("assigned", A), 2, [2, 3]))
row("threat:E2 every question of this run was signed", [h for h, b in hook.raw if signed_by(h, b, keys) is None], [])
row("both retried connections count as one question", (setattr(hook, "dies", 2), what(register("c-bare", bare)))[1], ("assigned", A))

# --- and one that does not (partD:29) ---------------------------------------------------------------------------------------------------

deep = {"a": 1}
for _ in range(12):
    deep = {"d": deep}
BAD = {
    "/500": ((500, b"no", 0), 400207, "Custom allocation failed with status code: 500"),
    "/400": ((400, b"no", 0), 400207, "Custom allocation failed with status code: 400"),
    "/nohub": ((200, {"payload": {}}, 0), 400208, None),
    "/nulhub": ((200, {"iotHubHostName": None}, 0), 400208, None),
    "/inthub": ((200, {"iotHubHostName": 7}, 0), 400208, None),
    "/text": ((200, b"hub2", 0), 400208, None),
    "/array": ((200, b"[]", 0), 400208, None),
    "/empty": ((200, b"", 0), 400208, None),
    "/nested": ((200, b'{"iotHubHostName":' + b"[" * 50000, 0), 400208, None),
    "/foreign": ((200, {"iotHubHostName": "hub.evil.example"}, 0), 400209, None),
    "/list": ((200, {"iotHubHostName": f"{A},{B}"}, 0), 400209, None),
    "/slow": ((200, {"iotHubHostName": A}, 10), 400207, None),
    "/large": ((200, b'{"iotHubHostName":"' + A.encode() + b'","payload":{"a":"' + b"x" * (1 << 20) + b'"}}', 0), 400207, None),
    "/redirect": ((302, b"", 0), 400207, "Custom allocation failed with status code: 302"),
    "/twin": ((200, {"iotHubHostName": A, "initialTwin": {"tags": {"a.b": 1}}}, 0), 400207, None),
    "/deep": ((200, {"iotHubHostName": A, "initialTwin": {"properties": {"desired": deep}}}, 0), 400207, None),
    "/huge": ((200, {"iotHubHostName": A, "initialTwin": {"properties": {"desired": {f"k{i}": "x" * 2000 for i in range(20)}}}}, 0), 400207, None),
}
for i, (path, (answer, code, text)) in enumerate(BAD.items()):
    hook.say[path] = answer
    key = custom(f"bad-{i}", hook.url(path))
    t0 = time.monotonic()
    s = register(f"bad-{i}", key)
    row(f"dps-service:29 {path}", what(s), ("failed", code))
    row(f"{path}: in time", within(t0, 4))
    if text:
        row(f"{path}: what the device hears", s.get("errorMessage"), text)
    register("c-bare", bare)  # good in between: its breaker stays closed
row("nothing was made", [d for d in ("bad-0", "bad-10", "bad-11") if rest(env, env.hub_cs[0], "GET", f"/devices/{d}{HUB_V}").status != 404], [])
key = custom("bad-tls", f"https://{HOOK}:{Hook(tls=False).port}/")
row("dps-service:29 no TLS there", what(register("bad-tls", key)), ("failed", 400207))
key = custom("bad-gone", f"https://{HOOK}:1/")
row("dps-service:29 nobody there", what(register("bad-gone", key)), ("failed", 400207))
key = custom("bad-host", f"https://localhost:{hook.port}/good")
n = hook.n
row("threat:E1 a host that is not allowed", (what(register("bad-host", key)), hook.n), (("failed", 400207), n))
plain = Hook(tls=False)
plain.say["/"] = (200, {"iotHubHostName": A}, 0)
settings(webhook={"allowedHosts": [HOOK], "allowHttp": True, "timeoutSeconds": 2})
key = custom("c-plain", plain.url("/"))
row("plain http where the settings allow it", what(register("c-plain", key)), ("assigned", A))
settings(webhook={"allowedHosts": [HOOK], "timeoutSeconds": 2})
row("and not when they stop to", what(register("c-plain", key)), ("failed", 400207))

# --- the breaker -------------------------------------------------------------------------------------------------------------------------

register("c-bare", bare)
for i in range(5):
    key = custom(f"brk-{i}", hook.url("/500"))
    register(f"brk-{i}", key)
n = hook.n
s = register("c-bare", bare)
row("five failures: left alone", (what(s), hook.n), (("failed", 400207), n))
row("and the device hears why", "not asked" in s.get("errorMessage", ""))
row("in the log", 'event=dps.webhook_left_alone host=' + HOOK in env.log("dps"))
row("who was assigned stays so", rest(env, env.hub_cs[0], "GET", f"/devices/c-bare{HUB_V}").json["status"], "enabled")


# --- round trips, weights, a hub that is drained --------------------------------------------------------------------------------------------

def link(host, **more):
    r = admin("GET", f"linkedHubs/{host}")
    body = {k: v for k, v in {**r.json, **more}.items() if k != "etag"}
    r = admin("PUT", f"linkedHubs/{host}", body, "*")
    assert r.status == 200, r
    return r.json


def geo(rid, **more):
    key = new_key(64)
    assert service("PUT", f"/enrollments/{rid}", {"registrationId": rid, "attestation": key_att(key), "allocationPolicy": "geoLatency", **more}).status == 200
    return key


def rtt(**ms):
    return {"berth": {"latencyMs": {{"a": A, "b": B, "c": C}[k]: v for k, v in ms.items()}}}


for h, ms in ((A, 50), (B, 20), (C, 30)):
    link(h, latencyMs=ms)
key = geo("geo")
row("geoLatency: of the link records", what(register("geo", key)), ("assigned", B))
settings(latencyTable=[{"network": "127.0.0.0/8", "latencyMs": {C: 4}}, {"network": f"{NET}.0/24", "latencyMs": {A: 9}}, {"network": "0.0.0.0/0", "latencyMs": {B: 1}}, {"network": "::/0", "latencyMs": {B: 1}}])
s = socket.create_connection((env.dps, 443))
mine = s.getsockname()[0]
s.close()
row("geoLatency: the longest prefix of the table", what(register("geo", key)), ("assigned", A if mine.startswith(NET) else C))
row("geoLatency: as the device measured", what(register("geo", key, rtt(b=2, a=80, c=80))), ("assigned", B))
for name, p in (("a text", {"berth": {"latencyMs": {B: "1"}}}), ("negative", rtt(b=-1)), ("an array", {"berth": {"latencyMs": [1]}}), ("too many", {"berth": {"latencyMs": {f"h{i}": 1 for i in range(51)}}})):
    row(f"geoLatency: {name} is ignored", what(register("geo", key, p)), ("assigned", A if mine.startswith(NET) else C))
row("the log says so", "dps.latencies_ignored" in env.log("dps"))

# a database of places: countries and continents in the table
PLACES = f"{T}/places.mmdb"


def places(content):
    with open(PLACES, "wb") as f:
        f.write(content)


def loads():
    return env.log("dps").count("event=dps.geoip_loaded"), env.log("dps").count("event=dps.geoip_refused")


def reloaded(content):
    """The file changes under the running service, which then hears of it."""
    before = loads()
    places(content)
    dps.p.send_signal(signal.SIGHUP)
    return until(20, lambda: sum(loads()) > sum(before))


HERE = "127.0.0.0/8"
GEO = [{"country": "NZ", "latencyMs": {A: 3}}, {"continent": "OC", "latencyMs": {C: 9}}]
r = admin("PUT", "settings", {"latencyTable": GEO}, "*")
row("geoip: countries need a database", (r.code, "dps.geoip" in r.json["message"]), (400004, True))
dps.stop()
places(b"no database")
dps.sets.append(f"dps.geoip={PLACES}")
try:
    dps.start()
    row("geoip: no start with a file that is none", False)
except AssertionError as e:
    row("geoip: no start with a file that is none", f'geoip: \\"{PLACES}\\": ' in str(e) or f'geoip: "{PLACES}": ' in str(e))
places(mmdb({HERE: {"country": {"iso_code": "NZ"}, "continent": {"code": "OC"}}}))
dps.start()
settings(latencyTable=GEO)
row("geoip: of its country", what(register("geo", key)), ("assigned", A))
row("geoip: read again", (reloaded(mmdb({HERE: {"country": {"iso_code": "AU"}, "continent": {"code": "OC"}}})), loads()[1]), (True, 0))
row("geoip: of its continent", what(register("geo", key)), ("assigned", C))
row("geoip: a damaged one is refused", (reloaded(mmdb({HERE: {"country": {"iso_code": "NZ"}}})[:400]), loads()[1]), (True, 1))
row("geoip: and the old one stays", what(register("geo", key)), ("assigned", C))
row("geoip: no place", (reloaded(mmdb({"10.0.0.0/8": {"country": {"iso_code": "NZ"}}})), what(register("geo", key))), (True, ("assigned", B)))
settings(latencyTable=[])

row("a hub is active", admin("GET", f"linkedHubs/{A}").json["state"], "active")
keys = {f"drain-{i}": geo(f"drain-{i}", allocationPolicy="hashed") for i in range(12)}
first = {r: register(r, k)["assignedHub"] for r, k in keys.items()}
stay = geo("drain-never", allocationPolicy="static", iotHubs=[B], reprovisionPolicy={"updateHubAssignment": False, "migrateDeviceData": False})
register("drain-never", stay)
named = geo("drain-named", allocationPolicy="static", iotHubs=[B])
row("draining", link(B, state="draining")["state"], "draining")
after = {r: register(r, k)["assignedHub"] for r, k in keys.items()}
row("its devices leave, no other moves", [(r, first[r], after[r]) for r in keys if (after[r] == B) or (first[r] != B and after[r] != first[r])], [])
row("there were some", B in first.values())
row("the policy may keep them", what(register("drain-never", stay)), ("assigned", B))
row("it takes no new one", what(register("drain-named", named)), ("failed", 400208))
link(A, applyAllocationPolicy=False)
row("left out of the allocation", what(register("drain-new", geo("drain-new", allocationPolicy="hashed"))), ("assigned", C))
link(A, applyAllocationPolicy=True, allocationWeight=1000)
link(B, state="active")
got = [register(f"w-{i}", geo(f"w-{i}", allocationPolicy="hashed"))["assignedHub"] for i in range(10)]
row("a weight counts at once", got.count(A) >= 8)
r = [admin("POST", f"linkedHubs/{B}/{w}", if_match=m) for w, m in (("drain", "*"), ("activate", "*"), ("drain", None), ("drain", "AAAAAAAAAAE="))]
row("drain, activate; not without If-Match, not with an old one", [(x.status, x.json.get("state", x.json.get("errorCode"))) for x in r], [(200, "draining"), (200, "active"), (412, 412001), (412, 412001)])
row("bad state", (lambda r: (r.status, r.code))(admin("PUT", f"linkedHubs/{B}", {"connectionString": admin("GET", f"linkedHubs/{B}").json["connectionString"], "state": "asleep"}, "*")), (400, 400004))
row("dps ends cleanly", dps.stop(), 0)
done()
