# SPDX-License-Identifier: Apache-2.0
"""The hub over MQTT by hand: docs/protocol/hub-mqtt.md section 14. Run by 20-hub-mqtt.sh."""
import subprocess

from kit import *

env = Env()
host = env.hub
K = put_device(env, "d1")


def code(did, user, password, **k):
    m = Mqtt(tls(host, 8883, env.ca))
    c = m.connect(did, user, password, **k)
    closed = m.ends(3) if c else None
    m.close()
    return (c, closed) if c else c


def token(did="d1", key=K, **k):
    return sas(f"{host}/devices/{did}", key, **k)


def bodies(did, n, seconds=5):
    """bodies of the device's messages, as soon as n are there"""
    return until(seconds, lambda: (lambda r: r if len(r) >= n else None)(events(env, query=f"from=earliest&follow=false&device={quote(did)}"))) or \
        events(env, query=f"from=earliest&follow=false&device={quote(did)}")


# --- hub-mqtt:M2 user names ---------------------------------------------------------------------------------------------------
for tail in ("/?api-version=2021-04-12&DeviceClientType=azure-iot-device%2F1.18 (x; y)", "/api-version=2016-11-14",
             "/api-version=2016-11-14/DeviceClientType=x", "/api-version=2016-11-14&DeviceClientType=x", "", "/",
             "/?DeviceClientType=x&api-version=2030-01-01-preview&other=1", "?api-version=2020-09-30"):
    attempt(f"M2 user name with '{tail}'", lambda: code("d1", f"{host}/d1{tail}", token()), 0)

# --- M3 ids ---------------------------------------------------------------------------------------------------------------------
for did in ("a?b", "a=b", "a%b", "a%2Fb", "!*'(@),$:.", "A" * 128, "...", "%2e"):
    k = put_device(env, did)

    def full(did=did, k=k):
        m, c = hub_link(env, did, k)
        assert c == 0, c
        assert m.publish(f"devices/{did}/messages/events/", "id:" + did) is True
        m.disconnect()
        return bodies(did, 1)[0]["deviceId"]
    attempt(f"M3 device id {did[:20]!r}", full, did)
for did in ("a+b", "a#b"):
    k = put_device(env, did)
    attempt(f"M3 device id {did!r}", lambda: code(did, hub_user(host, did), token(did, k)), (2, True))

# --- M4, M5, M7, M8 -------------------------------------------------------------------------------------------------------------
put_device(env, "off", K, enabled=False)
put_device(env, "d2", K)
thumb = "0" * 64
put_device(env, "x1", auth={"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": thumb, "secondaryThumbprint": thumb}})
rows = [
    ("M4 client id differs", "d2", hub_user(host, "d1"), token(), {}, (2, True)),
    ("M4 empty client id", "", hub_user(host, "d1"), token(), {}, (2, True)),
    ("M4 user name of no hub", "d1", "other.example/d1/?api-version=2021-04-12", token(), {}, lambda c: c in ((2, True), (4, True), (5, True))),
    ("M4 user name not to be read", "d1", "nonsense", token(), {}, lambda c: c in ((4, True), (2, True))),
    ("M4 malformed api-version", "d1", hub_user(host, "d1", "?api-version=banana"), token(), {}, lambda c: c and c[0] in (2, 4) and c[1]),
    ("M5 wrong key", "d1", hub_user(host, "d1"), token(key=new_key()), {}, (5, True)),
    ("M5 expired", "d1", hub_user(host, "d1"), token(ttl=-400), {}, (5, True)),
    ("M5 another device's token", "d1", hub_user(host, "d1"), token("d2"), {}, (5, True)),
    ("M5 unknown device", "nobody", hub_user(host, "nobody"), token("nobody"), {}, (5, True)),
    ("M5 disabled device", "off", hub_user(host, "off"), token("off"), {}, (5, True)),
    ("M5 garbage token", "d1", hub_user(host, "d1"), "x" * 3000, {}, (5, True)),
    ("M7 no password", "d1", hub_user(host, "d1"), None, {}, (5, True)),
    ("M7 X.509 device with a token", "x1", hub_user(host, "x1"), token("x1"), {}, (5, True)),
    ("M8 level 3, MQIsdp", "d1", hub_user(host, "d1"), token(), {"level": 3, "name": "MQIsdp"}, lambda c: c in ((1, True), None)),
    ("M8 level 3, MQTT", "d1", hub_user(host, "d1"), token(), {"level": 3}, (1, True)),
    ("M45 will on another device's topic", "d1", hub_user(host, "d1"), token(), {"will": {"topic": "devices/d2/messages/events/", "payload": "w"}}, (5, True)),
    ("M45 will with QoS 2", "d1", hub_user(host, "d1"), token(), {"will": {"topic": "devices/d1/messages/events/", "payload": "w", "qos": 2}}, (5, True)),
]
for name, did, user, pw, k, want in rows:
    attempt(name, lambda: code(did, user, pw, **k), want)
m = Mqtt(tls(host, 8883, env.ca))
m.send(packet(1, 0, mstr("MQTT") + bytes([5, 0xc2]) + b"\0\x3c\0" + mstr("d1") + mstr(hub_user(host, "d1")) + mstr(token())))
attempt("M8 level 5 is refused and closed", lambda: (m.recv()[0], m.ends(3)), (CONNACK, True))

# --- M6 certificates --------------------------------------------------------------------------------------------------------------
def ssl_run(*a, cwd=os.environ["T"]):
    return subprocess.run(["openssl", *a], cwd=cwd, check=True, capture_output=True, timeout=patience(20)).stdout.decode()


def cert(name, cn, ca=None, extra=()):
    ssl_run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", name + ".key")
    if ca is None:
        ssl_run("req", "-new", "-x509", "-sha256", "-days", "10", "-key", name + ".key", "-subj", "/CN=" + cn, "-out", name + ".pem", *extra)
    else:
        ssl_run("req", "-new", "-sha256", "-key", name + ".key", "-subj", "/CN=" + cn, "-out", name + ".csr")
        ssl_run("x509", "-req", "-sha256", "-days", "10", "-in", name + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key", "-set_serial",
                "0x1" + os.urandom(15).hex(), "-out", name + ".pem")
    return os.path.join(os.environ["T"], name + ".pem"), os.path.join(os.environ["T"], name + ".key")


def print_of(pem, kind="sha256"):
    return ssl_run("x509", "-noout", "-fingerprint", "-" + kind, "-in", pem).split("=")[1].strip().replace(":", "")


good, other = cert("self1", "x2"), cert("self2", "x2")
put_device(env, "x2", auth={"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": print_of(good[0]), "secondaryThumbprint": thumb}})
attempt("M6 right thumbprint", lambda: hub_link(env, "x2", None, cert=good[0], certkey=good[1])[1], 0)
attempt("M6 wrong thumbprint", lambda: hub_link(env, "x2", None, cert=other[0], certkey=other[1])[1], 5)
attempt("M7 X.509 device without a certificate", lambda: hub_link(env, "x2", None)[1], 5)
put_device(env, "x3", auth={"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": print_of(good[0], "sha1"), "secondaryThumbprint": thumb[:40]}})
attempt("M6 SHA-1 thumbprint", lambda: hub_link(env, "x3", None, cert=good[0], certkey=good[1])[1], 0)
cert("devca", "Device CA", extra=("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"))
with open(os.path.join(os.environ["T"], "devca.pem")) as f:
    r = rest(env, env.hub_cs[0], "PUT", f"/admin/certificates/devca?api-version={BERTH_VERSION}",
             {"properties": {"certificate": f.read(), "isVerified": True}})
row("M6 CA registered", r.status, lambda s: s in (200, 201))
put_device(env, "ca1", auth={"type": "certificateAuthority"})
right, wrong = cert("ca1", "ca1", "devca"), cert("ca2", "CA1", "devca")
attempt("M6 CA-signed, right CN", lambda: hub_link(env, "ca1", None, cert=right[0], certkey=right[1])[1], 0)
attempt("M6 CA-signed, CN in other case", lambda: hub_link(env, "ca1", None, cert=wrong[0], certkey=wrong[1])[1], 5)
attempt("M6 certificate is ignored when the identity has keys", lambda: hub_link(env, "d1", K, cert=other[0], certkey=other[1])[1], 0)

# --- M9, M10 --------------------------------------------------------------------------------------------------------------------
a, _ = hub_link(env, "d1", K)
b, c = hub_link(env, "d1", new_key())
row("M10 bad password", c, 5)
row("M10 first link untouched", a.ping())
b, c = hub_link(env, "d1", K)
row("M9 second link", c, 0)
row("M9 first is closed", a.ends(1.5))
row("M9 second works", b.publish("devices/d1/messages/events/", "second"))

# --- M14, M15 bags ----------------------------------------------------------------------------------------------------------------
put_device(env, "bag", K)
m, _ = hub_link(env, "bag", K)
M = "message-id"
bags = [  # bag, application properties, message-id
    ("a=b&%24.mid=1", {"a": "b"}, "1"), ("$.mid=1&a=b", {"a": "b"}, "1"), ("a=x y/z&b=1", {"a": "x y/z", "b": "1"}, None),
    ("a=b/", {"a": "b"}, None), ("", {}, None), ("a&b=&c=%", {"a": None, "b": "", "c": "%"}, None), ("?a=b", {"a": "b"}, None),
    ("a%2Bb=c%2Bd&e=%2B%26%3D%2f", {"a+b": "c+d", "e": "+&=/"}, None), ("a+b=c", None, None),
    ("%24.cdid=other&$.cdid=other&a=1", {"a": "1"}, None), ("iothub-connection-device-id=forged", None, None),
    ("k=%0d%0aX: y%00&l=%1b[2J", None, None),
]
kept = []
for i, (bag, app, mid) in enumerate(bags):
    attempt(f"M14 bag {bag!r}", lambda: m.publish("devices/bag/messages/events/" + bag, f"bag {i}", pid=i + 1), lambda v: v is True or app is None)
    if not m.ping():
        m, _ = hub_link(env, "bag", K)
    else:
        kept.append(i)
row("M14 without the final slash", m.publish("devices/bag/messages/events", "bare"), True)
got = {e["body"]: e for e in bodies("bag", len(kept) + 1)}
for i, (bag, app, mid) in enumerate(bags):
    e = got.get(f"bag {i}")
    if e is None:
        row(f"M15 bag {bag!r} refused as a whole", app is None)
        continue
    if app is not None:
        row(f"M15 bag {bag!r} as sent", (e["properties"], e["systemProperties"].get(M)), (app, mid))
    row(f"D3 bag {bag!r} stamped with the sender", (e["deviceId"], e["systemProperties"]["iothub-connection-device-id"]), ("bag", "bag"))
attempt("M15 % that leads to invalid UTF-8", lambda: m.publish("devices/bag/messages/events/a=%ff%fe", "x"), "closed")

# --- M16 size ---------------------------------------------------------------------------------------------------------------------
m, _ = hub_link(env, "d2", K)
big = os.urandom(262144)
attempt("M16 262144 bytes", lambda: m.publish("devices/d2/messages/events/", big), True)
attempt("M16 one more", lambda: m.publish("devices/d2/messages/events/", big + b"x"), "closed")
attempt("M16 what was acknowledged is what was sent", lambda: base64.b64decode(bodies("d2", 1)[0]["body"]) == big)
m, _ = hub_link(env, "d2", K)
attempt("M16 properties count", lambda: m.publish("devices/d2/messages/events/a=b", big[:-1]), "closed")
m, _ = hub_link(env, "d2", K)
m.send(bytes([0x32]) + varlen(600 << 10) + mstr("devices/d2/messages/events/"))
row("M16 packet above every bound: closed at its head", m.ends(3))

# --- M17 pipelined ------------------------------------------------------------------------------------------------------------------
put_device(env, "pipe", K)
m, _ = hub_link(env, "pipe", K)
N = 1000


def pipelined():
    for i in range(0, N, 100):  # not by a thread: one TLS connection is not for two at once
        m.s.sendall(b"".join(publish_packet("devices/pipe/messages/events/", f"p{j}", 1, j + 1) for j in range(i, i + 100)))
    ids = [struct.unpack(">H", m.expect(PUBACK)[1][:2])[0] for _ in range(N)]
    return ids == list(range(1, N + 1))


attempt("M17 1000 acknowledged in order", pipelined)
attempt("M17 1000 stored in order", lambda: [e["body"] for e in bodies("pipe", N)] == [f"p{i}" for i in range(N)])

# --- M18 to M22, M43 ------------------------------------------------------------------------------------------------------------------
put_device(env, "odd", K)


def odd(raw, seconds=3):
    m, c = hub_link(env, "odd", K)
    assert c == 0
    m.send(raw)
    return m.ends(seconds)


E = "devices/odd/messages/events/"
closes = [
    ("M18 QoS 2", publish_packet(E, "x", 2)), ("M43 QoS 3", bytes([0x36]) + publish_packet(E, "x", 1)[1:]),
    ("M22 twin GET without rid", publish_packet("$iothub/twin/GET/", "")), ("M22 foo", publish_packet("foo", "x")),
    ("M22 empty topic", publish_packet("", "x")), ("M22 another device's topic", publish_packet("devices/d1/messages/events/", "x")),
    ("D1 another device by case", publish_packet("devices/ODD/messages/events/", "x")),
    ("D1 another device by dots", publish_packet("devices/odd/../d1/messages/events/", "x")),
    ("D1 another device by escape", publish_packet("devices/%6fdd/messages/events/", "x")),
    ("D1 a module of another", publish_packet("devices/d1/modules/m/messages/events/", "x")),
    ("M22 wildcard in a topic", publish_packet(E + "#", "x")), ("M22 NUL in a topic", publish_packet(E + "a\0b", "x")),
    ("M22 invalid UTF-8", publish_packet(E.encode() + b"\xff\xfe", "x")),
    ("M21 #", subscribe_packet([("#", 1)])), ("M21 $SYS/#", subscribe_packet([("$SYS/#", 0)])),
    ("M21 own events", subscribe_packet([(E + "#", 1)])), ("M21 another device's", subscribe_packet([("devices/d1/messages/devicebound/#", 1)])),
    ("M21 a plus", subscribe_packet([("devices/+/messages/events/#", 1)])), ("M21 two", subscribe_packet([("devices/+/+/devicebound/#", 1)])),
    ("M43 SUBSCRIBE with 0 filters", packet(8, 2, b"\0\1")), ("M43 SUBSCRIBE with packet id 0", subscribe_packet([("$iothub/twin/res/#", 1)], 0)),
    ("M43 SUBSCRIBE asking QoS 3", subscribe_packet([("$iothub/twin/res/#", 3)])), ("M43 SUBSCRIBE with wrong flags", packet(8, 0, subscribe_packet([("$iothub/twin/res/#", 1)])[2:])),
    ("M43 PUBLISH with packet id 0", publish_packet(E, "x", 1, 0)), ("M43 five length bytes", b"\x30\xff\xff\xff\xff\x7f"),
    ("M43 second CONNECT", connect_packet("odd", hub_user(host, "odd"), token("odd"))), ("M43 packet type 0", b"\0\0"), ("M43 packet type 15", b"\xf0\0"),
    ("M43 a CONNACK from a client", b"\x20\2\0\0"), ("M43 PINGREQ with a body", b"\xc0\1x"), ("M43 topic longer than the packet", packet(3, 2, b"\xff\xffx")),
    ("M43 garbage", b"\xf5" + os.urandom(500)), ("M43 UNSUBSCRIBE without filters", packet(10, 2, b"\0\1")),
]
for name, raw in closes:
    attempt(name + " is closed", lambda: odd(raw))
row("M21 the log names what was asked", any("event=hub.filter_refused device=odd " in x and "$SYS/#" in x for x in env.log("hub1").split("\n")))
row("M22 none of it was stored", len(events(env, query="from=earliest&follow=false&device=odd")), 0)
first = [("M43 garbage", b"\xf5" + os.urandom(300)), ("M43 HTTP", b"GET / HTTP/1.1\r\n\r\n"), ("M43 PUBLISH first", publish_packet(E, "x")),
         ("M43 CONNECT with reserved flag", packet(1, 0, mstr("MQTT") + b"\4\3\0\x3c" + mstr("odd"))), ("M43 CONNECT cut short", packet(1, 0, mstr("MQTT") + b"\4\xc2\0\x3c\0\x50x")),
         ("M43 CONNECT of 100 KB", packet(1, 0, mstr("MQTT") + b"\4\xc2\0\x3c" + mstr("odd") + mstr(hub_user(host, "odd")) + mstr("x" * 60000))),
         ("M43 other protocol name", packet(1, 0, mstr("XXXX") + b"\4\2\0\x3c" + mstr("odd")))]
for name, raw in first:
    m = Mqtt(tls(host, 8883, env.ca))
    m.send(raw)
    attempt(name + " before CONNECT is closed", lambda: m.ends(3))

put_device(env, "sub", K)
m, _ = hub_link(env, "sub", K)
C2D = "devices/sub/messages/devicebound/#"
row("M19 QoS 2 asked", m.subscribe((C2D, 2)), [1])
row("M19 QoS 0 asked", m.subscribe((C2D, 0)), [0])
row("M19 the SDK for embedded C writes + for its own id", m.subscribe("devices/+/messages/devicebound/#"), [1])
row("M20 five filters in one", m.subscribe(C2D, ("$iothub/twin/res/#", 0), "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#", ("$iothub/twin/res/#", 2)),
    lambda v: v != "closed" and len(v) == 5)
row("M21 streams: granted, nothing is ever sent to res", (m.subscribe("$iothub/streams/POST/#"), m.subscribe("$iothub/streams/res/#"), m.ping()),
    ([1], [1], True))
m.send(packet(4, 0, b"\x12\x34"))
row("M28 PUBACK for nothing is ignored", m.ping())
m.send(packet(10, 2, b"\0\7" + mstr("never/subscribed")))
attempt("M28 UNSUBSCRIBE of nothing", lambda: m.expect(UNSUBACK)[1][:2], b"\0\7")

# --- M30 to M34 twin ------------------------------------------------------------------------------------------------------------------
put_device(env, "tw", K)
m, _ = hub_link(env, "tw", K)
row("M30 filters", m.subscribe("$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"), [1, 1])


def ask(topic, body=b""):
    m.publish(topic, body)
    return m.message()


def twin(rid="1"):
    t, b = ask(f"$iothub/twin/GET/?$rid={rid}", b" ")
    return t, json.loads(b)


attempt("M30 new twin", twin, ("$iothub/twin/res/200/?$rid=1", {"desired": {"$version": 1}, "reported": {"$version": 1}}))
P = "$iothub/twin/PATCH/properties/reported/?$rid="
attempt("M31 patch", lambda: ask(P + "r-2", '{"a":{"b":1,"c":"\\u00e9"},"l":[1,{"x":2}],"n":1}'), ("$iothub/twin/res/204/?$rid=r-2&$version=2", b""))
attempt("M31 nested delete", lambda: ask(P + "3", '{"a":{"b":null},"n":null}')[0], "$iothub/twin/res/204/?$rid=3&$version=3")
merged = {"a": {"c": "\u00e9"}, "l": [1, {"x": 2}], "$version": 3}
attempt("M31 merged", lambda: twin()[1]["reported"], merged)
deep = "1"
for _ in range(12):
    deep = '{"k":' + deep + "}"
for name, body in [("[]", "[]"), ("1", "1"), ("{", "{"), ("key with a dot", '{"a.b":1}'), ("key with #", '{"a#b":1}'), ("key with $", '{"$x":1}'), ("depth 11", deep),
                   ("33 KB", json.dumps({f"k{i}": "x" * 3000 for i in range(11)})), ("string of 4097 bytes", json.dumps({"s": "x" * 4097})),
                   ("integer 2^52", '{"i":4503599627370496}'), ("null in an array", '{"l":[null]}'), ("empty", ""), ("doubled name", '{"a":1,"a":2}'), ("not UTF-8", b'{"a":"\xff"}')]:
    def refused(body=body):
        t, b = ask(P + "9", body)
        return t.startswith("$iothub/twin/res/400/?$rid=9") and isinstance(json.loads(b)["errorCode"], int)
    attempt(f"M32 {name}", refused)
attempt("M32 twin unchanged", lambda: twin()[1]["reported"], merged)


def stale(version):
    t, b = ask(P + f"7&$version={version}", '{"stale":1}')
    return t.startswith("$iothub/twin/res/412/?$rid=7") and isinstance(json.loads(b)["errorCode"], int)


attempt("M33 patch on an old version", lambda: stale(merged["$version"] - 1))
attempt("M33 patch on a version that is not there yet", lambda: stale(merged["$version"] + 1))
attempt("M33 twin unchanged", lambda: twin()[1]["reported"], merged)
r = rest(env, env.hub_cs[0], "PATCH", "/twins/tw" + HUB_V, {"properties": {"desired": {"on": True}}}, {"If-Match": "*"})
row("M34 desired patch", r.status, 200)
attempt("M34 notified once", lambda: (lambda t, b: (t, json.loads(b)))(*m.message()),
        ("$iothub/twin/PATCH/properties/desired/?$version=2", {"on": True, "$version": 2}))
row("M34 and no more", m.ping())

# --- M46 model id ---------------------------------------------------------------------------------------------------------------------
for name, q in (("raw", "dtmi:com:example:T;1"), ("encoded", "dtmi%3acom%3aexample%3aT%3b1")):
    put_device(env, "pnp" + name, K)
    m = Mqtt(tls(host, 8883, env.ca))
    row(f"M46 {name}", m.connect("pnp" + name, hub_user(host, "pnp" + name, f"?api-version=2020-09-30&model-id={q}&DeviceClientType=x"), token("pnp" + name)), 0)
    m.publish(f"devices/pnp{name}/messages/events/", "x")
    attempt(f"M46 {name}: on telemetry", lambda: bodies("pnp" + name, 1)[0]["systemProperties"]["dt-dataschema"], "dtmi:com:example:T;1")
    attempt(f"M46 {name}: in the twin", lambda: until(7, lambda: rest(env, env.hub_cs[0], "GET", f"/twins/pnp{name}" + HUB_V).json.get("modelId")), "dtmi:com:example:T;1")

# --- M18 retain, M45 wills ----------------------------------------------------------------------------------------------------------------
put_device(env, "w1", K)
will = {"topic": "devices/w1/messages/events/kind=last", "payload": "gone"}
m, c = hub_link(env, "w1", K, will=will)
row("M18 retained publish", m.publish("devices/w1/messages/events/", "kept", retain=True))
m.abort()
attempt("M45 will on an abnormal end", lambda: [(e["body"], e["properties"]) for e in bodies("w1", 2)],
        [("kept", {"mqtt-retain": "true"}), ("gone", {"kind": "last", "iothub-MessageType": "Will"})])
m, c = hub_link(env, "w1", K, will=will)
m.disconnect()
m, c = hub_link(env, "w1", K)
m.publish("devices/w1/messages/events/", "after")
attempt("M45 none after DISCONNECT", lambda: [e["body"] for e in bodies("w1", 3)], ["kept", "gone", "after"])

# --- M42 WebSocket ----------------------------------------------------------------------------------------------------------------------
put_device(env, "ws", K)


def over_ws(protocol, path="/$iothub/websocket"):
    w = Ws(host, env.ca, protocol, path)
    if w.status != 101:
        return w.status
    m = Mqtt(w)
    c = m.connect("ws", hub_user(host, "ws"), token("ws"))
    ok = m.publish("devices/ws/messages/events/", "over " + protocol)
    m.disconnect()
    return w.protocol(), c, ok


attempt("M42 mqtt", lambda: over_ws("mqtt"), ("mqtt", 0, True))
attempt("M42 MQTT", lambda: over_ws("MQTT"), ("MQTT", 0, True))
attempt("M42 with a query", lambda: over_ws("mqtt", "/$iothub/websocket?iothub-no-client-cert=true"), ("mqtt", 0, True))
attempt("M42 encoded dollar", lambda: over_ws("mqtt", "/%24iothub/websocket"), ("mqtt", 0, True))
attempt("M42 without a sub-protocol", lambda: over_ws(None), 400)
attempt("M42 another sub-protocol", lambda: over_ws("AMQPWSB10x"), 400)
attempt("M42 another path", lambda: over_ws("mqtt", "/other"), 404)


def split_and_merged():
    w = Ws(host, env.ca)
    m = Mqtt(w)
    raw = connect_packet("ws", hub_user(host, "ws"), token("ws"))
    for i in range(0, len(raw), 7):
        w.s.sendall(w.frame(raw[i:i + 7]))
    assert m.expect(CONNACK)[1] == b"\0\0"
    raw = b"".join(publish_packet("devices/ws/messages/events/", f"m{i}", 1, i + 1) for i in range(3))
    w.s.sendall(w.frame(raw[:10], 2, False) + w.frame(b"ping", 9) + w.frame(raw[10:40], 0, False) + w.frame(raw[40:], 0, True))
    return [m.expect(PUBACK)[1][1] for _ in range(3)]


attempt("M42 split, merged and fragmented frames", split_and_merged, [1, 2, 3])
for name, raw in (("text frame", Ws.frame(b"hello", 1)), ("unmasked frame", b"\x82\x02\xc0\0"), ("reserved bit", b"\xc2\x80\0\0\0\0"), ("frame of 2^63 bytes", b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0"),
                  ("fragmented ping", Ws.frame(b"x", 9, False)), ("continuation of nothing", Ws.frame(b"x", 0))):
    def ends_ws(raw=raw):
        w = Ws(host, env.ca)
        m = Mqtt(w)
        assert m.connect("ws", hub_user(host, "ws"), token("ws")) == 0
        w.s.sendall(raw)
        return m.ends(4)
    attempt(f"M42 {name} is closed", ends_ws)

# --- M40 disabled, deleted, keys renewed -----------------------------------------------------------------------------------------------------
K2 = new_key()
for name, act in (("disabled", lambda: put_device(env, "rev", K, key2=K2, enabled=False, if_match="*")),
                  ("deleted", lambda: rest(env, env.hub_cs[0], "DELETE", "/devices/rev" + HUB_V, headers={"If-Match": "*"})),
                  ("both keys renewed", lambda: put_device(env, "rev", new_key(), if_match="*"))):
    rest(env, env.hub_cs[0], "DELETE", "/devices/rev" + HUB_V, headers={"If-Match": "*"})
    put_device(env, "rev", K, key2=K2)
    m, c = hub_link(env, "rev", K)
    t0 = time.monotonic()
    act()
    row(f"M40 {name}: closed within 1 s", (c, m.ends(5), within(t0, 1)), (0, True, True))
    row(f"M40 {name}: refused", hub_link(env, "rev", K)[1], 5)

# --- M12, M41 (the slow ones together) ------------------------------------------------------------------------------------------------------------
put_device(env, "ka", K)
put_device(env, "exp", K)
ka, _ = hub_link(env, "ka", K, keepalive=2, will={"topic": "devices/ka/messages/events/", "payload": "silent"})
t0 = time.monotonic()
ended = ka.ends(6)
row("M12 keep-alive 2 and silence: closed after 3 s", (ended, time.monotonic() - t0 > 2.5, within(t0, 3.5)), (True, True, True))
attempt("M12 its will is stored", lambda: [e["body"] for e in bodies("ka", 1)], ["silent"])
m, c = hub_link(env, "exp", K, ttl=-297)  # the skew is 300 s
row("M41 a token near the end of its grace", c, 0)
row("M41 closed at the end of it", m.ends(5))

# --- what is told to the operator -----------------------------------------------------------------------------------------------------------------
log = env.log("hub1")
for name, parts in (("a wrong key", ("hub.connect_refused", "d1")), ("an unknown device", ("hub.connect_refused", "nobody")), ("a bad topic", ("hub.link_ended", "odd"))):
    row(f"log names the device: {name}", any(all(p in line for p in parts) for line in log.split("\n")))
row("no key and no signature in the log", any(k in log for k in (K, K2, "sig=")), False)


# --- threat:N10: the name in the TLS greeting picks the certificate, no more; user name and Host decide ---------------------------------------
def greeting(sni, user):
    c = ssl.create_default_context(cafile=env.ca)
    c.check_hostname = False
    s = c.wrap_socket(socket.create_connection((host, 8883), 10), server_hostname=sni)
    m = Mqtt(s)
    return m.connect("d1", user, token())


for sni in ("other.example", "x" * 63 + ".example", "xn--nxasmq6b", None):
    attempt(f"N10 greeting for {str(sni)[:14]}, user name of this hub", lambda: greeting(sni, hub_user(host, "d1")), 0)
    attempt(f"N10 greeting for {str(sni)[:14]}, user name of another", lambda: greeting(sni, hub_user("other.example", "d1")), 5)
attempt("N10 greeting for this hub, user name of another", lambda: greeting(host, hub_user("other.example", "d1")), 5)
attempt("N10 greeting for this hub, token for another", lambda: Mqtt(tls(host, 8883, env.ca)).connect(
    "d1", hub_user(host, "d1"), sas("other.example/devices/d1", K)), 5)
row("the hub still serves", hub_link(env, "d1", K)[1], 0)
done()
