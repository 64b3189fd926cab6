# SPDX-License-Identifier: Apache-2.0
"""What the Python halves of the integration tests share: rows, tokens, MQTT 3.1.1, WebSocket and HTTP by hand. Standard library only."""
import atexit
import base64
import hashlib
import hmac
import json
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
import urllib.parse

BERTH_VERSION = "2026-11-01-berth"
SANITIZER = os.environ.get("BERTH_SANITIZER", "")
bad = 0


def patience(seconds):
    """So many seconds of a quiet machine and a plain build, as seconds of this build and this machine now."""
    return seconds * int(os.environ.get("BERTH_SLOW", "1")) * min(4.0, max(1.0, os.getloadavg()[0] / os.cpu_count()))


def within(t0, seconds):
    """Was a promise of so many seconds kept, since t0? A second is added: a test's own process may have waited for the processor."""
    return time.monotonic() - t0 < patience(seconds + 1)


def row(name, got, want=True):
    """One row of a table: prints it; the program's status is 1 when one was wrong."""
    global bad
    good = want(got) if callable(want) else got == want
    if good:
        print(f"ok   {name}", flush=True)
    else:
        bad += 1
        print(f"not ok {name} -- got {got!r}" + ("" if callable(want) else f", wanted {want!r}"), flush=True)
    return good


def attempt(name, fn, want=True):
    """A row whose computation may itself fail."""
    try:
        got = fn()
    except (OSError, ssl.SSLError, AssertionError, KeyError, ValueError, IndexError, TypeError) as e:
        got = f"{type(e).__name__}: {e}"
    return row(name, got, want)


def done():
    sys.exit(1 if bad else 0)


def until(seconds, fn):
    """Asks until true or the time is over; the last answer."""
    end = time.monotonic() + patience(seconds)
    while True:
        v = fn()
        if v or time.monotonic() > end:
            return v
        time.sleep(0.02)


# --- environment ---------------------------------------------------------------------------------------------------------------

class Env:
    def __init__(self, path=None):
        self.path = path or os.environ["ENV"]
        self.dir = os.path.dirname(self.path)
        self.reload()

    def reload(self):
        with open(self.path) as f:
            self.j = json.load(f)
        self.ca = os.path.join(self.dir, self.j["caFile"])
        self.scope = self.j["idScope"]
        self.dps = self.j["dpsHost"]
        self.dps_cs = self.j["dpsServiceConnectionString"]
        self.hubs = [h["host"] for h in self.j["hubs"]]
        self.hub_cs = [h["serviceConnectionString"] for h in self.j["hubs"]]
        self.hub = self.hubs[0]

    def log(self, name):
        with open(os.path.join(self.dir, "log", name + ".log"), errors="replace") as f:
            return f.read()

    def metrics(self, i):
        """i: -1 the DPS, else the hub's index; {name with labels: value}"""
        url = self.j["metrics"]["dps"] if i < 0 else self.j["metrics"]["hubs"][i]
        u = urllib.parse.urlsplit(url)
        s = socket.create_connection((u.hostname, u.port), patience(10))
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b""
        while True:
            d = s.recv(65536)
            if not d:
                break
            text += d
        out = {}
        for line in text.decode().split("\n"):
            if line and line[0] != "#" and " " in line and line.startswith("berth"):
                k, v = line.rsplit(" ", 1)
                out[k] = float(v)
        return out


# --- tokens ----------------------------------------------------------------------------------------------------------------------

def quote(s):
    return urllib.parse.quote(s, safe="")


def mac(key, text):
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode("latin1"), hashlib.sha256).digest()).decode()


def sas(resource, key, skn=None, ttl=600, se=None, raw=False, order="sr sig se skn", sr=None):
    sr = sr if sr is not None else (resource if raw else quote(resource))
    se = str(int(time.time()) + ttl) if se is None else str(se)
    f = {"sr": "sr=" + sr, "sig": "sig=" + quote(mac(key, sr + "\n" + se)), "se": "se=" + se, "skn": "skn=" + (quote(skn) if skn else "")}
    names = [n for n in order.split() if n != "skn" or skn is not None]
    return "SharedAccessSignature " + "&".join(f[n] for n in names)


def cs(text):
    return dict(p.split("=", 1) for p in text.split(";"))


def cs_token(text, ttl=600):
    p = cs(text)
    return sas(p["HostName"], p["SharedAccessKey"], p["SharedAccessKeyName"], ttl)


def new_key(n=32):
    return base64.b64encode(os.urandom(n)).decode()


def derive(group_key, rid):
    return mac(group_key, rid)


# --- TLS, HTTP -----------------------------------------------------------------------------------------------------------------

def context(ca, cert=None, key=None):
    c = ssl.create_default_context(cafile=ca)
    if cert:
        c.set_ciphers("DEFAULT:@SECLEVEL=0")  # weak certificates are to be refused by the other side
        c.load_cert_chain(cert, key)
    return c


def tls(host, port, ca, cert=None, key=None, timeout=10, source=None):
    s = socket.create_connection((host, port), patience(timeout), source_address=(source, 0) if source else None)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context(ca, cert, key).wrap_socket(s, server_hostname=host)


def read_until_close(s, seconds=10):
    """All that comes until the peer closes; None for the second value when it did not."""
    out = b""
    end = time.monotonic() + patience(seconds)
    while time.monotonic() < end:
        s.settimeout(max(0.01, end - time.monotonic()))
        try:
            d = s.recv(65536)
        except (socket.timeout, TimeoutError):
            return out, None
        except (ssl.SSLError, OSError):
            return out, True
        if not d:
            return out, True
        out += d
    return out, None


def is_closed(s, seconds=5):
    return bool(read_until_close(s, seconds)[1])


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """errorCode of a DPS body, or the name in iothub-errorcode"""
        try:
            return self.json.get("errorCode")
        except (ValueError, AttributeError):
            return None

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Http:
    """One connection; answers are parsed strictly."""

    def __init__(self, host, ca, cert=None, key=None, port=443, timeout=10):
        self.host = host
        self.s = tls(host, port, ca, cert, key, timeout)
        self.rest = b""

    def send(self, raw):
        self.s.sendall(raw)

    def ask(self, method, path, headers=None, body=None):
        h = {"Host": self.host}
        if body is not None:
            body = body if isinstance(body, bytes) else body.encode()
            h["Content-Length"] = str(len(body))
        h.update(headers or {})
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in h.items()) + "\r\n"
        try:
            self.send(head.encode("latin1") + (body or b""))
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass  # refused early: the answer may be there already
        return self.answer(method)

    def _more(self):
        d = self.s.recv(65536)
        if not d:
            raise ConnectionError("closed")
        self.rest += d

    def answer(self, method="GET"):
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = head.decode("latin1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        if status == 100:
            return self.answer(method)
        headers = {}
        for line in lines[1:]:
            k, v = line.split(":", 1)
            headers[k.strip().lower()] = v.strip()
        if headers.get("transfer-encoding") == "chunked":
            pieces = []  # joined once: an answer may be the whole telemetry log
            while True:
                while b"\r\n" not in self.rest:
                    self._more()
                n, self.rest = self.rest.split(b"\r\n", 1)
                n = int(n, 16)
                while len(self.rest) < n + 2:
                    self._more()
                pieces.append(self.rest[:n])
                self.rest = self.rest[n + 2:]
                if n == 0:
                    break
            body = b"".join(pieces)
        else:
            n = 0 if method == "HEAD" or status == 204 else int(headers.get("content-length", 0))
            while len(self.rest) < n:
                self._more()
            body, self.rest = self.rest[:n], self.rest[n:]
        return Answer(status, headers, body)

    def close(self):
        self.s.close()


def http(host, ca, method, path, headers=None, body=None, cert=None, key=None, timeout=15):
    c = Http(host, ca, cert, key, timeout=timeout)
    try:
        return c.ask(method, path, headers, body)
    finally:
        c.close()


def rest(env, conn, method, path, body=None, headers=None, token=None):
    """A service call; body: JSON value, or bytes as they are."""
    h = {"Authorization": token or cs_token(conn)}
    if body is not None:
        h["Content-Type"] = "application/json; charset=utf-8"
        body = body if isinstance(body, (bytes, str)) else json.dumps(body)
    elif method in ("POST", "PUT", "PATCH"):
        body = b""
    h.update(headers or {})
    h = {k: v for k, v in h.items() if v is not None}
    return http(cs(conn)["HostName"], env.ca, method, path, h, body)


HUB_V = "?api-version=2021-04-12"
DPS_V = "?api-version=2021-10-01"
DEV_V = "?api-version=2021-06-01"


def put_device(env, did, key=None, hub=0, key2=None, enabled=True, auth=None, if_match=None):
    key = key or new_key()
    a = auth or {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key2 or new_key()}}
    r = rest(env, env.hub_cs[hub], "PUT", "/devices/" + quote(did) + HUB_V,
             {"deviceId": did, "status": "enabled" if enabled else "disabled", "authentication": a},
             {"If-Match": if_match} if if_match else None)
    assert r.status == 200, r
    return key


def put_module(env, did, mid, key=None, hub=0, auth=None, if_match=None):
    key = key or new_key()
    a = auth or {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": new_key()}}
    r = rest(env, env.hub_cs[hub], "PUT", f"/devices/{quote(did)}/modules/{quote(mid)}" + HUB_V,
             {"deviceId": did, "moduleId": mid, "authentication": a}, {"If-Match": if_match} if if_match else None)
    assert r.status == 200, r
    return key


def events(env, hub=0, query="from=earliest&follow=false", host=None):
    conn = env.hub_cs[hub]
    r = rest(env, conn, "GET", f"/messages/events?api-version={BERTH_VERSION}&{query}")
    assert r.status == 200, r
    return [json.loads(x) for x in r.body.decode().split("\n") if x.strip()]


# --- MQTT ------------------------------------------------------------------------------------------------------------------------

CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP = 2, 3, 4, 9, 11, 13


def mstr(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack(">H", len(s)) + s


def varlen(n):
    out = b""
    while True:
        n, d = n >> 7, n & 127
        out += bytes([d | (128 if n else 0)])
        if not n:
            return out


def packet(kind, flags, body):
    return bytes([kind << 4 | flags]) + varlen(len(body)) + body


def connect_packet(client_id, user=None, password=None, keepalive=60, clean=True, level=4, name="MQTT", will=None):
    f = (2 if clean else 0) | (128 if user is not None else 0) | (64 if password is not None else 0)
    if will:
        f |= 4 | will.get("qos", 0) << 3 | (32 if will.get("retain") else 0)
    b = mstr(name) + bytes([level, f]) + struct.pack(">H", keepalive) + mstr(client_id)
    if will:
        b += mstr(will["topic"]) + mstr(will["payload"])
    if user is not None:
        b += mstr(user)
    if password is not None:
        b += mstr(password)
    return packet(1, 0, b)


def publish_packet(topic, body=b"", qos=1, pid=1, retain=False, dup=False):
    body = body if isinstance(body, bytes) else body.encode()
    return packet(3, qos << 1 | (1 if retain else 0) | (8 if dup else 0), mstr(topic) + (struct.pack(">H", pid) if qos else b"") + body)


def subscribe_packet(filters, pid=1):
    return packet(8, 2, struct.pack(">H", pid) + b"".join(mstr(f) + bytes([q]) for f, q in filters))


class Closed(ConnectionError):
    pass


class Mqtt:
    """A link by hand. stream: something with recv(n), sendall, settimeout (a TLS socket, or Ws)."""

    def __init__(self, stream, timeout=8):
        self.s, self.rest, self.timeout = stream, b"", timeout
        self.kept = []

    def send(self, raw):
        self.s.settimeout(patience(self.timeout))
        self.s.sendall(raw)

    def recv(self, timeout=None):
        """(kind, flags, body); Closed at the end; TimeoutError."""
        end = time.monotonic() + (patience(self.timeout) if timeout is None else timeout)
        while True:
            p = self._cut()
            if p:
                return p
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("no packet")
            self.s.settimeout(left)
            try:
                d = self.s.recv(65536)
            except (socket.timeout, TimeoutError):
                raise TimeoutError("no packet") from None
            except (ssl.SSLError, OSError) as e:
                raise Closed(str(e)) from None
            if not d:
                raise Closed("end of stream")
            self.rest += d

    def _cut(self):
        r = self.rest
        n = mult = 0
        i = 1
        while True:
            if i >= len(r):
                return None
            n |= (r[i] & 127) << mult
            mult += 7
            i += 1
            if not r[i - 1] & 128:
                break
        if len(r) < i + n:
            return None
        self.rest = r[i + n:]
        return r[0] >> 4, r[0] & 15, r[i:i + n]

    def connect(self, *a, **k):
        """the CONNACK's code; None when closed without one"""
        try:
            self.send(connect_packet(*a, **k))
            kind, _, b = self.recv()
        except (Closed, OSError, ssl.SSLError):
            return None
        assert kind == CONNACK, kind
        self.session_present = b[0]
        return b[1]

    def expect(self, kind, timeout=None):
        k, f, b = self.recv(timeout)
        assert k == kind, f"packet {k}, wanted {kind}"
        return f, b

    def publish(self, topic, body=b"", qos=1, pid=1, **k):
        """True when acknowledged; 'closed' when the link ended"""
        try:
            self.send(publish_packet(topic, body, qos, pid, **k))
            if qos == 0:
                return True
            while True:
                kind, f, b = self.recv()
                if kind == PUBACK:
                    return struct.unpack(">H", b[:2])[0] == pid
                self.kept.append((kind, f, b))
        except (Closed, BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return "closed"

    def subscribe(self, *filters, pid=1):
        """list of granted codes; 'closed'"""
        try:
            self.send(subscribe_packet([f if isinstance(f, tuple) else (f, 1) for f in filters], pid))
            _, b = self.expect(SUBACK)
            return list(b[2:])
        except (Closed, BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return "closed"

    def message(self, timeout=None):
        """next PUBLISH (topic, body), acknowledged"""
        kind, f, b = self.kept.pop(0) if self.kept else self.recv(timeout)
        assert kind == PUBLISH, kind
        n = struct.unpack(">H", b[:2])[0]
        topic, b = b[2:2 + n].decode(), b[2 + n:]
        if f >> 1 & 3:
            self.send(packet(4, 0, b[:2]))
            b = b[2:]
        return topic, b

    def ends(self, seconds=5):
        """did the server close within the time (packets before it are thrown away)"""
        end = time.monotonic() + patience(seconds)
        try:
            while time.monotonic() < end:
                self.recv(max(0.01, end - time.monotonic()))
        except Closed:
            return True
        except TimeoutError:
            pass
        return False

    def ping(self):
        try:
            self.send(packet(12, 0, b""))
            self.expect(PINGRESP)
            return True
        except (Closed, TimeoutError, OSError, ssl.SSLError):
            return False

    def disconnect(self):
        try:
            self.send(packet(14, 0, b""))
        except (OSError, ssl.SSLError):
            pass
        self.close()

    def close(self):
        self.s.close()

    def abort(self):
        """the peer sees a reset, as from a machine that died"""
        sock = self.s.s if isinstance(self.s, Ws) else self.s
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def hub_user(host, did, extra="?api-version=2021-04-12"):
    return f"{host}/{did}/{extra}"


def hub_resource(did):
    """did: a device id, or "device/module" of a module."""
    d, _, m = did.partition("/")
    return f"devices/{d}/modules/{m}" if m else f"devices/{d}"


def hub_link(env, did, key, hub=0, ttl=600, port=8883, password=None, cert=None, certkey=None, **k):
    """(link, CONNACK code). did as hub_resource has it."""
    host = env.hubs[hub]
    m = Mqtt(tls(host, port, env.ca, cert, certkey))
    pw = password if password is not None else (sas(f"{host}/{hub_resource(did)}", key, ttl=ttl) if key else None)
    return m, m.connect(did, hub_user(host, did), pw, **k)


def dps_user(scope, rid, extra="/api-version=2019-03-31"):
    return f"{scope}/registrations/{rid}{extra}"


def dps_link(env, rid, key, scope=None, password=None, cert=None, certkey=None, ttl=600, **k):
    m = Mqtt(tls(env.dps, 8883, env.ca, cert, certkey))
    scope = scope or env.scope
    pw = password if password is not None else (sas(f"{scope}/registrations/{rid}", key, "registration", ttl=ttl) if key else None)
    return m, m.connect(rid, dps_user(scope, rid), pw, **k)


def dps_register(m, body=b"", rid="1", qos=1):
    """Registers on an open link and polls: (list of topic statuses, last body as JSON)"""
    seen = []
    if m.subscribe("$dps/registrations/res/#") == "closed":
        return ["closed"], None
    m.publish(f"$dps/registrations/PUT/iotdps-register/?$rid={rid}", body, qos, 2)
    topic, b = m.message()
    seen.append(topic.split("/")[3])
    j = json.loads(b) if b else None
    n = 3
    end = time.monotonic() + patience(15)
    op = j.get("operationId") if j else None
    while seen[-1] in ("202", "429") and op and time.monotonic() < end:
        time.sleep(0.15)  # ten a second of one id are let through
        m.publish(f"$dps/registrations/GET/iotdps-get-operationstatus/?$rid={rid}&operationId={op}", b" ", qos, n)
        n += 1
        topic, b = m.message()
        seen.append(topic.split("/")[3])
        j = json.loads(b)
    return seen, j


# --- WebSocket -------------------------------------------------------------------------------------------------------------------

class Ws:
    """Client side of RFC 6455 with recv/sendall, so that Mqtt runs over it."""

    def __init__(self, host, ca, protocol="mqtt", path="/$iothub/websocket", cert=None, key=None, early=b""):
        self.s = tls(host, 443, ca, cert, key)
        self.rest = self.data = b""
        h = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        if protocol is not None:
            h += f"Sec-WebSocket-Protocol: {protocol}\r\n"
        self.s.sendall(h.encode() + b"\r\n" + early)
        while b"\r\n\r\n" not in self.rest:
            d = self.s.recv(4096)
            if not d:
                raise Closed("closed in the upgrade")
            self.rest += d
        self.head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        self.head = self.head.decode()
        self.status = int(self.head.split(" ")[1])

    def protocol(self):
        for line in self.head.split("\r\n"):
            if line.lower().startswith("sec-websocket-protocol:"):
                return line.split(":", 1)[1].strip()
        return None

    @staticmethod
    def frame(data, op=2, fin=True):
        k = os.urandom(4)
        n = len(data)
        head = bytes([(128 if fin else 0) | op])
        head += bytes([128 | n]) if n < 126 else bytes([128 | 126]) + struct.pack(">H", n) if n < 65536 else bytes([128 | 127]) + struct.pack(">Q", n)
        return head + k + bytes(b ^ k[i & 3] for i, b in enumerate(data))

    def settimeout(self, t):
        self.s.settimeout(t)

    def sendall(self, data):
        self.s.sendall(self.frame(data))

    def recv(self, n):
        while not self.data:
            if not self._frame():
                d = self.s.recv(65536)
                if not d:
                    return b""
                self.rest += d
        out, self.data = self.data[:n], self.data[n:]
        return out

    def _frame(self):
        r = self.rest
        if len(r) < 2:
            return False
        n, at = r[1] & 127, 2
        if n == 126:
            if len(r) < 4:
                return False
            n, at = struct.unpack(">H", r[2:4])[0], 4
        elif n == 127:
            if len(r) < 10:
                return False
            n, at = struct.unpack(">Q", r[2:10])[0], 10
        if len(r) < at + n:
            return False
        op, payload, self.rest = r[0] & 15, r[at:at + n], r[at + n:]
        if op == 8:
            raise Closed("close frame")
        if op in (0, 1, 2):
            self.data += payload
        elif op == 9:
            self.s.sendall(self.frame(payload, 10))
        return True

    def close(self):
        self.s.close()


# --- servers of a sandbox, started and killed by the test ------------------------------------------------------------------------

class Server:
    """berth-dps or berth-hub of a sandbox under this program's control; take() ends the sandbox's own process first."""

    all = []

    def __init__(self, env, name, sets=(), limits=None):
        Server.all.append(self)
        self.env, self.name, self.sets, self.limits = env, name, list(sets), limits
        self.program = os.environ["DPS" if name == "dps" else "HUB"]
        self.p = None
        self.more = []  # options behind its own

    def take(self):
        i = 0 if self.name == "dps" else int(self.name[3:])
        pid = self.env.j["pids"]["dps"] if i == 0 else self.env.j["pids"]["hubs"][i - 1]
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return self
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [], patience(10))  # readable when it has ended
        os.close(fd)
        return self

    def start(self, seconds=20):
        """Milliseconds until ready."""
        t0 = time.monotonic()
        r, w = os.pipe()
        args = [self.program, "--config", os.path.join(self.env.dir, self.name, "berth.conf"), "--ready-fd", str(w), *self.more]
        for s in self.sets:
            args += ["--set", s]
        with open(os.path.join(self.env.dir, "log", self.name + ".log"), "ab") as log:
            self.p = subprocess.Popen(args, pass_fds=[w], stdout=log, stderr=log, preexec_fn=self.limits)
        os.close(w)
        ready = b""
        end = t0 + patience(seconds)
        while not ready.endswith(b"\n") and select.select([r], [], [], max(0, end - time.monotonic()))[0]:
            d = os.read(r, 64)
            if not d:
                break
            ready += d
        os.close(r)
        if ready.strip() != b"ready":
            try:
                code = self.p.wait(1)
            except subprocess.TimeoutExpired:
                code = "none yet"
            raise AssertionError(f"{self.name} is not ready, exit status {code}: {self.env.log(self.name)[-600:]}")
        return (time.monotonic() - t0) * 1000

    def kill(self):
        self.p.kill()
        self.p.wait(patience(20))

    def stop(self, seconds=20):
        """Exit status after SIGTERM."""
        self.p.terminate()
        return self.p.wait(patience(seconds))

    def status(self):
        with open(os.path.join(self.env.dir, self.name, "data", "status.json")) as f:
            return json.load(f)

    def rss_kb(self):
        with open(f"/proc/{self.p.pid}/status") as f:
            return int([x for x in f if x.startswith("VmRSS")][0].split()[1])


@atexit.register
def _end_servers():
    for s in Server.all:
        if s.p is not None and s.p.poll() is None:
            s.p.kill()
            s.p.wait()


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
