# SPDX-License-Identifier: Apache-2.0
"""Streams encrypted from end to end, each end played by hand against the real other one: what passes the hub is looked at, and what must
be refused is tried. stream_sealed.py UNIT: the unit's agent is connected and lists `echo`, and `guarded` with encryption required."""
import subprocess
import sys

from streams_kit import *

env = Env()
unit, t = sys.argv[1], os.environ["T"]
SEALED, PLAIN = "berth.streams.v1.tls", "berth.streams.v1"
MARK = b"the eagle lands at midnight"
unit_pem = open(f"{t}/{unit}/factory/device.pem").read()
unit_der = ssl.PEM_cert_to_DER_cert(unit_pem[:unit_pem.index("-----END") + 25])


def frame(kind, channel, payload=b""):
    return bytes([kind]) + len(payload).to_bytes(3, "big") + channel.to_bytes(4, "big") + payload


class Sealed:
    """TLS by Python's own library over one end of a stream; all that passed is kept."""

    def __init__(self, end, cert=None, key=None):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if cert else ssl.PROTOCOL_TLS_CLIENT)
        if cert:
            c.load_cert_chain(cert, key)
        else:
            c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
        c.set_alpn_protocols([SEALED])
        self.end, self.passed = end, bytearray()
        self.inb, self.outb = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = c.wrap_bio(self.inb, self.outb, server_side=bool(cert))
        self._do(self.tls.do_handshake)

    def flush(self):
        b = self.outb.read()
        if b:
            self.passed += b
            self.end.send(b)

    def _more(self):
        self.flush()
        f = self.end.frame(20)
        if f is None or f[0] == 8:
            raise Closed("the stream ended")
        if f[0] == 2:
            self.passed += f[2]
            self.inb.write(f[2])

    def _do(self, fn, *a):
        while True:
            try:
                r = fn(*a)
                self.flush()
                return r
            except ssl.SSLWantReadError:
                self._more()
            except ssl.SSLError:
                self.flush()
                raise

    def send(self, b):
        self._do(self.tls.write, b)

    def read(self, n):
        out = b""
        while len(out) < n:
            out += self._do(self.tls.read, n - len(out))
        return out

    def frame(self):
        h = self.read(8)
        return h[0], int.from_bytes(h[4:], "big"), self.read(int.from_bytes(h[1:4], "big"))


class Plain:
    """The frames of a session that is not encrypted."""

    def __init__(self, end):
        self.end, self.rest = end, b""

    def frame(self):
        while len(self.rest) < 8 or len(self.rest) < 8 + int.from_bytes(self.rest[1:4], "big"):
            b = self.end.read(1, 20)
            if not b:
                raise Closed("the stream ended")
            self.rest += b
        n = 8 + int.from_bytes(self.rest[1:4], "big")
        f, self.rest = self.rest[:n], self.rest[n:]
        return f[0], int.from_bytes(f[4:8], "big"), f[8:]


def ask(name, proto):
    return post(env, unit, name, 20, 20, headers={"berth-streaming-protocol": proto})


def service_end(r, proto):
    return End(env, r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"], protocol=proto)


# --- the service's end by hand, the real agent at the other -----------------------------------------------------------------------
r = ask("echo", PLAIN)
row("without: the device takes the plain sessions", r.headers.get("berth-streaming-protocol"), PLAIN)
e = service_end(r, PLAIN)
plain = Plain(e)
e.send(frame(1, 1, b"echo") + frame(2, 1, MARK))
row("without: the bytes pass the hub as they are", plain.frame(), (2, 1, MARK))
e.send(frame(1, 2, b"guarded"))
got = plain.frame()
row("a channel to a target that requires it is reset in a plain session", (got[:2], b"required" in got[2]), ((5, 2), True))
e.close()

r = ask("echo", SEALED)
row("with: the device takes it", r.headers.get("berth-streaming-protocol"), SEALED)
s = Sealed(service_end(r, SEALED))
row("TLS 1.3, by its own name", (s.tls.version(), s.tls.selected_alpn_protocol()), ("TLSv1.3", SEALED))
row("the device shows the certificate it was burned with", s.tls.getpeercert(True) == unit_der)
s.send(frame(1, 1, b"echo") + frame(2, 1, MARK))
row("and the bytes come back", s.frame(), (2, 1, MARK))
s.send(frame(1, 2, b"guarded") + frame(2, 2, MARK))
row("also from a target that requires it", s.frame(), (2, 2, MARK))
row("what passed is none of it", [w for w in (MARK, b"echo", b"guarded", unit.encode()) if w in s.passed], [])
row("though it passed here", len(s.passed) > 2000)
s.end.close()

r = ask("guarded", PLAIN)
row("a target that requires it rejects others", (r.status, r.headers.get("iothub-streaming-is-accepted")), (200, "False"))
row("and names what it wants", r.headers.get("berth-streaming-protocol"), SEALED)
r = post(env, unit, "guarded", 20, 20)
row("also the clients of the preview", r.headers.get("iothub-streaming-is-accepted"), "False")
r = ask("echo", SEALED)
end = service_end(r, SEALED)
end.send(frame(1, 1, b"echo") + frame(2, 1, MARK))
got = end.read(1 << 20, 20)
row("who then does not encrypt is not listened to", (MARK in got, end.closed is not None), (False, True))

# --- the device's end by hand, the real `berth stream` at the other -----------------------------------------------------------------
key = put_device(env, "hand-1")
mine, other = f"{t}/hand", f"{t}/stranger"
for at in (mine, other):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", at + ".key",
                    "-out", at + ".pem", "-subj", "/CN=hand-1", "-days", "30"], check=True, capture_output=True)
dev = Device(env, "hand-1", key)


def answer(rq, status, proto=None):
    dev.do(dev.link.publish, f"$iothub/streams/res/{status}/?$rid={rq['rid']}" + (f"&$proto={proto}" if proto else ""), b"", 0, 1)


def cli(*more):
    p = subprocess.Popen([os.environ["BERTH"], "stream", "hand-1", "--to", "x", "--stdio", "--env", os.environ["ENV"], *more],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdin.write(MARK)
    p.stdin.flush()
    return p


def over(p):
    out, err = p.communicate(timeout=patience(60))
    return p.returncode, err.decode(), out


pinned = ("--device-cert", mine + ".pem")
for name, proto in (("an agent that does not know it", None), ("a device that takes less than was asked for", PLAIN)):
    p = cli(*pinned)
    rq = dev.request(20)
    row(f"{name}: it is asked for nothing else", "$proto=" + SEALED in rq["topic"])
    answer(rq, 200, proto)
    status, err, _ = over(p)
    row(f"{name}: refused", (status, "nothing was sent" in err), (3, True))

p = cli(*pinned)
rq = dev.request(20)
answer(rq, 400, SEALED)
status, err, _ = over(p)
row("a device without a certificate: refused, and why", (status, "no X.509 certificate" in err), (3, True))

p = cli(*pinned)
rq = dev.request(20)
answer(rq, 200, SEALED)
end = End(env, rq["url"], rq["auth"], protocol=SEALED)
refused = None
try:
    s = Sealed(end, other + ".pem", other + ".key")
    s.read(1)
except (ssl.SSLError, Closed) as x:
    refused = x
status, err, _ = over(p)
row("another certificate of the same name: refused", (status, "not the one that is trusted" in err), (1, True))
row("and nothing was sent to it", refused is not None)

p = cli(*pinned)
rq = dev.request(20)
answer(rq, 200, SEALED)
s = Sealed(End(env, rq["url"], rq["auth"], protocol=SEALED), mine + ".pem", mine + ".key")
row("the right one: it opens the target", s.frame(), (1, 1, b"x"))
row("and sends", s.frame(), (2, 1, MARK))
row("none of which passed the hub", MARK in s.passed, False)
s.send(frame(2, 1, b"half of the answer"))
row("what comes back is written", p.stdout.read(18), b"half of the answer")
s.end.close()  # as a relay may at any time, without TLS's own end
status, err, _ = over(p)
row("a stream that was cut off is no end", status, 1)
dev.end()
done()
