# SPDX-License-Identifier: Apache-2.0
"""docs/protocol/dps-device.md section 11 against a real DPS. Run by 30-dps.sh."""
import threading

from dps_kit import *

K, G = new_key(), new_key(64)

enroll("enrollments", "r1", key_att(K))
enroll("enrollments", "r2", key_att(K))
enroll("enrollments", "r3", key_att(K))  # one id may register eight times at once, then once a second
enroll("enrollmentGroups", "g", key_att(G))


def https(rid, tok, body="{}", method="PUT", path=None, cert=None, ctype="application/json", scope=None):
    h = {"Content-Type": ctype}
    if tok:
        h["Authorization"] = tok
    return http(env.dps, env.ca, method, path or f"/{scope or env.scope}/registrations/{rid}/register{DEV_V}", h, body, *(cert or ()))


def tok(rid, k=K, **kw):
    return device_token(rid, k, **kw)


def unit(rid):
    """A device of the group that has not asked yet: what one id may ask at once is bounded, so each row below has its own."""
    return rid, device_token(rid, derive(G, rid))


# --- HTTPS ----------------------------------------------------------------------------------------------------------------------
attempt("D5 D6 individual", lambda: final("r1", tok("r1"))[:2], (202, "assigned"))
a = https("r1", tok("r1"))
row("D39 Retry-After on 202", a.headers.get("retry-after", "").isdigit())
op = a.json["operationId"]
attempt("D4 no skn", lambda: https("r1", sas(f"{env.scope}/registrations/r1", K)).status, 202)
a = https("r1", tok("r1", new_key()))
row("D10 wrong key", (a.status, isinstance(a.code, int), a.json["trackingId"] == a.headers.get("x-ms-request-id")), (401, True, True))
attempt("D11 expired", lambda: https("r1", tok("r1", ttl=-400)).status, 401)
b = https("nobody", tok("nobody", new_key(32)))
row("D12 unknown id is told what a wrong key is", (b.status, b.code, b.json["message"]), (a.status, a.code, a.json["message"]))
attempt("D13 unknown scope", lambda: https("r1", sas("0neX/registrations/r1", K, "registration"), scope="0neX").status, 401)
for i, (body, want) in enumerate((("{", 400), ("[]", 400), ('"x"', 400), ('{"a":1,"a":2}', 400), (b'{"a":"\xff"}', 400), ("[" * 5000, 400), ("x" * (1 << 20), 413))):
    def odd(body=body, rid=f"body-{i}"):
        a = https(*unit(rid), body)
        return a.status, isinstance(a.code, int)
    attempt(f"D14 body {body[:12]!r}", odd, (want, True))
attempt("D14 another content type", lambda: https(*unit("body-type"), ctype="text/plain").status, 415)
attempt("D15 another id in the body", lambda: https(*unit("body-id"), '{"registrationId":"r2"}').status, 400)
attempt("D15 the same in other case", lambda: https(*unit("body-case"), '{"registrationId":"BODY-Case"}').status, 202)
for name, o in (("unknown", "5.0123456789abcdef.00000000-0000-0000-0000-000000000000"), ("of another device", op), ("not an id", "x")):
    attempt(f"D18 operation {name}", lambda: (lambda a: (a.status, isinstance(a.code, int)))(
        https("r2", tok("r2"), None, "GET", f"/{env.scope}/registrations/r2/operations/{o}{DEV_V}")), (404, True))
attempt("unknown path", lambda: https("r1", tok("r1"), None, "GET", f"/{env.scope}/registrations/r1/other{DEV_V}").status, 404)

# --- MQTT -------------------------------------------------------------------------------------------------------------------------


def mq(rid, k=K, body=b"", token=None, cert=None, **kw):
    m, c = dps_link(env, rid, k if token is None and not cert else None, password=token, cert=cert and cert[0], certkey=cert and cert[1], **kw)
    if c != 0:
        return c
    seen, j = dps_register(m, body)
    m.disconnect()
    return seen[0], seen[-1], j.get("status", j.get("errorCode")) if j else None


# dps-service:30 two at once: the same operation, or one of them is told of the conflict. The hubs stand still meanwhile, so that the
# operation of the first is open when the second comes, however far apart the threads get to run.
def twice(i):
    rid = f"twin-{i}"
    gate, got = threading.Barrier(2), []

    def one():
        t = device_token(rid, derive(G, rid))
        gate.wait(20)
        got.append(https(rid, t))
    ts = [threading.Thread(target=one) for _ in range(2)]
    for t in ts:
        t.start()
    for t in ts:
        t.join(40)
    ops = {a.json["operationId"] for a in got if a.status == 202}
    others = [(a.status, a.code) for a in got if a.status != 202]
    return "one operation" if len(got) == 2 and len(ops) == 1 and others in ([], [(409, 409203)]) else [(a.status, a.body) for a in got]


with hubs_still():
    seen = {f"twin-{i}": twice(i) for i in range(20)}
row("30 two simultaneous registrations of one id, twenty times", {r: v for r, v in seen.items() if v != "one operation"}, {})
attempt("30 and each of them comes to its end", lambda: {final(r, device_token(r, derive(G, r)))[1] for r in seen}, {"assigned"})

attempt("D3 empty body", lambda: mq("r3"), lambda v: v[0] == "202" and v[1:] == ("200", "assigned"))
attempt("D2 group", lambda: mq("unit-1", derive(G, "unit-1")), lambda v: v[1:] == ("200", "assigned"))
attempt("D9 wrong key", lambda: mq("r1", new_key()), lambda v: v[0] == "401" and v[2] in (401000, 401002))
attempt("D12 unknown id", lambda: mq("nobody2", new_key()), lambda v: v[0] == "401")
attempt("D11 expired", lambda: mq("r1", token=tok("r1", ttl=-400)), 5)
attempt("D13 unknown scope", lambda: dps_link(env, "r1", K, scope="0neX")[1], 5)
attempt("no credential", lambda: dps_link(env, "r1", None)[1], 5)
m, _ = dps_link(env, "r1", K)
m.subscribe("$dps/registrations/res/#")


def acked_first(rid, pid):
    m.send(publish_packet(f"$dps/registrations/PUT/iotdps-register/?$rid={rid}", b"", 1, pid))
    k1, _, b1 = m.recv()
    t, _ = m.message()
    return k1 == PUBACK and struct.unpack(">H", b1[:2])[0] == pid and t.split("?$rid=")[1].split("&")[0] == rid and "retry-after=" in t


throttled = []
for i in range(100):
    try:
        if not acked_first(f"n{i}", i + 10):
            throttled.append(i)
    except (AssertionError, OSError) as e:
        throttled.append((i, repr(e)))
        break
# more than ten a second of one id may be told 429 (D33): PUBACK first all the same, but no retry-after is wanted then
row("D7 PUBACK first, 100 times", [x for x in throttled if isinstance(x, tuple)], [])
m, _ = dps_link(env, "r2", K)
m.subscribe("$dps/registrations/res/#")
for i, rid in enumerate(("6f9619ff-8b86-d011-b42d-00c04fc964ff", "1", "x" * 200, "a%2Fb")):
    attempt(f"D8 $rid {rid[:20]}", lambda: acked_first(rid, 300 + i))
for extra in ("", "/", "/?api-version=2019-03-31", "/api-version=2019-03-31&ClientVersion=a%2Fb&x=y", "/api-version=2021-06-01&ClientVersion=com.microsoft/1.0 (Java 8; Linux)"):
    def user(extra=extra):
        m = Mqtt(tls(env.dps, 8883, env.ca))
        return m.connect("r1", dps_user(env.scope, "r1", extra), tok("r1"))
    attempt(f"D16 D17a user name ending in '{extra}'", user, 0)


def code(cid, user, **kw):
    m = Mqtt(tls(env.dps, 8883, env.ca))
    c = m.connect(cid, user, tok("r1"), **kw)
    return c, m.ends(3)


attempt("D16 rid in other case", lambda: code("r1", dps_user(env.scope, "R1"))[0], 0)
for name, u in (("2 parts", f"{env.scope}/registrations"), ("1 part", env.scope), ("second part other", f"{env.scope}/devices/r1/api-version=2019-03-31"),
                ("empty parts", "//r1/api-version=2019-03-31"), ("no rid", f"{env.scope}/registrations//api-version=2019-03-31")):
    attempt(f"D17 {name}", lambda: code("r1", u), lambda v: v[0] in (2, 4) and v[1])
attempt("D17 client id differs", lambda: code("r2", dps_user(env.scope, "r1")), (2, True))
attempt("D37 level 3", lambda: code("r1", dps_user(env.scope, "r1"), level=3), (1, True))


def ends(raw):
    m, c = dps_link(env, "r2", K)
    assert c == 0
    m.send(raw)
    return m.ends(3)


for f in ("#", "$dps/#", "devices/x/messages/devicebound/#", "$dps/registrations/+/#"):
    attempt(f"D19 SUBSCRIBE {f}", lambda: ends(subscribe_packet([(f, 1)])))
row("D19 the log names what was asked", any("event=dps.filter_refused " in x and "devices/x/messages" in x for x in env.log("dps").split("\n")))
for t in ("foo", "$dps/registrations/PUT/other/?$rid=1", "$dps/registrations/PUT/iotdps-register/", "devices/r2/messages/events/"):
    attempt(f"D20 PUBLISH {t}", lambda: ends(publish_packet(t, "x")))
attempt("D20 QoS 2", lambda: ends(publish_packet("$dps/registrations/PUT/iotdps-register/?$rid=1", "", 2)))
m, _ = dps_link(env, "r2", K)
row("D19 QoS 2 asked is granted 1", m.subscribe(("$dps/registrations/res/#", 2)), [1])


def over_ws(protocol):
    w = Ws(env.dps, env.ca, protocol)
    if w.status != 101:
        return w.status
    m = Mqtt(w)
    c = m.connect("unit-ws", dps_user(env.scope, "unit-ws"), tok("unit-ws", derive(G, "unit-ws")))
    return w.protocol(), c, dps_register(m)[1]["status"]


attempt("D32 mqtt", lambda: over_ws("mqtt"), ("mqtt", 0, "assigned"))
attempt("D32 MQTT", lambda: over_ws("MQTT"), ("MQTT", 0, "assigned"))
attempt("D32 none", lambda: over_ws(None), 400)


# --- certificates --------------------------------------------------------------------------------------------------------------------
past = ("-days", "-1")
cert("root", "/CN=Root", ext=CA.format(""))
cert("rogue", "/CN=Root", ext=CA.format(""))
trust("root")
cert("int", "/CN=Int", "root", CA.format(""))
cert("int0", "/CN=Int0", "root", CA.format(",pathlen:0"))
cert("sub0", "/CN=Sub0", "int0", CA.format(""))
cert("noca", "/CN=NoCa", "int", LEAF.format("clientAuth"))
cert("noku", "/CN=NoKu", "int", NOT_CA_KU)
cert("impostor", "/CN=Int", "rogue", CA.format(""))
enroll("enrollmentGroups", "xg", x509_att("int"))
enroll("enrollmentGroups", "x0", x509_att("int0"))


def x(rid, pair, over="https"):
    return final(rid, None, pair)[:2] if over == "https" else mq(rid, None, cert=pair)


good = cert("good", "/CN=xgood", "int")
attempt("D22 leaf and intermediate: HTTPS", lambda: x("xgood", good), (202, "assigned"))
attempt("D22 leaf and intermediate: MQTT", lambda: x("xgood", good, "mqtt"), lambda v: v[1:] == ("200", "assigned"))
attempt("D22 and its hub takes the certificate", lambda: [hub_link(env, "xgood", None, hub=h, cert=good[0], certkey=good[1])[1] for h in (0, 1)], lambda v: sorted(v) == [0, 5])
bare = (os.path.join(T, "good.pem"), good[1])
attempt("D23 without the intermediate", lambda: x("xgood", bare)[0], 401)
attempt("D23 without the intermediate: MQTT", lambda: x("xgood", bare, "mqtt")[0], "401")
zoo = [
    ("expired leaf", "xexp", lambda: cert("exp", "/CN=xexp", "int", days=past)),
    ("leaf for servers only", "xsrv", lambda: cert("srv", "/CN=xsrv", "int", LEAF.format("serverAuth"))),
    ("issuer is no CA", "xnoca", lambda: cert("lnoca", "/CN=xnoca", "noca")),
    ("issuer may not sign", "xnoku", lambda: cert("lnoku", "/CN=xnoku", "noku")),
    ("path too long", "xpath", lambda: cert("lpath", "/CN=xpath", "sub0")),
    ("an impostor with the same name", "ximp", lambda: cert("limp", "/CN=ximp", "impostor")),
    ("self-signed", "xself", lambda: cert("lself", "/CN=xself")),
    ("SHA-1", "xsha1", lambda: cert("lsha1", "/CN=xsha1", "int", md="-sha1")),
    ("CN of another", "xother", lambda: good),
    ("two CNs", "xtwo", lambda: cert("ltwo", "/CN=xtwo/CN=xgood", "int")),
    ("CN with a blank", "x%20b", lambda: cert("lblank", "/CN=x b", "int")),
    ("no CN", "xnocn", lambda: cert("lnocn", "/O=xnocn", "int")),
    ("wildcard", "*", lambda: cert("lwild", "/CN=*", "int")),
]
for name, rid, make in zoo:
    attempt(f"C2 {name}", lambda: x(rid, make())[0], lambda s: s == 401 or (s == 400 and rid in ("x%20b", "*")))


def log_of(rid):
    return [line for line in env.log("dps").split("\n") if f"/registrations/{rid}/" in line and "why=" in line][-1]


for rid, words in (("xexp", "link 0|validity"), ("xpath", "link 2|Int0|pathlen"), ("ximp", "link 1|Int"), ("xnoca", "link 1|NoCa"), ("xnoku", "link 1|NoKu")):
    attempt(f"the log names the failing link: {rid}", lambda: log_of(rid), lambda line: all(w in str(line) for w in words.split("|")))
cn64 = "x" * 64
attempt("D26 CN of 64 characters", lambda: x(cn64, cert("l64", "/CN=" + cn64, "int")), (202, "assigned"))
one, two = cert("one", "/CN=xone"), cert("two", "/CN=xone")
enroll("enrollments", "xone", {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": read("one.pem")}}}})
attempt("D21 the right leaf", lambda: x("xone", one), (202, "assigned"))
attempt("D21 another leaf with that CN", lambda: x("xone", two)[0], 401)
attempt("D28 a token beside an irrelevant certificate", lambda: https("r1", tok("r1"), cert=one).status, 202)
attempt("D27 no certificate, a token", lambda: https("r1", tok("r1")).status, 202)
offc = cert("offc", "/CN=xoff", "int")
enroll("enrollments", "xoff", {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": read("offc.pem")}}}}, provisioningStatus="disabled")
attempt("D25 disabled individual beats its group", lambda: x("xoff", offc), (202, "disabled"))
attempt("D25 another credential of that id", lambda: x("xoff", cert("off2", "/CN=xoff", "int"))[0], 401)
enroll("enrollments", "roff", key_att(K), provisioningStatus="disabled")
attempt("D25 disabled, by key: MQTT", lambda: mq("roff"), lambda v: v[1:] == ("200", "disabled"))
e = rest(env, env.dps_cs, "GET", "/enrollmentGroups/xg" + DPS_V).json
e["provisioningStatus"] = "disabled"
row("group disabled", rest(env, env.dps_cs, "PUT", "/enrollmentGroups/xg" + DPS_V, e, {"If-Match": e["etag"]}).status, 200)
enroll("enrollmentGroups", "xroot", x509_att("root"))
attempt("D24 disabled for the intermediate, enabled for the root", lambda: x("xgood", good), lambda v: v[0] == 401 or v[1] == "disabled")
row("the log holds no key", any(k in env.log("dps") for k in (K, G, "sig=")), False)
done()
