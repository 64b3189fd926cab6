# SPDX-License-Identifier: Apache-2.0
"""Run by 39-issuance.sh: requests | away | begin ROUND PID | end ROUND | log | wall SOCKET PID LOG | unsigned"""
import random
import re
import threading

from dps_kit import *

CAS = ("kept", "token", "tpm", "tpmfile")
G = base64.b64encode(hashlib.sha512(b"issuance").digest()).decode()
what = sys.argv[1]


def request(rid, cn=None, key=("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"), extra=()):
    """T/RID.key and a request; (PEM, base64 of DER)"""
    ssl_run("genpkey", *key, "-out", rid + ".key")
    ssl_run("req", "-new", "-key", rid + ".key", "-subj", "/CN=" + (cn or rid), "-out", rid + ".csr", *extra)
    text = read(rid + ".csr")
    return text, "".join(text.split("\n")[1:-2])


def body(contract, csr):
    return json.dumps({"clientCertificateCsr": csr[0]} if contract == 2021 else {"csr": csr[1]})


def chain_of(state):
    """PEM texts of an answer, leaf first"""
    if "issuedClientCertificate" in state:
        return re.findall("-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n", state["issuedClientCertificate"], re.S)
    # as the C client prints it
    return [f"-----BEGIN CERTIFICATE-----\r\n{e}\r\n-----END CERTIFICATE-----\n" for e in state.get("issuedCertificateChain", [])]


def keep(rid, state):
    pems = chain_of(state)
    with open(os.path.join(T, rid + ".pem"), "w") as f:
        f.write("".join(pems))
    with open(os.path.join(T, rid + ".up"), "w") as f:
        f.write("".join(pems[1:]))
    return pems


def verifies(rid, ca):
    extra = ("-untrusted", rid + ".up") if read(rid + ".up") else ()
    try:
        return ssl_run("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca + ".root", *extra, rid + ".pem").strip() == rid + ".pem: OK"
    except subprocess.CalledProcessError as e:
        return e.stderr.decode()


def register(transport, rid, text):
    token = device_token(rid, derive(G, rid))
    if transport == "https":
        return final(rid, token, body=text)
    if transport == "ws":
        m = Mqtt(Ws(env.dps, env.ca))
        code = m.connect(rid, dps_user(env.scope, rid), token)
    else:
        m, code = dps_link(env, rid, derive(G, rid))
    assert code == 0, code
    seen, j = dps_register(m, text.encode())
    m.disconnect()
    return int(seen[0]), j.get("status"), j.get("registrationState")


def connects(rid, by_ws=False):
    if by_ws:
        m = Mqtt(Ws(env.hub, env.ca, cert=os.path.join(T, rid + ".pem"), key=os.path.join(T, rid + ".key")))
        code = m.connect(rid, hub_user(env.hub, rid))
        m.disconnect()
        return code == 0
    m, code = hub_link(env, rid, None, cert=os.path.join(T, rid + ".pem"), certkey=os.path.join(T, rid + ".key"))
    m.disconnect()
    return code == 0


def log_of(rid=None):
    out, start = [], 1
    while True:
        page = admin("GET", f"issuedCertificates?top=500&from={start}" + (f"&registrationId={rid}" if rid else "")).json["value"]
        out += page
        if len(page) < 500:
            return out
        start = page[-1]["number"] + 1


def sha256_of(rid):
    return ssl_run("x509", "-in", rid + ".pem", "-noout", "-fingerprint", "-sha256").split("=")[1].strip().replace(":", "")


def requests():
    for ca in CAS:
        for contract in (2021, 2025):
            for transport in ("mqtt", "https", "ws") if ca == "kept" else ("mqtt", "https"):
                rid = f"{ca}-{contract}-{transport}"
                enroll("enrollments", rid, key_att(derive(G, rid)), clientCertificateIssuancePolicy={"certificateAuthorityName": ca, "validityDays": 5})
                csr = request(rid)
                attempt(f"D35 {rid}: assigned", lambda: (lambda r: (r[0], r[1], len(keep(rid, r[2])) > 0))(register(transport, rid, body(contract, csr))), (202, "assigned", True))
                attempt(f"D35 {rid}: openssl verifies the chain", lambda: verifies(rid, ca), True)
                attempt(f"D35 {rid}: connects to the hub", lambda: connects(rid, transport == "ws"), True)
                attempt(f"D35 {rid}: its key does not", lambda: hub_link(env, rid, derive(G, rid))[1], 5)
                row(f"D35 {rid}: is in the log", [x["sha256Thumbprint"] for x in log_of(rid)], [sha256_of(rid)])
    # a client that is not ours
    rid = "kept-2021-mqtt"
    p = subprocess.run(["mosquitto_pub", "-h", env.hub, "-p", "8883", "-V", "mqttv311", "-i", rid, "-u", hub_user(env.hub, rid), "-q", "1", "--cafile", env.ca,
                        "--cert", os.path.join(T, rid + ".pem"), "--key", os.path.join(T, rid + ".key"), "-t", f"devices/{rid}/messages/events/", "-m", "hello"],
                       capture_output=True, timeout=patience(20))
    row("D35 mosquitto_pub with the issued certificate", (p.returncode, p.stderr), (0, b""))

    # members of a group; what else the request asks for is dropped
    rid = "member-1"
    enroll("enrollmentGroups", "members", key_att(G), clientCertificateIssuancePolicy={"certificateAuthorityName": "kept", "organization": "Example"})
    greedy = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign", "-addext", "extendedKeyUsage=serverAuth,codeSigning",
              "-addext", "subjectAltName=DNS:" + env.hub)
    csr = request(rid, extra=greedy)
    attempt("C8 a request for more", lambda: (lambda r: (r[1], len(keep(rid, r[2]))))(register("mqtt", rid, body(2025, csr))), ("assigned", 2))
    text = ssl_run("x509", "-in", rid + ".pem", "-noout", "-text")
    row("C8 subject, uses and no more", [re.search("Subject: (.*)", text)[1], "CA:FALSE" in text, "TLS Web Client Authentication\n" in text,
                                        [w for w in ("CA:TRUE", "Certificate Sign", "TLS Web Server", "Code Signing", "Alternative Name") if w in text]],
        ["O = Example, CN = member-1", True, True, []])
    attempt("D35 a group's member connects", lambda: connects(rid), True)
    attempt("no request, no member", lambda: sorted(k for k in register("https", rid, "{}")[2] if "ssued" in k), [])
    attempt("and the certificate stays", lambda: connects(rid), True)
    old = os.path.join(T, rid + ".old")
    os.rename(os.path.join(T, rid + ".pem"), old)
    os.rename(os.path.join(T, rid + ".key"), old + "key")
    csr = request(rid)
    keep(rid, register("https", rid, body(2025, csr))[2])
    attempt("a new one serves", lambda: connects(rid), True)
    attempt("and the former beside it", lambda: hub_link(env, rid, None, cert=old, certkey=old + "key")[1], 0)

    # a trust bundle, which needs no request
    rid = "bundle-1"
    pems = [read(ca + ".root") for ca in ("kept", "tpm")]
    r = service("PUT", "/trustBundles/gateways", {"certificates": [{"certificate": p} for p in pems]})
    row("a trust bundle", (r.status, r.json["id"], len(r.json["certificates"])), (200, "gateways", 2))
    enroll("enrollments", rid, key_att(derive(G, rid)), trustBundleId="gateways")
    for transport in ("mqtt", "https", "ws"):
        def told():
            status, word, state = register(transport, rid, "{}")
            b = state["trustBundle"]
            return word, b["etag"], [ssl.PEM_cert_to_DER_cert(c["certificate"]) for c in b["certificates"]]
        attempt(f"a device is told its trust bundle over {transport}", told, ("assigned", r.json["etag"], [ssl.PEM_cert_to_DER_cert(p) for p in pems]))
    row("a bundle that an enrollment names stays", service("DELETE", "/trustBundles/gateways").status, 409)
    r = service("PUT", "/trustBundles/gateways", {"certificates": [{"certificate": pems[1]}]}, {"If-Match": r.json["etag"]})
    attempt("a new one is told to who registers again", lambda: register("mqtt", rid, "{}")[2]["trustBundle"]["etag"], r.json["etag"])

    # what cannot be had
    rsa = ("-algorithm", "RSA", "-pkeyopt")
    bad_key = request("bad-1")
    for name, rid, text in (
            ("garbage", "bad-1", '{"csr":"garbage"}'),
            ("no PKCS#10", "bad-1", '{"clientCertificateCsr":"-----BEGIN CERTIFICATE REQUEST-----\\nAAAA\\n-----END CERTIFICATE REQUEST-----\\n"}'),
            ("another CN", "bad-1", body(2025, request("bad-cn", cn="someone-else"))),
            ("RSA-1024", "bad-1", body(2025, request("bad-rsa", cn="bad-1", key=(*rsa, "rsa_keygen_bits:1024")))),
            ("P-521", "bad-1", body(2025, request("bad-521", cn="bad-1", key=("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521")))),
            ("a damaged signature", "bad-1", json.dumps({"csr": bad_key[1][:-8] + "AAAAAAA="}))):
        attempt(f"D36 {name}", lambda: (lambda r: (r[1], r[2]["errorCode"]))(register("mqtt", rid, text)), ("failed", 400004))
    row("D36 nothing was made at the hub", rest(env, env.hub_cs[0], "GET", "/devices/bad-1" + HUB_V).status, 404)
    enroll("enrollments", "plain-1", key_att(derive(G, "plain-1")))
    attempt("D36 no policy", lambda: (lambda r: (r[1], r[2]["errorCode"]))(register("https", "plain-1", body(2025, request("plain-1")))), ("failed", 400004))
    attempt("RSA-2048", lambda: register("mqtt", "member-2", body(2025, request("member-2", key=(*rsa, "rsa_keygen_bits:2048"))))[1], "assigned")
    # the group that the rounds of kill -9 use: a key in the TPM, so that signing takes its time
    enroll("enrollmentGroups", "members", key_att(G), match="*", clientCertificateIssuancePolicy={"certificateAuthorityName": "tpm"})


def comes_back(rid, ca):
    """A registration while the key cannot be reached; it ends when it can."""
    enroll("enrollments", rid, key_att(derive(G, rid)), clientCertificateIssuancePolicy={"certificateAuthorityName": ca})
    csr = request(rid)
    end = time.monotonic() + 60

    def go():
        r = register("mqtt", rid, body(2025, csr))
        while r[1] == "assigning" and time.monotonic() < end:
            r = register("mqtt", rid, "")
        return r[1], len(keep(rid, r[2]))
    attempt(f"{rid}: the key of {ca} was away", go, ("assigned", 2))
    attempt(f"{rid}: openssl verifies what it signed", lambda: verifies(rid, ca), True)


def wall(path, pid, log):
    """threat:S5 a client that is no DPS; certs/desk_wire.h"""
    def lv(b):
        return struct.pack(">H", len(b)) + b

    def say(text):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(20)
        s.connect(path)
        s.send(text)
        try:
            return s.recv(65536)
        except ConnectionResetError:
            return b""
        finally:
            s.close()

    def ask_text(act, name=b"kept", source=b"", days=30, ca=b"", csr=b""):
        now = int(time.time())
        return (bytes([1, act, 0, 0, 0]) + struct.pack(">qq", (now - 60) * 10**6, (now + days * 86400) * 10**6) +
                lv(name) + lv(source) + lv(b"thief-1") + lv(b"") + lv(ca) + lv(csr))
    request("thief-1")
    ssl_run("req", "-in", "thief-1.csr", "-outform", "DER", "-out", "thief-1.der")
    ssl_run("x509", "-in", "kept.pem", "-outform", "DER", "-out", "kept.der")
    with open(os.path.join(T, "thief-1.der"), "rb") as f, open(os.path.join(T, "kept.der"), "rb") as g:
        csr, ca = f.read(), g.read()
    refused = {"nothing": b"", "no request": b"\x01", "another version": b"\x09" + ask_text(2)[1:], "no such act": ask_text(7), "cut off": ask_text(2)[:40],
               "a key that it did not seal": ask_text(2, source=b"x" * 200, ca=ca, csr=csr), "a life of three years": ask_text(2, source=b"x" * 200, days=1100, ca=ca, csr=csr),
               "no CA": ask_text(2, source=b"x" * 200, ca=csr, csr=csr), "no CSR": ask_text(2, source=b"x" * 200, ca=ca, csr=b"0")}
    for name, text in refused.items():
        a = say(text) if text else b"\x01\x01"
        row(f"S5 {name}: refused", (len(a) > 2 or not text, a[:1], a[1:2] != b"\0"), (True, b"\x01", True))
    row("S5 a message that is too large ends its connection", say(b"\x01" * 150000), b"")
    row("S5 and the signer lives", os.path.exists(f"/proc/{pid}"))
    row("S5 nothing was signed for it", "name=thief-1" in "".join(x for x in open(log) if "signer.done" in x), False)
    status = open(f"/proc/{pid}/status").read()
    row("S5 it may gain nothing by exec", "NoNewPrivs:\t1" in status)
    row("S5 nobody of its own user traces it", os.stat(f"/proc/{pid}/mem").st_uid, 0)  # not dumpable: the kernel gives the files to root


def ask(c, method, rid, tail, text="{}"):
    return device_ask(c, method, rid, tail, device_token(rid, derive(G, rid)), text)


def begin(n, pid):
    """Twelve devices ask; the DPS is killed somewhere on their way. Who got an operation is kept."""
    rids = [f"round-{n}-{i}" for i in range(12)]
    bodies = {r: body(2021 if i % 2 else 2025, request(r)) for i, r in enumerate(rids)}
    told = {}

    def one(rid):
        try:
            a = ask(Http(env.dps, env.ca), "PUT", rid, "/register", bodies[rid])
            if a.status == 202:
                told[rid] = a.json["operationId"]
        except (OSError, ssl.SSLError):
            pass
    threads = [threading.Thread(target=one, args=(r,)) for r in rids]
    for t in threads:
        t.start()
    # some were answered: the signer is at work
    until(10, lambda: len(told) >= 3)
    time.sleep(random.random() * 0.05)
    os.kill(pid, signal.SIGKILL)
    for t in threads:
        t.join()
    with open(os.path.join(T, f"round-{n}.json"), "w") as f:
        json.dump(told, f)
    row(f"round {n}: {len(told)} were told an operation", len(told) > 0)


def end(n):
    told = json.loads(read(f"round-{n}.json"))
    bad = []
    for rid, op in told.items():
        c = Http(env.dps, env.ca)
        a = until(30, lambda: (lambda a: a if a.status == 200 else None)(ask(c, "GET", rid, "/operations/" + op)))
        again = ask(c, "GET", rid, "/operations/" + op)
        c.close()
        if not a or a.json["status"] != "assigned" or chain_of(a.json["registrationState"]) != chain_of(again.json["registrationState"]):
            bad.append((rid, a))
            continue
        keep(rid, a.json["registrationState"])
        seen = [x["sha256Thumbprint"] for x in log_of(rid) if x["operationId"] == op]
        hub = rest(env, env.hub_cs[0], "GET", f"/devices/{rid}{HUB_V}").json["authentication"]["x509Thumbprint"]["primaryThumbprint"]
        if verifies(rid, "tpm") is not True or sha256_of(rid) not in seen or hub.upper() != sha256_of(rid) or not connects(rid):
            bad.append((rid, seen, hub))
    row(f"round {n}: each ended with one certificate, logged, and its device connects", [str(b)[:300] for b in bad[:2]], [])


def log():
    lines = log_of()
    p = subprocess.run([os.environ["BERTH"], "dps", "cert", "list", "--env", env.path], capture_output=True, timeout=patience(20))
    row("berth dps cert list has them all", len(p.stdout.splitlines()), len(lines))
    row("no serial number twice", len({x["serialNumber"] for x in lines}), len(lines))


{"requests": requests, "away": lambda: comes_back("away-1", "tpm"), "unsigned": lambda: comes_back("unsigned-1", "kept"),
 "wall": lambda: wall(sys.argv[2], int(sys.argv[3]), sys.argv[4]), "begin": lambda: begin(int(sys.argv[2]), int(sys.argv[3])), "end": lambda: end(int(sys.argv[2])), "log": log}[what]()
done()
