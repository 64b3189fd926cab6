# SPDX-License-Identifier: Apache-2.0
# The DPS service API: bad input by curl, then the good paths (dps_service.py). docs/protocol/dps-service-rest.md Part D.
# Compressed bodies at every route of both servers (codings.py). threat:N6
# time-limit: 150
. "$SRC/lib.sh"
sandbox_up --hubs 1
cs=$(env_get 'e["dpsServiceConnectionString"]')
V='?api-version=2021-10-01'
KEY=$(openssl rand -base64 64 | tr -d '\n')
SYM='"attestation":{"type":"symmetricKey"}'
case_of() { # name, status, code, method, path, [body]; CT, IF_MATCH, TOKEN
    local got
    got=$(curl -sS -m 20 --cacert "$SB/ca.pem" -X "$4" -H "Authorization: ${TOKEN-$(cs_token "$cs")}" -H "Content-Type: ${CT:-application/json}" \
        ${IF_MATCH:+-H "If-Match: $IF_MATCH"} ${6+--data-binary "$6"} -w '\n%{http_code}' "https://$NET.1$5")
    check "$1" "${got##*$'\n'} $(printf %s "${got%$'\n'*}" | sed -n 's/.*"errorCode":\([0-9]*\).*/\1/p')" "$2 $3"
}
case_of "made" 200 "" PUT "/enrollments/e1$V" "{\"registrationId\":\"e1\",$SYM}"
case_of "group made" 200 "" PUT "/enrollmentGroups/g1$V" "{\"enrollmentGroupId\":\"g1\",$SYM}"
case_of "dps-service:1 no api-version" 400 400001 GET /enrollments/e1
case_of "dps-service:1 unknown api-version" 400 400001 GET '/enrollments/e1?api-version=1999-01-01'
TOKEN='' case_of "dps-service:2 no token" 401 401002 GET "/enrollments/e1$V"
TOKEN=$(sas "$NET.1" "$(openssl rand -base64 32)" provisioningserviceowner) case_of "dps-service:2 wrong key" 401 401002 GET "/enrollments/e1$V"
TOKEN=$(sas "$NET.1" "$(openssl rand -base64 32)" nobody) case_of "dps-service:2 unknown policy" 401 401002 GET "/enrollments/e1$V"
case_of "dps-service:4 not JSON" 400 400006 PUT "/enrollments/e2$V" '{'
case_of "dps-service:5 empty body" 400 400005 PUT "/enrollments/e2$V" ''
CT=text/plain case_of "dps-service:6 text/plain" 415 415000 PUT "/enrollments/e2$V" "{\"registrationId\":\"e2\",$SYM}"
case_of "dps-service:7 no id" 405 405000 PUT "/enrollments$V" "{$SYM}"
case_of "dps-service:8 id with a blank" 400 400202 PUT "/enrollments/a%20b$V" "{\"registrationId\":\"a b\",$SYM}"
case_of "dps-service:8 id that begins with -" 400 400202 PUT "/enrollments/-a$V" "{\"registrationId\":\"-a\",$SYM}"
case_of "dps-service:8 id that ends with ." 400 400202 PUT "/enrollments/a.$V" "{\"registrationId\":\"a.\",$SYM}"
case_of "dps-service:9 group id" 400 400204 PUT "/enrollmentGroups/a%20b$V" "{\"enrollmentGroupId\":\"a b\",$SYM}"
case_of "dps-service:10 ids differ" 400 400004 PUT "/enrollments/e2$V" "{\"registrationId\":\"e3\",$SYM}"
case_of "dps-service:11 no attestation" 400 400005 PUT "/enrollments/e2$V" '{"registrationId":"e2"}'
case_of "dps-service:11 unknown type" 400 400004 PUT "/enrollments/e2$V" '{"registrationId":"e2","attestation":{"type":"magic"}}'
case_of "dps-service:12 tpm in a group" 400 400004 PUT "/enrollmentGroups/g2$V" '{"enrollmentGroupId":"g2","attestation":{"type":"tpm","tpm":{"endorsementKey":"AAAA"}}}'
case_of "dps-service:13 certificate garbage" 400 400004 PUT "/enrollments/e2$V" '{"registrationId":"e2","attestation":{"type":"x509","x509":{"clientCertificates":{"primary":{"certificate":"garbage"}}}}}'
case_of "dps-service:15 one key only" 400 400004 PUT "/enrollments/e2$V" "{\"registrationId\":\"e2\",\"attestation\":{\"type\":\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":\"$KEY\"}}}"
case_of "dps-service:15 no base64" 400 400004 PUT "/enrollments/e2$V" '{"registrationId":"e2","attestation":{"type":"symmetricKey","symmetricKey":{"primaryKey":"!","secondaryKey":"!"}}}'
case_of "dps-service:16 missing caReference" 400 400004 PUT "/enrollmentGroups/g2$V" '{"enrollmentGroupId":"g2","attestation":{"type":"x509","x509":{"caReferences":{"primary":"none"}}}}'
case_of "dps-service:17 iotHubs without a policy" 400 400004 PUT "/enrollments/e2$V" "{\"registrationId\":\"e2\",$SYM,\"iotHubs\":[\"$NET.2\"]}"
case_of "dps-service:19 unknown allocationPolicy" 400 400004 PUT "/enrollments/e2$V" "{\"registrationId\":\"e2\",$SYM,\"allocationPolicy\":\"luck\"}"
case_of "dps-service:20 initialTwin with a dot" 400 400004 PUT "/enrollments/e2$V" "{\"registrationId\":\"e2\",$SYM,\"initialTwin\":{\"properties\":{\"desired\":{\"a.b\":1}}}}"
case_of "dps-service:21 migrateDeviceData as text" 400 400004 PUT "/enrollments/e2$V" "{\"registrationId\":\"e2\",$SYM,\"reprovisionPolicy\":{\"updateHubAssignment\":true,\"migrateDeviceData\":\"yes\"}}"
case_of "dps-service:22 exists already" 409 409201 PUT "/enrollments/e1$V" "{\"registrationId\":\"e1\",$SYM}"
case_of "dps-service:22 group exists" 409 409202 PUT "/enrollmentGroups/g1$V" "{\"enrollmentGroupId\":\"g1\",$SYM}"
IF_MATCH='*' case_of "dps-service:23 If-Match * on a missing one" 404 404201 PUT "/enrollments/e9$V" "{\"registrationId\":\"e9\",$SYM}"
IF_MATCH='"AAAA"' case_of "dps-service:24 stale etag on PUT" 412 412001 PUT "/enrollments/e1$V" "{\"registrationId\":\"e1\",$SYM}"
IF_MATCH='AAAA' case_of "dps-service:24 stale etag on DELETE" 412 412001 DELETE "/enrollments/e1$V"
case_of "dps-service:25 missing enrollment" 404 404201 GET "/enrollments/none$V"
case_of "dps-service:25 missing group" 404 404204 DELETE "/enrollmentGroups/none$V"
case_of "dps-service:25 missing registration" 404 404202 GET "/registrations/none$V"
case_of "dps-service:26 bulk of 0" 400 400004 POST "/enrollments$V" '{"mode":"create","enrollments":[]}'
one="{\"registrationId\":\"b1\",$SYM}"
case_of "dps-service:26 bulk of 11" 400 400205 POST "/enrollments$V" "{\"mode\":\"create\",\"enrollments\":[$one,$one,$one,$one,$one,$one,$one,$one,$one,$one,$one]}"
case_of "dps-service:27 bulk, one id twice" 400 400206 POST "/enrollments$V" "{\"mode\":\"create\",\"enrollments\":[$one,{\"registrationId\":\"B1\",$SYM}]}"
case_of "dps-service:28 query that is none" 400 400004 POST "/enrollments/query$V" '{"query":"SELEKT"}'
case_of "nothing of it was kept" 404 404201 GET "/enrollments/e2$V"
py dps_service.py
py codings.py
finish
