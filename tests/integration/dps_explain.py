# SPDX-License-Identifier: Apache-2.0
"""Each rule of dps/rule.def that a device can break is broken once; berth dps explain says which, why and what to do. Run by 37-explain.sh."""
from dps_kit import *

BERTH = os.environ["BERTH"]


def explain(rid):
    return admin("GET", f"refusals/{urllib.parse.quote(rid, safe='')}")


def refusal(rid, rule):
    """What is kept of it, once it is written (a second at most)."""
    def look():
        r = explain(rid)
        return [x for x in r.json["refusals"] if x["rule"] == rule] if r.status == 200 else []
    found = until(5, look)
    return found[0] if found else {}


def kept(name, rid, rule, *parts):
    """The rule was kept for that id, and its text names what must be known to mend it."""
    x = refusal(rid, rule)
    text = x.get("mend", "") + " " + x.get("why", "")
    row(f"{rule}: {name}", (x.get("rule"), [p for p in parts if p not in text], "{" in x.get("mend", ""), "\"?\"" in text), (rule, [], False, False))
    return x


def ask(rid, token=None, pair=None, body="{}", scope=None, ctype="application/json", tail="/register", method="PUT"):
    c = Http(env.dps, env.ca, *(pair or ()))
    h = {"Content-Type": ctype, **({"Authorization": token} if token else {})}
    a = c.ask(method, f"/{scope or env.scope}/registrations/{rid}{tail}{DEV_V}", h, body)
    c.close()
    return a


def berth(*a):
    r = subprocess.run([BERTH, "dps", *a, "--env", env.path], capture_output=True, text=True, timeout=patience(20))
    return r.returncode, r.stdout, r.stderr


# --- tokens ------------------------------------------------------------------------------------------------------------------------
key = new_key()
enroll("enrollments", "sym-1", key_att(key))
good = device_token("sym-1", key)
row("told: nothing but 401", {ask("sym-1", device_token("sym-1", new_key())).code, ask("nobody", good).code}, {401002})
kept("wrong key", "sym-1", "token-signature", "attestationmechanism")
ask("sym-1", device_token("sym-1", key, ttl=-4000))
x = kept("expired", "sym-1", "token-expired", "clock", "300 s")
row("token-expired: both times as facts", sorted(x["facts"]), ["expires", "now", "skew"])
ask("sym-1", sas(f"{env.scope}/registrations/other", key, "registration"))
kept("another device's", "sym-1", "token-scope", f"{env.scope}/registrations/sym-1")
ask("sym-1", "SharedAccessSignature sr=x")
kept("half a token", "sym-1", "token-form")
ask("sym-1", sas(f"{env.scope}/registrations/sym-1", key, "provisioningserviceowner"))
kept("names a policy", "sym-1", "token-policy", "provisioningserviceowner")
ask("sym-1")
kept("nothing shown", "sym-1", "no-credential")
ask("sym-1", good, scope="0ne00000000")
kept("another instance", "sym-1", "id-scope", "0ne00000000", env.scope)
x = kept("unknown id", "nobody", "token-scope")
row("a stranger's id is marked", (x["isEnrolled"], x["peer"], x["transport"], x["apiVersion"]), (False, "127.0.0.1", "https", DEV_V.split("=")[1]))
ask("nobody", device_token("nobody", key))
kept("unknown id, token of its own", "nobody", "no-enrollment", "nobody")

# --- bodies --------------------------------------------------------------------------------------------------------------------------
for rule, body, ctype in (("body-json", "{", "application/json"), ("body-id", '{"registrationId":"sym-9"}', "application/json"),
                          ("content-type", "{}", "text/plain"), ("body-size", " " * 110000, "application/json")):
    ask("sym-1", good, body=body, ctype=ctype)
    kept("body", "sym-1", rule)
ask("sym-1", good, tail="/operations/5.0.x", method="GET")
kept("poll", "sym-1", "operation-unknown")

# --- certificates ----------------------------------------------------------------------------------------------------------------------
for n in ("root-a", "root-b"):
    ca(n)
ca("int-a", "root-a")
trust("root-a")
dev = cert("dev-a", "/CN=dev-a", "int-a")
ask("dev-a", None, dev)
kept("no group with certificates", "dev-a", "no-enrollment", "certificates")
enroll("enrollmentGroups", "grp-b", x509_att("root-b"))
ask("dev-a", None, dev)
x = kept("verified CA, no group on the path", "dev-a", "group-not-on-path", "berth dps group create")
row("group-not-on-path: the issuer's thumbprint", x["facts"]["issuer"], hashlib.sha256(base64.b64decode("".join(read("int-a.pem").split("-----")[2].split()))).hexdigest())
ask("dev-b", None, dev)
kept("another CN", "dev-b", "leaf-cn", '"dev-a"', '"dev-b"')
stray = cert("stray", "/CN=stray", "root-b")
ask("stray", None, stray)
kept("its root is not trusted", "stray", "chain-no-anchor", "root-b", "berth dps ca add")
alone = cert("alone", "/CN=alone", "int-a")
with open(os.path.join(T, "alone.chain"), "w") as f:
    f.write(read("alone.pem"))
ask("alone", None, alone)
kept("the intermediate was left out", "alone", "chain-no-anchor", "int-a")
old = cert("old", "/CN=old", "int-a", days=("-days", "-1"))
ask("old", None, old)
kept("over", "old", "leaf-dates", "valid from")
bad_eku = cert("eku", "/CN=eku", "root-a", LEAF.format("serverAuth"))
ask("eku", None, bad_eku)
kept("a server's certificate", "eku", "chain-eku", "clientAuth")
ask("nocn", None, cert("nocn", "/O=nobody", "root-a"))
kept("no CN", "nocn", "leaf-form")
weak = cert("weak", "/CN=weak", "root-a", md="-sha1")
ask("weak", None, weak)
kept("SHA-1", "weak", "chain-weak", "link 0")
one = cert("one", "/CN=one")
two = cert("two", "/CN=one")
enroll("enrollments", "one", {"type": "x509", "x509": {"clientCertificates": {"primary": pem("two")}}})
ask("one", None, one)
kept("another certificate", "one", "leaf-other", "SHA-256")
ask("one", device_token("one", key))
kept("token at an X.509 enrollment", "one", "attestation-kind", "a certificate", "a token")
ask("sym-1", None, cert("sym-1", "/CN=sym-1"))
kept("certificate at a symmetric enrollment", "sym-1", "attestation-kind")
enroll("enrollments", "ref", {"type": "x509", "x509": {"caReferences": {"primary": "root-a"}}})
trust("root-b")
ask("ref", None, cert("ref", "/CN=ref", "root-b"))
kept("not under the CA that it names", "ref", "ca-not-on-path", "root-a")

# --- the enrollment, the record, the hub ---------------------------------------------------------------------------------------------------
enroll("enrollments", "off", key_att(key), provisioningStatus="disabled")
row("told: disabled", final("off", device_token("off", key))[1], "disabled")
x = kept("disabled", "off", "enrollment-disabled", "provisioningStatus")
ask("off", device_token("off", new_key()))
kept("disabled, and the wrong key", "off", "token-signature", "and that enrollment is disabled")
row("the state stands beside it", explain("off").json["enrollment"], {"kind": "individual", "id": "off", "provisioningStatus": "disabled", "attestation": "symmetricKey"})
gk = [new_key(), new_key()]
for i in range(2):
    enroll("enrollmentGroups", f"sym-grp{i}", key_att(gk[i]))
row("told: assigned", final("moved", device_token("moved", derive(gk[0], "moved")))[1], "assigned")
row("the group of its record", explain("moved").json["enrollment"]["id"], "sym-grp0")
ask("moved", device_token("moved", derive(gk[1], "moved")))
kept("of another group", "moved", "record-owned", "berth dps registration delete moved")
enroll("enrollments", "static", key_att(key), allocationPolicy="static", iotHubs=[env.hubs[1]])
row("its hub is unlinked", admin("DELETE", f"linkedHubs/{env.hubs[1]}?force=true", None, "*").status, 204)
row("told: failed", final("static", device_token("static", key))[1], "failed")
kept("its hub is not linked", "static", "hub-static", "berth dps hub link")

# --- rates ---------------------------------------------------------------------------------------------------------------------------------------
c = Http(env.dps, env.ca)
for _ in range(16):
    device_ask(c, "PUT", "sym-1", "/register", device_token("sym-1", new_key()))
c.close()
x = kept("guessing", "sym-1", "throttled-failures", "127.0.0.1")
enroll("enrollments", "eager", key_att(key))
c = Http(env.dps, env.ca)
for _ in range(12):
    device_ask(c, "PUT", "eager", "/register", device_token("eager", key))
c.close()
kept("eager", "eager", "throttled", "register-burst")
row("attempts are counted, not listed", refusal("eager", "throttled")["count"], lambda n: 1 < n <= 12)

# --- MQTT --------------------------------------------------------------------------------------------------------------------------------------------
def connect(client, user, password, level=4):
    m = Mqtt(tls(env.dps, 8883, env.ca))
    code = m.connect(client, user, password, level=level)
    m.close()
    return code


user = f"{env.scope}/registrations/%s/api-version=2019-03-31"
connect("mq-1", user % "mq-2", good)
kept("client id and user name differ", "mq-1", "client-id", '"mq-1"')
connect("mq-1", "nonsense", good)
kept("no user name of ours", "mq-1", "user-name", "nonsense", env.scope)
connect("mq-1", user % "mq-1", good, level=3)
kept("an older client, whose id is not read", "*", "mqtt-level", "level 3")
connect("-bad-", user % "-bad-", good)
kept("no id", "*", "client-id")
row("over MQTT", refusal("mq-1", "user-name")["transport"], "mqtt")

# --- reading --------------------------------------------------------------------------------------------------------------------------------------------
r = admin("GET", "refusals?rule=leaf-cn")
row("the list by rule", [x["registrationId"] for x in r.json["value"]], ["dev-b"])
all_ids = [x["registrationId"] + x["rule"] for x in admin("GET", "refusals").json["value"]]
row("sorted, in pages", (all_ids == sorted(all_ids, key=lambda s: s.lower()), [x["registrationId"] + x["rule"] for n in range(0, len(all_ids), 7) for x in admin("GET", f"refusals?top=7&skip={n}").json["value"]] == all_ids), (True, True))
row("enrolled or not", {x["isEnrolled"] for x in admin("GET", "refusals?isEnrolled=false").json["value"]}, {False})
row("refused filters", [admin("GET", f"refusals?{q}").code for q in ("rule=x", "isEnrolled=2", "top=0")], [400004] * 3)
row("an id of which nothing is known", explain("who-is-that").status, 404)
row("not an id", explain("no id").status, 400)
row("only for administrators", rest(env, env.dps_cs, "GET", f"/admin/refusals?api-version={BERTH_VERSION}", None, None, cs_token(env.hub_cs[0])).status, 401)
status, out, err = berth("explain", "dev-b")
row("berth dps explain", (status, "leaf-cn" in out, "mend" in out, '"dev-b"' in out), (0, True, True, True))
status, out, err = berth("explain", "who-is-that")
row("berth dps explain, nothing known", (status, "no refusal" in err), (3, True))
status, out, err = berth("explain", "dev-b", "--json")
row("berth dps explain --json", json.loads(out)["refusals"][0]["rule"], "leaf-cn")
row("mended: the device is assigned", until(20, lambda: final("eager", device_token("eager", key))[1] == "assigned"))
row("and explain says so", "this is mended" in berth("explain", "eager")[1])

# --- the dry run: the same verdicts, and nothing is changed by asking ---------------------------------------------------------------------------------------
def check(**body):
    r = rest(env, env.dps_cs, "POST", f"/admin/check?api-version={BERTH_VERSION}", body)
    assert r.status == 200, r
    return r.json


def failed(j):
    return [c["rule"] for c in j["checks"] if not c["ok"]]


before = env.metrics(-1)
j = check(token=device_token("fresh", derive(gk[0], "fresh")))
row("check: a unit that was never here", (j["registrationId"], j["passes"], j["effect"], j["admittedBy"]["id"], j["deviceId"], j["assignedHub"], j["allocationPolicy"]),
    ("fresh", True, "assign", "sym-grp0", "fresh", env.hubs[0], "hashed"))
row("check: what was looked at", {"token-form", "token-expired", "token-scope", "token-signature", "record-owned", "enrollment-disabled", "hub-none"} <= {c["rule"] for c in j["checks"] if c["ok"]})
row("check: nothing was stored", (explain("fresh").status, service("GET", "/registrations/fresh").status), (404, 404))
row("check: a hundred of them are not slowed", {check(token=device_token("sym-1", new_key()))["passes"] for _ in range(100)}, {False})
after = env.metrics(-1)
row("check: nothing was counted", [k for k in after if k.startswith("berth_dps_") and after[k] != before[k]], [])
for name, want, body in (
        ("wrong key", "token-signature", {"token": device_token("sym-1", new_key())}),
        ("expired", "token-expired", {"token": device_token("sym-1", key, ttl=-4000)}),
        ("no enrollment", "no-enrollment", {"token": device_token("ghost", key)}),
        ("disabled", "enrollment-disabled", {"token": device_token("off", key)}),
        ("another group's record", "record-owned", {"token": device_token("moved", derive(gk[1], "moved"))}),
        ("its hub is gone", "hub-static", {"token": device_token("static", key)}),
        ("CN and id differ", "leaf-cn", {"certificateChain": read("dev-a.chain"), "registrationId": "dev-b"}),
        ("not on the path of a group", "group-not-on-path", {"certificateChain": read("dev-a.chain")}),
        ("no anchor", "chain-no-anchor", {"certificateChain": read("alone.chain")}),
        ("out of its dates", "leaf-dates", {"certificateChain": read("old.chain")}),
        ("neither", "no-credential", {"registrationId": "sym-1"})):
    j = check(**body)
    row(f"check: {name}", (j["passes"], failed(j)), (False, [want]))
enroll("enrollmentGroups", "grp-a", x509_att("root-a"))
j = check(certificateChain=read("dev-a.chain"), payload={"model": 1}, apiVersion="2019-03-31")
row("check: a certificate, admitted by its group", (j["passes"], j["admittedBy"]["id"], j["effect"]), (True, "grp-a", "assign"))
row("check: possession is not proved, and it says so", ["not proved" in n for n in j["notes"]], [True])
row("check: and so it comes", final("dev-a", None, dev)[1], "assigned")
row("check: the second time it would stay", check(certificateChain=read("dev-a.chain"))["effect"], "stay")
never = admin("GET", "refusals/dev-a").json["registration"]
row("check: the record as it was", never["lastUpdatedDateTimeUtc"] == service("GET", "/registrations/dev-a").json["lastUpdatedDateTimeUtc"])
row("check: refused bodies", [rest(env, env.dps_cs, "POST", f"/admin/check?api-version={BERTH_VERSION}", b).code for b in
    ({"x": 1}, {"certificateChain": "nonsense"}, {}, {"registrationId": "-"}, {"certificateChain": read("dev-a.pem") * 12}, [])], [400004] * 6)
def ek():
    """TPM2B_PUBLIC of an RSA 2048 endorsement key by the usual template, base64."""
    m = bytes.fromhex(subprocess.run("openssl genrsa 2048 | openssl rsa -noout -modulus", shell=True, check=True, capture_output=True, text=True).stdout.split("=")[1])
    policy = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
    area = struct.pack(">HHIH", 1, 0x0B, 0x000300B2, 32) + policy + struct.pack(">HHHHHIH", 6, 128, 0x43, 0x10, 2048, 0, 256) + m
    return base64.b64encode(struct.pack(">H", len(area)) + area).decode()


eks = [ek(), ek()]
enroll("enrollments", "chip", {"type": "tpm", "tpm": {"endorsementKey": eks[0]}})
j = check(endorsementKey=eks[0], registrationId="chip")
row("check: a TPM by its endorsement key", (j["passes"], j["effect"], j["admittedBy"]["id"], ["not proved" in n for n in j["notes"]]), (True, "assign", "chip", [True]))
row("check: another TPM", (check(endorsementKey=eks[1], registrationId="chip")["passes"], check(endorsementKey=eks[0], registrationId="nochip")["passes"]), (False, False))
row("check: no key of a TPM", rest(env, env.dps_cs, "POST", f"/admin/check?api-version={BERTH_VERSION}", {"endorsementKey": "AAAA", "registrationId": "chip"}).code, 400004)
with open(os.path.join(T, "tok"), "w") as f:
    f.write(device_token("sym-1", key))
status, out, err = berth("check", "--token-file", os.path.join(T, "tok"))
row("berth dps check: passes", (status, "goes to" in out, "FAILED" in out, err), (0, True, False, ""))
status, out, err = berth("check", "--cert", os.path.join(T, "stray.chain"), "--registration-id", "other")
row("berth dps check: fails", (status, "FAILED" in out, "leaf-cn" in out), (3, True, True))
row("berth dps check --json", json.loads(berth("check", "--token-file", os.path.join(T, "tok"), "--json")[1])["passes"])
row("berth dps check: nothing given", berth("check")[0], 2)

# --- strangers do not push out devices ------------------------------------------------------------------------------------------------------------------
c = Http(env.dps, env.ca)
for i in range(1500):
    c.ask("PUT", f"/{env.scope}/registrations/made-up-{i}/register{DEV_V}", {"Authorization": good}, "{}")
    if i == 1400:
        ask("static", device_token("static", new_key()))
c.close()
kept("in the middle of a flood", "static", "token-signature")
strangers = until(5, lambda: [x for x in admin("GET", "refusals?isEnrolled=false").json["value"] if x["registrationId"].startswith("made-up-")])
row("what did not fit is counted", (len(strangers) + env.metrics(-1)["berth_dps_refusals_not_kept_total"] <= 1500, len(strangers) > 100), (True, True))
done()
