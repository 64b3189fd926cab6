# SPDX-License-Identifier: Apache-2.0
"""The good paths of docs/protocol/dps-service-rest.md Part D against real servers, the quirks of clients (A10), rights and rotation, and
the shape of every answer. Run by 32-dps-service.sh."""
from dps_kit import *
import re

PROTOCOL = os.path.join(os.environ["SRC"], "../../docs/protocol/openapi")


def load(name):
    with open(os.path.join(PROTOCOL, name)) as f:
        return json.load(f)


SHAPES, CODES = load("dps-service-shapes.json"), {c["code"]: c["http"] for c in load("error-codes.json")["codes"]}
TYPES = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list}
# Berth extensions: who admitted a device, in its record
MORE = {"DeviceRegistrationState": {"symmetricKey", "x509", "tpm"}}
misfits = []


def fit(v, want, at):
    """Notes where a value does not have the shape that is published."""
    if "ref" in want:
        shape = SHAPES[want["ref"]]
        if not isinstance(v, dict):
            misfits.append(f"{at} is no object")
            return
        misfits.extend(f"{at}.{m} is missing" for m in shape["required"] if m not in v)
        for m, x in v.items():
            if m in shape["members"]:
                fit(x, shape["members"][m], f"{at}.{m}")
            elif m not in MORE.get(want["ref"], ()):
                misfits.append(f"{at}.{m} is not in {want['ref']}")
        return
    kind = TYPES.get(want.get("type"), object)
    if not isinstance(v, kind) or (kind is int and isinstance(v, bool)):
        misfits.append(f"{at} is {v!r}")
    elif "enum" in want and v not in want["enum"]:
        misfits.append(f"{at} is {v!r}")
    elif want.get("format") == "date-time" and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z", v):
        misfits.append(f"{at} is no time: {v!r}")
    elif kind is list:
        for i, x in enumerate(v):
            fit(x, want["items"], f"{at}[{i}]")


def named(what):
    return {"ref": what}


def shape_of(method, path):
    p = path.split("?")[0].rstrip("/").lower().split("/")
    one = {"enrollments": "IndividualEnrollment", "enrollmentgroups": "EnrollmentGroup", "registrations": "DeviceRegistrationState"}[p[1]]
    if p[-1] == "query":
        return {"type": "array", "items": named("DeviceRegistrationState" if p[1] == "registrations" else one)}
    if p[-1] == "attestationmechanism":
        return named("AttestationMechanism")
    if len(p) == 2:
        return named("BulkEnrollmentOperationResult" if p[1] == "enrollments" else "BulkEnrollmentGroupOperationResult")
    return named(one)


def each_enrollment(v):
    if isinstance(v, list):
        for x in v:
            yield from each_enrollment(x)
    elif isinstance(v, dict) and "attestation" in v:
        yield v


n_answers = 0
statuses = set()  # provisioningStatus of every enrollment in every answer


def call(method, path, body=None, headers=None, token=None, conn=None):
    """A call whose answer must have its published shape."""
    global n_answers
    n_answers += 1
    headers = dict(headers or {})
    full = path + ("&" if "?" in path else "?") + DPS_V[1:]
    if conn is None:
        r = rest(env, env.dps_cs, method, full, body, headers, token)
    else:
        headers = {"Authorization": token or cs_token(env.dps_cs), "Content-Type": "application/json", **headers}
        r = conn.ask(method, full, headers, json.dumps(body) if body is not None else "")
    if r.status == 200:
        fit(r.json, shape_of(method, path), f"{method} {path}")
        statuses.update(e.get("provisioningStatus") for e in each_enrollment(r.json))
    elif r.status != 204:
        fit(r.json, named("ProvisioningServiceErrorDetails"), f"{method} {path} {r.status}")
        if CODES.get(r.json["errorCode"]) != r.status or r.headers.get("x-ms-error-code") != str(r.json["errorCode"]):
            misfits.append(f"{method} {path}: {r.status} {r.json['errorCode']} {r.headers.get('x-ms-error-code')}")
    if r.status in (200, 204) and ("etag" in r.headers or "max-age" not in r.headers.get("strict-transport-security", "") or "date" not in r.headers):
        misfits.append(f"{method} {path}: headers {sorted(r.headers)}")
    return r


SYM = {"type": "symmetricKey"}

# dps-service:G1, dps-service:G2: keys are made, hidden, and read back; also in a path of lower case (the Node client)
e = call("PUT", "/enrollments/g1", {"registrationId": "g1", "attestation": SYM, "optionalDeviceInformation": {"room": "B2"}}).json
keys = e["attestation"]["symmetricKey"]
row("dps-service:G1 two keys of 88 characters", [len(keys["primaryKey"]), len(keys["secondaryKey"])], [88, 88])
row("dps-service:G1 GET hides them", call("GET", "/enrollments/g1").json["attestation"], SYM)
for b in (None, "", {}):
    row(f"dps-service:G1 attestationmechanism, body {b!r}", call("POST", "/enrollments/g1/attestationmechanism", b).json["symmetricKey"], keys)
row("the answer is for nobody's cache", call("POST", "/enrollments/g1/attestationmechanism").headers.get("cache-control"), "no-store")
g = call("PUT", "/enrollmentGroups/G-2", {"enrollmentGroupId": "G-2", "attestation": SYM}).json
row("dps-service:G2 lower case, group", call("POST", "/enrollmentgroups/g-2/attestationmechanism").json, g["attestation"])
row("ids keep the case that was written", call("GET", "/enrollmentgroups/g-2").json["enrollmentGroupId"], "G-2")

# dps-service:G3: three forms of a certificate, one description
ca("Shape Root")
cert("leaf3", "/CN=g3", "Shape Root")
text = read("leaf3.pem")
der = base64.b64encode(ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN"):])).decode()
forms = {"PEM": text, "PEM with CR LF": text.replace("\n", "\r\n"), "base64 of PEM": base64.b64encode(text.encode()).decode(), "base64 of DER": der,
         "PEM with its chain": read("leaf3.chain") + read("Shape Root.pem")}
infos = {}
for name, form in forms.items():
    att = {"type": "x509", "tpm": None, "symmetricKey": None, "x509": {"clientCertificates": {"primary": {"certificate": form}, "secondary": None}}}
    r = call("PUT", "/enrollments/g3", {"registrationId": "g3", "attestation": att}, {"If-Match": "*"} if infos else None)
    infos[name] = r.json["attestation"]["x509"]["clientCertificates"]["primary"]["info"]
info = infos["PEM"]
row("dps-service:G3 the same thumbprints in every form", all(i == info for i in infos.values()))
want = {k: ssl_run("x509", "-noout", "-fingerprint", "-" + k, "-in", "leaf3.pem").split("=")[1].strip().replace(":", "") for k in ("sha1", "sha256")}
row("dps-service:G3 they are openssl's", [info["sha1Thumbprint"], info["sha256Thumbprint"]], [want["sha1"], want["sha256"]])
row("dps-service:G3 names, serial number, version", [info["subjectName"], info["issuerName"], info["version"], len(info["serialNumber"])], ["CN=g3", "CN=Shape Root", 3, 32])

# dps-service:G5: If-Match bare, quoted, any; an empty one is none
etags = [e["etag"]]
for name, m in (("bare", lambda t: t), ("quoted", lambda t: f'"{t}"'), ("*", lambda t: "*"), ('"*"', lambda t: '"*"')):
    r = call("PUT", "/enrollments/g1", {"registrationId": "g1", "attestation": SYM, "deviceId": f"d{len(etags)}"}, {"If-Match": m(etags[-1])})
    row(f"dps-service:G5 {name}", (r.status, r.json.get("deviceId")), (200, f"d{len(etags)}"))
    etags.append(r.json["etag"])
row("dps-service:G5 the etag changes each time", len(set(etags)), len(etags))
row("dps-service:G5 empty is absent", call("PUT", "/enrollments/g1", {"attestation": SYM}, {"If-Match": ""}).code, 409201)
row("dps-service:24 an old one", call("PUT", "/enrollments/g1", {"attestation": SYM}, {"If-Match": etags[0]}).code, 412001)
inner = base64.b64decode(etags[-1]).decode()
row("an etag is base64 of a quoted token like a GUID", bool(re.fullmatch(r'"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"', inner)))
row("an update without keys kept them", call("POST", "/enrollments/g1/attestationmechanism").json["symmetricKey"], keys)

# dps-service:G6, dps-service:G16: bulk, with and without a slash at the end of the path
ids = [f"bulk-{i}" for i in range(10)]
for kind, member, tail in (("enrollments", "registrationId", "/"), ("enrollmentGroups", "enrollmentGroupId", "/"), ("enrollments", "registrationId", ""),
                           ("enrollmentGroups", "enrollmentGroupId", "")):
    def bulk(mode, entries):
        return call("POST", f"/{kind}{tail}", {"mode": mode, kind: entries})
    made = [{member: i, "attestation": SYM} for i in ids]
    all_good = {"errors": [], "isSuccessful": True}
    name = f"dps-service:G6 dps-service:G16 /{kind}{tail}"
    row(f"{name} ten made", bulk("create", made).json, all_good)
    r = bulk("create", [made[0], {member: "bulk-new", "attestation": SYM}])
    code = 409201 if kind == "enrollments" else 409202
    row(f"{name} mixed: 200, not successful, the one named", (r.status, r.json["isSuccessful"], [(x[member], x["errorCode"]) for x in r.json["errors"]]),
        (200, False, [("bulk-0", code)]))
    row(f"{name} update without an etag", [x["errorCode"] for x in bulk("update", made[:1]).json["errors"]], [code])
    tags = [call("GET", f"/{kind}/{i}").json["etag"] for i in ids]
    for mode in ("update", "updateIfMatchETag"):
        row(f"{name} {mode}", bulk(mode, [{**m, "etag": t, "provisioningStatus": "disabled"} for m, t in zip(made, tags)]).json, all_good)
        old, tags = tags, [call("GET", f"/{kind}/{i}").json["etag"] for i in ids]
    row(f"{name} update, stale", {x["errorCode"] for x in bulk("updateIfMatchETag", [{**m, "etag": t} for m, t in zip(made, old)]).json["errors"]}, {412001})
    row(f"{name} deleted by id alone", bulk("delete", [{member: i} for i in ids]).json, all_good)
    row(f"{name} and gone", call("GET", f"/{kind}/bulk-0").status, 404)
    bulk("delete", [{member: "bulk-new"}])

# dps-service:G7, dps-service:G8, dps-service:G18: pages, the forms of a query, no rows
before = len(call("POST", "/enrollments/query", {"query": ""}, {"x-ms-max-item-count": "1000"}).json)
for i in range(25 - before):
    call("PUT", f"/enrollments/page-{i:02}", {"attestation": SYM})


def pages(path, body, size, headers=None):
    out, token = [], None
    while len(out) < 50:
        r = call("POST", path, body, {"x-ms-max-item-count": str(size), "x-ms-continuation": token, **(headers or {})} if token else {"x-ms-max-item-count": str(size)})
        out.append(r)
        token = r.headers.get("x-ms-continuation")
        if not token:
            return out
    raise AssertionError("no last page")


got = pages("/enrollments/query", {"query": "SELECT * FROM enrollments"}, 10)
row("dps-service:G7 three pages", [len(r.json) for r in got], [10, 10, 5])
row("dps-service:G7 item type and echo on each", {(r.headers["x-ms-item-type"], r.headers["x-ms-max-item-count"], r.headers["x-content-type-options"]) for r in got},
    {("Enrollment", "10", "nosniff")})
found = [e["registrationId"] for r in got for e in r.json]
row("dps-service:G7 each once", len(set(found)), 25)
for text in ("", "SELECT *", "select * from enrollments", "SELECT * FROM enrollments", None):
    r = call("POST", "/enrollments/query", {"query": text} if text is not None else {}, {"x-ms-max-item-count": "1000"})
    row(f"dps-service:G8 {text!r}", [e["registrationId"] for e in r.json] == found)
row("dps-service:G8 no body at all", len(call("POST", "/enrollments/query", None, {"x-ms-max-item-count": "1000"}).json), 25)
for text in ("SELECT *", "SELECT * FROM enrollmentGroups", ""):
    r = call("POST", "/enrollmentGroups/query", {"query": text})
    row(f"dps-service:G8 groups: {text!r}", ([x["enrollmentGroupId"] for x in r.json], r.headers["x-ms-item-type"]), (["G-2", "g1"], "EnrollmentGroup"))
for b in (None, {}, {"query": "whatever there is"}):
    r = call("POST", "/registrations/g-2/query", b)
    row(f"dps-service:G18 no records, body {b!r}", (r.body, r.headers["x-ms-item-type"]), (b"[]", "DeviceRegistration"))
row("dps-service:G18 a continuation of another query", call("POST", "/enrollmentGroups/query", {}, {"x-ms-continuation": got[0].headers["x-ms-continuation"]}).code, 400000)
raw = Http(env.dps, env.ca)
raw.send((f"POST /enrollments/query{DPS_V} HTTP/1.1\r\nHost: {env.dps}\r\nauthorization: {cs_token(env.dps_cs)}\r\ncontent-type: application/json\r\n"
          "useragent: c-client\r\ncontent-length: 0\r\nx-ms-max-item-count: 1\r\n\r\n").encode())
while b"\r\n\r\n" not in raw.rest:
    raw._more()
head = raw.rest.split(b"\r\n\r\n")[0].decode()
row("names of the query headers are lower case on the wire (A1)", all(f"\r\n{h}: " in head for h in ("x-ms-item-type", "x-ms-continuation", "x-ms-max-item-count")))
row("dps-service:G16 header names of lower case are heard (the C client)", raw.answer("POST").status, 200)
raw.close()

# dps-service:G9: a record, its end, and a first registration again
k = new_key()
enroll("enrollments", "Rec-9", key_att(k))
row("before the first registration", call("GET", "/enrollments/rec-9").json["registrationState"], {"registrationId": "Rec-9", "status": "unassigned"})
row("no record yet", call("GET", "/registrations/rec-9").code, 404202)
row("dps-service:G9 assigned", final("Rec-9", device_token("Rec-9", k))[1], "assigned")
r = call("GET", "/registrations/rec-9").json
row("dps-service:G9 the record", (r["status"], r["substatus"], r["deviceId"], r["assignedHub"] in env.hubs, r["registrationId"]), ("assigned", "initialAssignment", "Rec-9", True, "Rec-9"))
row("dps-service:G9 the same inside the enrollment", call("GET", "/enrollments/rec-9").json["registrationState"]["etag"], r["etag"])
row("dps-service:24 dps-service:G9 a stale etag deletes nothing", call("DELETE", "/registrations/rec-9", None, {"If-Match": etags[0]}).code, 412001)
row("dps-service:G9 DELETE with its etag", call("DELETE", "/registrations/rec-9", None, {"If-Match": r["etag"]}).status, 204)
row("dps-service:G9 forgotten", (call("GET", "/registrations/rec-9").code, call("GET", "/enrollments/rec-9").json["registrationState"]["status"]), (404202, "unassigned"))
row("dps-service:G9 the hub's device is left alone", [rest(env, c, "GET", "/devices/Rec-9" + HUB_V).status for c in env.hub_cs].count(200), 1)
again = final("Rec-9", device_token("Rec-9", k))[2]
row("dps-service:G9 again is a first time", (again["status"], again["substatus"]), ("assigned", "initialAssignment"))
call("DELETE", "/enrollments/rec-9")
row("with its enrollment the record goes", call("GET", "/registrations/rec-9").code, 404202)

# dps-service:G13: the individual enrollment decides, whatever its group would say
gk = new_key(64)
enroll("enrollmentGroups", "g13", key_att(gk))
enroll("enrollments", "both", key_att(k), provisioningStatus="disabled")
row("dps-service:G13 by the group's key", final("both", device_token("both", derive(gk, "both")))[:2], (401, 401002))
row("dps-service:G13 by its own", final("both", device_token("both", k))[:2], (202, "disabled"))
row("dps-service:G13 nothing was made", [rest(env, c, "GET", "/devices/both" + HUB_V).status for c in env.hub_cs], [404] * len(env.hub_cs))
for i in range(3):
    final(f"member-{i}", device_token(f"member-{i}", derive(gk, f"member-{i}")))
got = pages("/registrations/g13/query", {}, 2)
row("records of a group, in pages", ([x["registrationId"] for r in got for x in r.json], got[0].headers["x-ms-item-type"]), ([f"member-{i}" for i in range(3)], "DeviceRegistration"))

# dps-service:G17: a status everywhere, also after null
for kind in ("enrollments", "enrollmentGroups"):
    r = call("PUT", f"/{kind}/nul", {"attestation": SYM, "provisioningStatus": None, "initialTwin": None, "iotHubs": None, "capabilities": None, "deviceId": None})
    row(f"dps-service:G17 {kind}, null", (r.status, r.json["provisioningStatus"], [m for m, v in r.json.items() if v is None]), (200, "enabled", []))
row("dps-service:G17 in every answer", statuses, {"enabled", "disabled"})

# A10: what .NET and the generated clients do besides
row("a quoted etag on DELETE", call("DELETE", "/enrollments/nul", None, {"If-Match": f'"{call("GET", "/enrollments/nul").json["etag"]}"'}).status, 204)
row("an id with percent-encoding", call("GET", "/enrollments/page%2D00").json["registrationId"], "page-00")
for v in ("2018-04-01", "2018-09-01-preview", "2018-11-01", "2019-01-15", "2019-03-31", "2021-06-01", "2021-11-01-preview", "2025-07-01-preview", "2026-04-01"):
    row(f"api-version {v}", rest(env, env.dps_cs, "GET", f"/enrollments/g1?api-version={v}").status, 200)
row("one connection serves many requests", [call("GET", "/enrollments/g1", conn=c).status for c in [Http(env.dps, env.ca)] for _ in range(3)], [200] * 3)

# --- rights: every route with every right (threat:S3) ------------------------------------------------------------------------------
tokens = {}


def policy(name, rights):
    r = admin("PUT", f"policies/{name}", {"rights": rights})
    assert r.status == 201, r
    k = admin("POST", f"policies/{name}/listKeys").json
    return k


READ, WRITE, RREAD, RWRITE, CONFIG = "EnrollmentRead", "EnrollmentWrite", "RegistrationStatusRead", "RegistrationStatusWrite", "ServiceConfig"
for right in (READ, WRITE, RREAD, RWRITE, CONFIG, "DeviceConnect"):
    tokens[right] = sas(env.dps, policy("only-" + right, right)["primaryKey"], "only-" + right)
ROUTES = [  # method, path, rights that open it
    ("GET", "/enrollments/none", {READ, WRITE, CONFIG}), ("PUT", "/enrollments/none-", {WRITE, CONFIG}), ("DELETE", "/enrollments/none", {WRITE, CONFIG}),
    ("POST", "/enrollments", {WRITE, CONFIG}), ("POST", "/enrollments/query", {READ, WRITE, CONFIG}), ("POST", "/enrollments/none/attestationmechanism", {WRITE, CONFIG}),
    ("GET", "/enrollmentGroups/none", {READ, WRITE, CONFIG}), ("PUT", "/enrollmentGroups/none-", {WRITE, CONFIG}), ("DELETE", "/enrollmentGroups/none", {WRITE, CONFIG}),
    ("POST", "/enrollmentGroups", {WRITE, CONFIG}), ("POST", "/enrollmentGroups/query", {READ, WRITE, CONFIG}),
    ("POST", "/enrollmentGroups/none/attestationmechanism", {WRITE, CONFIG}),
    ("GET", "/registrations/none", {RREAD, RWRITE, CONFIG}), ("DELETE", "/registrations/none", {RWRITE, CONFIG}), ("POST", "/registrations/none/query", {RREAD, RWRITE, CONFIG}),
] + [(m, "/admin/" + p, {CONFIG}) for m, p in (
    ("GET", "certificates"), ("GET", "certificates/none"), ("PUT", "certificates/none"), ("DELETE", "certificates/none"),
    ("POST", "certificates/none/generateVerificationCode"), ("POST", "certificates/none/verify"), ("POST", "certificates/none/verifyCertificate"),
    ("GET", "policies"), ("GET", "policies/none"), ("PUT", "policies/none"), ("DELETE", "policies/none"), ("POST", "policies/none/listKeys"),
    ("POST", "policies/none/regenerateKey"), ("GET", "linkedHubs"), ("GET", "linkedHubs/none"), ("PUT", "linkedHubs/none"), ("DELETE", "linkedHubs/none"),
    ("POST", "linkedHubs/none/test"), ("GET", "settings"), ("PUT", "settings"), ("GET", "audit"), ("GET", "clock"), ("POST", "clock/accept"))]
c = Http(env.dps, env.ca)
wrong = []
for method, path, opens in ROUTES:
    version = f"?api-version={BERTH_VERSION}" if path.startswith("/admin") else DPS_V
    for right, t in tokens.items():
        if right == CONFIG and path.endswith("clock/accept"):
            continue  # it acts; the others must not get so far
        a = c.ask(method, path + version, {"Authorization": t, "Content-Type": "application/json"}, "" if method in ("PUT", "POST") else None)
        if (a.status != 401) != (right in opens):
            wrong.append(f"{right} {method} {path}: {a.status}")
        if a.headers.get("connection", "").lower() == "close":
            c.close()
            c = Http(env.dps, env.ca)
c.close()
row("threat:S3 dps-service:3 dps-service:39 every route with every right", wrong, [])

# dps-service:G15: keys of a policy are renewed without an outage
k = policy("rolling", READ)


def reads(key):
    return call("GET", "/enrollments/g1", token=sas(env.dps, key, "rolling")).status


def renew(what, etag="*"):
    return admin("POST", "policies/rolling/regenerateKey", {"policyKey": what}, etag).json


row("dps-service:G15 both keys", [reads(k["primaryKey"]), reads(k["secondaryKey"])], [200, 200])
new = renew("primaryKey")
row("dps-service:G15 the old primary fails, the secondary works, the new primary too", [reads(k["primaryKey"]), reads(k["secondaryKey"]), reads(new["primaryKey"])], [401, 200, 200])
row("dps-service:G15 on a connection that was open", (lambda c: [call("GET", "/enrollments/g1", conn=c, token=sas(env.dps, x, "rolling")).status
                                                                for x in (new["primaryKey"], k["primaryKey"])])(Http(env.dps, env.ca)), [200, 401])
swapped = renew("swap")
row("dps-service:G15 swap", (swapped["primaryKey"], swapped["secondaryKey"]), (new["secondaryKey"], new["primaryKey"]))
both = renew("both")
row("dps-service:G15 both", [reads(x) for x in (new["primaryKey"], new["secondaryKey"], both["primaryKey"], both["secondaryKey"])], [401, 401, 200, 200])
row("dps-service:36 the last administrator stays", [admin("DELETE", f"policies/{p}", None, "*").status for p in ("only-" + CONFIG, "provisioningserviceowner")], [204, 409])
row("dps-service:36 also by a change of his rights", admin("PUT", "policies/provisioningserviceowner", {"rights": READ}, "*").code, 409000)

row(f"{n_answers} answers have the published shape", misfits[:5], [])
done()
