# SPDX-License-Identifier: Apache-2.0
"""docs/protocol/dps-tpm.md section 11, HTTPS and MQTT, with TPMs of swtpm. Run by 34-tpm.sh."""
from tpm_kit import *


def b64(b):
    return base64.b64encode(b).decode()


def tpm_att(chip, **more):
    return {"type": "tpm", "tpm": {"endorsementKey": b64(chip.ek), **more}}


def put(rid, chip, token=None, srk=None, beside=None, **more):
    """A register, as the SDKs send it. beside: members of the body, not of its tpm"""
    tpm = {"endorsementKey": b64(chip.ek), "storageRootKey": b64(srk or chip.srk), **more}
    h = {"Content-Type": "application/json; charset=utf-8"}
    if token:
        h["Authorization"] = token
    return http(env.dps, env.ca, "PUT", f"/{env.scope}/registrations/{rid}/register{DEV_V}", h,
                json.dumps({"registrationId": rid, "tpm": tpm, **(beside or {})}))


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
    end = time.monotonic() + patience(15)
    while a.status in (202, 429) and time.monotonic() < end:
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

# --- dps-device:D35 a certificate for a device whose TPM vouches for it ----------------------------------------------------------------
CAS = {"certificateAuthorityName": "line-ca", "validityDays": 5}
row("an issuing CA", admin("PUT", "certificateAuthorities/line-ca", {"properties": {"key": {"kind": "file"}, "selfSigned": True}}).status, 201)


def request(rid, contract, cn=None):
    """A member of the body; its key is T/RID.key"""
    ssl_run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", rid + ".key")
    ssl_run("req", "-new", "-key", rid + ".key", "-subj", "/CN=" + (cn or rid), "-out", rid + ".csr")
    text = read(rid + ".csr")
    return {"clientCertificateCsr": text} if contract == 2021 else {"csr": "".join(text.split("\n")[1:-2])}


def keep_certificate(rid, st):
    pems = [st["issuedClientCertificate"]] if "issuedClientCertificate" in st else \
        [ssl.DER_cert_to_PEM_cert(base64.b64decode(c)) for c in st["issuedCertificateChain"]]
    with open(os.path.join(T, rid + ".pem"), "w") as f:
        f.write("".join(pems))


def connects_by_certificate(rid):
    m, code = hub_link(env, rid, None, cert=os.path.join(T, rid + ".pem"), certkey=os.path.join(T, rid + ".key"))
    m.disconnect()
    return code


def issued_to(rid):
    return len(admin("GET", f"issuedCertificates?registrationId={rid}").json["value"])


enroll("enrollments", "unit-csr", tpm_att(other), clientCertificateIssuancePolicy=CAS)
wish = request("unit-csr", 2021)
r = put("unit-csr", other, beside=wish)
row("D35 a request with the keys: a challenge and no certificate", (r.status, sorted(r.json), issued_to("unit-csr")),
    (401, ["authenticationKey", "keyName", "message"], 0))
for i, contract in enumerate((2021, 2025)):
    wish = request("unit-csr", contract)
    st = provision("unit-csr", other, beside=wish)
    keep_certificate("unit-csr", st)
    row(f"D35 {contract}: assigned, with the TPM's key and one certificate more", (st["status"], "authenticationKey" in st["tpm"], issued_to("unit-csr")), ("assigned", True, i + 1))
    attempt(f"D35 {contract}: connects to the hub", lambda: connects_by_certificate("unit-csr"), 0)
    attempt(f"D35 {contract}: the TPM's key does not", lambda: connects(st, other), 5)
st = provision("unit-csr", other)
attempt("D35 registered without a request: the certificate stays", lambda: (sorted(k for k in st if "ssued" in k), connects_by_certificate("unit-csr")), ([], 0))
tok = challenge("unit-csr", other)


def refused_request():
    c = Http(env.dps, env.ca)
    x = put("unit-csr", other, tok, beside=request("unit-cn", 2025, cn="someone-else"))
    end = time.monotonic() + patience(15)
    op = x.json["operationId"]
    while x.status in (202, 429) and time.monotonic() < end:
        time.sleep(0.15)
        x = device_ask(c, "GET", "unit-csr", f"/operations/{op}", tok)
    c.close()
    return x.json["status"], x.json["registrationState"]["errorCode"], issued_to("unit-csr")


attempt("D36 another CN", refused_request, ("failed", 400004, 2))
attempt("and the device's own serves on", lambda: connects_by_certificate("unit-csr"), 0)

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
enroll("enrollmentGroups", "line", {"type": "tpm", "tpm": {"caReferences": {"primary": "maker"}}}, match="*", clientCertificateIssuancePolicy=CAS)
st = provision(c1.rid, c1, beside=request(c1.rid, 2021), **certs(c1))
attempt("D35 EK group: a certificate for its member", lambda: (keep_certificate(c1.rid, st), connects_by_certificate(c1.rid))[1], 0)
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
