# SPDX-License-Identifier: Apache-2.0
"""What the tests of device streams share: a device that answers requests over MQTT, the service's POST, WebSocket ends of the gateway."""
import os
import queue
import struct
import threading

from kit import *

API = "?api-version=2020-09-30"
CONNECT = "iothub-streaming-connect-timeout-in-seconds"
RESPONSE = "iothub-streaming-response-timeout-in-seconds"


class Device:
    """One link that listens, a device's or a module's (did as hub_resource has it). answer: what to say to a request: True, False, None (nothing), or a function of the request."""

    def __init__(self, env, did, key, answer=None, listen=True, clean=True):
        self.env, self.did, self.key, self.answer = env, did, key, answer
        self.seen = queue.Queue()
        self.link, code = hub_link(env, did, key, clean=clean)
        assert code in (0, 256), code
        self.todo = queue.Queue()
        self.codes = self.link.subscribe("$iothub/streams/POST/#", "$iothub/streams/res/#") if listen else []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.stopped = False
        if listen:
            self.thread.start()

    def _run(self):
        try:
            while not self.stopped:
                while not self.todo.empty():
                    fn, out = self.todo.get()
                    out.put(fn())
                try:
                    topic, body = self.link.message(0.03)
                except TimeoutError:
                    continue
                self._take(topic, body)
        except (Closed, OSError, ssl.SSLError):
            pass

    def _take(self, topic, body):
        parts = topic.split("/")
        assert len(parts) == 5 and parts[:3] == ["$iothub", "streams", "POST"] and body == b"", topic
        pairs = [p.split("=") for p in parts[4].lstrip("?").split("&")]
        assert all(len(p) == 2 for p in pairs), topic
        q = dict(pairs)
        rq = {"name": parts[3], "rid": q["$rid"], "url": urllib.parse.unquote(q["$url"]), "auth": q["$auth"], "topic": topic}
        a = self.answer(rq) if callable(self.answer) else self.answer
        self.seen.put(rq)
        if a is not None:
            self.say(200 if a else 400, rq["rid"])

    def say(self, status, rid, qos=0, pid=1):
        tail = "" if rid is None else f"?$rid={rid}"
        return self.link.publish(f"$iothub/streams/res/{status}/{tail}", b"", qos, pid)

    def do(self, fn, *a, **k):
        """fn on the thread of the link."""
        out = queue.Queue()
        self.todo.put((lambda: fn(*a, **k), out))
        return out.get(timeout=patience(10))

    def request(self, seconds=5):
        return self.seen.get(timeout=patience(seconds))

    def quiet(self, seconds=0.3):
        try:
            return self.seen.get(timeout=seconds)
        except queue.Empty:
            return None

    def end(self):
        self.stopped = True
        if self.thread.is_alive():
            self.thread.join(10)  # before the close: its number may be another connection's the next moment
        self.link.close()


def twin_path(did):
    """did as hub_resource has it"""
    d, _, m = did.partition("/")
    return f"/twins/{quote(d)}" + (f"/modules/{quote(m)}" if m else "")


def post(env, did, name="s1", connect=None, response=None, token=None, path=None, headers=None, hub=0):
    h = {k: str(v) for k, v in ((CONNECT, connect), (RESPONSE, response)) if v is not None}
    h.update(headers or {})
    return rest(env, env.hub_cs[hub], "POST", path or f"{twin_path(did)}/streams/{name}{API}", headers=h, token=token)


class Later(threading.Thread):
    """A call whose answer is waited for later."""

    def __init__(self, fn, *a, **k):
        super().__init__(daemon=True)
        self.fn, self.a, self.k, self.out = fn, a, k, None
        self.start()

    def run(self):
        try:
            self.out = self.fn(*self.a, **self.k)
        except Exception as e:  # noqa: BLE001: it is the row's answer
            self.out = e

    def get(self, seconds=20):
        self.join(patience(seconds))
        return self.out


class TwoWay:
    """A TLS socket that one thread may read while another writes: OpenSSL wants one call at a time, so none may block."""

    def __init__(self, s):
        self.s, self.lock, self.writing, self.seconds = s, threading.Lock(), threading.Lock(), 10
        s.setblocking(False)

    def settimeout(self, seconds):
        self.seconds = seconds

    def _try(self, fn, seconds):
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                with self.lock:
                    return fn()
            except ssl.SSLWantReadError:
                ready = [self.s], []
            except ssl.SSLWantWriteError:
                ready = [], [self.s]
            left = 1 if end is None else end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            try:
                select.select(*ready, [], min(left, 0.5))  # short: another thread may close it
            except ValueError:
                raise OSError("closed meanwhile") from None

    def recv(self, n):
        return self._try(lambda: self.s.recv(n), self.seconds)

    def sendall(self, data):
        """For as long as it takes: a peer that does not read holds a writer."""
        data = memoryview(data)
        with self.writing:
            for i in range(0, len(data), 16384):
                part = data[i:i + 16384]
                while part:
                    part = part[self._try(lambda: self.s.send(part), None):]

    def close(self, reset=False):
        with self.lock:
            if reset:
                self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.s.close()


class End:
    """One end of a stream: strict about what the gateway sends. One thread may read while another writes."""

    def __init__(self, env, url, token, protocol=None, extra="", auth=None, raw=None):
        u = urllib.parse.urlsplit(url)
        self.s = TwoWay(tls(u.hostname, u.port or 443, env.ca))
        self.rest = b""
        self.closed = None  # (code, reason) of its Close; "eof": the connection ended
        self.pongs = []
        h = f"GET {u.path} HTTP/1.1\r\nHost: {u.hostname}:{u.port or 443}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        if protocol is not None:
            h += f"Sec-WebSocket-Protocol: {protocol}\r\n"
        a = auth if auth is not None else (f"Bearer {token}" if token is not None else None)
        if a:
            h += f"Authorization: {a}\r\n"
        self.s.sendall((raw or h + extra + "\r\n").encode("latin1"))
        while b"\r\n\r\n" not in self.rest:
            d = self.s.recv(65536)
            if not d:
                raise Closed("closed in the upgrade")
            self.rest += d
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        self.head = head.decode("latin1")
        self.status = int(self.head.split(" ")[1])
        self.protocol = None
        self.extensions = None
        for line in self.head.split("\r\n"):
            k, _, v = line.partition(":")
            if k.lower() == "sec-websocket-protocol":
                self.protocol = v.strip()
            if k.lower() == "sec-websocket-extensions":
                self.extensions = v.strip()

    def raw(self, data):
        self.s.sendall(data)

    def send(self, data, op=2, fin=True):
        k = os.urandom(4)
        n = len(data)
        head = bytes([(128 if fin else 0) | op])
        head += bytes([128 | n]) if n < 126 else bytes([254]) + struct.pack(">H", n) if n < 65536 else bytes([255]) + struct.pack(">Q", n)
        pad = (k * (n // 4 + 1))[:n]
        self.s.sendall(head + k + (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(n, "big"))

    def close(self, code=1000, reason=b""):
        self.send(b"" if code is None else struct.pack(">H", code) + reason, 8)

    def _fill(self, seconds):
        self.s.settimeout(patience(seconds))
        try:
            d = self.s.recv(262144)
        except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLError) as e:
            if isinstance(e, (socket.timeout, TimeoutError)):
                raise
            d = b""
        if not d:
            self.closed = self.closed or "eof"
            return False
        self.rest += d
        return True

    def frame(self, seconds=10):
        """(opcode, fin, payload), or None at the end."""
        while True:
            r = self.rest
            if len(r) >= 2:
                assert r[1] & 128 == 0 and r[0] & 112 == 0, "masked, or reserved bits"
                n, at = r[1] & 127, 2
                if n == 126 and len(r) >= 4:
                    n, at = struct.unpack(">H", r[2:4])[0], 4
                elif n == 127 and len(r) >= 10:
                    n, at = struct.unpack(">Q", r[2:10])[0], 10
                elif n >= 126:
                    at = 1 << 62
                if len(r) >= at + n:
                    self.rest = r[at + n:]
                    return r[0] & 15, r[0] >> 7, r[at:at + n]
            if not self._fill(seconds):
                return None

    def read(self, n, seconds=10):
        """n bytes of payload; fewer when the stream ended (self.closed says how)."""
        out = bytearray()
        while len(out) < n:
            f = self.frame(seconds)
            if f is None:
                break
            op, fin, p = f
            if op == 2:
                assert fin == 1 and 0 < len(p) <= 16384, (fin, len(p))
                out += p
            elif op == 9:
                self.send(p, 10)
            elif op == 10:
                self.pongs.append(p)
            elif op == 8:
                self.closed = (struct.unpack(">H", p[:2])[0], p[2:].decode()) if p else (None, "")
                break
            else:
                raise AssertionError(f"opcode {op}")
        return bytes(out)

    def end(self, seconds=10, answer=True):
        """How the gateway ended it, data before it thrown away."""
        while self.closed is None:
            self.read(1 << 30, seconds)
        if answer and isinstance(self.closed, tuple):
            try:
                self.send(b"" if self.closed[0] is None else struct.pack(">H", self.closed[0]), 8)
            except OSError:
                pass
        return self.closed

    def is_gone(self, seconds=5):
        return is_closed(self.s, seconds)

    def reset(self):
        self.s.close(reset=True)

    def drop(self):
        self.s.close()


def open_pair(env, dev, did, name="s1", **k):
    """(device end, service end) of a new stream; dev accepts."""
    r = post(env, did, name, response=10)
    assert r.status == 200 and r.headers.get("iothub-streaming-is-accepted") == "True", r
    rq = dev.request()
    d = End(env, rq["url"], rq["auth"], **k)
    s = End(env, r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"], **k)
    assert d.status == 101 and s.status == 101, (d.head, s.head)
    return d, s
