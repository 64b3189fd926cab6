# SPDX-License-Identifier: Apache-2.0
"""Compressed bodies at every route of both servers, read from the source's tables, and permessage-deflate at every kind of WebSocket.
Run by 32-dps-service.sh. (What the servers themselves send: dps_allocation.py.)"""
import glob
import gzip
import re
import zlib

from dps_kit import *
import streams_kit

ROOT = os.path.join(os.environ["SRC"], "../..")
BOMB = gzip.compress(b"[" + b"0," * (8 << 20) + b"0]", 9)  # 16 MiB from 16 KiB
ROUTE = re.compile(r'\{\s*HTTP_(\w+),\s*"([^"]+)"(\s+MECHANISM)?,\s*(\w+),')


def routes(*rooms):
    for f in sorted(x for room in rooms for x in glob.glob(f"{ROOT}/{room}/*.c")):
        if not f.endswith(("_test.c", "server/metrics.c")):
            with open(f) as src:
                for method, path, tail, auth in ROUTE.findall(src.read()):
                    yield method, path + ("/attestationmechanism" if tail else ""), auth


hub_key = put_device(env, "d1")
mod_key = put_module(env, "d1", "d1")
dps_key = new_key()
enroll("enrollments", "d1", key_att(dps_key))
FILL = {"idScope": env.scope}  # of paths; all else is "d1"


def credentials(path, auth, is_dps):
    if auth == "AUTH_DEVICE" and "/modules/" in path:
        return sas(f"{env.hub}/devices/d1/modules/d1", mod_key)
    if auth == "AUTH_DEVICE":
        return device_token("d1", dps_key) if is_dps else sas(f"{env.hub}/devices/d1", hub_key)
    return cs_token(env.dps_cs if is_dps else env.hub_cs[0])


def version(path, auth, is_dps):
    if path.startswith(("/admin", "/provision")) or auth == "HUB_AUTH_MONITOR":
        return f"?api-version={BERTH_VERSION}"
    return (DEV_V if auth == "AUTH_DEVICE" else DPS_V) if is_dps else streams_kit.API if "streams" in path else HUB_V


for server, rooms in (("dps", ("dps", "server")), ("hub", ("hub", "server"))):
    is_dps = server == "dps"
    host = env.dps if is_dps else env.hub
    seen, wrong = 0, []
    for method, path, auth in routes(*rooms):
        target = re.sub(r"\{(\w+)\}", lambda m: FILL.get(m[1], "d1"), path) + version(path, auth, is_dps)
        for coding in ("gzip", "deflate", "br", "identity, gzip", "x-unknown"):
            h = {"Content-Encoding": coding, "Content-Type": "application/json"}
            if auth != "AUTH_NONE":
                h["Authorization"] = credentials(path, auth, is_dps)
            c = Http(host, env.ca)
            a = c.ask(method, target, h, BOMB)
            c.close()
            seen += 1
            if a.status != 415:
                wrong.append((method, path, coding, a))
    row(f"threat:N6 {server}: 415 at each of {seen} pairs of route and coding", wrong, [])
    row(f"threat:N6 {server}: the tables were found", seen > 5 * 25)
row("threat:N6 nothing of it was stored", (rest(env, env.hub_cs[0], "GET", f"/twins/d1{HUB_V}").json["properties"]["desired"].get("0"), events(env)), (None, []))
for name, conn, path in (("dps", env.dps_cs, f"/enrollments/d1{DPS_V}"), ("hub", env.hub_cs[0], f"/devices/d1{HUB_V}")):
    a = rest(env, conn, "GET", path, headers={"Accept-Encoding": "gzip, deflate, br"})
    row(f"threat:N6 {name}: an answer is never compressed", (a.status, a.headers.get("content-encoding"), bool(a.json)), (200, None, True))

# --- permessage-deflate: offered; not taken; and a frame that claims it ends the link with 1002 --------------------------------------
OFFER = "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"


def deflated(data):
    z = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (z.compress(data) + z.flush(zlib.Z_SYNC_FLUSH))[:-4]


def closed_with(end):
    """Status of the Close that ends a WebSocket."""
    end.s.settimeout(20)
    data = end.rest
    try:
        while len(data) < 4:
            d = end.s.recv(4096)
            if not d:
                break
            data += d
    except (OSError, ssl.SSLError):
        pass
    return struct.unpack(">H", data[2:4])[0] if len(data) >= 4 and data[0] == 0x88 else data


def compressed_frame(end):
    body = deflated(b"\0" * 65536)
    k = os.urandom(4)
    end.raw(bytes([0xC2, 0x80 | len(body)]) + k + bytes(b ^ k[i & 3] for i, b in enumerate(body)))
    return closed_with(end)


for name, host in (("dps", env.dps), ("hub", env.hub)):
    end = streams_kit.End(env, f"wss://{host}/$iothub/websocket", None, "mqtt", f"Sec-WebSocket-Extensions: {OFFER}\r\n")
    row(f"threat:N6 {name}: permessage-deflate is not taken", (end.status, end.extensions), (101, None))
    row(f"threat:N6 {name}: a compressed frame ends the link", compressed_frame(end), 1002)
done()
