# SPDX-License-Identifier: Apache-2.0
"""Device streams by hand: REST, MQTT, gateway and relay, row by row of device-streams.md 15."""
import hashlib

from streams_kit import *

env = Env()
hub = Server(env, "hub1", sets=["streams.new-per-second=0", "streams.max-per-device=0"]).take()
hub.start()
keys = {}


def new(did, **k):
    keys[did] = put_device(env, did)
    return Device(env, did, keys[did], **k)


def code(r):
    return r.headers.get("iothub-errorcode"), r.status


# --- 1, 2: the answer of the device ------------------------------------------------------------------------------------------------
dev = new("st-1", answer=True)
row("a link may listen for streams", dev.codes, [1, 1])
r = post(env, "st-1", "TestStream", 5, 10)
row("1 accepted: 200", r.status, 200)
row("1 True with a capital", r.headers.get("iothub-streaming-is-accepted"), "True")
row("1 url of the service's end", r.headers.get("iothub-streaming-url", ""), lambda u: u.startswith(f"wss://{env.hub}:443/bridges/ih/") and u.endswith("/r/service"))
row("1 token of 78 characters", len(r.headers.get("iothub-streaming-auth-token", "")), 78)
rq = dev.request()
row("10 name as sent", rq["name"], "TestStream")
row("10 url of the device's end", rq["url"], lambda u: u.endswith("/r/device"))
row("10 rid is short hex", len(rq["rid"]) <= 8 and int(rq["rid"], 16) > 0)
dev.answer = False
r = post(env, "st-1")
row("2 rejected: 200 False", (r.status, r.headers.get("iothub-streaming-is-accepted")), (200, "False"))
row("2 no url, no token", ("iothub-streaming-url" in r.headers, "iothub-streaming-auth-token" in r.headers), (False, False))
refused = dev.request()
row("2 its token opens nothing", End(env, refused["url"], refused["auth"]).status, 404)

# --- 3: not there, not listening ---------------------------------------------------------------------------------------------------
deaf = new("st-deaf", listen=False)
t0 = time.monotonic()
r = post(env, "st-deaf", connect=0, response=5)
row("3 not listening: 404 at once", (code(r), within(t0, 1)), (("DeviceNotFound", 404), True))
row("3 and says so", b"not listening for streams" in r.body)
waiting = Later(post, env, "st-deaf", connect=8, response=8)
row("3 nothing is answered meanwhile", waiting.join(0.3) or waiting.is_alive())
deaf.answer = True
deaf.link.subscribe("$iothub/streams/POST/#")
deaf.thread.start()
row("3 subscribing brings it", waiting.get().status, 200)
put_device(env, "st-off")
t0 = time.monotonic()
r = post(env, "st-off", connect=1, response=5)
row("3 offline: 404 after the connect timeout", (code(r), time.monotonic() - t0 > 0.9, within(t0, 1.5)), (("DeviceNotFound", 404), True, True))
row("device unknown: 404001", code(post(env, "st-nobody")), ("DeviceNotFound", 404))
keys["st-late"] = put_device(env, "st-late")
waiting = Later(post, env, "st-late", connect=8, response=8)
late = Device(env, "st-late", keys["st-late"], answer=True)
row("3 connecting brings it", waiting.get().status, 200)
late.end()

# --- 4: no answer --------------------------------------------------------------------------------------------------------------------
dev.answer = None
t0 = time.monotonic()
r = post(env, "st-1", response=3)
row("4 no answer: 504 before the caller gives up", (code(r), within(t0, 3)), (("GatewayTimeout", 504), True))
silent = dev.request()
dev.do(dev.say, 200, silent["rid"])
row("4 late answer: token is dead", End(env, silent["url"], silent["auth"]).status, 404)

# --- 5: timeouts -----------------------------------------------------------------------------------------------------------------------
dev.answer = True
for name, c, s, want in [("missing", None, None, 200), ("connect 0", "0", "5", 200), ("fraction", "2.5", "2.5", 200), ("response 0", "0", "0", 400),
                         ("negative", "-1", "5", 400), ("word", "abc", "5", 400), ("response word", "0", "abc", 400), ("huge", "99999999999", "5", 400),
                         ("response 301", "0", "301", 400), ("connect 300", "300", "5", 200), ("fraction of nothing", "2.", "5", 400),
                         ("10 kB", "1" * 10240, "5", 400), ("two points", "1.2.3", "5", 400)]:
    r = post(env, "st-1", connect=c, response=s)
    row(f"5 timeouts: {name}", code(r) if want == 400 else r.status, ("ArgumentInvalid", 400) if want == 400 else 200)

# --- 6, 7, 8: names, modules, callers ------------------------------------------------------------------------------------------------------
while dev.quiet(0.1):
    pass
for name, want, seen in [("a%20b", 200, "a%20b"), ("x" * 64, 200, "x" * 64), ("x" * 65, 400, None), ("%2F", 400, None), ("%00", 400, None), ("a/b", 404, None),
                         ("%C3%A4", 200, "%C3%A4"), ("%FF", 400, None), ("a%0Ab", 400, None), ("a%2Bb", 400, None), ("%23", 400, None), ("", 400, None),
                         ("a=b&c!$'()*,;:@", 200, "a=b%26c!$'()*,;:@")]:
    row(f"6 name {name[:20]!r}", post(env, "st-1", name, response=5).status, want)
    if seen:
        row(f"6 name {name[:20]!r} as the device sees it", dev.request()["name"], seen)
r = post(env, "st-1", path=f"/twins/st-1/modules/m1/streams/s{API}")
row("7 unknown module", code(r), ("ModuleNotFound", 404))
row("7 module id that is none", code(post(env, "st-1", path=f"/twins/st-1/modules/a%20b/streams/s{API}")), ("ArgumentInvalid", 400))
row("7 module, empty name", code(post(env, "st-1", path=f"/twins/st-1/modules/m1/streams/{API}")), ("ArgumentInvalid", 400))
row("7 module of an unknown device", code(post(env, "x", path=f"/twins/st-x/modules/m1/streams/s{API}")), ("DeviceNotFound", 404))
r = post(env, "st-1", token=sas(f"{env.hub}/devices/st-1", keys["st-1"]))
row("8 a device's own token: 401", r.status, 401)
row("api-version missing", post(env, "st-1", path="/twins/st-1/streams/s").status, 400)
for v in ("2018-06-30", "2018-10-20-preview"):
    row(f"api-version {v}", post(env, "st-1", path=f"/twins/st-1/streams/s?api-version={v}").status, 200)
    dev.request()
dev.answer = None
c = Http(env.hub, env.ca)
c.send(f"POST /twins/st-1/streams/s{API} HTTP/1.1\r\nHost: {env.hub}\r\nAuthorization: {cs_token(env.hub_cs[0])}\r\nContent-Length: 0\r\n\r\n".encode())
gone = dev.request()
c.close()
dev.do(dev.say, 200, gone["rid"])
row("8 later acceptance opens nothing", until(5, lambda: End(env, gone["url"], gone["auth"]).status == 404))

# --- 11: answers -------------------------------------------------------------------------------------------------------------------------------
other = new("st-2")
for i, (status, qos, want) in enumerate([("200", 0, "True"), ("200", 1, "True"), ("204", 1, "True"), ("400", 0, "False"), ("abc", 1, "False"), ("500", 1, "False")]):
    w = Later(post, env, "st-1", response=5)
    rq = dev.request()
    row(f"11 res/{status} QoS {qos}: acknowledged", dev.do(dev.say, status, rq["rid"], qos, 10 + i), True)
    row(f"11 res/{status} QoS {qos}", w.get().headers.get("iothub-streaming-is-accepted"), want)
w = Later(post, env, "st-1", response=5)
rq = dev.request()
row("11 no rid", dev.do(dev.say, 200, None, 1, 20), True)
row("11 unknown rid", dev.do(dev.say, 200, "deadbeef", 1, 21), True)
row("11 rid that is none", dev.do(dev.say, 200, "x" * 300, 1, 22), True)
row("11 rid of another device", other.do(other.say, 400, rq["rid"], 1, 23), True)
row("11 none of them answers", w.join(0.3) or w.is_alive())
dev.do(dev.say, 200, rq["rid"])
dev.do(dev.say, 400, rq["rid"])
row("11 the first answer counts", w.get().headers.get("iothub-streaming-is-accepted"), "True")
row("11 answers are no telemetry", [e for e in events(env) if e["deviceId"] == "st-1"], [])

# --- 12: unsubscribed, taken over ----------------------------------------------------------------------------------------------------------------
w = Later(post, env, "st-1", connect=1, response=9)
rq = dev.request()
dev.do(lambda: (dev.link.send(packet(10, 2, struct.pack(">H", 40) + mstr("$iothub/streams/POST/#"))), dev.link.expect(UNSUBACK)))
row("12 unsubscribed with a request pending: 404", code(w.get()), ("DeviceNotFound", 404))
row("12 unsubscribed: 404", code(post(env, "st-1", connect=0)), ("DeviceNotFound", 404))
dev.do(dev.link.subscribe, "$iothub/streams/POST/#")
w = Later(post, env, "st-1", connect=0, response=9)
rq = dev.request()
dev.do(dev.link.subscribe, "$iothub/streams/POST/#")
again = dev.request()
row("12 subscribed anew: asked once more, same rid", again["rid"] == rq["rid"] and again["auth"] == rq["auth"])
second = Device(env, "st-1", keys["st-1"], listen=True)
again = second.request()
row("12 taken over: asked there, same rid", again["rid"], rq["rid"])
second.do(second.say, 200, again["rid"])
row("12 and answered from there", w.get().headers.get("iothub-streaming-is-accepted"), "True")
dev.end()
dev = second

# --- 15, 16: order of arrival ----------------------------------------------------------------------------------------------------------------------
blob = os.urandom(1 << 20)


def pump(end, data, size=65536):
    def run():
        for i in range(0, len(data), size):
            end.send(data[i:i + size])
    return Later(run)


def both_ways(a, b, name):
    a.send(b"ping")
    row(f"{name}: to the other end", b.read(4), b"ping")
    b.send(b"pong")
    row(f"{name}: and back", a.read(4), b"pong")


w = Later(post, env, "st-1", response=9)
rq = dev.request()
d = End(env, rq["url"], rq["auth"])
row("15 device's WebSocket before its answer", d.status, 101)
p = pump(d, blob)
dev.do(dev.say, 200, rq["rid"])
r = w.get()
s = End(env, r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"])
row("16 1 MiB sent before the other end came", hashlib.sha256(s.read(len(blob))).digest() == hashlib.sha256(blob).digest())
p.get()
both_ways(d, s, "15 device first")
s.close()
row("21 its Close is answered", s.end(), (1000, ""))
row("21 the other end hears 1000", d.end(), (1000, ""))
dev.answer = True
r = post(env, "st-1", response=9)
rq = dev.request()
s = End(env, r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"])
p = pump(s, blob, 10240)
d = End(env, rq["url"], rq["auth"])
row("16 the same, service first", d.read(len(blob)) == blob)
p.get()
both_ways(s, d, "15 service first")
d.close(1001)
row("21 1001 is passed on", s.end(), (1001, ""))
d.end()
r = post(env, "st-1", response=9)
rq = dev.request()
a, b = Later(End, env, rq["url"], rq["auth"]), Later(End, env, r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"])
both_ways(a.get(), b.get(), "15 both at once")
a.get().close()
b.get().close()
row("21 both close at once", (a.get().end(), b.get().end()), ((1000, ""), (1000, "")))
dev.answer = None
w = Later(post, env, "st-1", response=9)
rq = dev.request()
d = End(env, rq["url"], rq["auth"])
dev.do(dev.say, 400, rq["rid"])
row("7.1 opened, then rejected: 1000", d.end(), (1000, "Rejected"))
row("7.1 and the caller hears False", w.get().headers.get("iothub-streaming-is-accepted"), "False")
dev.answer = True

# --- 17, 18: who may open an end ----------------------------------------------------------------------------------------------------------------------
r = post(env, "st-1", response=9)
rq = dev.request()
r2 = post(env, "st-1", response=9)
rq2 = dev.request()
url, tok = r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"]
flip = tok[:40] + ("A" if tok[40] != "A" else "B") + tok[41:]
for name, u, t, k, want in [("no token", url, None, {}, 401), ("another scheme", url, tok, {"auth": "Basic " + tok}, 401), ("garbled", url, "xx", {}, 401),
                            ("one character changed", url, flip, {}, 401), ("one character short", url, tok[:-1], {}, 401),
                            ("8 kB", url, "A" * 8192, {}, 401), ("the device's, for the service's end", url, rq["auth"], {}, 401),
                            ("the service's, for the device's end", rq["url"], tok, {}, 401),
                            ("of another stream", url, r2.headers["iothub-streaming-auth-token"], {}, 401),
                            ("another device in the path", url.replace("/d/st-1/", "/d/st-2/"), tok, {}, 404),
                            ("a module in the path", url.replace("/d/st-1/", "/d/st-1/m/x/"), tok, {}, 404),
                            ("another hub in the path", url.replace("/ih/", "/ih/x"), tok, {}, 404),
                            ("no such role", url.replace("/r/service", "/r/x"), tok, {}, 404)]:
    row(f"17 {name}", End(env, u, t, **k).status, want)
s = End(env, url, tok, auth="bEaReR " + tok)
row("17 scheme in any case, and the failures have used nothing up", s.status, 101)
row("17 used twice: 409", End(env, url, tok).status, 409)
d = End(env, rq["url"], rq["auth"], protocol="MQTT, AMQP", extra="Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
row("18 the first sub-protocol is echoed", (d.status, d.protocol, d.extensions), (101, "MQTT", None))
row("18 none offered, none picked", s.protocol, None)
both_ways(d, s, "18")
s.close()
s.end()
row("17 used up after the end: 404", End(env, url, tok).status, 404)
plain = http(env.hub, env.ca, "GET", urllib.parse.urlsplit(r2.headers["iothub-streaming-url"]).path)
row("7 no upgrade: 400", plain.status, 400)
u = urllib.parse.urlsplit(r2.headers["iothub-streaming-url"]).path
row("7 WebSocket version 8: 426", End(env, r2.headers["iothub-streaming-url"], None, raw=f"GET {u} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").status, 426)
row("tokens are in no log", any(t in env.log("hub1") for t in (tok, rq["auth"], r2.headers["iothub-streaming-auth-token"])), False)
s2, d2 = End(env, r2.headers["iothub-streaming-url"], r2.headers["iothub-streaming-auth-token"]), End(env, rq2["url"], rq2["auth"])
both_ways(s2, d2, "18 hub's own")

# --- 20: frames -------------------------------------------------------------------------------------------------------------------------------------------
d2.send(b"abc", fin=False)
d2.send(b"", 0, fin=False)
d2.send(b"def", 0)
d2.send("grün".encode(), 1)
row("20 fragments and text are bytes", s2.read(11), "abcdefgrün".encode())
for _ in range(64):
    d2.send(b"")
d2.send(b"x")
row("20 64 empty messages are swallowed", s2.read(1), b"x")
big = os.urandom(1 << 20)
p = pump(d2, big, 1 << 20)
row("8 a frame of 1 MiB passes", s2.read(1 << 20) == big)
for _ in range(65):
    d2.send(b"")
row("20 65 empty messages end it", (s2.end(), d2.end()), ((1000, "End of stream"), (1000, "End of stream")))
k = b"\1\2\3\4"
for name, raw, want in [("unmasked frame", b"\x82\1a", 1002), ("reserved bit", b"\xc2\x81" + k + b"a", 1002), ("reserved opcode", b"\x83\x81" + k + b"a", 1002),
                        ("control frame of 126 bytes", b"\x89\xfe\0\x7e" + k + b"a" * 126, 1002), ("fragmented ping", b"\x09\x80" + k, 1002),
                        ("length with the top bit", b"\x82\xff\x80" + b"\0" * 7 + k, 1002), ("frame above 1 MiB", b"\x82\xff" + struct.pack(">Q", (1 << 20) + 1) + k, 1009),
                        ("continuation of nothing", b"\x80\x81" + k + b"a", 1002)]:
    d, s = open_pair(env, dev, "st-1")
    d.raw(raw)
    row(f"20 {name}", (d.end()[0], s.end()), (want, (1011, "WS disconnected")))

# --- 19: a slow reader ----------------------------------------------------------------------------------------------------------------------------
d, s = open_pair(env, dev, "st-1")
one, other_way = os.urandom(24 << 20), os.urandom(24 << 20)
before = hub.rss_kb()
p, q = pump(d, one), pump(s, other_way)
other_got = Later(d.read, len(other_way), 30)
row("19 one way runs while the other's reader sleeps", other_got.get(40) == other_way)
row("19 the reader sleeps: its writer waits", p.is_alive())
if SANITIZER:
    print(f"# 19 memory is not looked at: a build with the {SANITIZER} sanitizer keeps more than it uses")
else:
    row("19 and the hub keeps little of it", hub.rss_kb() - before, lambda kb: kb < 4096)
row("19 in full and in order, once it reads", hashlib.sha256(s.read(len(one), 30)).digest() == hashlib.sha256(one).digest())
p.get(), q.get()
s.close()
s.end()
d.end()

# --- 21, 22: ends -----------------------------------------------------------------------------------------------------------------------------------------
d, s = open_pair(env, dev, "st-1")
s.send(b"\1" * 100, 9)
s.send(b"z")
row("22 ping: data goes on", d.read(1), b"z")
d.send(b"y")
s.read(1)
row("22 ping is answered with its payload", s.pongs, [b"\1" * 100])
d.send(b"last words")
d.reset()
row("21 reset of one end: what it sent arrives", s.read(10), lambda b: b in (b"last words", b""))
row("21 then 1011 WS disconnected", s.end(), (1011, "WS disconnected"))
d, s = open_pair(env, dev, "st-1")
s.drop()
row("9 end without Close: 1011", d.end(), (1011, "WS disconnected"))
d, s = open_pair(env, dev, "st-1")
s.close()
row("21 Close not answered: dropped", (d.end(answer=False), d.is_gone(8)), ((1000, ""), True))
d, s = open_pair(env, dev, "st-1")
s.close(None)
row("21 Close without a code", (s.end(), d.end()), ((None, ""), (1000, "")))

# --- 24: many at once -----------------------------------------------------------------------------------------------------------------------------------
pairs = [open_pair(env, dev, "st-1") for _ in range(10)]
texts = [os.urandom(100000) for _ in pairs]
pumps = [pump(d, t, 7777) for (d, _), t in zip(pairs, texts)] + [pump(s, t[::-1], 3333) for (_, s), t in zip(pairs, texts)]
row("24 ten streams, to the service", [s.read(100000) == t for (_, s), t in zip(pairs, texts)], [True] * 10)
row("24 ten streams, to the device", [d.read(100000) == t[::-1] for (d, _), t in zip(pairs, texts)], [True] * 10)
r = rest(env, env.hub_cs[0], "GET", f"/admin/streams?api-version={BERTH_VERSION}")
row("the operator sees them", len([x for x in r.json["value"] if x["deviceId"] == "st-1" and x["state"] == "open"]), 10)
one = [x for x in r.json["value"] if x["state"] == "open"][0]
row("with their bytes", (one["bytesFromDevice"], one["bytesFromService"], one["policy"]), (100000, 100000, "iothubowner"))
r = rest(env, env.hub_cs[0], "DELETE", f"/admin/streams/{one['sid']}?api-version={BERTH_VERSION}")
row("the operator ends one", r.status, 204)
row("once", rest(env, env.hub_cs[0], "DELETE", f"/admin/streams/{'0' * 32}?api-version={BERTH_VERSION}").status, 404)

# --- 23: revoked -----------------------------------------------------------------------------------------------------------------------------------------
t0 = time.monotonic()
put_device(env, "st-1", keys["st-1"], enabled=False, if_match="*")
ends = [e.end() for p in pairs for e in p]
row("23 disabled: both ends of all are closed within a second", within(t0, 1))
row("23 with 1008", sorted(set(ends)), lambda x: set(x) <= {(1008, "Access was revoked"), (1008, "Ended by the operator")} and len(ends) == 20)
# --- 7: a module is an identity of its own --------------------------------------------------------------------------------------------------------
dev = new("st-m", answer=True)
K = put_module(env, "st-m", "a=b")
put_module(env, "st-m", "away")
M = "st-m/a=b"
r = post(env, "st-m/away", connect=0)
row("7 module that is not connected, its device is", (code(r), b"module is not connected" in r.body), (("DeviceNotFound", 404), True))
link, _ = hub_link(env, M, K)
r = post(env, M, connect=0)
row("7 module that does not listen", (code(r), b"module is connected but not listening" in r.body), (("DeviceNotFound", 404), True))
link.close()
mod = Device(env, M, K, answer=False)
row("7 a module may listen", mod.codes, [1, 1])
r = post(env, M, response=10)
row("7 the module rejects", (r.status, r.headers.get("iothub-streaming-is-accepted")), (200, "False"))
mod.request()
mod.answer = None
row("7 the module does not answer", code(post(env, M, response=1)), ("GatewayTimeout", 504))
mod.request()
mod.answer = True
r = post(env, M, "ssh", response=10)
rq = mod.request()
su, st = r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"]
row("7 the module in both addresses", (su.split("/sid/")[0].split("/ih/")[1], rq["url"].split("/sid/")[0] == su.split("/sid/")[0]),
    (f"{env.hub}/d/st-m/m/a%3Db", True))
row("7 and its device is not asked", dev.quiet(), None)
row("7 without the module in the path: 404", End(env, su.replace("/m/a%3Db", ""), st).status, 404)
row("7 with another module: 404", End(env, su.replace("/m/a%3Db", "/m/away"), st).status, 404)
row("7 no upgrade: 400", http(env.hub, env.ca, "GET", urllib.parse.urlsplit(su).path).status, 400)
d, s = End(env, rq["url"], rq["auth"]), End(env, su, st)
both_ways(d, s, "7 module")
seen = [x for x in rest(env, env.hub_cs[0], "GET", f"/admin/streams?api-version={BERTH_VERSION}").json["value"] if x["state"] == "open" and x["deviceId"] == "st-m"]
row("7 listed with its module", [(x["moduleId"], x["name"]) for x in seen], [("a=b", "ssh")])
row("7 the operator ends it", (rest(env, env.hub_cs[0], "DELETE", f"/admin/streams/{seen[0]['sid']}?api-version={BERTH_VERSION}").status, d.end(), s.end()),
    (204, (1008, "Ended by the operator"), (1008, "Ended by the operator")))


def berth_stream(module):
    return subprocess.Popen([os.environ["BERTH"], "stream", "st-m", "--module", module, "--to", "ssh", "--stdio", "--env", env.path], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


p = berth_stream("a=b")
rq = mod.request(20)
d = End(env, rq["url"], rq["auth"])
p.stdin.write(b"to the module")
p.stdin.flush()
row("7 berth stream --module: there", (rq["name"], d.read(13, 20)), ("ssh", b"to the module"))
d.send(b"and back")
row("7 berth stream --module: and back", p.stdout.read(8), b"and back")
d.close()
row("7 berth stream --module: ends with it", (d.end()[0], p.wait(patience(20))), (1000, 0))
p = berth_stream("none")
row("7 berth stream --module, unknown", (p.wait(patience(20)), p.stderr.read()), lambda v: v[0] != 0 and b"ModuleNotFound" in v[1])
row("7 its device heard of none of it", dev.quiet(), None)
d, s = open_pair(env, dev, "st-m")
row("7 the device's own has none", [x["moduleId"] for x in rest(env, env.hub_cs[0], "GET", f"/admin/streams?api-version={BERTH_VERSION}").json["value"]
                                   if x["deviceId"] == "st-m" and x["state"] == "open"], [None])
md, ms = open_pair(env, mod, M)
t0 = time.monotonic()
put_module(env, "st-m", "a=b", if_match="*")
row("7 its keys are new: within a second", ([md.end(), ms.end()], within(t0, 1)), ([(1008, "Access was revoked")] * 2, True))
s.send(b"z")
row("7 its device's stream lives on", d.read(1), b"z")
for name, end in [("module deleted", lambda: rest(env, env.hub_cs[0], "DELETE", "/devices/st-m/modules/a=b" + HUB_V, headers={"If-Match": "*"})),
                  ("device disabled", lambda: put_device(env, "st-m", keys["st-m"], enabled=False, if_match="*")),
                  ("device deleted", lambda: rest(env, env.hub_cs[0], "DELETE", "/devices/st-m" + HUB_V, headers={"If-Match": "*"}))]:
    rest(env, env.hub_cs[0], "DELETE", "/devices/st-m" + HUB_V, headers={"If-Match": "*"})
    put_device(env, "st-m", keys["st-m"])
    mod = Device(env, M, put_module(env, "st-m", "a=b"), answer=True)
    md, ms = open_pair(env, mod, M)
    t0 = time.monotonic()
    end()
    row(f"7, 23 {name}: its module's stream ends within a second", ([md.end(), ms.end()], within(t0, 1)), ([(1008, "Access was revoked")] * 2, True))
dev = new("st-3", answer=True)
d, s = open_pair(env, dev, "st-3")
row("23 deleted", rest(env, env.hub_cs[0], "DELETE", "/devices/st-3" + HUB_V, headers={"If-Match": "*"}).status, 204)
row("23 deleted: closed", (d.end()[0], s.end()[0]), (1008, 1008))
dev = new("st-4", answer=True)
P = f"?api-version={BERTH_VERSION}"
key = new_key()
r = rest(env, env.hub_cs[0], "PUT", f"/admin/policies/ops{P}", {"rights": "ServiceConnect", "primaryKey": key, "secondaryKey": new_key()})
row("a policy of its own", r.status, lambda v: v in (200, 201))
ops = sas(env.hub, r.json.get("primaryKey", key), "ops")
r = post(env, "st-4", token=ops, response=9)
rq = dev.request()
d, s = End(env, rq["url"], rq["auth"]), End(env, r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"])
both_ways(d, s, "23 by a policy")
row("23 policy deleted", rest(env, env.hub_cs[0], "DELETE", f"/admin/policies/ops{P}", headers={"If-Match": "*"}).status, 204)
row("23 policy deleted: closed", (d.end()[0], s.end()[0]), (1008, 1008))

# --- audit, metrics -----------------------------------------------------------------------------------------------------------------------------------------
def audited(who, act, result=""):
    lines = rest(env, env.hub_cs[0], "GET", f"/admin/audit{P}&top=1000").json["value"]
    return any(x["who"] == who and act in x["act"] and result in x["result"] for x in lines)


row("audit: opened, by whom", until(5, lambda: audited("ops", " open st-4 s1")))
row("audit: closed, bytes", until(5, lambda: audited("ops", " close st-4 s1", "device_bytes=4 service_bytes=4")))
row("audit: a module's stream names it", until(5, lambda: audited("iothubowner", " open st-m/a=b ssh")))
row("audit: closed, reason", audited("ops", " close st-4 s1", "Access was revoked"))
row("audit: the operator's DELETE", audited("iothubowner", "DELETE /admin/streams/" + one["sid"][:6]))
env.j["metrics"]["hubs"][0] = hub.status()["metrics"]
left = len(rest(env, env.hub_cs[0], "GET", f"/admin/streams{P}").json["value"])
row("metrics: those that were never opened are left", until(5, lambda: env.metrics(0).get("berth_hub_streams") == left))
row("metrics: opened", env.metrics(0).get("berth_hub_stream_opened_total", 0), lambda n: n > 20)

# --- 9, 25: limits, restart -----------------------------------------------------------------------------------------------------------------------------------
d, s = open_pair(env, dev, "st-4")
r = post(env, "st-4", response=9)
rq = dev.request()
row("drain: SIGTERM ends the hub", hub.stop(), 0)
row("drain: streams are closed with 1001", (d.end()[0], s.end()[0]), (1001, 1001))
hub = Server(env, "hub1", sets=["streams.max=2"])
hub.start()
env.reload()
row("25 after a restart: 401", End(env, rq["url"], rq["auth"]).status, 401)
dev = Device(env, "st-4", keys["st-4"], answer=True)
got = [post(env, "st-4", response=9) for _ in range(3)]
row("9 one more than streams.max: 429", [x.status for x in got], [200, 200, 429])
hub.stop()
hub = Server(env, "hub1", sets=["streams.max-per-device=2"])
hub.start()
dev = Device(env, "st-4", keys["st-4"], answer=True)
got = [post(env, "st-4", response=9) for _ in range(3)]
row("9 one more than streams.max-per-device: 429", [x.status for x in got], [200, 200, 429])
hub.stop()
hub = Server(env, "hub1", sets=["streams.new-per-second=1"])
hub.start()
dev = Device(env, "st-4", keys["st-4"], answer=True)
got = [Later(post, env, "st-4", response=9) for _ in range(8)]
row("9 eight at once where one a second may begin: 429", sorted(x.get().status for x in got), lambda v: 200 in v and 429 in v)
hub.stop()

# --- 11: rates: nothing arrives sooner than they allow, a tenth of a second at the beginning apart ----------------------------------------
for setting, n in (("bytes-per-second", 1), ("device-bytes-per-second", 2)):
    hub = Server(env, "hub1", sets=[f"streams.{setting}=100000", "streams.new-per-second=0"])
    hub.start()
    dev = Device(env, "st-4", keys["st-4"], answer=True)
    pairs = [open_pair(env, dev, "st-4") for _ in range(n)]
    text = os.urandom(200000 // n)
    t0 = time.monotonic()
    pumps = [pump(d, text, 10000) for d, _ in pairs]
    readers = [Later(s.read, len(text), 30) for _, s in pairs]
    row(f"{setting}: all comes", [x.get(60) == text for x in readers], [True] * n)
    row(f"{setting}: in its time", time.monotonic() - t0, lambda t: t > 1.5)
    hub.stop()
# --- limits of age and of silence: one that moves outlives the idle time, but not its own ---------------------------------------------
hub = Server(env, "hub1", sets=["streams.idle-seconds=1", "streams.new-per-second=0"])
hub.start()
dev = Device(env, "st-4", keys["st-4"], answer=True)
(qd, qs), (bd, bs) = open_pair(env, dev, "st-4"), open_pair(env, dev, "st-4")
still = Later(qs.end, 60)
t0, alive = time.monotonic(), 0
while time.monotonic() - t0 < 3:
    bd.send(b"x")
    alive += bs.read(1, 20) == b"x"
    time.sleep(0.1)
row("idle-seconds: the silent one was ended, with a reason", still.get(60), (1000, "Idle for too long"))
row("idle-seconds: the one that moves is there", alive, lambda n: n >= 3)
qd.end(60)
row("the log says why", until(30, lambda: 'why="Idle for too long"' in env.log("hub1")))
hub.stop()
hub = Server(env, "hub1", sets=["streams.max-seconds=2", "streams.new-per-second=0"])
hub.start()
dev = Device(env, "st-4", keys["st-4"], answer=True)
d, s = open_pair(env, dev, "st-4")
t0 = time.monotonic()
row("max-seconds: it is ended all the same, with a reason", Later(s.end, 60).get(60), (1000, "Lifetime over"))
row("max-seconds: not before its time", time.monotonic() - t0, lambda t: t > 1.5)
hub.stop()
hub = Server(env, "hub1", sets=["streams.enabled=no"])
hub.start()
off, _ = hub_link(env, "st-4", keys["st-4"])
row("M21a switched off: 0x80, the link stays", (off.subscribe("$iothub/streams/POST/#"), off.ping()), ([0x80], True))
row("switched off: 404", post(env, "st-4").status, 404)
row("switched off: no gateway", End(env, rq["url"], rq["auth"]).status, 404)
hub.stop()
done()
