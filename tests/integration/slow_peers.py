# SPDX-License-Identifier: Apache-2.0
"""Run by 60-slow-peers.sh: COUNT"""
import resource
import threading

from kit import *

count = min(int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
env = Env()
host = env.hub
hub = Server(env, "hub1", ["server.max-unauthenticated=20k", "server.max-unauthenticated-per-source=0"]).take()
hub.start()
# dps-device:D40 a device that connects and asks for nothing
quiet, code = dps_link(env, "quiet", new_key())
quiet_t0 = time.monotonic()
row("D40 connected", code, 0)
K = put_device(env, "steady")
m, c = hub_link(env, "steady", K)
took, stop, why = [], threading.Event(), []


def publisher():
    n = 0
    while not stop.is_set():
        t0 = time.monotonic()
        try:
            if m.publish("devices/steady/messages/events/", "x", pid=n % 60000 + 1) is not True:
                why.append("closed")
                return
        except (OSError, TimeoutError, AssertionError) as e:
            why.append(repr(e))
            return
        took.append(time.monotonic() - t0)
        n += 1
        stop.wait(0.02)


def p99(since):
    v = sorted(took[since:])
    return v[int(len(v) * 0.99)] if v else 99


t = threading.Thread(target=publisher, daemon=True)
t.start()
until(10, lambda: len(took) > 100)
calm, rss0 = p99(0), hub.rss_kb()

# half of them silent, half in the middle of a handshake
hello = None
probe = ssl.MemoryBIO()
out = ssl.MemoryBIO()
o = context(env.ca).wrap_bio(probe, out, server_hostname=host)
try:
    o.do_handshake()
except ssl.SSLWantReadError:
    hello = out.read()
at, t0, peers = len(took), time.monotonic(), []
for i in range(count):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex((host, 8883 if i % 2 else 443))
    peers.append(s)
    if i % 500 == 499:
        time.sleep(0.01)  # lets the listener's queue be emptied
for i, s in enumerate(peers):
    try:
        if i % 4 < 2:
            s.send(hello if i % 8 < 4 else hello[:7])
    except OSError:
        pass
made = time.monotonic() - t0
row("nobody was thrown out to make room", [w for w in why], [])
worst = p99(at)
print(f"# {count} half-open in {made:.1f} s; the steady device: p99 {calm * 1000:.1f} ms before, {worst * 1000:.1f} ms during; memory {rss0} kB, {hub.rss_kb()} kB")
if SANITIZER:
    print(f"# memory is not looked at: a build with the {SANITIZER} sanitizer keeps more than it uses")
else:
    row("memory for each is bounded (64 kB)", hub.rss_kb() - rss0 < count * 64)
poll = select.poll()
left = {}
for s in peers:
    left[s.fileno()] = s
    poll.register(s, select.POLLIN | select.POLLHUP | select.POLLERR)
end = time.monotonic() + patience(25)
while left and time.monotonic() < end:
    for fd, _ in poll.poll(500):
        s = left[fd]
        try:
            d = s.recv(65536)
        except BlockingIOError:
            continue
        except OSError:
            d = b""
        if not d:
            poll.unregister(fd)
            del left[fd]
            s.close()
row("all of them were closed in time", len(left), 0)
row("the steady device was not closed", why, [])
row("its p99 stayed below a second", p99(at) < patience(1))
for s in left.values():
    s.close()


# one byte a second
def drip(name, make, text, limit, first=b""):
    def run():
        t0 = time.monotonic()
        s = make()
        s.sendall(first)
        s.settimeout(0.5)
        for b in text:
            try:
                s.sendall(bytes([b]))
                if s.recv(4096) == b"":
                    break
            except (socket.timeout, TimeoutError):
                pass
            except OSError:
                break
            if time.monotonic() - t0 > limit + 6:
                slow.append(name)
                break
        else:
            if not is_closed(s, limit + 6 - (time.monotonic() - t0)):
                slow.append(name)
        ended[name] = time.monotonic() - t0
    th = threading.Thread(target=run, daemon=True)
    th.start()
    return th


slow, ended = [], {}
http_head = f"POST /devices/steady/messages/events{HUB_V} HTTP/1.1\r\nHost: {host}\r\n".encode() + b"X: " + b"a" * 200
body_head = f"POST /devices/steady/messages/events{HUB_V} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {sas(host + '/devices/steady', K)}\r\nContent-Length: 200\r\n\r\n"
ws_head = f"GET /$iothub/websocket HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode() + b"X: " + b"a" * 200
ts = [drip("TLS", lambda: socket.create_connection((host, 8883)), hello, 10), drip("HTTP head", lambda: tls(host, 443, env.ca), http_head, 10),
      drip("HTTP body", lambda: tls(host, 443, env.ca), b"a" * 200, 10, body_head.encode()),
      drip("WebSocket upgrade", lambda: tls(host, 443, env.ca), ws_head, 10),
      drip("MQTT CONNECT", lambda: tls(host, 8883, env.ca), connect_packet("steady", hub_user(host, "steady"), "x" * 400), 30)]
for th in ts:
    th.join(60)
row("one byte at a time: every stage ends in time", (slow, sorted(ended)), ([], ["HTTP body", "HTTP head", "MQTT CONNECT", "TLS", "WebSocket upgrade"]))
print("# " + ", ".join(f"{k} {v:.0f} s" for k, v in sorted(ended.items())))
stop.set()
t.join(10)
row("and the steady device publishes still", why, [])
lived = time.monotonic() - quiet_t0
row("D40 the quiet link is still there before its time", lived > 55 or not is_closed(quiet.s, 0.01))
closed = is_closed(quiet.s, max(1, 75 - lived))
row("D40 and closed after 60 s", (closed, 55 < time.monotonic() - quiet_t0 or lived > 55), (True, True))
done()
