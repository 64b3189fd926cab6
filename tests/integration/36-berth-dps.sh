# SPDX-License-Identifier: Apache-2.0
# berth dps ...: what administrators do every day, against a real DPS. The answers of REST are the other tests' matter.
. "$SRC/lib.sh"
sandbox_up --hubs 1
d() { "$BERTH" dps "$@" --env "$ENV" 2>"$T/err"; }
lines() { wc -l | tr -d ' '; }
of() { python3 -c 'import json,sys; print(eval(sys.argv[1], {"e": [json.loads(x) for x in sys.stdin if x.strip()]}))' "$1"; }

# --- enrollments, one at a time ---------------------------------------------------------------------------------------------------
check_run "an enrollment by key" d enrollment create unit-1 --symmetric --key-file "$T/unit-1.key" --device-id Unit-1 --edge
check "its key is private" "$(stat -c %a "$T/unit-1.key")" 600
check "and is the stored one" "$(d enrollment keys unit-1 --key-file "$T/again.key" >/dev/null; cat "$T/again.key")" "$(cat "$T/unit-1.key")"
check "a key file is never written over" "$(d enrollment keys unit-1 --key-file "$T/again.key" --secondary >/dev/null; echo $?)" 1
check "the secondary key is another one" "$(d enrollment keys unit-1 --secondary --key-file "$T/second.key" >/dev/null; cmp -s "$T/second.key" "$T/again.key"; echo $?)" 1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN=unit-2 -keyout "$T/u2.key" -out "$T/u2.pem" 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN=unit-2 -keyout "$T/u3.key" -out "$T/u3.pem" 2>/dev/null
check_run "an enrollment by two certificates, disabled" d enrollment create unit-2 --cert "$T/u2.pem" --secondary-cert "$T/u3.pem" --disabled
check "both are there" "$(d enrollment show unit-2 | of 'sorted(e[0]["attestation"]["x509"]["clientCertificates"]), e[0]["provisioningStatus"]')" "(['primary', 'secondary'], 'disabled')"
check_run "enable" d enrollment enable unit-2
check "enabled, and its certificates kept" "$(d enrollment show unit-2 | of 'sorted(e[0]["attestation"]["x509"]["clientCertificates"]), e[0]["provisioningStatus"]')" "(['primary', 'secondary'], 'enabled')"
check_run "disable" d enrollment disable unit-1 --json
check "one of three ways, not two" "$(d enrollment create x --symmetric --cert "$T/u2.pem" >/dev/null; echo $?)" 1
check "a secondary wants a primary" "$(d enrollment create x --symmetric --secondary-cert "$T/u2.pem" >/dev/null; echo $?)" 1
check "what is there already is refused" "$(d enrollment create unit-1 --symmetric >/dev/null; echo $?)" 3

# --- many -------------------------------------------------------------------------------------------------------------------------
python3 - >"$T/many.jsonl" <<'EOF'
import json
for i in range(237):
    print(json.dumps({"registrationId": f"many-{i:03}", "attestation": {"type": "symmetricKey"}, "provisioningStatus": "disabled" if i % 10 == 0 else "enabled"}))
EOF
check "237 in batches of ten" "$(d enrollment import "$T/many.jsonl")" "237 done, 0 refused"
check "once more: each is refused, by its line" "$(d enrollment import "$T/many.jsonl" --json | of 'e[-1], e[0], len(e)')" \
    "({'done': 0, 'failed': 237}, {'line': 1, 'id': 'many-000', 'errorCode': 409201, 'errorStatus': 'Enrollment already exists.'}, 238)"
check "its exit status says so" "$(d enrollment import "$T/many.jsonl" >/dev/null; echo $?)" 3
check_has "for people too" "$(cat "$T/err")" "line 237: 'many-236': 409201 Enrollment already exists."
check "all of a prefix" "$(d enrollment list --prefix MANY- --page 50 | lines)" 237
check "filters together" "$(d enrollment list --prefix many- --status disabled --attestation symmetricKey | lines)" 24
check "a condition" "$(d enrollment list --where "registrationId IN ['many-001','many-002'] OR deviceId = 'Unit-1'" | of '[x["registrationId"] for x in e]')" "['many-001', 'many-002', 'unit-1']"
check "a quote in a filter stays a text" "$(d enrollment list --prefix "x' OR true OR 'a' = '" | lines)" 0
check "a bad condition" "$(d enrollment list --where "registrationId =" >/dev/null; echo $?)" 3
d enrollment list --prefix many- >"$T/all.jsonl"
check "delete them, from standard input" "$(cat "$T/all.jsonl" | d enrollment import - --mode delete)" "237 done, 0 refused"
check "gone" "$(d enrollment list --prefix many- | lines)" 0
printf '{"registrationId":"ok-1","attestation":{"type":"symmetricKey"}}\n\n{nonsense\n' >"$T/bad.jsonl"
check "a line that is no JSON ends it" "$(d enrollment import "$T/bad.jsonl" >/dev/null; echo $?)" 1
check_has "and is named" "$(cat "$T/err")" "line 3:"
check "a mode that is none" "$(d enrollment import "$T/bad.jsonl" --mode replace >/dev/null; echo $?)" 2

# --- groups, CAs -------------------------------------------------------------------------------------------------------------------
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=Line Root' -addext 'basicConstraints=critical,CA:TRUE' \
    -keyout "$T/root.key" -out "$T/root.pem" 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=Line Root 2' -addext 'basicConstraints=critical,CA:TRUE' \
    -keyout "$T/root2.key" -out "$T/root2.pem" 2>/dev/null
check_run "CA added" d ca add line --cert "$T/root.pem"
code=$(d ca code line | of 'e[0]["properties"]["verificationCode"]')
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$code" -keyout "$T/p.key" -out "$T/p.csr" 2>/dev/null
openssl x509 -req -in "$T/p.csr" -CA "$T/root.pem" -CAkey "$T/root.key" -set_serial 7 -days 1 -out "$T/p.pem" 2>/dev/null
check_run "CA proved" d ca verify line --cert "$T/p.pem"
check_run "another CA" d ca add line2 --cert "$T/root2.pem" --verified
check_run "a group by reference, with a second for rotation" d group create line-1 --ca-reference line --secondary-ca-reference line2
check_run "a group by two certificates" d group create line-2 --signing-cert "$T/root.pem" --secondary-cert "$T/root2.pem" --disabled
check "how long it lives" "$(d ca list | of '[c["properties"]["expiresInDays"] for c in e[0]["value"]]')" "[29, 29]"
check "whom it admits" "$(d ca dependents line --page 1 | of '[(g["enrollmentGroupId"], g["by"]) for g in e[0]["groups"]], e[0]["registrations"]')" \
    "([('line-1', 'caReferences'), ('line-2', 'signingCertificates')], 0)"
check "replaced by another it has to be proved anew" "$(d ca replace line --cert "$T/root2.pem" >/dev/null; d ca show line | of 'e[0]["properties"]["isVerified"]')" False
check "groups are listed with filters" "$(d group list --attestation x509 --status disabled | of '[g["enrollmentGroupId"] for g in e]')" "['line-2']"
check_run "a group by key" d group create keys --symmetric --key-file "$T/g.key"
check "its key again" "$(d group keys keys --key-file "$T/g2.key" >/dev/null; cmp -s "$T/g.key" "$T/g2.key"; echo $?)" 0
check_run "group disabled" d group disable keys
check "and enabled" "$(d group enable keys >/dev/null; d group show keys | of 'e[0]["provisioningStatus"]')" enabled
echo '{"attestation":{"type":"symmetricKey"}}' >"$T/g.json"
check_run "a group from a document" d group put doc --body "$T/g.json"
printf '{"enrollmentGroupId":"doc"}\n{"enrollmentGroupId":"keys"}\n' >"$T/del.jsonl"
check "groups deleted by lines" "$(d group import "$T/del.jsonl" --mode delete)" "2 done, 0 refused"

# --- the rest of the plane ---------------------------------------------------------------------------------------------------------
check "a linked hub" "$(d hub show "$NET.2" | of 'e[0]["connectionString"].split("SharedAccessKey=")[1]')" "****"
echo '{"allocationPolicy":"Static"}' >"$T/s.json"
check "settings" "$(d settings set --body "$T/s.json" >/dev/null; d settings show | of 'e[0]["allocationPolicy"]')" Static
check_run "clock" d clock show
check "no records of a group yet" "$(d registration list line-1 | lines)" 0
finish
