# SPDX-License-Identifier: Apache-2.0
# Certificates issued inside registrations (issuance.py): issuing CAs with a key that the DPS keeps, under an offline root; in a SoftHSM
# token; in a software TPM. Both preview contracts, MQTT and HTTPS, requests and verification by openssl, hub connections with what was
# issued; a TPM that goes away; kill -9 between signing and the answer; berth-agent with a certificate of its own, renewed.
# All keys are behind berth-signer, which is killed and comes back, and plays against a hostile client.
# dps-device:D35 dps-device:D36 threat:C8 threat:S5
# time-limit: 300
. "$SRC/lib.sh"
for p in softhsm2-util pkcs11-tool swtpm tpm2_createprimary mosquitto_pub; do command -v $p >/dev/null || skip "no $p"; done
[ -e "$(openssl version -e | sed 's/.*"\(.*\)"/\1/')/pkcs11.so" ] || skip "no libengine-pkcs11-openssl"
[ -e "$(openssl version -m | sed 's/.*"\(.*\)"/\1/')/tpm2.so" ] || skip "no tpm2-openssl"
module=$(ls /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so 2>/dev/null | head -n 1)
[ -n "$module" ] || skip "no libsofthsm2.so"

# a token with a key, and its PIN in a file
mkdir -m 700 "$T/token" "$T/tpm"
export SOFTHSM2_CONF=$T/softhsm2.conf
echo "directories.tokendir = $T/token" >"$SOFTHSM2_CONF"
(umask 077 && echo 735194 >"$T/pin")
softhsm2-util --init-token --free --label berth --pin 735194 --so-pin 8821 >/dev/null || die "softhsm2-util"
pkcs11-tool --module "$module" --login --pin 735194 --token-label berth --keypairgen --key-type EC:prime256v1 --label ca --id 01 >/dev/null 2>&1 || die "pkcs11-tool"

# a TPM with a key at a persistent handle, and one in a file
swtpm_start() {
    swtpm socket --tpm2 --tpmstate "dir=$T/tpm" --server "type=tcp,port=2321,bindaddr=$NET.9" --ctrl "type=tcp,port=2322,bindaddr=$NET.9" \
        --flags not-need-init,startup-clear >>"$T/swtpm.log" 2>&1 &
    TPM_PID=$!
    PIDS+=("$TPM_PID")
    wait_until 10 bash -c "exec 3<>/dev/tcp/$NET.9/2322"
}
export TPM2TOOLS_TCTI=swtpm:host=$NET.9,port=2321 TPM2OPENSSL_TCTI=swtpm:host=$NET.9,port=2321
swtpm_start || die "swtpm"
(cd "$T" && tpm2_createprimary -Q -C o -G ecc256 -c prim.ctx &&
    tpm2_create -Q -C prim.ctx -G ecc256:ecdsa-sha256 -u k.pub -r k.priv -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign' &&
    tpm2_flushcontext -t && tpm2_load -Q -C prim.ctx -u k.pub -r k.priv -c k.ctx && tpm2_evictcontrol -Q -C o -c k.ctx 0x81000001 &&
    tpm2_flushcontext -t && openssl genpkey -provider tpm2 -algorithm EC -pkeyopt group:P-256 -out tpm.pem) >"$T/tpm.out" 2>&1 || die "tpm2-tools: $(tail -n 3 "$T/tpm.out")"

mkdir -m 700 "$T/signer"
cat >"$T/signer.conf" <<CONF
[signer]
data-dir = $T/signer
socket = $T/signer.sock
allow-users = $(id -u)
server-certificates = yes
pkcs11-module = $module
pkcs11-pin-file = $T/pin
CONF
signer_start() { start signer "$SIGNER" "$T/signer.conf"; }
check_run "the signer" signer_start
SIGNER_PID=$PID

sandbox_up --hubs 1
dps=$(pid_of dps)
kill -TERM "$dps"
wait_until 20 gone "$dps"
dps_start() { start dps "$DPS" "$SB/dps/berth.conf" --set "issuer.signer=$T/signer.sock" --set dps.register-burst=0 --set dps.poll-burst=0; }
check_run "the DPS with a signer" dps_start
issuer() { "$BERTH" dps issuer "$@" --env "$ENV"; }

# an intermediate under a root that stays offline
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout "$T/offline.key" -out "$T/offline.pem" -subj "/CN=Offline Root" -days 3650 \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign >/dev/null 2>&1
check_has "made here, it waits" "$(issuer create kept --key-type P-384 --cn "Example Devices")" "waits for its certificate"
issuer csr kept >"$T/kept.csr"
printf 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n' >"$T/ca.ext"
openssl x509 -req -in "$T/kept.csr" -CA "$T/offline.pem" -CAkey "$T/offline.key" -CAcreateserial -days 1000 -extfile "$T/ca.ext" -out "$T/kept.pem" 2>/dev/null
cat "$T/kept.pem" "$T/offline.pem" >"$T/kept.chain"
check_has "signed offline, it is ready" "$(issuer set kept --cert "$T/kept.chain")" "is ready"
check_has "in a token" "$(issuer create token --token-uri 'pkcs11:token=berth;object=ca' --self-signed)" "is ready"
check_has "in a TPM, by handle" "$(issuer create tpm --tpm-handle handle:0x81000001 --self-signed)" "is ready"
check_has "in a TPM, by a key file" "$(issuer create tpmfile --tpm-key "$T/tpm.pem" --self-signed)" "is ready"
check_has "a key that is not there" "$(issuer create none --token-uri 'pkcs11:token=berth;object=none' --self-signed 2>&1)" "does not give the key"
check "and nothing was made of it" "$(issuer show none >/dev/null 2>&1; echo $?)" 3
cp "$T/offline.pem" "$T/kept.root"
for n in token tpm tpmfile; do issuer cert $n >"$T/$n.root"; done
check "no private key leaves" "$(issuer list | grep -c PRIVATE)" 0
check "no key in clear in the database" "$(strings -a "$SB"/dps/data/*.db* | grep -cE 'BEGIN (EC )?PRIVATE|735194')" 0

export DPS_PID=$PID TPM_PID
py issuance.py requests
DPS_PID=$PID

# the TPM goes away, and comes back
kill -KILL "$TPM_PID"
wait "$TPM_PID" 2>/dev/null
py issuance.py away &
away=$!
check_run "the log says that the TPM is away" wait_until 30 grep -q "dps.certificate_delayed .*ca=tpm" "$T/dps.log"
swtpm_start
wait "$away" || BAD=$((BAD + 1))

for i in 1 2 3 4 5 6; do
    py issuance.py begin "$i" "$PID"
    wait "$PID" 2>/dev/null
    check_run "round $i: started again" dps_start
    py issuance.py end "$i"
done
py issuance.py log

# the wall
book=$(ls "$T"/signer/book-*.jsonl | tail -n 1)
check_run "the signer's book is whole" "$BERTH" audit verify "$book"
check "a second signer is refused" "$("$SIGNER" --config "$T/signer.conf" 2>&1 | grep -c 'used by another process')" 1
check "the DPS has no key that opens what the signer sealed" "$(cmp -s "$T/signer/master.keys" "$SB/dps/data/master.key"; echo $?)" 1
py issuance.py wall "$T/signer.sock" "$SIGNER_PID" "$T/signer.log"
kill -KILL "$SIGNER_PID"
wait "$SIGNER_PID" 2>/dev/null
py issuance.py unsigned &
away=$!
check_run "the log says that the signer is away" wait_until 30 grep -q "dps.certificate_delayed .*ca=kept .*signer" "$T/dps.log"
check_run "the signer comes back" signer_start
SIGNER_PID=$PID
wait "$away" || BAD=$((BAD + 1))
for b in "$T"/signer/book-*.jsonl; do check_run "its book is whole after kill -9" "$BERTH" audit verify "$b"; done
check "each certificate that was told stands in it" "$("$BERTH" dps cert list --env "$ENV" --json | python3 -c '
import json, re, sys
told = set(re.findall(r"\"serialNumber\": ?\"([0-9A-F]+)\"", sys.stdin.read()))
book = set(json.loads(l)["act"].split()[2] for f in sys.argv[1:] for l in open(f) if json.loads(l)["act"].startswith("issue "))
print("yes" if told and told <= book else (len(told), sorted(told - book)[:3]))' "$T"/signer/book-*.jsonl)" yes

# the agent: asks at its registration, connects with what it got, renews it; what fails changes nothing
cs=$(env_get 'e["dpsServiceConnectionString"]')
(umask 077 && openssl rand -base64 64 | tr -d '\n' >"$T/units.key")
units() { # policy or nothing, If-Match or nothing
    IF_MATCH=${2:-} status_of "$cs" PUT "/enrollmentGroups/units?api-version=2021-10-01" \
        "{\"attestation\":{\"type\":\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":\"$(cat "$T/units.key")\",\"secondaryKey\":\"$(cat "$T/units.key")\"}}${1:+,\"clientCertificateIssuancePolicy\":$1}}"
}
policy='{"certificateAuthorityName":"token","validityMinutes":1}'
check "a group whose certificates live a minute" "$(units "$policy")" 200
check_run "a unit of it" "$ENROLL" burn --serial sn-1 --identity "$T/sn-1" --env "$ENV" --station "$T/station" --group-key-file "$T/units.key"
printf '[agent]\ncertificate = yes\nrenew-at = 20\n' >"$T/agent.conf"
agent() {
    "$AGENT" --config "$T/agent.conf" --identity "$T/sn-1" --state "$T/sn-1.state" --telemetry-interval 1 >>"$T/agent.log" 2>&1 &
    AGENT_PID=$!
    PIDS+=("$AGENT_PID")
}
at_least() { [ "$(grep -c "$1" "$T/agent.log")" -ge "$2" ]; }
current() { readlink "$T/sn-1/current"; }
thumb() { openssl x509 -in "$T/sn-1/current/device.pem" -noout -fingerprint -sha256 | cut -d= -f2 | tr -d :; }
agent
check_run "the agent is connected" wait_until 20 at_least event=agent.hub_up 1
check "with a certificate of its own" "$(current) $(stat -c %a "$T"/sn-1/a "$T"/sn-1/a/device.key | tr '\n' ' ')" "a 700 600 "
check_has "which the hub knows it by" "$("$BERTH" hub device show sn-1 --env "$ENV")" "$(thumb)"
check "and what was burned is as it was" "$(ls "$T/sn-1/factory" | tr '\n' ' ')" "ca.pem identity.json key "
check_run "it is renewed" wait_until 40 at_least event=agent.hub_up 2
check "in the other slot" "$(current) $(grep -c agent.certificate_issued "$T/agent.log")" "b 2"
check "no renewal failed" "$(grep -c agent.renewal_failed "$T/agent.log")" 0
check "the policy goes" "$(units "" '*')" 200
check_run "the renewal fails" wait_until 40 at_least event=agent.renewal_failed 1
check_run "and the unit is connected all the same" wait_until 20 at_least event=agent.hub_up 3
check "with the certificate that it had" "$(current)" b
kill -KILL "$AGENT_PID"
wait "$AGENT_PID" 2>/dev/null
check "the policy comes back" "$(units "$policy" '*')" 200
n=$(grep -c agent.hub_up "$T/agent.log") asked=$(grep -c agent.assigned "$T/agent.log")
agent
check_run "after kill -9 it is connected" wait_until 20 at_least event=agent.hub_up $((n + 1))
check "without asking the DPS first" "$(sed -n '/event=agent.start/,$p' "$T/agent.log" | tac | sed '/event=agent.start/q' | tac | grep -m 1 -oE 'agent.(assigned|hub_up)')" agent.hub_up
kill -KILL "$AGENT_PID"
wait "$AGENT_PID" 2>/dev/null
: >"$T/sn-1/$(current)/device.pem"
n=$(grep -c agent.hub_up "$T/agent.log")
agent
check_run "a damaged certificate is said so" wait_until 10 at_least event=agent.certificate_damaged 1
check_run "and another one leads back" wait_until 40 at_least event=agent.hub_up $((n + 1))
check "which is whole" "$(openssl x509 -in "$T/sn-1/current/device.pem" -noout -subject)" "subject=CN = sn-1"
stop "$AGENT_PID"
check "no secret in a log" "$(grep -lE '735194|sig=|PRIVATE' "$T"/signer.log "$T"/dps.log "$T"/agent.log "$SB"/log/*.log)" ""
finish
