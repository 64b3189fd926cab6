# SPDX-License-Identifier: Apache-2.0
"""Run by 64-canaries.sh."""
import shutil
import stat
import subprocess

from kit import *

env = Env()
host = env.hub
hub = Server(env, "hub1", ["log.level=debug"]).take()
dps = Server(env, "dps", ["log.level=debug"]).take()
hub.start()
dps.start()
canaries = {}


def canary(name, n=32):
    canaries[name] = os.urandom(n)
    return base64.b64encode(canaries[name]).decode()


# --- in by every door ----------------------------------------------------------------------------------------------------------------
k = canary("device key")
put_device(env, "c1", k, key2=canary("second device key"))
link, c = hub_link(env, "c1", k)
row("the device key is used: MQTT", (c, link.publish("devices/c1/messages/events/", "x")), (0, True))
token = sas(f"{host}/devices/c1", k)
row("and HTTPS", http(host, env.ca, "POST", f"/devices/c1/messages/events{HUB_V}", {"Authorization": token}, b"x").status, 204)
canaries["signature of a token"] = base64.b64decode(urllib.parse.unquote(token.split("sig=")[1].split("&")[0]))
wrong = canary("key of a refused device")
row("a wrong one is refused", hub_link(env, "c1", wrong)[1], 5)
bad_token = sas(f"{host}/devices/nobody", wrong)
canaries["signature of a refused token"] = base64.b64decode(urllib.parse.unquote(bad_token.split("sig=")[1].split("&")[0]))
row("and its token", http(host, env.ca, "POST", f"/devices/nobody/messages/events{HUB_V}", {"Authorization": bad_token}, b"x").status, 401)
row("a body that is refused", rest(env, env.hub_cs[0], "PUT", f"/devices/c2{HUB_V}", {"deviceId": "c2", "authentication": {
    "type": "sas", "symmetricKey": {"primaryKey": canary("key in a refused body"), "secondaryKey": "!"}}}).status, 400)
for conn, plane in ((env.hub_cs[0], "hub"), (env.dps_cs, "DPS")):
    p, s = canary(f"{plane} policy key"), canary(f"second {plane} policy key")
    rights = "RegistryRead" if plane == "hub" else "EnrollmentRead"
    row(f"a policy of the {plane}", rest(env, conn, "PUT", f"/admin/policies/canary?api-version={BERTH_VERSION}",
                                          {"rights": rights, "primaryKey": p, "secondaryKey": s}).status, lambda v: v in (200, 201))
    row("its keys are told to who may", rest(env, conn, "POST", f"/admin/policies/canary/listKeys?api-version={BERTH_VERSION}").json["primaryKey"], p)
    canaries[f"owner's key at the {plane}"] = base64.b64decode(cs(conn)["SharedAccessKey"])
g = canary("group key")
row("an enrollment group", rest(env, env.dps_cs, "PUT", f"/enrollmentGroups/cg{DPS_V}", {
    "enrollmentGroupId": "cg", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": g, "secondaryKey": canary("second group key")}}}).status, 200)
canaries["derived key"] = base64.b64decode(derive(g, "cg-1"))
e = canary("enrollment key")
row("an enrollment", rest(env, env.dps_cs, "PUT", f"/enrollments/ce{DPS_V}", {
    "registrationId": "ce", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": e, "secondaryKey": canary("second enrollment key")}}}).status, 200)
for rid, key in (("ce", e), ("cg-1", derive(g, "cg-1"))):
    m, c = dps_link(env, rid, key)
    row(f"{rid} is registered", (c, dps_register(m)[1]["status"]), (0, "assigned"))
m, c = dps_link(env, "ce", wrong)
row("and with a wrong key is not", dps_register(m)[0][0] if c == 0 else "401", "401")
for name in ("hub1", "dps"):
    with open(os.path.join(env.dir, name, "data", "master.key")) as f:
        words = [w for line in f if not line.startswith("#") for w in line.split()]
    for w in words:
        for read in (bytes.fromhex, lambda x: base64.b64decode(x, validate=True)):
            try:
                raw = read(w.split(":")[-1])
            except ValueError:
                continue
            if len(raw) >= 32:
                canaries[f"master key of {name}"] = raw
row("the master keys are known", [n for n in canaries if n.startswith("master")], ["master key of hub1", "master key of dps"])
with open(os.path.join(env.dir, "server.key")) as f:
    pem = "".join(x.strip() for x in f if not x.startswith("-"))
canaries["TLS key"] = base64.b64decode(pem)[-48:-8]

# --- and searched for --------------------------------------------------------------------------------------------------------------------


def forms(raw):
    b64 = base64.b64encode(raw)
    return {raw, b64, b64.rstrip(b"="), raw.hex().encode(), raw.hex().upper().encode(), base64.urlsafe_b64encode(raw), urllib.parse.quote(b64.decode(), safe="").encode()}


def found(text, names=None):
    return sorted(n for n, raw in canaries.items() if (names is None or n in names) and any(f in text for f in forms(raw)))


HOLD = {"master.key", "init.json", "env.json", "server.key", "ca.key"}
looked = {}
for d, _, fs in os.walk(env.dir):
    for f in fs:
        p = os.path.join(d, f)
        if f not in HOLD and stat.S_ISREG(os.lstat(p).st_mode):
            with open(p, "rb") as h:
                looked[os.path.relpath(p, env.dir)] = found(h.read())
row("files of data, configuration and logs", {p: n for p, n in looked.items() if n}, {})
row("the databases and logs were among them", {"hub1/data/registry.db", "dps/data/registry.db", "log/hub1.log", "log/dps.log"} <= set(looked))
row("files are 0600, folders 0700", [p for d, ds, fs in os.walk(env.dir) for p in [d] + [os.path.join(d, x) for x in fs]
                                       if "/data" in p and os.lstat(p).st_mode & 0o077], [])
for s in (hub, dps):
    for what in ("cmdline", "environ"):
        try:
            with open(f"/proc/{s.p.pid}/{what}", "rb") as f:
                row(f"{s.name}: {what}", found(f.read()), [])
        except PermissionError:
            row(f"{s.name}: {what} is not shown to a plain user", os.geteuid() != 0)
    with open(f"/proc/{s.p.pid}/limits") as f:
        row(f"{s.name}: no core files", [x.split()[4:6] for x in f if x.startswith("Max core")], [["0", "0"]])
    other = os.stat(f"/proc/{s.p.pid}/environ").st_uid
    row(f"{s.name}: not dumpable, nobody of the same user may look", other, 0)

# The search itself: what is there is found.
row("(a canary that is there is found)", found(b"..." + base64.b64encode(canaries["group key"]) + b"..."), ["group key"])

# --- core files ------------------------------------------------------------------------------------------------------------------------
# Made by force, by root. The master key's memory is left out of every one; other keys live in memory only while they are used, and what
# libraries leave of them in freed memory is not promised (docs/threat-model.md, section 6).
if SANITIZER:
    print(f"# no core files: the {SANITIZER} sanitizer's address space is a thousand times this machine's disk")
elif shutil.which("gcore") and os.geteuid() == 0:
    for s in (hub, dps):
        core = os.path.join(os.environ["T"], s.name + ".core")
        p = subprocess.run(["gcore", "-o", core, str(s.p.pid)], capture_output=True, text=True, timeout=patience(60))
        path = f"{core}.{s.p.pid}"
        if not os.path.exists(path):
            print(f"# {s.name}: no core file here: {p.stderr.strip().splitlines()[-1:]}")
            continue
        zeros, text = bytes(1 << 16), b""
        with open(path, "rb") as f:  # mostly address space that was never written
            text = b"".join(iter(lambda: f.read(1 << 16).replace(zeros, b"\0"), b""))
        os.unlink(path)
        row(f"{s.name}: a core file is read ({len(text) >> 20} MiB)", len(text) > 1 << 20)
        row(f"{s.name}: the master key is not in it", found(text, ["master key of hub1", "master key of dps"]), [])
        print(f"# {s.name}: of {len(canaries)} canaries its core file holds: {', '.join(found(text)) or 'none'}")
done()
