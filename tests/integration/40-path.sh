# SPDX-License-Identifier: Apache-2.0
# The zero-touch path: enroll-tool burns a SAS and an X.509 unit, berth-agent boots them, berth hub monitor shows their telemetry. After a
# restart the agent goes straight to its hub; when the hub forgets the device it provisions again; without 8883 it takes the WebSocket.
# dps-device:D1 dps-device:D2 dps-device:D22
# time-limit: 150
. "$SRC/lib.sh"
mkdir -m 700 "$T/keys"
check_run "a factory CA" "$ENROLL" ca create --dir "$T/factory" --name Factory
sandbox_up --hubs 2 --trust "factory=$T/factory/root.pem"
check_run "a group by key" "$BERTH" dps group create units --symmetric --key-file "$T/keys/group.key" --env "$ENV"
check_run "a group by certificate" "$BERTH" dps group create xunits --signing-cert "$T/factory/intermediate.pem" --env "$ENV"
burn() { "$ENROLL" burn --serial "$1" --identity "$T/$1" --env "$ENV" --station "$T/station" "${@:2}"; }
check_run "burn a SAS unit" burn sn-1 --group-key-file "$T/keys/group.key"
check_run "burn an X.509 unit" burn sn-2 --ca-dir "$T/factory"
out=$(burn sn-1 --group-key-file "$T/keys/group.key" 2>&1)
check "a serial is burned once" "$?" 3
check_has "and the refusal is clear" "$out" "was burned before"
check "identities are private" "$(stat -c %a "$T/sn-1" "$T/sn-2" "$T"/sn-[12]/factory/key* | sort -u | tr '\n' ' ')" "600 700 "
check "no group key on the unit" "$(grep -rlF "$(cat "$T/keys/group.key")" "$T/sn-1" "$T/sn-2")" ""

agent() { # unit; $AGENT_PID
    "$AGENT" --identity "$T/$1" --state "$T/$1.state" --telemetry-interval 1 >>"$T/$1.log" 2>&1 &
    AGENT_PID=$!
    PIDS+=("$AGENT_PID")
}
times() { grep -c "$2" "$T/$1.log"; } # unit, event
at_least() { [ "$(times "$1" "$2")" -ge "$3" ]; }
messages() { "$BERTH" hub monitor --env "$ENV" --all-hubs --from earliest --no-follow --device "$1" --json | wc -l; }
more_than() { [ "$(messages "$1")" -gt "$2" ]; }
registrations() { grep -c "event=dps.assigned registration=$1" "$SB/log/dps.log"; }
for u in sn-1 sn-2; do agent $u; eval "a_${u#sn-}=$AGENT_PID"; done
for u in sn-1 sn-2; do
    check_run "$u: provisioned and connected" wait_until 20 at_least $u event=agent.hub_up 1
    check_run "$u: its telemetry is shown" wait_until 20 more_than $u 1
    check "$u: one registration" "$(registrations $u)" 1
done
hub_of() { sed -n 's/.*event=agent.assigned .*hub=\([^ ]*\).*/\1/p' "$T/$1.log" | tail -n 1; }
n_of() { [ "$(hub_of "$1")" = "$NET.2" ] && echo 1 || echo 2; }
twin_has() { "$BERTH" hub twin show "$1" --hub "$(n_of "$1")" --env "$ENV" | python3 -c 'import json,sys; sys.exit(not [k for k in json.load(sys.stdin)["properties"]["reported"] if k[0] != "$"])'; }
check_run "sn-1: its twin is reported" wait_until 10 twin_has sn-1

for u in sn-1 sn-2; do
    pid=a_${u#sn-}
    kill -KILL "${!pid}"
    wait "${!pid}" 2>/dev/null
    before=$(messages $u)
    agent $u
    eval "$pid=$AGENT_PID"
    check_run "$u: connected again after kill -9" wait_until 20 at_least $u event=agent.hub_up 2
    check_run "$u: and sends" wait_until 20 more_than $u "$before"
    check "$u: straight to its hub, the DPS was not asked" "$(registrations $u) $(times $u event=agent.assigned)" "1 1"
done

check_run "the hub forgets sn-1" "$BERTH" hub device delete sn-1 --hub "$(n_of sn-1)" --env "$ENV"
check_run "sn-1 provisions again" wait_until 60 at_least sn-1 event=agent.assigned 2
check_run "and is connected" wait_until 20 at_least sn-1 event=agent.hub_up 3
check "which the DPS saw" "$([ "$(registrations sn-1)" -ge 2 ] && echo yes)" yes
before=$(messages sn-1)
check_run "and sends" wait_until 20 more_than sn-1 "$before"
check "sn-2 was not disturbed" "$(times sn-2 event=agent.hub_up)" 2
check "no secret in a log" "$(grep -lE 'SharedAccessKey=|sig=|PRIVATE' "$T"/*.log "$SB"/log/*.log)" ""
stop "$a_1"
stop "$a_2"
check "agents end on SIGTERM" "$(times sn-1 event=agent.stop) $(times sn-2 event=agent.stop)" "1 1"

# 8883 is shut everywhere: DPS and hub over WebSocket
"$BERTH" sandbox down --dir "$SB" >/dev/null
for s in dps hub1 hub2; do check_run "$s without 8883" start $s "$([ $s = dps ] && echo "$DPS" || echo "$HUB")" "$SB/$s/berth.conf" --set server.mqtts-port=0; done
check_run "burn another" burn sn-3 --group-key-file "$T/keys/group.key"
agent sn-3
check_run "sn-3: connected without 8883" wait_until 60 at_least sn-3 event=agent.hub_up 1
check "over the WebSocket" "$(sed -n 's/.*event=agent.assigned .* via=\([^ ]*\).*/\1/p' "$T/sn-3.log")" "mqtt-ws"
check_run "sn-3: its telemetry is shown" wait_until 20 more_than sn-3 0
finish
