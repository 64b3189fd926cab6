# SPDX-License-Identifier: Apache-2.0
"""docs/protocol/dps-tpm.md section 11, HTTPS and MQTT, with TPMs of swtpm. Run by 34-tpm.sh."""
from tpm_kit import *


def b64(b):
    return base64.b64encode(b).decode()


def tpm_att(chip, **more):
    return {"type": "tpm", "tpm": {"endorsementKey": b64(chip.ek), **more}}


def put(rid, chip, token=None, srk=None, **more):
    """A register, as the SDKs send it."""
    tpm = {"endorsementKey": b64(chip.ek), "storageRootKey": b64(srk or chip.srk), **more}
    h = {"Content-Type": "application/json; charset=utf-8"}
    if token:
        h["Authorization"] = token
    return http(env.dps, env.ca, "PUT", f"/{env.scope}/registrations/{rid}/register{DEV_V}", h,
                json.dumps({"registrationId": rid, "tpm": tpm}))


def refused(a):
    return a.status, a.code, "authenticationKey" in a.json


NO = (401, 401002, False)


def challenge(rid, chip, **more):
    a = put(rid, chip, **more)
    assert a.status == 401 and "authenticationKey" in a.json, a
    chip.open(base64.b64decode(a.json["authenticationKey"]))
    return chip.token(f"{env.scope}/registrations/{rid}", "registration")


def provision(rid, chip, **more):
    """The registration state at the end."""
    token = challenge(rid, chip, **more)
    a = put(rid, chip, token, **more)
    assert a.status == 202 and a.json["status"] == "assigning", a
    op = a.json["operationId"]
    c = Http(env.dps, env.ca)
    end = time.monotonic() + 15
    while a.status == 202 and time.monotonic() < end:
        time.sleep(0.15)
        a = device_ask(c, "GET", rid, f"/operations/{op}", token)
    c.close()
    assert a.status == 200 and a.json["status"] == "assigned", a
    st = a.json["registrationState"]
    chip.open(base64.b64decode(st["tpm"]["authenticationKey"]))
    return st


def connects(st, chip):
    """CONNACK of the hub for a token signed inside the chip."""
    hub, did = st["assignedHub"], st["deviceId"]
    m = Mqtt(tls(hub, 8883, env.ca))
    code = m.connect(did, f"{hub}/{did}/?api-version=2021-04-12", chip.token(f"{hub}/devices/{did}"))
    m.disconnect()
    return code


a, other = Chip("a"), Chip("b")
a.make_keys()
other.make_keys()

# --- one device, by its key -------------------------------------------------------------------------------------------------------
e = enroll("enrollments", "unit-1", tpm_att(a))
row("dps-service:G4 the EK is echoed", e["attestation"]["tpm"]["endorsementKey"], b64(a.ek))
r = put("unit-1", a)
row("T1 challenge", (r.status, sorted(r.json), r.json.get("keyName"), len(base64.b64decode(r.json["authenticationKey"]))),
    (401, ["authenticationKey", "keyName", "message"], "registration", 766))
attempt("T2 the chip opens it and signs", lambda: a.open(base64.b64decode(r.json["authenticationKey"])) or len(a.hmac("x")), 32)
st = provision("unit-1", a)
row("T3 T4 assigned", (st["status"], st["deviceId"], st["assignedHub"]), ("assigned", "unit-1", env.hub))
attempt("T4 the hub takes a token of K2", lambda: connects(st, a), 0)
a.make_keys()
attempt("T5 expired", lambda: (challenge("unit-1", a), refused(put("unit-1", a, a.token(f"{env.scope}/registrations/unit-1", "registration", -3600))))[1], NO)
challenge("unit-1", a)
attempt("T5 another key", lambda: refused(put("unit-1", a, device_token("unit-1", new_key()))), NO)
attempt("T6 another EK", lambda: refused(put("unit-1", other)), NO)
attempt("T7 unknown id", lambda: refused(put("unit-none", a)), NO)
tok1 = challenge("unit-1", a)
tok2 = challenge("unit-1", a)
attempt("T12 token of the first of two challenges", lambda: refused(put("unit-1", a, tok1)), NO)
attempt("T12 of the second", lambda: put("unit-1", a, tok2).status, 202)
attempt("N9 the challenge serves once", lambda: refused(put("unit-1", a, tok2)), NO)
r = put("unit-1", a, srk=other.srk)
row("T10 SRK of another TPM: a challenge is sent", (r.status, "authenticationKey" in r.json), (401, True))
attempt("T10 the chip refuses it", lambda: a.open(base64.b64decode(r.json["authenticationKey"])), lambda x: "activatecredential" in str(x))

# T8: over the wire; more in dps/tests/tpm_test.c and the fuzz target
for name, ek in (("size", b"\x01\x3b" + a.ek[2:]), ("trailing byte", a.ek + b"\0"), ("modulus of 255 bytes", b"\x01\x39" + a.ek[2:58] + b"\0\xff" + a.ek[60:-1])):
    def bad(ek=ek):
        class Odd:
            pass
        o = Odd()
        o.ek, o.srk = ek, a.srk
        x = put("unit-1", o)
        return x.status, x.code
    attempt(f"T8 {name}", bad, (400, 400201))
attempt("T9 no SRK", lambda: http(env.dps, env.ca, "PUT", f"/{env.scope}/registrations/unit-1/register{DEV_V}",
        {"Content-Type": "application/json"}, json.dumps({"tpm": {"endorsementKey": b64(a.ek)}})).status, 400)

# T11: the owner cleared the chip: another SRK, the same EK
a.tool("evictcontrol", "-C", "o", "-c", SRK)
a.tool("clear", "-c", "p")
a.make_keys(srk="ecc256:aes128cfb")
st = provision("unit-1", a)
row("T11 a new SRK, of ECC", st["status"], "assigned")
attempt("T11 the hub takes the new key", lambda: connects(st, a), 0)

# T13
m = Mqtt(tls(env.dps, 8883, env.ca))
row("T13 MQTT without a password", m.connect("unit-1", f"{env.scope}/registrations/unit-1/api-version=2019-03-31"), 5)
tok = challenge("unit-1", a)
m, code = dps_link(env, "unit-1", None, password=tok)
seen, j = dps_register(m)
row("T13 MQTT with a token", (code, int(seen[-1])), (0, 401))

# T7, T20
tok = challenge("unit-1", a)
et = service("GET", "/enrollments/unit-1").json["etag"]
r = service("PUT", "/enrollments/unit-1", {"registrationId": "unit-1", "attestation": tpm_att(a), "provisioningStatus": "disabled"}, {"If-Match": f'"{et}"'})
row("disabled", r.status, 200)
attempt("T7 disabled", lambda: refused(put("unit-1", a)), NO)
service("DELETE", "/enrollments/unit-1")
attempt("T20 deleted since the challenge", lambda: refused(put("unit-1", a, tok)), NO)

# --- ECC, which the cloud's service does not know ------------------------------------------------------------------------------------
ecc = Chip("ecc")
ecc.make_keys(ek="ecc", srk="ecc256:aes128cfb")
enroll("enrollments", "unit-ecc", tpm_att(ecc))
st = provision("unit-ecc", ecc)
attempt("ECC: EK and SRK on P-256", lambda: (st["status"], connects(st, ecc)), ("assigned", 0))
# a coordinate that begins with a zero byte comes once in 128 times: the chip and we pad alike; one id may not ask so often
bad_opens = 0
for i in range(12):
    enroll("enrollments", f"unit-ecc-{i}", tpm_att(ecc))
    try:
        ecc.open(base64.b64decode(put(f"unit-ecc-{i}", ecc).json["authenticationKey"]))
    except (ValueError, KeyError):
        bad_opens += 1
row("ECC: twelve more blobs", bad_opens, 0)

# --- makers -------------------------------------------------------------------------------------------------------------------------------
maker, stranger = make_maker("one"), make_maker("two")
c1, c2, c3 = Chip("m1", maker), Chip("m2", maker), Chip("m3", stranger)
for c in (c1, c2, c3):
    c.make_keys()


def pem_text(path):
    with open(path) as f:
        return f.read()


def certs(chip, name="ek-rsa2048.crt", of=maker):
    der = ssl.PEM_cert_to_DER_cert(pem_text(os.path.join(of, "issuercert.pem")))
    return {"endorsementCertificate": b64(chip.get(name)), "endorsementCertificateChain": [b64(der)]}


def root(of):
    return {"properties": {"certificate": pem_text(os.path.join(of, "swtpm-localca-rootca-cert.pem")), "usage": "endorsementKey"}}


row("the maker's root", admin("PUT", "certificates/maker", root(maker)).status, 201)
row("it admits no X.509 group", service("PUT", "/enrollmentGroups/x", {"enrollmentGroupId": "x", "attestation": {
    "type": "x509", "x509": {"caReferences": {"primary": "maker"}}}}).status, 400)
enroll("enrollmentGroups", "line", {"type": "tpm", "tpm": {"caReferences": {"primary": "maker"}}})
st = provision(c1.rid, c1, **certs(c1))
row("EK group: RSA", (st["status"], st["deviceId"], st["tpm"].get("enrollmentGroupId")), ("assigned", c1.rid, "line"))
attempt("EK group: the hub takes its token", lambda: connects(st, c1), 0)
attempt("C5 another chip of the maker under that id", lambda: refused(put(c1.rid, c2, **certs(c2))), NO)
attempt("C5 with the first one's certificate", lambda: refused(put(c1.rid, c2, **certs(c1))), NO)
attempt("C5 the first one's EK and certificate: a challenge that the other cannot open",
        lambda: c2.open(base64.b64decode(put(c1.rid, c1, srk=c2.srk, **certs(c1)).json["authenticationKey"])), lambda x: "activatecredential" in str(x))
attempt("a name of its own choice", lambda: refused(put("my-name", c1, **certs(c1))), NO)
attempt("another maker", lambda: refused(put(c3.rid, c3, **certs(c3, of=stranger))), NO)
attempt("without the certificate", lambda: refused(put(c2.rid, c2)), NO)
c2.read_keys(EK_P384)
st = provision(c2.rid, c2, **certs(c2, "ek-secp384r1.crt"))
attempt("EK group: P-384 with SHA-384, the profile's high range", lambda: (st["status"], connects(st, c2)), ("assigned", 0))
# --- T19 threat N12: a thousand in a few seconds -----------------------------------------------------------------------------------------
lim = Chip("lim")
lim.make_keys()
enroll("enrollments", "unit-lim", tpm_att(lim))
body = json.dumps({"tpm": {"endorsementKey": b64(lim.ek), "storageRootKey": b64(lim.srk)}})
path = f"/{env.scope}/registrations/unit-lim/register{DEV_V}"
c, count, waits = Http(env.dps, env.ca), {}, set()
before = env.metrics(-1)["berth_dps_tpm_challenges_total"]
for i in range(1000):
    x = c.ask("PUT", path, {"Content-Type": "application/json"}, body)
    count[x.status] = count.get(x.status, 0) + 1
    if x.status == 429:
        waits.add(x.headers.get("retry-after", "").isdigit())
c.close()
made = env.metrics(-1)["berth_dps_tpm_challenges_total"] - before
row("T19 most are told to wait", (sorted(count), waits), ([401, 429], {True}))
row("T19 and cost no key", (count[401], count[429] > 900), (made, True))
enroll("enrollments", "unit-2", tpm_att(a))
attempt("T19 another device is served", lambda: provision("unit-2", a)["status"], "assigned")
row("the log names the rule", "rule=ek-id" in env.log("dps") and "rule=ek-chain" in env.log("dps"))
done()
