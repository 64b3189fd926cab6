# SPDX-License-Identifier: Apache-2.0
"""docs/protocol/hub-https.md section 7 against a real hub. Run by 21-hub-https.sh."""
from kit import *

env = Env()
host = env.hub
K = put_device(env, "h1")
put_device(env, "off", K, enabled=False)
P = f"/devices/h1/messages/events{HUB_V}"
A = {"Authorization": sas(f"{host}/devices/h1", K)}


def post(body=b"x", headers=None, path=P, method="POST", auth=A):
    return http(host, env.ca, method, path, {**auth, **(headers or {})}, body)


def stored(did="h1"):
    return events(env, query=f"from=earliest&follow=false&device={quote(did)}")


# H2, H3
attempt("H2 fixed words in other case", lambda: post(path=f"/Devices/h1/Messages/EVENTS{HUB_V}").status, 204)
attempt("H2 the id keeps its case", lambda: post(path=f"/devices/H1/messages/events{HUB_V}").status, 401)
for did, enc in (("a%b", "a%25b"), ("a+b", "a%2Bb"), ("a*b", "a%2ab"), ("a'b", "a%27b"), ("a#b", "a%23b")):
    k = put_device(env, did)
    attempt(f"H3 {did} as {enc}", lambda: post(path=f"/devices/{enc}/messages/events{HUB_V}", auth={"Authorization": sas(f"{host}/devices/{did}", k)}).status, 204)
    attempt(f"H3 {did} is that device", lambda: stored(did)[0]["deviceId"], did)
# H4, H5
n = len(stored())
h = {"iothub-to": "/devices/h1/messages/events", "IoTHub-MessageId": "m1", "iothub-correlationid": "c1", "iothub-contenttype": "application/json", "iothub-contentencoding": "utf-8",
     "iothub-app-temperatureAlert": "true", "dt-subject": "part"}
attempt("H4 with headers", lambda: post('{"t":1}', h).status, 204)
e = stored()[n]
s = e["systemProperties"]
row("H4 as in the MQTT twin of the test", (s["message-id"], s["correlation-id"], s["content-type"], s["content-encoding"], {k.lower(): v for k, v in e["properties"].items()}),
    ("m1", "c1", "application/json", "utf-8", {"temperaturealert": "true"}))
row("H5 the fixed path is no property", "to" in s, False)
attempt("H5 another text is", lambda: (post("x", {"iothub-to": "elsewhere"}).status, stored()[n + 1]["systemProperties"]["to"]), (204, "elsewhere"))
# H6
B = {"Content-Type": "application/vnd.microsoft.iothub.json"}


def el(text="aGk=", **k):
    return {"body": text, **k}


for name, body, want, more in (
        ("default base64", [el()], 204, ["hi"]), ("explicit true", [el(base64Encoded=True)], 204, ["hi"]), ("false", [el("plain", base64Encoded=False)], 204, ["plain"]),
        ("missing body", [el(), {}], 400, []), ("bad base64", [el(), el("!!")], 400, []), ("0", [], 204, []), ("500", [el()] * 500, 204, ["hi"] * 500), ("501", [el()] * 501, 413, [])):
    n = len(stored())
    attempt(f"H6 batch: {name}", lambda: (post(json.dumps(body), B).status, [x["body"] for x in stored()[n:]]), (want, more))
n = len(stored())
attempt("H6 a quote inside", lambda: (post('[{"body":"aGk=","properties":{"iothub-app-a":"x"y"}}]', B).status, len(stored()) - n), (400, 0))
# H7, H8
attempt("H7 262,144 bytes", lambda: post(os.urandom(262144)).status, 204)
attempt("H7 one more", lambda: post(os.urandom(262145)).status, 413)
attempt("N6 Content-Encoding is refused", lambda: post(b"\x1f\x8b", {"Content-Encoding": "gzip"}).status, 415)
HEAD = f"POST {P} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {A['Authorization']}\r\n"


def raw(data, seconds=4):
    """(statuses of all answers, closed)"""
    c = Http(host, env.ca)
    try:
        c.send(data)
    except OSError:
        pass
    out, closed = read_until_close(c.s, seconds)
    return [int(x[9:12]) for x in out.decode("latin1").split("\r\n") if x.startswith("HTTP/1.1 ")], closed


def raw_bytes(text):
    return text if isinstance(text, bytes) else text.encode("latin1")


n = len(stored())
c = Http(host, env.ca)
c.send((HEAD + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3;x=y\r\ndef\r\n0\r\n\r\n").encode())
attempt("H8 chunked", lambda: (c.answer().status, stored()[n]["body"]), (204, "abcdef"))
n = len(stored())
G = f"GET /devices/h1/messages/devicebound{HUB_V} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {A['Authorization']}\r\n"
for name, data in (
        ("H8 two Content-Length", HEAD + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("N4 two equal Content-Length", HEAD + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na"), ("N4 both framings", HEAD + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("N4 unknown coding", HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), ("N4 identity", HEAD + "Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na"),
        ("N4 blank before the colon", HEAD + "Content-Length : 1\r\n\r\na"), ("N4 signed length", HEAD + "Content-Length: +1\r\n\r\na"),
        ("N4 length of 20 digits", HEAD + "Content-Length: 99999999999999999999\r\n\r\na"), ("N4 hexadecimal length", HEAD + "Content-Length: 0x1\r\n\r\na"),
        ("H26 obs-fold", G + "X: a\r\n b\r\n\r\n"), ("H26 bare LF", G.replace("\r\n", "\n") + "\n"), ("H26 NUL in a header", G + "X: a\0b\r\n\r\n"), ("H26 bare CR", G + "X: a\rb\r\n\r\n"),
        ("H26 header of 100 KB", G + "X: " + "a" * 100000 + "\r\n\r\n"), ("H26 1000 headers", G + "X: a\r\n" * 1000 + "\r\n"), ("N4 no Host", G.replace(f"Host: {host}\r\n", "") + "\r\n"),
        ("N4 two Hosts", G + f"Host: {host}\r\n\r\n"), ("N4 HTTP/1.0 with chunked", (HEAD + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0")),
        ("H26 garbage", os.urandom(400) + b"\r\n\r\n")):
    smuggled = raw_bytes(data) + f"GET /devices/h1/messages/devicebound{HUB_V} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {A['Authorization']}\r\n\r\n".encode()
    attempt(name + ": refused, closed, nothing behind it is answered", lambda: raw(smuggled), lambda v: v[1] and len(v[0]) <= 1 and all(400 <= x < 500 for x in v[0]))
attempt("H8 neither length nor chunked", lambda: raw((HEAD + "\r\n").encode(), 1)[0], lambda v: v in ([400], [411]))
attempt("threat:N10 Host of another hub", lambda: raw((G.replace(f"Host: {host}\r\n", "Host: evil.example\r\n") + "\r\n").encode(), 1)[0], [401])
row("H8 nothing of it was stored", len(stored()), n)
# H17, H18, H24, H30
for name, auth in (("another device's", {"Authorization": sas(f"{host}/devices/other", K)}), ("expired", {"Authorization": sas(f"{host}/devices/h1", K, ttl=-400)}), ("missing", {}),
                   ("of a policy without DeviceConnect", {"Authorization": sas(host, *[(lambda j: (j["primaryKey"], "service"))(
                       rest(env, env.hub_cs[0], "POST", f"/admin/policies/service/listKeys?api-version={BERTH_VERSION}").json)][0])}), ("not a token", {"Authorization": "Bearer x"})):
    attempt(f"H17 token {name}", lambda: (lambda a: (a.status, a.headers.get("iothub-errorcode"), a.json["Message"].startswith("ErrorCode:IotHubUnauthorizedAccess;")))(post(auth=auth)),
            (401, "IotHubUnauthorizedAccess", True))
put_device(env, "x1", auth={"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "0" * 64, "secondaryThumbprint": "0" * 64}})
attempt("H18 X.509 device without certificate", lambda: post(path=f"/devices/x1/messages/events{HUB_V}", auth={"Authorization": sas(f"{host}/devices/x1", K)}).status, 401)
attempt("H30 disabled device", lambda: post(path=f"/devices/off/messages/events{HUB_V}", auth={"Authorization": sas(f"{host}/devices/off", K)}).status, 401)
attempt("H24 unknown path", lambda: post(path=f"/devices/h1/messages/nothing{HUB_V}").status, 404)
attempt("H24 PUT on events", lambda: post(method="PUT").status, 405)
# H28, H29
m, c0 = hub_link(env, "h1", K)
attempt("H28 both at once, no takeover", lambda: (post().status, m.publish("devices/h1/messages/events/", "mqtt"), m.ping()), (204, True, True))
put_device(env, "pipe", K)
c = Http(host, env.ca)
c.send(b"".join((f"POST /devices/pipe/messages/events{HUB_V} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {sas(f'{host}/devices/pipe', K)}\r\nContent-Length: 2\r\n\r\n{i:02d}").encode() for i in range(20)))
attempt("H29 20 pipelined", lambda: [c.answer().status for _ in range(20)], [204] * 20)
attempt("H29 stored in order", lambda: [x["body"] for x in stored("pipe")], ["%02d" % i for i in range(20)])

# --- the telemetry endpoint ------------------------------------------------------------------------------------------------------------------
put_device(env, "mon", K)
MA = {"Authorization": sas(f"{host}/devices/mon", K)}


def send(text):
    a = post(text, path=f"/devices/mon/messages/events{HUB_V}", auth=MA)
    assert a.status == 204, a


for i in range(10):
    send(f"e{i}")
rows = stored("mon")
part = rows[0]["partition"]
row("monitor: one device, one partition, rising numbers", ({x["partition"] for x in rows}, [x["sequenceNumber"] for x in rows] == sorted({x["sequenceNumber"] for x in rows})), ({part}, True))
for cut in (1, 5, 9):
    at = rows[cut - 1]["sequenceNumber"] + 1
    attempt(f"monitor: resumed behind message {cut}: nothing twice, nothing left out", lambda: [x["body"] for x in events(env, query=f"partition={part}&from.{part}={at}&follow=false&device=mon")],
            [f"e{i}" for i in range(cut, 10)])
attempt("monitor: max", lambda: len(events(env, query=f"from=earliest&follow=false&device=mon&max=3")), 3)
attempt("monitor: from a time", lambda: [x["body"] for x in events(env, query=f"from={quote(rows[7]['enqueuedTimeUtc'])}&follow=false&device=mon")], lambda v: v[-3:] == ["e7", "e8", "e9"] and len(v) <= 10)
attempt("monitor: latest", lambda: events(env, query="from=latest&follow=false"), [])


def follow():
    c = Http(host, env.ca)
    c.send(f"GET /messages/events?api-version={BERTH_VERSION}&from=latest&device=mon HTTP/1.1\r\nHost: {host}\r\nAuthorization: {cs_token(env.hub_cs[0])}\r\n\r\n".encode())
    while b"\r\n\r\n" not in c.rest:
        c._more()
    send("live")
    while b'"live"' not in c.rest:
        c._more()
    return b'"e9"' in c.rest


attempt("monitor: followed, only what is new", follow, False)
for q in ("from=nonsense", "partition=99", "max=-1", "from.0=x"):
    attempt(f"monitor: {q}", lambda: rest(env, env.hub_cs[0], "GET", f"/messages/events?api-version={BERTH_VERSION}&follow=false&{q}").status, lambda s: s in (400, 404))
attempt("monitor: a device may not", lambda: http(host, env.ca, "GET", f"/messages/events?api-version={BERTH_VERSION}&follow=false", MA).status, 401)
attempt("monitor: another api-version", lambda: rest(env, env.hub_cs[0], "GET", "/messages/events?api-version=2021-04-12&follow=false").status, 400)
row("no key in the log", any(k in env.log("hub1") for k in (K, "sig=")), False)
done()
