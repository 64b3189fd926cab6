# SPDX-License-Identifier: Apache-2.0
"""docs/protocol/sas.md section 12 against a hub (HTTPS and MQTT) and a DPS. Run by 22-sas.sh."""
import itertools

from kit import *

env = Env()
host = env.hub
K = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
KB = "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+fw=="
for d in ("dev-1", "dev-10", "dev"):
    put_device(env, d, K, key2=KB)
star = "a*b'c(d)"
put_device(env, star, K)
GOOD, BAD = 204, 401


def post(tok, did="dev-1"):
    return http(host, env.ca, "POST", f"/devices/{quote(did)}/messages/events{HUB_V}", {"Authorization": tok}, b"x").status


def link(tok, did="dev-1"):
    return hub_link(env, did, None, password=tok)[1]


def case(name, tok, good, did="dev-1", mqtt=True):
    attempt(f"{name}: HTTPS", lambda: post(tok, did), GOOD if good else BAD)
    if mqtt:
        attempt(f"{name}: MQTT", lambda: link(tok, did), 0 if good else 5)


R = f"{host}/devices/dev-1"
se = int(time.time()) + 600
low = R.replace("/", "%2f")
case("S1 upper hex (V1)", sas(R, K, se=4102444800), True)
case("S1 Java's order (V1j)", sas(R, K, order="sig se sr"), True)
case("S1 lower hex (V2)", sas(R, K, sr=low), True)
case("S1 raw (V3)", sas(R, K, raw=True), True)
case("S1 id with * ' ( ) as Node encodes (V10)", sas("", K, sr=f"{host}%2Fdevices%2Fa%2ab%27c%28d%29"), True, did=star)
case("S1 the same id, raw", sas(f"{host}/devices/{star}", K, raw=True), True, did=star)
case("S3 hex changed after signing", sas(R, K).replace("%2Fdevices", "%2fdevices"), False)
sig = mac(K, f"{low}\n{se}")
case("S4 sig in upper-case hex", f"SharedAccessSignature sr={low}&sig={quote(sig)}&se={se}", True)
while "+" not in sig:
    se += 1
    sig = mac(K, f"{low}\n{se}")
case("S5 sig not encoded at all, with a plus", f"SharedAccessSignature sr={low}&sig={sig}&se={se}", True)
p = cs(env.hub_cs[0])
for order in itertools.permutations(("sr", "sig", "se", "skn")):
    attempt(f"S6 order {' '.join(order)}", lambda: post(sas(host, p["SharedAccessKey"], "iothubowner", order=" ".join(order))), GOOD)
t = sas(R, K)
case("S7 names in other case", t.replace("sr=", "SR=").replace("sig=", "Sig="), True)
case("S8 prefix in lower case", t.replace("SharedAccessSignature", "sharedaccesssignature"), False)
case("S9 two blanks", t.replace(" ", "  "), True)
case("S9 three words", t + " x", False)
for f in ("sr", "sig", "se"):
    case(f"S10 without {f}", "SharedAccessSignature " + "&".join(x for x in t.split(" ")[1].split("&") if not x.startswith(f + "=")), False)
for v in ("", "-1", "12x", "9" * 25, "1e10", "4102444800.0"):
    case(f"S11 se {v!r}", sas(R, K, se=v), False)
case("S12 299 s late", sas(R, K, ttl=-295), True, mqtt=False)
case("S12 301 s late", sas(R, K, ttl=-301), False)
case("S13 milliseconds", sas(R, K, se=1767225600000), True)
case("S13 19 nines", sas(R, K, se="9" * 19), True)
case("S14 secondary key", sas(R, KB), True)
case("S16 of another device", t, False, did="dev-10")
case("S17 a prefix that ends inside a word", sas(f"{host}/devices/dev", K), False)
keys = {}
for name in ("device", "service", "registryRead"):
    r = rest(env, env.hub_cs[0], "POST", f"/admin/policies/{name}/listKeys?api-version={BERTH_VERSION}")
    assert r.status == 200, r
    keys[name] = r.json["primaryKey"]
case("S18 policy device, all devices", sas(f"{host}/devices", keys["device"], "device"), True)
case("S18 policy device, one device", sas(R, keys["device"], "device"), True)
case("S18 policy device, another device", sas(f"{host}/devices/dev-10", keys["device"], "device"), False)
case("S19 policy service as a device", sas(R, keys["service"], "service"), False)
put_device(env, "victim", K)
attempt("S20 registryRead reads", lambda: rest(env, env.hub_cs[0], "GET", "/devices/victim" + HUB_V, token=sas(host, keys["registryRead"], "registryRead")).status, 200)
for m, body in (("PUT", {"deviceId": "victim", "status": "disabled"}), ("DELETE", None)):
    attempt(f"S20 registryRead, {m}", lambda: rest(env, env.hub_cs[0], m, "/devices/victim" + HUB_V, body, {"If-Match": "*"},
                                                   token=sas(host, keys["registryRead"], "registryRead")).status, 401)
attempt("S20 and nothing was written", lambda: rest(env, env.hub_cs[0], "GET", "/devices/victim" + HUB_V).json["status"], "enabled")
case("S21 unknown policy", sas(R, K, "nobody"), False)
case("S23 of another hub", sas(f"{env.hubs[1]}/devices/dev-1", K), False)
case("S23 of no hub", sas("evil.example/devices/dev-1", K), False)
attempt("S24 NUL inside: MQTT", lambda: link(t[:40] + "\0" + t[40:]), 5)
attempt("S24 LF inside: MQTT", lambda: link(t[:40] + "\r\n" + t[40:]), 5)
attempt("S24 NUL inside: HTTPS", lambda: post(t[:40] + "\0" + t[40:]), lambda s: s in (400, 401))
attempt("S24 the log holds whole lines", lambda: [x for x in env.log("hub1").split("\n") if x and not x.startswith(("ts=", "berth-hub: initialised"))], [])


def huge():
    c = Http(host, env.ca)
    return c.ask("POST", f"/devices/dev-1/messages/events{HUB_V}", {"Authorization": "SharedAccessSignature sr=" + "x" * 70000}, b"x").status


attempt("S25 70,000 bytes over HTTPS", huge, lambda s: s in (400, 431))
case("S25 4,097 bytes", t + "&x=" + "y" * (4097 - len(t) - 3), False, mqtt=True)
raw = base64.b64decode(mac(K, quote(R) + f"\n{se}"))
for name, s in (("31 bytes", base64.b64encode(raw[:31])), ("33 bytes", base64.b64encode(raw + b"x")), ("empty", b""), ("nonsense", b"!!!!")):
    case(f"S26 sig of {name}", f"SharedAccessSignature sr={quote(R)}&sig={quote(s.decode())}&se={se}", False)
n = se
while not {"+", "/"} & set(mac(K, quote(R) + f"\n{n}")):
    n += 1
case("S26 URL-safe alphabet", f"SharedAccessSignature sr={quote(R)}&sig={mac(K, quote(R) + chr(10) + str(n)).replace('+', '-').replace('/', '_')}&se={n}", False)
case("S29 api-version tail", sas(R + "/api-version=2016-11-14", K), True)
case("S29 another tail", sas(R + "/other", K), False)
case("S30 sr twice", t + "&sr=" + quote(R), False)
up = "LOCALHOST"
tok = sas(env.dps_cs.split(";")[0][9:], cs(env.dps_cs)["SharedAccessKey"], "provisioningserviceowner")
attempt("S22 host in other letters (a name of the DPS)", lambda: rest(env, env.dps_cs, "GET", "/enrollments/none" + DPS_V,
                                                                     token=sas(up, cs(env.dps_cs)["SharedAccessKey"], "provisioningserviceowner")).status, 404)
m, c = hub_link(env, "dev", K)
put_device(env, "dev", new_key(), key2=KB, if_match="*")
attempt("S15 the old primary at the next connect", lambda: hub_link(env, "dev", K)[1], 5)
attempt("S15 the secondary still", lambda: hub_link(env, "dev", KB)[1], 0)
attempt("N8 unknown, disabled and wrong key are told the same", lambda: len({
    tuple(sorted(k for k in http(host, env.ca, "POST", f"/devices/{d}/messages/events{HUB_V}", {"Authorization": sas(f"{host}/devices/{d}", k)}, b"x").json)) for d, k in
    (("nobody", K), ("dev-1", new_key()))}), 1)

# --- DPS ----------------------------------------------------------------------------------------------------------------------
G = new_key(64)
for gid, body in (("/enrollments/reg-1", {"registrationId": "reg-1", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": K, "secondaryKey": KB}}}),
                  ("/enrollmentGroups/g", {"enrollmentGroupId": "g", "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": G, "secondaryKey": new_key(64)}}})):
    r = rest(env, env.dps_cs, "PUT", gid + DPS_V, body)
    assert r.status == 200, r


def put(tok, rid="reg-1"):
    return http(env.dps, env.ca, "PUT", f"/{env.scope}/registrations/{rid}/register{DEV_V}", {"Authorization": tok, "Content-Type": "application/json"}, "{}").status


def dcase(name, tok, want, rid="reg-1"):
    attempt(f"{name}: DPS", lambda: put(tok, rid), want)


D = f"{env.scope}/registrations/reg-1"
dcase("S2 raw, skn first (V6)", sas(D, K, "registration", raw=True, order="sr sig skn se"), 202)
dcase("S2 encoded (V7)", sas(D, K, "registration"), 202)
dcase("S2 empty skn (V7j)", sas(D, K, ""), 202)
dcase("S2 no skn (V7p)", sas(D, K), 202)
dcase("S2 secondary", sas(D, KB, "registration"), 202)
dcase("S2 group, derived (V8)", sas(f"{env.scope}/registrations/reg-2", derive(G, "reg-2"), "registration"), 202, "reg-2")
dcase("S27 the group key itself", sas(f"{env.scope}/registrations/reg-3", G, "registration"), 401, "reg-3")
dcase("S28 derived for another", sas(f"{env.scope}/registrations/reg-4", derive(G, "reg-2"), "registration"), 401, "reg-4")
dcase("S16 of another registration", sas(D, K, "registration"), 401, "reg-2")
dcase("S12 expired", sas(D, K, "registration", ttl=-301), 401)
dcase("S23 of another scope", sas("0neOTHER/registrations/reg-1", K, "registration"), 401)
dcase("S30 se twice", sas(D, K, "registration") + "&se=4102444800", 401)
dcase("a service policy's name", sas(D, K, "provisioningserviceowner"), 401)
# service, V9 and what may not pass
p = cs(env.dps_cs)
for name, tok, want in (("V9", cs_token(env.dps_cs), 404), ("below its path", sas(env.dps + "/enrollments", p["SharedAccessKey"], p["SharedAccessKeyName"]), 404),
                        ("without skn", sas(env.dps, p["SharedAccessKey"]), 401), ("wrong key", sas(env.dps, new_key(), p["SharedAccessKeyName"]), 401),
                        ("a path beside", sas(env.dps + "/enroll", p["SharedAccessKey"], p["SharedAccessKeyName"]), 401)):
    attempt(f"S2 service token, {name}", lambda: rest(env, env.dps_cs, "GET", "/enrollments/none" + DPS_V, token=tok).status, want)
done()
