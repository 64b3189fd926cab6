# SPDX-License-Identifier: Apache-2.0
"""What the tests of the DPS share: enrollments, registrations over HTTPS, certificates by openssl."""
import contextlib

from kit import *

env = Env()
T = os.environ["T"]


# --- the service API -------------------------------------------------------------------------------------------------------------

def service(method, path, body=None, headers=None, token=None):
    return rest(env, env.dps_cs, method, path + ("&" if "?" in path else "?") + DPS_V[1:], body, headers, token)


def admin(method, path, body=None, if_match=None, token=None, conn=None):
    """The administration plane; of a hub with its connection string."""
    path = f"/admin/{path}{'&' if '?' in path else '?'}api-version={BERTH_VERSION}"
    return rest(env, conn or env.dps_cs, method, path, body, {"If-Match": if_match} if if_match else None, token)


def enroll(kind, eid, att, **more):
    name = "registrationId" if kind == "enrollments" else "enrollmentGroupId"
    r = service("PUT", f"/{kind}/{eid}", {name: eid, "attestation": att, **more}, {"If-Match": more.pop("match", None)})
    assert r.status == 200, r
    return r.json


def key_att(k):
    return {"type": "symmetricKey", "symmetricKey": {"primaryKey": k, "secondaryKey": new_key(len(base64.b64decode(k)))}}


# --- the device API over HTTPS ---------------------------------------------------------------------------------------------------

def device_token(rid, key, **kw):
    return sas(f"{env.scope}/registrations/{rid}", key, "registration", **kw)


def device_ask(conn, method, rid, tail, token=None, body="{}"):
    """One request of a device on an open connection."""
    h = {"Content-Type": "application/json"}
    if token:
        h["Authorization"] = token
    return conn.ask(method, f"/{env.scope}/registrations/{rid}{tail}{DEV_V}", h, body)


def final(rid, token, cert=None, body="{}"):
    """(status of the PUT, final status word, registrationState)"""
    c = Http(env.dps, env.ca, *(cert or ()))
    a = first = device_ask(c, "PUT", rid, "/register", token, body)
    end = time.monotonic() + 15
    op = a.json.get("operationId")
    while a.status in (202, 429) and op and time.monotonic() < end:
        time.sleep(0.15)  # ten a second of one id are let through
        a = device_ask(c, "GET", rid, f"/operations/{op}", token)  # D6: Node's body
    c.close()
    return first.status, a.json.get("status", a.json.get("errorCode")), a.json.get("registrationState")


@contextlib.contextmanager
def hubs_still():
    """The sandbox's hubs answer nothing inside the block."""
    pids = env.j["pids"]["hubs"]
    for p in pids:
        os.kill(p, signal.SIGSTOP)
    try:
        yield
    finally:
        for p in pids:
            os.kill(p, signal.SIGCONT)


# --- certificates ----------------------------------------------------------------------------------------------------------------

CA = "basicConstraints=critical,CA:TRUE{}\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
LEAF = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage={}\n"
NOT_CA_KU = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\n"
issued = set()  # what has an issuer: a device presents it


def ssl_run(*a):
    return subprocess.run(["openssl", *a], cwd=T, check=True, capture_output=True, timeout=patience(20)).stdout.decode()


def read(name):
    with open(os.path.join(T, name)) as f:
        return f.read()


def cert(name, subject, issuer=None, ext=LEAF.format("clientAuth"), days=("-days", "10"), key=None, md="-sha256"):
    """NAME.key, NAME.pem, and NAME.chain with all that stands between it and its root"""
    if key is None:
        ssl_run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", name + ".key")
    ssl_run("req", "-new", "-sha256", "-key", f"{key or name}.key", "-subj", subject, "-out", name + ".csr")
    with open(os.path.join(T, name + ".ext"), "w") as f:
        f.write(ext)
    sign = ("-CA", issuer + ".pem", "-CAkey", issuer + ".key") if issuer else ("-signkey", f"{key or name}.key")
    ssl_run("x509", "-req", md, *days, "-in", name + ".csr", *sign, "-set_serial", "0x1" + os.urandom(15).hex(), "-extfile", name + ".ext", "-out", name + ".pem")
    pem = read(name + ".pem")
    up = read(issuer + ".chain") if issuer in issued else ""
    if issuer:
        issued.add(name)
    with open(os.path.join(T, name + ".chain"), "w") as f:
        f.write(pem + up)
    return os.path.join(T, name + ".chain"), os.path.join(T, f"{key or name}.key")


def ca(name, issuer=None, **kw):
    return cert(name, f"/CN={name}", issuer, CA.format(""), **kw)


def trust(name, verified=True, conn=None):
    r = admin("PUT", f"certificates/{name}", {"properties": {"certificate": read(name + ".pem"), "isVerified": verified}}, conn=conn)
    assert r.status in (200, 201), r


def pem(name):
    return {"certificate": read(name + ".pem")}


def x509_att(name, second=None, member="signingCertificates"):
    pair = {"primary": pem(name)}
    if second:
        pair["secondary"] = pem(second)
    return {"type": "x509", "x509": {member: pair}}
