# SPDX-License-Identifier: Apache-2.0
"""Run by 43-revoke.sh."""
import random
import threading

from dps_kit import *

LONG = 30  # seconds that a loaded machine may take for what takes milliseconds
G, H = new_key(64), new_key(64)
dps = Server(env, "dps", ["dps.register-burst=0", "dps.poll-burst=0", "dps.hub-timeout-ms=1500"]).take()
hubs = [Server(env, "hub1").take(), Server(env, "hub2").take()]
for s in (dps, *hubs):
    s.start()
enroll("enrollmentGroups", "line-1", key_att(G), allocationPolicy="static", iotHubs=[env.hubs[0]])
enroll("enrollmentGroups", "line-2", key_att(H), allocationPolicy="static", iotHubs=[env.hubs[1]])


def berth(*args, stdin=None):
    p = subprocess.run([os.environ["BERTH"], *args, "--env", env.path], input=stdin, capture_output=True, text=True, timeout=90)
    return p.returncode, p.stdout + p.stderr


def register(rid, group=G):
    return final(rid, device_token(rid, derive(group, rid)))


def online(rid, group=G, hub=0):
    m, code = hub_link(env, rid, derive(group, rid), hub=hub)
    assert code == 0, code
    return m


def at_hub(rid, hub=0):
    r = rest(env, env.hub_cs[hub], "GET", f"/devices/{rid}{HUB_V}")
    return r.json["status"] if r.status == 200 else r.status


def state(rid):
    r = admin("GET", f"devices/{rid}/revocation")
    return r.json["state"] if r.status == 200 else r.status


# --- one device of a group -----------------------------------------------------------------------------------------------------------
row("two devices of a group register", [register(d)[1] for d in ("pump-1", "pump-2")], ["assigned"] * 2)
stolen, other = online("pump-1"), online("pump-2")
row("the thief uses the key from a second place", online("pump-1").ping())
stolen = online("pump-1")
ended = []
watch = threading.Thread(target=lambda: ended.append((stolen.ends(LONG), time.monotonic())))
watch.start()
t0 = time.monotonic()
status, text = berth("device", "revoke", "pump-1")
watch.join()
row("threat:D10 one command", (status, "pump-1: a disabled enrollment of its own was made" in text, f"{env.hub}: device 'pump-1' disabled" in text), (0, True, True))
row("threat:D10 its link ended", ended[0][0])
print(f"# the link ended {1000 * (ended[0][1] - t0):.0f} ms after the command was given")
row("threat:D10 its hub refuses it", hub_link(env, "pump-1", derive(G, "pump-1"))[1], 5)
row("threat:D10 the DPS refuses it", register("pump-1")[0], 401)
why = until(20, lambda: [x["why"] for x in admin("GET", "refusals/pump-1").json["refusals"] if x["rule"] == "enrollment-disabled"])
row("explain says that it was revoked", why, ["the device was revoked: a disabled enrollment of its own beats its group"])
row("and so does the log", 'why="the device was revoked: a disabled enrollment' in env.log("dps"))
row("over MQTT too", dps_register(dps_link(env, "pump-1", derive(G, "pump-1"))[0])[0], ["401"])
row("the other one goes on", (other.ping(), register("pump-2")[1]), (True, "assigned"))
row("the same again is harmless", berth("device", "revoke", "pump-1")[0], 0)
row("the audit trail has it", "/admin/devices/pump-1/revoke" in json.dumps(admin("GET", "audit").json))
status, text = berth("device", "revoke", "pump-1", "--json")
row("as JSON", {k: v for k, v in json.loads(text).items() if k in ("enrollment", "hubs", "state")},
    {"enrollment": "made", "hubs": [{"hub": env.hub, "deviceId": "pump-1", "state": "disabled"}], "state": "complete"})

# --- an enrollment of its own, one that never came, ids that are none ---------------------------------------------------------------
enroll("enrollments", "solo", key_att(G), deviceId="solo-dev", iotHubs=[env.hub], allocationPolicy="static", initialTwin={"tags": {"kept": 1}})
row("an individual enrollment", final("solo", device_token("solo", G))[1], "assigned")
row("is disabled, not replaced", (berth("device", "revoke", "SOLO")[0], service("GET", "/enrollments/solo").json["provisioningStatus"],
                                  service("GET", "/enrollments/solo").json["initialTwin"]["tags"], at_hub("solo-dev")), (0, "disabled", {"kept": 1}, "disabled"))
row("the device hears disabled at most", final("solo", device_token("solo", G))[1], "disabled")
status, text = berth("device", "revoke", "never-seen")
row("one that never registered", (status, "it never registered" in text), (0, True))
row("cannot register then", register("never-seen")[0], 401)
for bad in ("a b", "-a", "a/b", "x" * 129, "%00"):
    row(f"no id: {bad[:6]!r}", admin("POST", f"devices/{quote(bad)}/revoke").code, 400004)
row("a body that is none", admin("POST", "devices/x/revoke", {"force": True}).code, 400004)
row("never revoked", state("pump-2"), 404)
row("a policy without the right", admin("POST", "devices/pump-2/revoke", token=sas(env.dps, new_key(), "provisioningserviceowner")).status, 401)
row("and back again", (service("DELETE", "/enrollments/never-seen", headers={"If-Match": "*"}).status, register("never-seen")[1]), (204, "assigned"))

# --- certificates -----------------------------------------------------------------------------------------------------------------
admin("PUT", "certificateAuthorities/works", {"properties": {"key": {"kind": "file", "type": "P-256"}, "selfSigned": True, "commonName": "Works"}})
issues = admin("GET", "certificateAuthorities/works").status == 200
row("an issuing CA", issues)
enroll("enrollmentGroups", "line-3", key_att(G), allocationPolicy="static", iotHubs=[env.hub], clientCertificateIssuancePolicy={"certificateAuthorityName": "works"})
ssl_run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "cert-1.key")
ssl_run("req", "-new", "-key", "cert-1.key", "-subj", "/CN=cert-1", "-out", "cert-1.csr")
csr = json.dumps({"registrationId": "cert-1", "csr": "".join(read("cert-1.csr").split("\n")[1:-2])})
K3 = new_key(64)
enroll("enrollments", "cert-1", key_att(K3), allocationPolicy="static", iotHubs=[env.hub], clientCertificateIssuancePolicy={"certificateAuthorityName": "works"})
got = final("cert-1", device_token("cert-1", K3), body=csr)
row("a device with an issued certificate", got[1], "assigned")
with open(f"{T}/cert-1.pem", "w") as f:
    f.write("".join(f"-----BEGIN CERTIFICATE-----\n{e}\n-----END CERTIFICATE-----\n" for e in got[2]["issuedCertificateChain"]))
m, code = hub_link(env, "cert-1", None, cert=f"{T}/cert-1.pem", certkey=f"{T}/cert-1.key")
row("is online by it", code, 0)
status, text = berth("device", "revoke", "cert-1")
row("threat:D10 the certificate is named", (status, "of 'works': no more renewed" in text), (0, True))
row("threat:D10 its link ends", m.ends(LONG))
row("threat:D10 refused at the hub", hub_link(env, "cert-1", None, cert=f"{T}/cert-1.pem", certkey=f"{T}/cert-1.key")[1], 5)
row("threat:D10 refused at renewal", final("cert-1", device_token("cert-1", K3), body=csr)[1], "disabled")

# --- a hub that is away, and a DPS that is killed meanwhile -------------------------------------------------------------------------------
row("three more", [register(d)[1] for d in ("away-1", "away-2", "away-3")], ["assigned"] * 3)
hubs[0].kill()
status, text = berth("device", "revoke", "away-1", "--wait", "0")
row("threat:D10 it says what is not done", (status, "pending" in text, "not everything is done" in text), (1, True, True))
row("but the DPS is closed already", register("away-1")[0], 401)
dps.kill()
dps.start()
row("still owed after a crash of the DPS", state("away-1"), "pending")
hubs[0].start()
row("threat:D10 driven on to the end", until(60, lambda: state("away-1") == "complete"))
row("threat:D10 the hub has it disabled", at_hub("away-1"), "disabled")
rnd = random.Random(7)
odd = []
for i in range(int(os.environ.get("BERTH_KILLS", 12))):
    rid = f"k-{i}"
    assert register(rid)[1] == "assigned"
    told = []

    def act():
        try:
            told.append(admin("POST", f"devices/{rid}/revoke").status)
        except (OSError, ssl.SSLError):
            told.append(None)

    t = threading.Thread(target=act)
    t.start()
    t.join(rnd.uniform(0, 0.03))
    dps.kill()
    t.join()
    dps.start()
    # told: then all of it. Not told: all or nothing.
    if told == [200] or state(rid) != 404:
        if not until(60, lambda: state(rid) == "complete") or at_hub(rid) != "disabled" or register(rid)[0] != 401:
            odd.append((rid, told, state(rid), at_hub(rid)))
    elif at_hub(rid) != "enabled" or register(rid)[1] != "assigned":
        odd.append((rid, told, "half", at_hub(rid)))
row("threat:D10 kill -9 of the DPS at any moment: whole or nothing", odd, [])

# --- a registration that is under way ---------------------------------------------------------------------------------------------------
for i, wait in enumerate((0, 0.3, 2.5)):
    rid = f"race-{i}"
    os.kill(hubs[0].p.pid, signal.SIGSTOP)
    c = Http(env.dps, env.ca)
    a = device_ask(c, "PUT", rid, "/register", device_token(rid, derive(G, rid)))
    threading.Event().wait(wait)
    b = admin("POST", f"devices/{rid}/revoke")
    os.kill(hubs[0].p.pid, signal.SIGCONT)
    row(f"threat:D10 race {i}: under way when it was revoked", (a.status, b.status), (202, 200))
    row(f"threat:D10 race {i}: ends", until(60, lambda: state(rid) == "complete"))
    row(f"threat:D10 race {i}: the hub has it disabled, or not at all", at_hub(rid), lambda v: v in ("disabled", 404))
    c.close()

# --- the drill of docs/operations.md: a station was stolen -----------------------------------------------------------------------------------
ENROLL = os.environ["ENROLL"]
for name, key in (("stolen", G), ("good", H)):
    os.makedirs(f"{T}/{name}", 0o700)
    with open(os.open(f"{T}/{name}.key", os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        f.write(key + "\n")


def burn(station, serial):
    r = subprocess.run([ENROLL, "burn", "--serial", serial, "--identity", f"{T}/{station}-{serial}", "--station", f"{T}/{station}", "--id-scope", env.scope,
                        "--dps-host", env.dps, "--server-ca", env.ca, "--group-key-file", f"{T}/{station}.key"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    with open(f"{T}/{station}/ledger.jsonl") as f:
        return json.loads(f.read().splitlines()[-1])["registrationId"]


bad_units = [burn("stolen", f"SN-{i}") for i in range(6)]
good_units = [burn("good", f"GD-{i}") for i in range(2)]
row("threat:S2 units of both stations register", [register(u)[1] for u in bad_units[:4]] + [register(u, H)[1] for u in good_units], ["assigned"] * 6)
links = [online(u) for u in bad_units[:3]]
good = [online(u, H, 1) for u in good_units]
row("1. the group goes", berth("dps", "group", "disable", "line-1")[0], 0)
row("threat:S2 the thief makes no new unit", register("made-by-the-thief")[1], "disabled")
r = subprocess.run([ENROLL, "ledger", "list", "--station", f"{T}/stolen"], capture_output=True, text=True, timeout=60)
row("2. the ledger is whole", (r.returncode, len(r.stdout.splitlines())), (0, 12))
status, text = berth("device", "revoke", "--list", f"{T}/stolen/ledger.jsonl")
row("threat:S2 its units are cut off", (status, text.splitlines()[-1]), (0, "6 cut off, 0 not yet or refused"))
row("threat:S2 their links ended", all(m.ends(LONG) for m in links))
row("threat:S2 their hub refuses them", {hub_link(env, u, derive(G, u))[1] for u in bad_units[:4]}, {5})
row("threat:S2 the DPS refuses them", {register(u)[0] for u in bad_units}, {401})
row("threat:S2 the other station's units go on", ([m.ping() for m in good], [register(u, H)[1] for u in good_units]), ([True] * 2, ["assigned"] * 2))
row("threat:S2 and so does that station", register(burn("good", "GD-9"), H)[1], "assigned")
with open(f"{T}/stolen/ledger.jsonl") as f:
    lines = f.read().splitlines()
with open(f"{T}/stolen/ledger.jsonl", "w") as f:
    f.write("\n".join(lines[:4] + lines[6:]) + "\n")
r = subprocess.run([ENROLL, "ledger", "list", "--station", f"{T}/stolen"], capture_output=True, text=True, timeout=60)
row("threat:S2 a ledger from which a unit was taken is found out", r.returncode != 0)
row("a list on standard input", berth("device", "revoke", "--list", "-", stdin="\nmade-by-the-thief\n\nmade-by-the-thief\n")[1].splitlines()[-1], "1 cut off, 0 not yet or refused")
row("a list that is none", berth("device", "revoke", "--list", "-", stdin='{"serial": "x"}\n')[0], 1)
row("neither id nor list", berth("device", "revoke")[0], 2)
row("no key in the log", [k for k in (G, H, K3) if k in env.log("dps")], [])
done()
