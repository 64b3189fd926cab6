# SPDX-License-Identifier: Apache-2.0
"""Run by 23-hostile-ids.sh."""
import re
import shutil

from kit import *

env = Env()
host = env.hub
conn = env.hub_cs[0]
trace = os.path.join(os.environ["T"], "files")
hub = Server(env, "hub1").take()
hub.start()


def watch():
    """strace at the hub; a file capability would be lost if it started it, so that a plain user asks sudo."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("strace") or as_root and (not shutil.which("sudo") or subprocess.run([*as_root, "true"], capture_output=True).returncode != 0):
        return None
    tracer = subprocess.Popen([*as_root, "strace", "-f", "-qq", "-y", "-s", "4096", "-e", "trace=%file", "-e", "signal=none", "-o", trace,
                               "-p", str(hub.p.pid)])
    tasks = f"/proc/{hub.p.pid}/task"

    def traced(t):
        with open(f"{tasks}/{t}/status") as f:
            return "TracerPid:\t0\n" not in f.read()
    row("the hub's file calls are watched", until(20, lambda: tracer.poll() is not None or all(traced(t) for t in os.listdir(tasks))) and tracer.poll() is None)
    return tracer


watched = watch()
if not watched:
    print("# the hub's file calls are not watched: that needs strace, and root or sudo")
data = os.path.join(env.dir, "hub1", "data")


def tree(top):
    return {os.path.join(d, f) for d, ds, fs in os.walk(top) for f in fs + ds}


before = tree(os.environ["T"])

# --- D4: every legal id that is something else to somebody, by every route, encoded once ---------------------------------------
legal = [".", "..", "...", "%2e", "%2e%2e", "%2e%2e%2fetc%2fpasswd", "%00", "#", "*", "$", "'", "''", "a'--", "$(id)", "!*'(@),$:.=_", "-rf",
         "COM1:", "x" * 128, "zz-marker.db"]
for did in legal:
    q = quote(did)

    def whole(did=did, q=q):
        k = put_device(env, did)
        got = rest(env, conn, "GET", f"/devices/{q}{HUB_V}")
        assert got.status == 200 and got.json["deviceId"] == did, got
        t = rest(env, conn, "PATCH", f"/twins/{q}{HUB_V}", {"tags": {"id": did}}, {"If-Match": "*"})
        assert t.status == 200 and t.json["deviceId"] == did and t.json["tags"]["id"] == did, t
        t = rest(env, conn, "GET", f"/twins/{q}{HUB_V}")
        assert t.status == 200 and t.json["deviceId"] == did, t
        m = http(host, env.ca, "POST", f"/devices/{q}/messages/events{HUB_V}", {"Authorization": sas(f"{host}/devices/{did}", k)}, b"h")
        assert m.status == 204, m
        n = 1
        if "#" not in did and "+" not in did:
            n = 2
            link, c = hub_link(env, did, k)
            assert c == 0 and link.publish(f"devices/{did}/messages/events/", "m") is True
            link.disconnect()
        rows = until(5, lambda: (lambda r: r if len(r) >= n else None)(events(env, query=f"from=earliest&follow=false&device={q}")))
        assert {r["deviceId"] for r in rows} == {did}, rows
        d = rest(env, conn, "DELETE", f"/devices/{q}{HUB_V}", headers={"If-Match": "*"})
        assert d.status == 204, d
        return rest(env, conn, "GET", f"/devices/{q}{HUB_V}").status
    attempt(f"D4 device id {did[:24]!r}", whole, 404)

# --- not legal, or not that id: as it stands, encoded once, encoded twice --------------------------------------------------------
for bad_id in ("a/b", "../../etc/passwd", "a\\b", 'a"b', "a b", "a\tb", "a\nb", "a\x00b", "a\x7fb", "d\u0435v", "x" * 129, ""):
    q = quote(bad_id)
    r = attempt(f"D4 refused: {bad_id[:24]!r}", lambda: rest(env, conn, "PUT", f"/devices/{q}{HUB_V}", {"deviceId": bad_id}).status, lambda s: s in (400, 404, 405))
for path in ("/devices/../devices/x", "/devices/%2e%2e/x", "/devices/./x", "/./devices", "/devices/..", "//devices/x", "/devices//x", "/devices/x/../y"):
    def raw(path=path):
        a = rest(env, conn, "GET", path + HUB_V)
        return a.status, "etc" in a.body.decode()
    attempt(f"D4 no path is walked: {path}", raw, lambda g: g[0] in (400, 404) and not g[1])
for name in ("..", "%2e%2e", "a/b", "a\nb", "'", "x" * 65, "-"):
    for kind in ("certificates", "policies"):
        body = {"properties": {"certificate": "x"}} if kind == "certificates" else {"rights": "RegistryRead"}
        path = f"/admin/{kind}/{quote(name)}?api-version={BERTH_VERSION}"
        attempt(f"D4 {kind} name {name[:12]!r}", lambda: rest(env, conn, "PUT", path, body).status,
                lambda s, n=name, k=kind: s in (400, 404) or (s in (200, 201) and k == "policies" and n in ("..", "-")))
        rest(env, conn, "DELETE", path, headers={"If-Match": "*"})
for rid in ("..", ".", "%2e", "a/b", "a'b", "a.", "a:b-", "-a", "x" * 129):
    a = attempt(f"D4 registration id {rid[:12]!r}", lambda: rest(env, env.dps_cs, "PUT", f"/enrollments/{quote(rid)}{DPS_V}",
                {"registrationId": rid, "attestation": {"type": "symmetricKey"}}).status, 200 if rid == "a:b-" else 400)

# --- D5: the same, or not ----------------------------------------------------------------------------------------------------------
keys = {}
for a, b in (("Dev", "dev"), ("dev.", "dev"), ("dev:", "dev.")):
    for did in (a, b):
        if did not in keys:
            keys[did] = put_device(env, did)
    attempt(f"D5 {a!r} and {b!r} are two devices", lambda: rest(env, conn, "GET", f"/devices/{a}{HUB_V}").json["generationId"] !=
            rest(env, conn, "GET", f"/devices/{b}{HUB_V}").json["generationId"])
    attempt(f"D5 the key of {b!r} is not that of {a!r}", lambda: hub_link(env, a, keys[b])[1], 5)
    # sas.md 3: scopes are compared without case; what tells the two apart is the key, of which each has its own
    attempt(f"D5 a token over {b!r} by the key of {a!r}, shown by {a!r}", lambda: Mqtt(tls(host, 8883, env.ca)).connect(
        a, hub_user(host, a), sas(f"{host}/devices/{b}", keys[a])), 0 if a.lower() == b.lower() else 5)


def enroll(rid):
    return rest(env, env.dps_cs, "PUT", f"/enrollments/{quote(rid)}{DPS_V}", {"registrationId": rid, "attestation": {"type": "symmetricKey"}})


attempt("D5 registration id made", lambda: enroll("Case-Id").status, 200)
attempt("D5 in another case it is the same", lambda: enroll("case-id").status, lambda s: s in (409, 412))
attempt("D5 and found", lambda: rest(env, env.dps_cs, "GET", f"/enrollments/CASE-ID{DPS_V}").status, 200)
for other in ("Case_Id", "Case-Id-", "Case.Id"):
    attempt(f"D5 {other!r} is another", lambda: enroll(other).status, 200)
for alike in ("case\u2010id", "cas\u0435-id", "case-\u0131d", "\uff43ase-id", "case-id\u200b", "case-id.", "case-id "):
    attempt(f"D5 {alike!r} is refused before it is folded", lambda: enroll(alike).status, 400)

# --- D9, N13: texts that steer --------------------------------------------------------------------------------------------------------
evil = "\u001b[2J\u009b31m\u202eabc\u2066\u200f"
k = put_device(env, "marked")
attempt("D9 tags", lambda: rest(env, conn, "PATCH", f"/twins/marked{HUB_V}", {"tags": {"t": evil}, "properties": {"desired": {"d": evil}}}, {"If-Match": "*"}).status,
        lambda s: s == 200)
attempt("D9 status reason", lambda: rest(env, conn, "PUT", f"/devices/marked{HUB_V}",
                                         {"deviceId": "marked", "statusReason": evil, "authentication": {"type": "sas", "symmetricKey": {"primaryKey": k, "secondaryKey": k}}},
                                         {"If-Match": "*"}).status, 200)


def say():
    m = Mqtt(tls(host, 8883, env.ca))
    assert m.connect("marked", hub_user(host, "marked", "?api-version=2021-04-12&model-id=" + quote("dtmi:x;1" + evil)), sas(f"{host}/devices/marked", k)) == 0
    return m.publish("devices/marked/messages/events/" + quote(evil) + "=" + quote(evil) + "&%24.ct=" + quote("text/" + evil), evil.encode())


attempt("D9 telemetry", say, True)
attempt("N13 hostile names in a refused CONNECT", lambda: Mqtt(tls(host, 8883, env.ca)).connect("x\u009b\r\nlevel=error event=forged", "h/x\r\n\u202e", "p"),
        lambda c: c != 0)
text = env.log("hub1") + env.log("dps")
row("N13 one event is one line, and nothing in it steers", [x for x in text.split("\n") if x and (not x.startswith(("ts=", "berth-")) or re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", x))], [])
row("N13 no line was forged", [x for x in text.split("\n") if re.search(r" event=forged", x) and "hub.connect_refused" not in x], [])
for i in range(3):  # the audit trail grows
    rest(env, conn, "PUT", f"/admin/policies/p{i}?api-version={BERTH_VERSION}", {"rights": "RegistryRead"})

# --- files --------------------------------------------------------------------------------------------------------------------------
OURS = re.compile(r"(registry\.db(-wal|-shm|-journal)?|status\.json(\.\w+)?|log(/[\w.-]+)?|telemetry(/[\w.-]+)?)$")
new = sorted(x for x in tree(os.environ["T"]) - before if not (x.startswith(data + "/") and OURS.match(x[len(data) + 1:])) and "/dps/data/" not in x)
row("D4 no file came into being but the data folder's own", new, [])
if watched:
    touched = set()
    with open(trace, errors="replace") as f:
        for line in f:
            touched.update(re.findall(r'"((?:[^"\\]|\\.)*)"', line))
    odd = sorted(x for x in touched if not (x.startswith(data) and (x == data or OURS.match(x[len(data) + 1:]))) and
                 not data.startswith(x) and not x.startswith(("/dev/urandom", "/etc/localtime", "/usr/share/zoneinfo", "/proc/self/", "/sys/", "/proc/meminfo")) and x != "")
    print(f"# {len(touched)} paths touched: {sorted(os.path.basename(x) for x in touched)[:12]}")
    row("D4 no file call names anything else", odd, [])
    hub.kill()
    watched.wait(patience(20))  # it ends with what it watches
done()
