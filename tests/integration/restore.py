# SPDX-License-Identifier: Apache-2.0
"""Run by 72-restore.sh."""
import shutil
import sqlite3
import stat
import threading

from dps_kit import *

LONG = 30
hub, dps = Server(env, "hub1").take(), Server(env, "dps", ["dps.register-burst=0", "dps.poll-burst=0"]).take()
hub.start()
dps.start()
P = {"hub1": os.environ["HUB"], "dps": os.environ["DPS"]}


def data(name):
    return os.path.join(env.dir, name, "data")


def program(name, *args):
    """(status, all output) of a server's program that ends by itself"""
    p = subprocess.run([P[name], "--config", os.path.join(env.dir, name, "berth.conf"), *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return p.returncode, p.stdout


# --- a backup under load ----------------------------------------------------------------------
key = put_device(env, "sender")
m, code = hub_link(env, "sender", key)
stop, n_acked = threading.Event(), [0]


def send():
    while not stop.is_set():
        if m.publish("devices/sender/messages/events/", str(n_acked[0]), pid=n_acked[0] % 60000 + 1) is not True:
            return
        n_acked[0] += 1


t = threading.Thread(target=send)
t.start()
until(LONG, lambda: n_acked[0] > 200)
G = new_key(64)
enroll("enrollmentGroups", "g", key_att(G))
lost = put_device(env, "lost")
row("the device registers", final("unit-1", device_token("unit-1", derive(G, "unit-1")))[1], "assigned")
for name in ("hub1", "dps"):
    status, text = program(name, "--backup", f"{T}/{name}.backup")
    row(f"{name}: a backup while it runs", (status, "master.key is not" in text), (0, True))
    row(f"{name}: for its owner alone", [stat.S_IMODE(os.stat(x).st_mode) for x in (f"{T}/{name}.backup", f"{T}/{name}.backup/registry.db")], [0o700, 0o600])
    row(f"{name}: never into a folder that is there", program(name, "--backup", f"{T}/{name}.backup")[0], 1)
    row(f"{name}: no master key in it", [f for f in os.listdir(f"{T}/{name}.backup") if f != "registry.db"], [])
    row(f"{name}: whole", sqlite3.connect(f"{T}/{name}.backup/registry.db").execute("pragma integrity_check").fetchall(), [("ok",)])
after = n_acked[0]
row("the sender went on meanwhile", until(LONG, lambda: n_acked[0] > after))
stop.set()
t.join()
m.close()
row("a folder without a registry", program("hub1", "--data-dir", f"{T}/none", "--backup", f"{T}/x")[0], 1)

# --- what is revoked after it ------------------------------------------------------------------------------------------------------------
r = rest(env, env.hub_cs[0], "GET", f"/devices/lost{HUB_V}").json
r["status"] = "disabled"
row("a device is disabled", rest(env, env.hub_cs[0], "PUT", f"/devices/lost{HUB_V}", r, {"If-Match": "*"}).status, 200)
row("and one is revoked", admin("POST", "devices/unit-1/revoke").status, 200)
row("until it is done", until(LONG, lambda: admin("GET", "devices/unit-1/revocation").json["state"] == "complete"))

# --- the old backups are put back --------------------------------------------------------------------------------------------------------
hub.kill()
dps.kill()
for s, name in ((hub, "hub1"), (dps, "dps")):
    shutil.move(data(name), data(name) + ".lost")
    shutil.copytree(f"{T}/{name}.backup", data(name))
    shutil.copy2(data(name) + ".lost/master.key", data(name))
    with open(f"{data(name)}/registry.db", "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    status, text = program(name)
    row(f"threat:C9 {name}: an old backup is refused", (status, "is a backup of 2" in text, "--restored" in text), (1, True, True))
    row(f"threat:C9 {name}: again and again, and stays as it is", (program(name)[0], hashlib.sha256(open(f"{data(name)}/registry.db", "rb").read()).hexdigest()), (1, digest))
    s.more = ["--restored"]
    s.start()
    row(f"{name}: taken up when that is said", "server.restored" in env.log(name))
    s.stop()
    s.more = []
    s.start()
row("it is the registry of the backup", hub_link(env, "lost", lost)[1], 0)
row("with a log that begins anew", events(env), [])
row("and what was revoked can be revoked again", admin("POST", "devices/unit-1/revoke").status, 200)
row("to the end", until(LONG, lambda: admin("GET", "devices/unit-1/revocation").json["state"] == "complete"))
row("refused again", final("unit-1", device_token("unit-1", derive(G, "unit-1")))[0], 401)

# --- connects that race a disable: none outlives it -----------------------------------------------------------------------------------------
RACES = int(os.environ.get("BERTH_RACES", 300))
conn = Http(env.hub, env.ca)
auth = {"Authorization": cs_token(env.hub_cs[0], 3600), "Content-Type": "application/json"}
outlived, wins = [], 0


def put(did, word, **more):
    body = json.dumps({"deviceId": did, "status": word, "authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}})
    h = {"Host": env.hub, "Content-Length": len(body), **auth, **more}
    conn.send((f"PUT /devices/{did}{HUB_V} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in h.items()) + "\r\n" + body).encode())


for i in range(RACES):
    did = f"racer-{i}"
    put(did, "enabled")
    assert conn.answer().status == 200
    link = Mqtt(tls(env.hub, 8883, env.ca))
    hello = connect_packet(did, hub_user(env.hub, did), sas(f"{env.hub}/devices/{did}", key))
    if i % 2:  # both are on their way at once
        link.send(hello)
    put(did, "disabled", **{"If-Match": "*"})
    if not i % 2:
        link.send(hello)
    assert conn.answer().status == 200
    try:
        wins += link.recv(LONG)[2][1] == 0
    except Closed:
        pass
    if not link.ends(LONG):
        outlived.append(did)
    link.close()
row(f"threat:C9 of {RACES} connects that race a disable none lives on", outlived, [])
print(f"# {wins} of {RACES} links were accepted before they were ended")
done()
