# SPDX-License-Identifier: Apache-2.0
# berth sandbox: up, status, again, after a crash, foreign folder, port in use, interrupted, down.
# threat:E9
. "$SRC/lib.sh"
up() { "$BERTH" sandbox up --dir "$SB" --address "$NET.1" --hubs 2 "$@" 2>&1; }
SANDBOXES+=("$SB")
out=$(up) || die "up: $out"
ENV=$SB/env.json
export ENV
check_has "up says how long it took" "$out" "ready after"
echo "# $(printf %s "$out" | grep -o 'ready after [0-9]* ms')"
check "env.json is private" "$(stat -c %a "$ENV")" 600
check "fields of env.json" "$(env_get 'sorted(set(e) - {"eventHub"})')" \
    "['caFile', 'dpsHost', 'dpsServiceConnectionString', 'httpsPort', 'hubs', 'idScope', 'metrics', 'mqttsPort', 'pids', 'streams']"
check "hosts" "$(env_get '[e["dpsHost"]] + [h["host"] for h in e["hubs"]]')" "['$NET.1', '$NET.2', '$NET.3']"
check "no file of secrets is readable by others" "$(find "$SB" \( -name '*.key' -o -name 'init.json' -o -name 'env.json' -o -name 'master*' \) -perm /077)" ""
check "status" "$("$BERTH" sandbox status --dir "$SB" >/dev/null; echo $?)" 0
dps=$(pid_of dps) hub1=$(pid_of hub1) hub2=$(pid_of hub2)
hcs=$(env_get 'e["hubs"][0]["serviceConnectionString"]')
check "the CA leads to an answer" "$(status_of "$hcs" GET '/devices?api-version=2021-04-12')" 200

out=$(up)
check_has "a second up" "$out" "already running"
check "changes nothing" "$(pid_of dps) $(pid_of hub1) $(pid_of hub2)" "$dps $hub1 $hub2"

key=$(openssl rand -base64 32)
check "a device is made" "$(status_of "$hcs" PUT '/devices/keeps?api-version=2021-04-12' \
    '{"deviceId":"keeps","authentication":{"type":"sas","symmetricKey":{"primaryKey":"'"$key"'","secondaryKey":"'"$key"'"}}}')" 200
kill -KILL "$hub1"
check_run "the killed hub is gone" wait_until 5 gone "$hub1"
"$BERTH" sandbox status --dir "$SB" >"$T/status"
check "status after a crash" "$?" 1
check_has "which one" "$(cat "$T/status")" "hub1   $NET.2  down"
out=$(up) || not_ok "up after a crash" "$out"
check "only the dead one was started" "$(pid_of dps) $(pid_of hub2) $([ "$(pid_of hub1)" != "$hub1" ] && echo new)" "$dps $hub2 new"
check_has "with its data" "$(rest "$hcs" GET '/devices/keeps?api-version=2021-04-12')" "$key"

mkdir "$T/foreign" && echo precious >"$T/foreign/file"
out=$("$BERTH" sandbox up --dir "$T/foreign" --address "$NET.101" 2>&1)
check "a foreign folder is refused" "$?" 1
check_has "with words" "$out" "was not made by"
check "and untouched" "$(ls -A "$T/foreign") $(cat "$T/foreign/file")" "file precious"
out=$("$BERTH" sandbox down --dir "$T/foreign" --purge 2>&1)
check "down of a foreign folder is refused" "$? $(cat "$T/foreign/file")" "1 precious"
out=$("$BERTH" sandbox up --dir "$T/public" --address 192.0.2.1 2>&1)
check_has "another address than loopback is refused" "$out" "no loopback address"

SANDBOXES+=("$T/second")
out=$("$BERTH" sandbox up --dir "$T/second" --address "$NET.1" 2>&1)
check "ports in use" "$?" 1
check_has "named" "$out" "$NET.1"
check "in one line" "$(printf '%s\n' "$out" | wc -l)" 1
check "nothing of the first was touched" "$(pid_of dps) $(pid_of hub2)" "$dps $hub2"
out=$(up --hubs 3)
check_has "other settings for an old folder are refused" "$out" "was made with"

out=$("$BERTH" sandbox down --dir "$SB" 2>&1)
check "down" "$? $out" "0 sandbox is down; its data stays"
check_run "no process is left" gone "$dps"
check_run "none" gone "$hub2"
out=$("$BERTH" sandbox down --dir "$SB" 2>&1)
check "down twice" "$? $out" "0 sandbox is down; its data stays"

# Interrupted at different moments: nothing it started survives, and the next up completes.
SB=$T/third
SANDBOXES+=("$SB")
mine() { pgrep -f "berth-(dps|hub) .*$SB/"; }
none_left() { ! mine; }
for part in 'test -d '"$SB" 'test -s '"$SB/ca.pem" 'test -s '"$SB/dps/data/init.json" 'test -s '"$SB/pids.json"; do
    "$BERTH" sandbox up --dir "$SB" --address "$NET.201" >"$T/interrupted" 2>&1 &
    p=$!
    wait_until 5 $part
    kill -INT "$p" 2>/dev/null
    wait "$p"
    s=$?
    # it may have been quicker than the signal
    if [ "$s" -eq 0 ]; then "$BERTH" sandbox down --dir "$SB" >/dev/null 2>&1; fi
    check_run "interrupted ($part; status $s): no orphan" wait_until 5 none_left
done
out=$("$BERTH" sandbox up --dir "$SB" --address "$NET.201" 2>&1)
check "up completes what was interrupted" "$?" 0
"$BERTH" sandbox down --dir "$SB" --purge >/dev/null
check "purged" "$([ -e "$SB" ] && echo there)" ""
finish
