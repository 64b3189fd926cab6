# SPDX-License-Identifier: Apache-2.0
"""Run by 27-floods.sh. Queries as weapons (threat:D11): long, nested, over more rows than a page looks at, many at once; who asks for other
things meanwhile is served, each time. The rows are put into the registry of a DPS that does not run."""
import sqlite3
import threading

from kit import *

ROWS = 120000  # a page looks at 50000
env = Env()
dps = Server(env, "dps")


def enrollment(rid, key, status="enabled"):
    return rest(env, env.dps_cs, "PUT", f"/enrollments/{rid}{DPS_V}", {"registrationId": rid, "provisioningStatus": status, "attestation": {
        "type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}}).status


Server(env, "hub1").start()  # the test before has ended it
key = new_key()
row("a unit", enrollment("aaa", key), 200)
dps.take()
db = sqlite3.connect(os.path.join(env.dir, "dps", "data", "registry.db"))
names = [c[1] for c in db.execute("PRAGMA table_info(enrollment)") if c[1] not in ("id", "name", "fold")]
db.execute(f"INSERT INTO enrollment (name, fold, {', '.join(names)}) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
           f" SELECT printf('mmm%06d', i), printf('mmm%06d', i), {', '.join(names)} FROM n, enrollment WHERE fold = 'aaa'")
db.commit()
db.close()
dps.start()
row("and one behind the others, disabled", enrollment("zzz", new_key(), "disabled"), 200)


def query(where, token=None, n=100):
    h = {"x-ms-max-item-count": str(n)}
    if token:
        h["x-ms-continuation"] = token
    return rest(env, env.dps_cs, "POST", "/enrollments/query" + DPS_V, {"query": "SELECT * FROM enrollments" + (" WHERE " + where if where else "")}, h)


def pages(where):
    found, n, token = [], 0, None
    while n < 20:
        r = query(where, token)
        assert r.status == 200, r
        n += 1
        found += [e["registrationId"] for e in r.json]
        token = r.headers.get("x-ms-continuation")
        if token is None:
            break
    return found, n, token


row("few of many: page after page looks at its share, all are found", pages("provisioningStatus = 'disabled'"),
    lambda x: x[0] == ["zzz"] and 3 <= x[1] <= 4 and x[2] is None)
deep = "(" * 60 + "provisioningStatus = 'disabled'" + ")" * 60
row("nested as deep as may be", query(deep).status, 200)
row("deeper", query("(" * 70 + "provisioningStatus = 'disabled'" + ")" * 70).status, 400)
many = " OR ".join(f"registrationId = 'x{i}'" for i in range(200))
row("long", query(many).status, 200)
row("one past", query("registrationId = '" + "x" * 8192 + "'").status, 400)
row("a page of nothing", query("", None, 0).status, 400)
row("a page without end is one of a thousand", len(query("", None, 10 ** 9).json), 1000)
for name, token in (("made up", base64.b64encode(b"x" * 40).decode()), ("empty of sense", "===="), ("huge", "A" * 9000)):
    row(f"continuation {name}", query("provisioningStatus = 'disabled'", token).status, lambda s: s in (400, 412, 431))
t = query("provisioningStatus = 'disabled'").headers.get("x-ms-continuation")
row("continuation of another condition", query("provisioningStatus = 'enabled'", t).status, lambda s: 400 <= s < 500)

# many at once, and the others
stop, answers = threading.Event(), []


def flood():
    while not stop.is_set():
        try:
            answers.append(query(deep + " AND NOT (" + many + ")").status)
        except (OSError, ssl.SSLError, ConnectionError) as e:
            answers.append(repr(e))


threads = [threading.Thread(target=flood, daemon=True) for _ in range(6)]
for th in threads:
    th.start()
row("they are under way", until(30, lambda: len(answers) >= 6))
row("reads of one enrollment", [rest(env, env.dps_cs, "GET", "/enrollments/aaa" + DPS_V).status for _ in range(40)], [200] * 40)
row("writes", [enrollment(f"bbb{i}", new_key()) for i in range(10)], [200] * 10)
m, code = dps_link(env, "aaa", key)
seen, j = dps_register(m)
row("a device registers", (code, seen, (j or {}).get("status")), lambda x: x[0] == 0 and x[2] == "assigned")
stop.set()
for th in threads:
    th.join(patience(30))
row("each query was answered", {a for a in answers}, lambda s: s <= {200, 429, 503} and 200 in s)
done()
