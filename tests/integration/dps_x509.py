# SPDX-License-Identifier: Apache-2.0
"""X.509 attestation against real servers: docs/protocol/dps-device.md 6, dps-service-rest.md B2 and C2. Run by 35-dps-x509.sh."""
from dps_kit import *
import threading


def put_group(gid, att, **more):
    return enroll("enrollmentGroups", gid, att, match="*" if service("GET", f"/enrollmentGroups/{gid}").status == 200 else None, **more)


def references(first, second=None):
    return {"type": "x509", "x509": {"caReferences": {"primary": first, **({"secondary": second} if second else {})}}}


def result(rid, pair):
    """The final word, or the status that refused. When what he was judged by changes within his request he is told 503, and comes again, as
    the SDKs do."""
    end = time.monotonic() + 10
    while True:
        s, word, _ = final(rid, None, pair)
        if s not in (429, 503) or time.monotonic() > end:
            return word if s == 202 else s
        time.sleep(0.3)


def device(name, issuer):
    return cert(name, f"/CN={name}", issuer)


# --- G14: upload, code, proof by the CA's key, a group that names it, a device, and the way back ---------------------------------------
ca("pop-root")
trust("pop-root", verified=False)
row("dps-service:16 not verified yet: nobody names it", service("PUT", "/enrollmentGroups/pop", {"attestation": references("pop-root")}).code, 400004)
dev = device("pop-dev", "pop-root")
code = admin("POST", "certificates/pop-root/generateVerificationCode", None, "*").json["properties"]["verificationCode"]
row("dps-service:G14 a code of 48 characters", len(code), 48)
for name, cn, issuer in (("other CN", "x", "pop-root"), ("code and more", code + "0", "pop-root"), ("part of the code", code[:47], "pop-root"), ("not by this CA", code, None)):
    cert("proof", "/CN=" + cn, issuer)
    row(f"dps-service:32 {name}", admin("POST", "certificates/pop-root/verify", pem("proof"), "*").code, 400004)
cert("proof", "/CN=" + code, "pop-root")
row("dps-service:33 without If-Match", admin("POST", "certificates/pop-root/verify", pem("proof")).code, 412001)
r = admin("POST", "certificates/pop-root/verify", pem("proof"), "*")
row("dps-service:G14 proved", (r.status, r.json["properties"]["isVerified"]), (200, True))
put_group("pop", references("pop-root"))
row("dps-service:G14 a device is admitted", result("pop-dev", dev), "assigned")
row("dps-service:36 in use", admin("DELETE", "certificates/pop-root", None, "*").code, 409000)
row("dps-service:G14 the group goes, then the CA", [service("DELETE", "/enrollmentGroups/pop").status, admin("DELETE", "certificates/pop-root", None, "*").status], [204, 204])
row("dps-service:G14 and with them the device", result("pop-dev", dev), 401)

# --- several roots at once; a group by an intermediate, one by a root, one by reference ------------------------------------------------
for n in ("root-a", "root-b", "root-c"):
    ca(n)
    trust(n)
ca("int-a", "root-a")
ca("int-b", "root-b")
put_group("by-int", x509_att("int-a"))
put_group("by-root", x509_att("root-b"))
put_group("by-name", references("root-c"))
for rid, issuer in (("several-a", "int-a"), ("several-b", "int-b"), ("several-c", "root-c")):
    row(f"roots live side by side: {rid}", result(rid, device(rid, issuer)), "assigned")
states = [service("GET", f"/registrations/several-{x}").json["x509"] for x in "abc"]
row("each by its group", states, [{"enrollmentGroupId": g} for g in ("by-int", "by-root", "by-name")])
state = final("several-a", None, (os.path.join(T, "several-a.chain"), os.path.join(T, "several-a.key")))[2]
row("dps-device:D31 certificateInfo is absent (a part of it would break the Java client)", [k for k in state["x509"]], ["enrollmentGroupId"])

# --- individuals: two certificates, and references -------------------------------------------------------------------------------------
one, two, three = (cert(n, "/CN=solo") for n in ("solo-1", "solo-2", "solo-3"))
enroll("enrollments", "solo", x509_att("solo-1", "solo-2", "clientCertificates"))
row("individual: primary, secondary, another", [result("solo", p) for p in (one, two, three)], ["assigned", "assigned", 401])
enroll("enrollments", "solo", x509_att("solo-2", "solo-3", "clientCertificates"), match="*")
row("individual: rolled on", [result("solo", p) for p in (one, two, three)], [401, "assigned", "assigned"])
enroll("enrollments", "ref-1", references("root-a", "root-b"))
own = {n: cert(n, "/CN=ref-1", i) for n, i in (("ref-a", "int-a"), ("ref-b", "int-b"), ("ref-c", "root-c"))}
row("individual by reference: primary, secondary, another root", [result("ref-1", own[n]) for n in ("ref-a", "ref-b", "ref-c")], ["assigned", "assigned", 401])
row("individual by reference: another id of that CA goes by the groups", result("ref-2", cert("ref-2", "/CN=ref-2", "int-a")), "assigned")

# --- rotation primary -> secondary while devices register -------------------------------------------------------------------------------
ca("rot-old", "root-a")
ca("rot-new", "root-a")
put_group("rotating", x509_att("rot-old"))
fleet = [(f"rot-{i}", device(f"rot-{i}", "rot-old")) for i in range(6)]
after = [(f"rot-n{i}", device(f"rot-n{i}", "rot-new")) for i in range(3)]
seen, stop = [], threading.Event()


def register_all():
    while not stop.is_set():
        for rid, pair in fleet:
            seen.append(result(rid, pair))


t = threading.Thread(target=register_all)
t.start()
put_group("rotating", x509_att("rot-old", "rot-new"))
row("rotation: the new one counts beside the old", [result(*d) for d in after], ["assigned"] * 3)
until(10, lambda: len(seen) > 12)
put_group("rotating", x509_att("rot-new", "rot-old"))
n = len(seen)
until(10, lambda: len(seen) > n + 6)
stop.set()
t.join()
row(f"rotation: no device noticed ({len(seen)} registrations)", set(seen), {"assigned"})
put_group("rotating", x509_att("rot-new"))
row("rotation: the old one ends", [result(*fleet[0]), result(*after[0])], [401, "assigned"])
put_group("by-name", references("root-c", "root-b"))
row("rotation by reference: the second is tried too", service("GET", "/enrollmentGroups/by-name").json["attestation"]["x509"]["caReferences"], {"primary": "root-c", "secondary": "root-b"})
row("rotation by reference: and admits", result("rot-b", device("rot-b", "root-b")), "assigned")
put_group("by-name", references("root-c"))

# --- a factory issues the name of another's device (threat:C4) ---------------------------------------------------------------------------
for n in "ab":
    ca("root-w" + n)
    trust("root-w" + n)
    ca("works-" + n, "root-w" + n)
put_group("works-a", x509_att("works-a"))
put_group("works-b", x509_att("works-b"))
mine, thief = device("shared", "works-a"), cert("shared-thief", "/CN=shared", "works-b")
row("threat:C4 the first one registers", result("shared", mine), "assigned")
where = env.hubs.index(service("GET", "/registrations/shared").json["assignedHub"])


def rules(rid):
    return {x["rule"] for x in admin("GET", f"refusals/{rid}").json["refusals"]}


link, code = hub_link(env, "shared", None, hub=where, cert=mine[0], certkey=mine[1])
row("threat:C4 and is online", code, 0)
row("threat:C4 the same name from another factory is refused", result("shared", thief), lambda v: v not in ("assigned", 202))
row("threat:C4 and explained", until(20, lambda: "record-owned" in rules("shared")))
row("threat:C4 its hub refuses that certificate", hub_link(env, "shared", None, hub=where, cert=thief[0], certkey=thief[1])[1], 5)
row("threat:C4 the record is the first one's", service("GET", "/registrations/shared").json["x509"], {"enrollmentGroupId": "works-a"})
row("threat:C4 the record goes: the hub still knows whose it is", (service("DELETE", "/registrations/shared").status, result("shared", thief)), (204, "failed"))
row("threat:C4 which is explained too", until(20, lambda: "hub-owned" in rules("shared")))
row("threat:C4 the old device is unharmed", link.ping())
link.close()
link, code = hub_link(env, "shared", None, hub=where, cert=mine[0], certkey=mine[1])
row("threat:C4 its certificate still serves", code, 0)
service("DELETE", "/registrations/shared")
row("threat:C4 and it registers again", result("shared", mine), "assigned")
enroll("enrollments", "shared", x509_att("shared", member="clientCertificates"))
row("threat:C4 an individual entry wins over both groups", (result("shared", thief), result("shared", mine)), (401, "assigned"))
link.close()
gone = [service("DELETE", "/enrollments/shared"), *(service("DELETE", f"/enrollmentGroups/works-{n}") for n in "ab"),
        *(admin("DELETE", f"certificates/root-w{n}", None, "*") for n in "ab")]
row("threat:C4 they go again", {a.status for a in gone}, {204})

# --- whom a change of trust would cut off (threat:S2) -----------------------------------------------------------------------------------


def dependents(name, query=""):
    r = admin("GET", f"certificates/{name}/dependents{query}")
    return r.json if r.status == 200 else r.code


d = dependents("root-a")
row("dependents: the group below it, and the individuals by reference", ({g["enrollmentGroupId"]: (g["by"], g["registrations"]) for g in d["groups"]},
    d["individualRegistrations"], d["registrations"], d["isExact"]),
    ({"by-int": ("signingCertificates", 2), "rotating": ("signingCertificates", len(fleet) + len(after))}, 0, len(fleet) + len(after) + 2, True))
row("dependents: each registration, with its hub", {x["registrationId"]: x["assignedHub"] in env.hubs for x in d["value"]},
    {rid: True for rid in [f[0] for f in fleet + after] + ["several-a", "ref-2"]})
row("dependents: nobody else would let them in", (d["name"], d["isVerified"], d["admittedStillBy"], d["nextLink"]), ("root-a", True, [], None))
pages, link, path = [], "", "certificates/root-a/dependents?top=4"
while path:
    r = admin("GET", path).json
    pages.append([x["registrationId"] for x in r["value"]])
    path = r["nextLink"] and r["nextLink"].removeprefix("/admin/").replace(f"api-version={BERTH_VERSION}&", "")
row("dependents: in pages", ([len(p) for p in pages[:2]], sorted(x for p in pages for x in p)), ([4, 4], sorted(x["registrationId"] for x in d["value"])))
row("dependents: by reference", [(g["enrollmentGroupId"], g["by"]) for g in dependents("root-c")["groups"]], [("by-name", "caReferences")])
row("dependents: an individual enrollment counts", (lambda d: (d["individualRegistrations"], [x["registrationId"] for x in d["value"] if "enrollmentGroupId" not in x]))(dependents("root-b")), (1, ["ref-1"]))
row("dependents: unknown name, page of another list", (dependents("nobody"), dependents("root-a", "?after=x")), (404000, 400004))
ca("cross", "root-a")
trust("cross")
row("dependents: a verified intermediate, below a root that would still admit its devices", (lambda d: (d["groups"], d["admittedStillBy"]))(dependents("cross")), ([], ["root-a"]))
before = dependents("root-a")["registrations"]
service("DELETE", "/registrations/ref-2")
row("dependents: a record that is deleted counts no more", dependents("root-a")["registrations"], before - 1)
enroll("enrollments", "several-a", key_att(new_key()))
row("dependents: nor does one of another enrollment", (service("DELETE", "/enrollments/several-a").status, dependents("root-a")["registrations"]), (204, before - 1))

# --- at the next byte --------------------------------------------------------------------------------------------------------------------


class Open:
    """A device with a link over MQTT and a connection over HTTPS, both open since before the change."""

    def __init__(self, rid, pair=None, key=None):
        self.rid, self.pair = rid, pair
        self.token = device_token(rid, key) if key else None
        self.m, code = dps_link(env, rid, key, cert=pair and pair[0], certkey=pair and pair[1])
        assert code == 0, code
        self.c = Http(env.dps, env.ca, *(pair or ()))
        assert dps_register(self.m)[1]["status"] == "assigned"
        a = device_ask(self.c, "PUT", rid, "/register", self.token)
        assert a.status == 202, a
        self.op = a.json["operationId"]
        assert until(10, lambda: self.poll_https()[0] == 200), self.op

    def poll_https(self):
        time.sleep(0.15)  # ten a second of one id are let through
        a = device_ask(self.c, "GET", self.rid, f"/operations/{self.op}", self.token)
        return a.status, a.json.get("status", a.json.get("errorCode"))

    def mqtt(self, topic):
        self.m.publish(topic, b"", 1, 9)
        t, b = self.m.message()
        return int(t.split("/")[3]), (json.loads(b) or {}).get("status")

    def all(self):
        """status and word of: poll over MQTT, register over MQTT, poll over HTTPS, register over HTTPS"""
        poll = self.mqtt(f"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=7&operationId={self.op}")
        reg = self.mqtt("$dps/registrations/PUT/iotdps-register/?$rid=8")[0]
        return [poll[0], reg, self.poll_https()[0], device_ask(self.c, "PUT", self.rid, "/register", self.token).status]

    def polls(self):
        return self.mqtt(f"$dps/registrations/GET/iotdps-get-operationstatus/?$rid=7&operationId={self.op}")[1], self.poll_https()[1]


REFUSED, ADMITTED = [401] * 4, [200, 202, 200, 202]
k, gk = new_key(), new_key(64)
enroll("enrollmentGroups", "keys", key_att(gk))
enroll("enrollments", "key-1", key_att(k))
enroll("enrollments", "key-2", key_att(k))
ca("root-d")
trust("root-d")
put_group("by-d", x509_att("root-d"))
own = cert("own", "/CN=own-1")
enroll("enrollments", "own-1", x509_att("own", member="clientCertificates"))
links = {"CA": Open("next-d", device("next-d", "root-d")), "unproved CA": Open("next-d2", device("next-d2", "root-d")),
         "group": Open("next-b", device("next-b", "int-b")), "key group": Open("next-k", key=derive(gk, "next-k")),
         "key": Open("key-1", key=k), "new key": Open("key-2", key=k), "certificate": Open("own-1", own)}
still = Open("next-c", device("next-c", "root-c"))
row("next byte: a CA loses its proof", (admin("PUT", "certificates/root-d", {"properties": {"certificate": read("root-a.pem"), "isVerified": False}}, "*").status,
                                       links["unproved CA"].all()), (200, REFUSED))
admin("PUT", "certificates/root-d", {"properties": {"certificate": read("root-d.pem"), "isVerified": True}}, "*")
row("next byte: verified again, the same link goes on", links["CA"].polls(), ("assigned", "assigned"))
row("next byte: a CA is deleted", (admin("DELETE", "certificates/root-d", None, "*").status, links["CA"].all()), (204, REFUSED))
row("next byte: a group is deleted", (service("DELETE", "/enrollmentGroups/by-root").status, links["group"].all()), (204, REFUSED))
g = service("GET", "/enrollmentGroups/keys").json
enroll("enrollmentGroups", "keys", {"type": "symmetricKey"}, match="*", provisioningStatus="disabled")
row("next byte: a group is disabled, its devices hear so", links["key group"].polls(), ("disabled", "disabled"))
enroll("enrollments", "key-1", {"type": "symmetricKey"}, match="*", provisioningStatus="disabled")
row("next byte: an enrollment is disabled", links["key"].polls(), ("disabled", "disabled"))
enroll("enrollments", "key-2", key_att(new_key()), match="*")
row("next byte: an enrollment has other keys", links["new key"].all(), REFUSED)
row("next byte: an enrollment is deleted", (service("DELETE", "/enrollments/own-1").status, links["certificate"].all()), (204, REFUSED))
row("next byte: others go on", still.all(), ADMITTED)

# --- the same at a hub: sessions that a CA admitted end with it --------------------------------------------------------------------------
trust("root-a", conn=env.hub_cs[0])
for did in ("ca-1", "ca-2"):
    put_device(env, did, auth={"type": "certificateAuthority"})
    device(did, "int-a")
pair = [(os.path.join(T, d + ".chain"), os.path.join(T, d + ".key")) for d in ("ca-1", "ca-2")]
m, connack = hub_link(env, "ca-1", None, cert=pair[0][0], certkey=pair[0][1])
h = Http(env.hub, env.ca, *pair[1])


def twin_over_https():
    return h.ask("POST", f"/devices/ca-2/messages/events{HUB_V}", {"Content-Type": "application/json"}, "{}").status


row("hub: CA-signed devices connect", (connack, twin_over_https()), (0, 204))
t0 = time.monotonic()
row("hub: the CA is deleted", admin("DELETE", "certificates/root-a", None, "*", conn=env.hub_cs[0]).status, 204)
row("hub: the session ends within a second", m.ends(3) and within(t0, 1))
row("hub: an HTTPS connection that is open is refused", twin_over_https(), 401)
m, connack = hub_link(env, "ca-1", None, cert=pair[0][0], certkey=pair[0][1])
row("hub: nobody of that CA comes in", connack, 5)

# --- certificates that end soon, and that have ended --------------------------------------------------------------------------------------
cert("soon", "/CN=soon", ext=CA.format(""), days=("-days", "5"))
trust("soon")
cert("weeks", "/CN=weeks", "root-b", CA.format(""), days=("-days", "20"))
cert("ended", "/CN=ended", "root-b", CA.format(""), days=("-days", "-1"))
put_group("ends", x509_att("weeks", "ended"))
cert("two-days", "/CN=two-days", days=("-days", "2"))
enroll("enrollments", "two-days", x509_att("two-days", member="clientCertificates"))
cert("both-ends", "/CN=both-ends", days=("-days", "3"))
cert("both-stay", "/CN=both-ends", days=("-days", "300"))
enroll("enrollments", "both-ends", x509_att("both-ends", "both-stay", "clientCertificates"))
days = {c["name"]: c["properties"]["expiresInDays"] for c in admin("GET", "certificates").json["value"]}
row("expiry: the list of CA certificates says so", (days["soon"], days["root-a"]), (4, 9))
r = admin("GET", "certificates/soon")
row("expiry: what GET told may be put back", admin("PUT", "certificates/soon", {"properties": r.json["properties"]}, r.json["etag"]).status, 200)
dps = Server(env, "dps").take()
dps.start()
lines = until(10, lambda: [x for x in env.log("dps").split("\n") if "event=server.certificate_e" in x])
told = {(part["name"], part["kind"]): (part["event"].split(".")[1], int(part["days"])) for part in (dict(w.split("=", 1) for w in x.split(" ") if "=" in w) for x in lines)}
row("expiry: the log at start", {k: v for k, v in told.items() if k[0] in ("soon", "ends/primary", "ends/secondary", "two-days")},
    {("soon", "ca"): ("certificate_expires", 4), ("ends/primary", "group"): ("certificate_expires", 19), ("ends/secondary", "group"): ("certificate_expired", 1),
     ("two-days", "enrollment"): ("certificate_expires", 1)})
row("expiry: one good certificate is enough for a device", any(k[0] == "both-ends" for k in told), False)
env.j["metrics"]["dps"] = dps.status()["metrics"]


def seconds(kind, name):
    return env.metrics(-1).get(f'berth_certificate_expires_seconds{{kind="{kind}",name="{name}"}}')


row("expiry: gauges", [round(seconds(k, n) / 86400) for k, n in (("ca", "soon"), ("group", "ends/primary"), ("group", "ends/secondary"), ("enrollment", ""))], [5, 20, 0, 2])
row("expiry: how many end within thirty days", [env.metrics(-1)[f'berth_certificates_expiring{{kind="{k}"}}'] for k in ("group", "enrollment")], [5, 2])
admin("DELETE", "certificates/soon", None, "*")
row("expiry: a CA that went is told no more", until(10, lambda: seconds("ca", "soon") is None))
row("ends with success", dps.stop(), 0)
done()
