# SPDX-License-Identifier: Apache-2.0
"""Module identities by hand: hub-service-rest.md 2.3, 4.3, 6 and its checklist, hub-mqtt.md 2, 4.2, 10. Run by 25-modules.sh."""
from kit import *

env = Env()
host, conn = env.hub, env.hub_cs[0]
hub = Server(env, "hub1").take()
hub.start()
V = HUB_V


def ask(method, path, body=None, match=None, **k):
    return rest(env, conn, method, path + ("" if "api-version" in path else V), body, {"If-Match": match} if match is not None else None, **k)


def code(r):
    named = json.loads(r.body).get("Message", "") if r.status >= 400 else "ErrorCode:;"
    name = r.headers.get("iothub-errorcode", "")
    assert r.status < 400 or named.startswith(f"ErrorCode:{name};"), r  # row 49
    assert r.headers.get("x-ms-request-id"), r
    return r.status, name


D = put_device(env, "dev")

# --- life ------------------------------------------------------------------------------------------------------------------------
r = ask("PUT", "/devices/dev/modules/mod%3D1", {"moduleId": "mod=1", "deviceId": "dev", "managedBy": "me"}, '""')
row("created: 200", (r.status, "etag" in r.headers), (200, False))
one = r.json
row("keys are made", [len(one["authentication"]["symmetricKey"][k]) for k in ("primaryKey", "secondaryKey")], [44, 44])
row("its document", sorted(one), sorted(["moduleId", "managedBy", "deviceId", "generationId", "etag", "connectionState", "connectionStateUpdatedTime",
                                         "lastActivityTime", "cloudToDeviceMessageCount", "authentication"]))
row("read back", ask("GET", "/devices/dev/modules/mod%3D1").json, one)
hub.kill()  # what was acknowledged survives
hub.start()
row("read back after kill -9", ask("GET", "/devices/dev/modules/mod%3D1").json, one)
r = ask("PUT", "/devices/dev/modules/mod=1", {**one, "managedBy": "you"}, f'"{one["etag"]}"')
row("updated, keys kept", (r.status, r.json["managedBy"], r.json["authentication"] == one["authentication"], r.json["generationId"] == one["generationId"]),
    (200, "you", True, True))
row("the etag counts", int(base64.b64decode(r.json["etag"])) - int(base64.b64decode(one["etag"])), 1)
put_module(env, "dev", "mod2")
row("listed", [m["moduleId"] for m in ask("GET", "/devices/dev/modules").json], ["mod2", "mod=1"])
row("modules are no devices", [d["deviceId"] for d in ask("GET", "/devices").json if "/" in d["deviceId"] or "moduleId" in d], [])
row("deleted: 204", ask("DELETE", "/devices/dev/modules/mod%3D1", match="*").status, 204)
r = ask("PUT", "/devices/dev/modules/mod%3D1", {"moduleId": "mod=1"})
row("made anew: another generation", r.json["generationId"] != one["generationId"])
row("twin of a module", [ask("GET", "/twins/dev/modules/mod2").json[k] for k in ("deviceId", "moduleId", "etag", "version")], ["dev", "mod2", "AAAAAAAAAAE=", 2])

# --- bad input: each is answered, and the connection goes on --------------------------------------------------------------------------
M = "/devices/dev/modules/"
wrong = new_key()
for name, want, *a in [
    ("19 $foo", (400, "ArgumentInvalid"), "PUT", M + "$foo", {"moduleId": "$foo"}),
    ("20 delete $edgeAgent", (401, "SystemModuleModifyUnauthorizedAccess"), "DELETE", M + "%24edgeAgent", None, "*"),
    ("20 update $edgeHub", (401, "SystemModuleModifyUnauthorizedAccess"), "PUT", M + "$edgeHub", {"moduleId": "$edgeHub"}, "*"),
    ("exists", (409, "ModuleAlreadyExistsOnDevice"), "PUT", M + "mod2", {"moduleId": "mod2"}),
    ("update, missing", (404, "ModuleNotFound"), "PUT", M + "none", {"moduleId": "none"}, "*"),
    ("get, missing", (404, "ModuleNotFound"), "GET", M + "none"),
    ("delete, missing", (404, "ModuleNotFound"), "DELETE", M + "none", None, "*"),
    ("device missing, create", (404, "DeviceNotFound"), "PUT", "/devices/none/modules/m", {"moduleId": "m"}),
    ("device missing, list", (404, "DeviceNotFound"), "GET", "/devices/none/modules"),
    ("device missing, delete", (404, "DeviceNotFound"), "DELETE", "/devices/none/modules/m", None, "*"),
    ("stale update", (412, "PreconditionFailed"), "PUT", M + "mod2", {"moduleId": "mod2"}, '"NzI3ODk0ODYz"'),
    ("stale delete", (412, "PreconditionFailed"), "DELETE", M + "mod2", None, '"NzI3ODk0ODYz"'),
    ("delete without If-Match", (412, "PreconditionFailed"), "DELETE", M + "mod2"),
    ("empty body", (400, "ArgumentNull"), "PUT", M + "x", b""),
    ("half a body", (400, "IotHubFormatError"), "PUT", M + "x", b'{"moduleId":'),
    ("body is a list", (400, "ArgumentInvalid"), "PUT", M + "x", []),
    ("no moduleId", (400, "ArgumentNull"), "PUT", M + "x", {}),
    ("another moduleId", (400, "ArgumentInvalid"), "PUT", M + "x", {"moduleId": "y"}),
    ("another deviceId", (400, "ArgumentInvalid"), "PUT", M + "x", {"moduleId": "x", "deviceId": "y"}),
    ("id of 129 characters", (400, "ArgumentInvalid"), "PUT", M + "x" * 129, {"moduleId": "x" * 129}),
    ("id with a space", (400, "ArgumentInvalid"), "PUT", M + "a%20b", {"moduleId": "a b"}),
    ("one key only", (400, "ArgumentInvalid"), "PUT", M + "x", {"moduleId": "x", "authentication": {"symmetricKey": {"primaryKey": wrong}}}),
    ("key of 8 bytes", (400, "ArgumentInvalid"), "PUT", M + "x",
     {"moduleId": "x", "authentication": {"symmetricKey": {"primaryKey": new_key(8), "secondaryKey": new_key(8)}}}),
    ("api-version", (400, "InvalidProtocolVersion"), "GET", M + "mod2?api-version=1999-01-01"),
    ("28 twin of none", (404, "DeviceNotFound"), "GET", "/twins/dev/modules/none"),
    ("twin, stale", (412, "PreconditionFailed"), "PATCH", "/twins/dev/modules/mod2", {"tags": {}}, '"AAAAAAAAAAI="'),
    ("methods are not offered", (404, "GenericNotFound"), "POST", "/twins/dev/modules/mod2/methods", {"methodName": "x"}),
]:
    attempt(name, lambda: code(ask(*a)), want)
for i in range(48):
    put_module(env, "dev", f"fill{i:02}")
r = ask("PUT", M + "more", {"moduleId": "more"})
row("21 the 51st", code(r), (413, "TooManyModulesOnDevice"))
row("50 are listed", len(ask("GET", "/devices/dev/modules").json), 50)

# --- the device itself: 2.3 ------------------------------------------------------------------------------------------------------------
K2, PV = put_device(env, "own"), "?api-version=2017-11-08-preview"
put_device(env, "own2", K2)


def own(method, path, body=None, match=None, key=None, did="own", cert=None):
    h = {} if cert else {"Authorization": sas(f"{host}/devices/{did}", key or K2)}
    if match:
        h["If-Match"] = match
    if body is not None:
        h["Content-Type"] = "application/json"
    return http(host, env.ca, method, path + PV, h, json.dumps(body) if body is not None else None, *(cert or ()))


def own_all(name, **k):
    p = f"/devices/{k.get('did', 'own')}/modules"
    row(f"{name}: create", own("PUT", p + "/a%3Db", {"moduleId": "a=b", "managedBy": "idsvc", "deviceId": k.get("did", "own")}, **k).status, 200)
    row(f"{name}: update", own("PUT", p + "/a%3Db", {"moduleId": "a=b"}, "*", **k).status, 200)
    row(f"{name}: get", own("GET", p + "/a%3Db", **k).status, 200)
    row(f"{name}: list", [m["moduleId"] for m in own("GET", p, **k).json], ["a=b"])
    row(f"{name}: the device's own document", own("GET", f"/devices/{k.get('did', 'own')}", **k).json["deviceId"], k.get("did", "own"))
    row(f"{name}: delete", own("DELETE", p + "/a%3Db", None, "*", **k).status, 204)


own_all("own token")
T = os.environ["T"]


def cert_of(name):
    pem, key = os.path.join(T, name + ".pem"), os.path.join(T, name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9", "-subj", "/CN=" + name,
                    "-keyout", key, "-out", pem], check=True, capture_output=True)
    text = subprocess.run(["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", pem], check=True, capture_output=True).stdout.decode()
    return (pem, key), text.split("=")[1].strip().replace(":", "")


good, fingerprint = cert_of("ownx")
other, other_print = cert_of("other")
X = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": fingerprint, "secondaryThumbprint": fingerprint}}
put_device(env, "ownx", auth=X)
own_all("own certificate", did="ownx", cert=good)
for name, a, k in [
    ("6a another device's modules", ("GET", "/devices/own2/modules"), {}),
    ("6a the device itself, PUT", ("PUT", "/devices/own", {"deviceId": "own"}, "*"), {}),
    ("6a its twin", ("GET", "/twins/own"), {}),
    ("6a a query", ("POST", "/devices/query", {"query": "SELECT * FROM devices"}), {}),
    ("wrong key", ("GET", "/devices/own/modules"), {"key": wrong}),
    ("6b certificate that is not registered", ("GET", "/devices/ownx/modules"), {"cert": other}),
    ("certificate of another device", ("GET", "/devices/own/modules"), {"cert": good}),
    ("device unknown", ("GET", "/devices/none/modules"), {"did": "none"}),
]:
    attempt(name, lambda: code(own(*a, **k)), (401, "IotHubUnauthorizedAccess"))
put_device(env, "own", K2, enabled=False, if_match="*")
attempt("6b disabled device", lambda: code(own("GET", "/devices/own/modules")), (401, "IotHubUnauthorizedAccess"))
row("a service still reads them", ask("GET", "/devices/own/modules").json, [])

# --- links ---------------------------------------------------------------------------------------------------------------------------------
put_device(env, "lk", D)
A, B = put_module(env, "lk", "a"), put_module(env, "lk", "b")
put_module(env, "lk", "x", auth=X)
d, c = hub_link(env, "lk", D)
a, ca = hub_link(env, "lk/a", A)
b, cb = hub_link(env, "lk/b", B)
x, cx = hub_link(env, "lk/x", None, cert=good[0], certkey=good[1])
row("M11 device and modules together", (c, ca, cb, cx, d.ping(), a.ping(), b.ping(), x.ping()), (0, 0, 0, 0, True, True, True, True))
row("telemetry of a module", a.publish("devices/lk/modules/a/messages/events/%24.on=out&k=v/", "from a", pid=2), True)
e = until(20, lambda: [e for e in events(env, query="from=earliest&follow=false&device=lk")])
row("stamped with both ids", (e[0]["body"], e[0]["properties"], e[0]["systemProperties"]["iothub-connection-device-id"],
                              e[0]["systemProperties"]["iothub-connection-module-id"]), ("from a", {"k": "v"}, "lk", "a"))
row("and with how it was admitted", json.loads(e[0]["systemProperties"]["iothub-connection-auth-method"])["scope"], "module")
row("connected", ask("GET", "/devices/lk/modules/a").json["connectionState"], "Connected")
a2, c = hub_link(env, "lk/a", A)
row("a newer link takes over from the same module", (c, a.ends(5), d.ping(), b.ping()), (0, True, True, True))
row("not offered: 0x80, the link stays", (a2.subscribe("devices/lk/modules/a/inputs/#", "$iothub/methods/POST/#", "$iothub/twin/res/#"), a2.ping()),
    ([128, 128, 1], True))
row("and a line says why", env.log("hub1").count("hub.filter_not_offered"), lambda n: n >= 2)
for name, did, key, k, want in [
    ("S16 the device's token", "lk/a", None, {"password": sas(f"{host}/devices/lk", D)}, 5),
    ("wrong key", "lk/a", wrong, {}, 5), ("unknown module", "lk/none", A, {}, 5), ("unknown device", "none/a", A, {}, 5),
    ("X.509 module without a certificate", "lk/x", A, {}, 5), ("another certificate", "lk/x", None, {"cert": other[0], "certkey": other[1]}, 5),
    ("policy's token over the device", "lk/b", None, {"password": cs_token(conn)}, 0), ("three parts", "lk/b/c", B, {}, 2),
]:
    attempt(f"CONNECT: {name}", lambda: hub_link(env, did, key, **k)[1], want)
row("the log has the reason", env.log("hub1"), lambda t: 'no device \\"lk/none\\"' in t)
b, _ = hub_link(env, "lk/b", B)
r = http(host, env.ca, "POST", "/devices/lk/modules/b/messages/events" + V, {"Authorization": sas(f"{host}/devices/lk/modules/b", B)}, "over HTTPS")
row("telemetry over HTTPS", (r.status, until(20, lambda: [e["systemProperties"]["iothub-connection-module-id"] for e in
                                                          events(env, query="from=earliest&follow=false&device=lk") if e["body"] == "over HTTPS"])), (204, ["b"]))
r = http(host, env.ca, "POST", "/devices/lk/modules/b/messages/events" + V, {"Authorization": sas(f"{host}/devices/lk", D)}, "x")
row("by the device's key: 401", code(r), (401, "IotHubUnauthorizedAccess"))
w = Ws(host, env.ca)
w = Mqtt(w)
row("MQTT over WebSocket", w.connect("lk/b", hub_user(host, "lk/b"), sas(f"{host}/devices/lk/modules/b", B)), 0)
row("telemetry over it", w.publish("devices/lk/modules/b/messages/events/", "over a socket", pid=3), True)
for name, m, topic in [("its device's", hub_link(env, "lk/a", A)[0], "devices/lk/messages/events/"), ("a sibling's", hub_link(env, "lk/a", A)[0], "devices/lk/modules/b/messages/events/"),
                       ("a module's, by the device", hub_link(env, "lk", D)[0], "devices/lk/modules/a/messages/events/")]:
    attempt(f"telemetry topic: {name}", lambda: m.publish(topic, "x", pid=4), "closed")


def ended(name, act, *links):
    """All are open, then none within a second of the answer."""
    assert all(m.ping() for m in links), name
    act()
    t0 = time.monotonic()
    row(f"{name}: ended within a second", ([m.ends(5) for m in links], within(t0, 1)), ([True] * len(links), True))


a, b = hub_link(env, "lk/a", A)[0], w
x = hub_link(env, "lk/x", None, cert=good[0], certkey=good[1])[0]
ended("module deleted", lambda: ask("DELETE", "/devices/lk/modules/b", match="*"), w)
row("the others stay", (a.ping(), x.ping()), (True, True))
ended("new keys", lambda: ask("PUT", "/devices/lk/modules/a", {"moduleId": "a"}, "*"), a)
A = ask("GET", "/devices/lk/modules/a").json["authentication"]["symmetricKey"]["secondaryKey"]
a = hub_link(env, "lk/a", A)[0]
ended("device disabled", lambda: put_device(env, "lk", D, enabled=False, if_match="*"), a, x)
row("refused while it is", hub_link(env, "lk/a", A)[1], 5)
put_device(env, "lk", D, if_match="*")
a = hub_link(env, "lk/a", A)[0]
ended("device deleted", lambda: ask("DELETE", "/devices/lk", match="*"), a)
put_device(env, "lk", D)
row("a new device of that name has none", (ask("GET", "/devices/lk/modules").json, hub_link(env, "lk/a", A)[1]), ([], 5))
row("SIGTERM: status 0", hub.stop(), 0)
done()
