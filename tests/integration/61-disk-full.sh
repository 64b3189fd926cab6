# SPDX-License-Identifier: Apache-2.0
# A disk that fills: telemetry is refused without an acknowledgement while there is still room to revoke; then only what revokes is
# written; when space returns everything works again, without a restart, and what was acknowledged is there. threat:D8
# time-limit: 90
. "$SRC/lib.sh"
mkdir -p "$T/disk"
mount -t tmpfs -o size=400m,mode=700 tmpfs "$T/disk" 2>/dev/null || skip "needs the right to mount a small file system"
trap '"$BERTH" sandbox down --dir "$SB" >/dev/null 2>&1; umount -l "$T/disk"; cleanup' EXIT
SB=$T/disk/sandbox
sandbox_up --hubs 1
CS=$(env_get 'e["hubs"][0]["serviceConnectionString"]')
host=$(env_get 'e["hubs"][0]["host"]')
V=api-version=2021-04-12
key=$(openssl rand -base64 32)
device() { printf '{"deviceId":"%s","status":"%s","authentication":{"type":"sas","symmetricKey":{"primaryKey":"%s","secondaryKey":"%s"}}}' "$1" "$2" "$key" "$key"; }
send() { # device, text: the status
    curl -s -m 20 --cacert "$SB/ca.pem" -o /dev/null -w '%{http_code}' -H "Authorization: $(sas "$host/devices/$1" "$key" "")" \
        --data-binary "$2" "https://$host/devices/$1/messages/events?$V"
}
free_mb() { df --output=avail -m "$T/disk" | tail -n 1 | tr -d ' '; }
fill_to() { # leave so many MB
    rm -f "$T/disk/filler"
    fallocate -l "$(($(free_mb) - $1))M" "$T/disk/filler"
}
sends() { [ "$(send "$1" "$2")" = "$3" ]; }
for d in d1 d2; do check "device $d" "$(status_of "$CS" PUT "/devices/$d?$V" "$(device $d enabled)")" 200; done
check "telemetry before" "$(send d1 before)" 204

fill_to 100 # below twice the reserve of 64 MB: the log stops first
check_run "telemetry is refused on a filling disk" wait_until 15 sends d1 refused-1 503
check "the registry still writes" "$(status_of "$CS" PUT "/devices/d3?$V" "$(device d3 enabled)")" 200

fill_to 30 # below the reserve: only what revokes
made_503() { [ "$(status_of "$CS" PUT "/devices/d4?$V" "$(device d4 enabled)")" = 503 ]; }
check_run "nothing new is registered" wait_until 15 made_503
check "telemetry is refused" "$(send d1 refused-2)" 503
IF_MATCH='*' check "a device can still be disabled" "$(IF_MATCH='*' status_of "$CS" PUT "/devices/d2?$V" "$(device d2 disabled)")" 200
check "and is refused at once" "$(send d2 x)" 401
check "and one deleted" "$(IF_MATCH='*' status_of "$CS" DELETE "/devices/d3?$V")" 204

rm -f "$T/disk/filler"
check_run "telemetry again, by itself" wait_until 15 sends d1 after 204
check "registrations again" "$(status_of "$CS" PUT "/devices/d4?$V" "$(device d4 enabled)")" 200
bodies=$("$BERTH" hub monitor --env "$ENV" --from earliest --no-follow --device d1 --json | python3 -c 'import json,sys; print([json.loads(l)["body"] for l in sys.stdin])')
check_has "what was acknowledged is there: before" "$bodies" "'before'"
check_has "what was acknowledged is there: after" "$bodies" "'after'"
case $bodies in *refused*) not_ok "what was refused is not there" "$bodies" ;; *) ok "what was refused is not there" ;; esac
finish
