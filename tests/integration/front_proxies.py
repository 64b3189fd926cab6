# SPDX-License-Identifier: Apache-2.0
"""Run by 62-front-proxies.sh."""
import re

from kit import *

env = Env()
host = env.hub
NET = os.environ["NET"]
conn = env.hub_cs[0]
AUTH = cs_token(conn)
for did in ("canary", "decoy"):
    put_device(env, did)


def plain(address):
    s = socket.create_connection((address, 18080), 10)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


WAYS = {"direct": lambda: tls(host, 443, env.ca), "nginx": lambda: plain(f"{NET}.50"), "haproxy": lambda: plain(f"{NET}.51")}
A = f"Host: {host}\r\nAuthorization: {AUTH}\r\n"
GET = f"GET /devices/decoy{HUB_V} HTTP/1.1\r\n{A}"
POST = f"POST /devices/decoy/messages/events{HUB_V} HTTP/1.1\r\n{A}"


def hidden(did):
    """what must never be carried out: it would make a device"""
    body = json.dumps({"deviceId": did})
    return f"PUT /devices/{did}{HUB_V} HTTP/1.1\r\n{A}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def chunk(text):
    return f"{len(text):x}\r\n{text}\r\n"


# name, what is sent, given the hidden request
CORPUS = [
    ("length and chunked, length first", lambda h: POST + f"Content-Length: {len(h) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + h),
    ("length and chunked, chunked first", lambda h: POST + f"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunk(h)}0\r\n\r\n"),
    ("two lengths, short first", lambda h: POST + f"Content-Length: 0\r\nContent-Length: {len(h)}\r\n\r\n" + h),
    ("two lengths, long first", lambda h: POST + f"Content-Length: {len(h)}\r\nContent-Length: 0\r\n\r\n" + h),
    ("list of lengths", lambda h: POST + f"Content-Length: 0, {len(h)}\r\n\r\n" + h),
    ("length with a sign", lambda h: POST + f"Content-Length: +0\r\n\r\n" + h),
    ("length in hexadecimal", lambda h: POST + f"Content-Length: 0x0\r\n\r\n" + h),
    ("length with a blank inside", lambda h: POST + f"Content-Length: 0 {len(h)}\r\n\r\n" + h),
    ("length far too large", lambda h: POST + f"Content-Length: {2 ** 64}\r\n\r\n" + h),
    ("length negative", lambda h: POST + f"Content-Length: -1\r\n\r\n" + h),
    ("length behind a blank before the colon", lambda h: POST + f"Content-Length : {len(h)}\r\n\r\n" + h),
    ("length folded", lambda h: POST + f"X: y\r\n Content-Length: {len(h)}\r\n\r\n" + h),
    ("length on GET", lambda h: GET + f"Content-Length: {len(h)}\r\n\r\n" + h),
    ("chunked on GET", lambda h: GET + f"Transfer-Encoding: chunked\r\n\r\n{chunk(h)}0\r\n\r\n"),
    ("chunked behind a blank before the colon", lambda h: POST + f"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + h),
    ("chunked behind a tab", lambda h: POST + f"Transfer-Encoding:\tchunked\r\nContent-Length: {len(h) + 5}\r\n\r\n0\r\n\r\n" + h),
    ("chunked with a vertical tab", lambda h: POST + f"Transfer-Encoding: \x0bchunked\r\nContent-Length: {len(h) + 5}\r\n\r\n0\r\n\r\n" + h),
    ("xchunked", lambda h: POST + f"Transfer-Encoding: xchunked\r\nContent-Length: {len(h) + 5}\r\n\r\n0\r\n\r\n" + h),
    ("identity, chunked", lambda h: POST + f"Transfer-Encoding: identity, chunked\r\nContent-Length: {len(h) + 5}\r\n\r\n0\r\n\r\n" + h),
    ("chunked twice", lambda h: POST + f"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + h.replace("PUT", "PUX")),
    ("chunked, then identity", lambda h: POST + f"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: {len(h) + 5}\r\n\r\n0\r\n\r\n" + h),
    ("chunked in quotes", lambda h: POST + f"Transfer-Encoding: \"chunked\"\r\nContent-Length: {len(h) + 5}\r\n\r\n0\r\n\r\n" + h),
    ("chunked folded", lambda h: POST + f"Transfer-Encoding:\r\n chunked\r\nContent-Length: {len(h) + 5}\r\n\r\n0\r\n\r\n" + h),
    ("chunked ends with LF only", lambda h: POST + f"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n" + h),
    ("chunk size with a sign", lambda h: POST + f"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + h),
    ("chunk size too large", lambda h: POST + f"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n" + h),
    ("chunk extension with LF", lambda h: POST + f"Transfer-Encoding: chunked\r\n\r\n1;a\nx\r\n0\r\n\r\n" + h),
    ("chunk data longer than said", lambda h: POST + f"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n" + h),
    ("trailer that frames", lambda h: POST + f"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: {len(h)}\r\n\r\n" + h.replace("PUT", "PUX")),
    ("bare LF ends the head", lambda h: POST.replace("\r\n", "\n") + f"Content-Length: {len(h)}\n\n" + h),
    ("bare CR in a value", lambda h: POST + f"X: a\rContent-Length: {len(h)}\r\nContent-Length: 0\r\n\r\n" + h),
    ("NUL in a name", lambda h: POST + f"Content\0-Length: 0\r\nContent-Length: {len(h)}\r\n\r\n" + h),
    ("name with a line inside", lambda h: POST + f"X: y\n{GET}\r\nContent-Length: {len(h)}\r\n\r\n" + h),
    ("Upgrade with a body", lambda h: GET + f"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: {len(h)}\r\n\r\n" + h),
    ("Connection hides the length", lambda h: POST + f"Connection: Content-Length\r\nContent-Length: {len(h)}\r\n\r\n" + h),
    ("Connection hides the coding", lambda h: POST + f"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n{chunk(h)}0\r\n\r\n"),
    ("Expect, and no waiting", lambda h: POST + f"Expect: 100-continue\r\nContent-Length: {len(h)}\r\n\r\n" + h),
    ("HTTP/1.0 with chunked", lambda h: POST.replace("HTTP/1.1", "HTTP/1.0") + f"Transfer-Encoding: chunked\r\n\r\n{chunk(h)}0\r\n\r\n"),
    ("HTTP/0.9", lambda h: f"GET /devices/decoy\r\n" + h.replace("PUT", "PUX")),
]


def answers(raw):
    return len(re.findall(rb"HTTP/1\.[01] (?!100)\d\d\d ", raw))


def exists(did):
    return rest(env, conn, "GET", f"/devices/{did}{HUB_V}").status


def own_answers(way):
    """three requests of others by the same way: each its own answer"""
    got = []
    for _ in range(3):
        s = WAYS[way]()
        s.sendall(f"GET /twins/canary{HUB_V} HTTP/1.1\r\n{A}Connection: close\r\n\r\n".encode())
        raw, _ = read_until_close(s, 10)
        s.close()
        got.append((answers(raw), raw[:12] == b"HTTP/1.1 200", raw.count(b'"deviceId":"canary"')))
    return got


OWN = [(1, True, 1)] * 3
many = {w: 0 for w in WAYS}
twice = {w: 0 for w in WAYS}
for way in WAYS:
    row(f"{way}: before", own_answers(way), OWN)
    for n, (name, make) in enumerate(CORPUS):
        did = f"hidden-{way}-{n}"
        s = WAYS[way]()
        try:
            s.sendall(make(hidden(did)).encode("latin1"))
        except OSError:
            pass
        raw, _ = read_until_close(s, 0.3)
        s.close()
        many[way] += answers(raw)
        # A proxy may read it as two requests (nginx takes a bare LF in chunks for a line's end): then it says so with two answers, and
        # the hub must have read the same two. What it takes for one, the hub must not carry out as two.
        seen = 1 if exists(did) == 404 else 2
        most = 1 if way == "direct" else 2
        row(f"{way}: {name}", (seen, answers(raw), own_answers(way)), lambda g: g[0] <= max(1, g[1]) and g[1] <= most and g[0] <= most and g[2] == OWN)
        twice[way] += seen > 1
    row(f"{way}: after", own_answers(way), OWN)

# a proxy that passes on what is good passes these: two requests on one connection, each with a body, in both framings
for way in WAYS:
    s = WAYS[way]()
    s.sendall((POST + "Content-Length: 3\r\n\r\nabc" + POST + "Transfer-Encoding: chunked\r\n\r\n" + chunk("de") + "0\r\n\r\n" +
               GET + "Connection: close\r\n\r\n").encode())
    raw, _ = read_until_close(s, 10)
    row(f"{way}: good ones behind one another", (answers(raw), raw.count(b" 204 "), b'"deviceId":"decoy"' in raw), (3, 2, True))
print("# answers to the corpus: " + ", ".join(f"{w} {n} of {len(CORPUS)}" for w, n in many.items()) +
      "; read as two requests by the proxy itself: " + ", ".join(f"{w} {n}" for w, n in twice.items()))
done()
