# SPDX-License-Identifier: Apache-2.0
# Sourced behind lib.sh by the tests of real programs over streams: a sandbox, a unit whose agent lists targets, local ports to them.
device_up() { # name=port ...: the unit is unit-1; its log is $T/agent.log
    local t
    sandbox_up --hubs 1
    check_run "a group" "$BERTH" dps group create units --symmetric --key-file "$T/group.key" --env "$ENV"
    check_run "burn" "$ENROLL" burn --serial unit-1 --identity "$T/unit-1" --env "$ENV" --group-key-file "$T/group.key" --station "$T/station"
    printf '[agent]\nidentity = %s\nstate = %s\n' "$T/unit-1" "$T/unit-1.state" >"$T/agent.conf"
    for t in "$@"; do printf '[stream %s]\ntarget = 127.0.0.1:%s\n' "${t%%=*}" "${t##*=}" >>"$T/agent.conf"; done
    "$AGENT" --config "$T/agent.conf" >>"$T/agent.log" 2>&1 &
    PIDS+=("$!")
    check_run "the agent is connected" wait_until 60 grep -q event=agent.hub_up "$T/agent.log"
}
forward() { # name; the local port in $PORT, the process in $FORWARD
    "$BERTH" stream unit-1 --to "$1" --listen 127.0.0.1:0 --env "$ENV" --json >"$T/$1.out" 2>"$T/$1.err" &
    FORWARD=$!
    PIDS+=("$FORWARD")
    check_run "a local port for $1" wait_until 30 grep -q listening "$T/$1.out"
    PORT=$(sed -n 's/.*"port":\([0-9]*\).*/\1/p' "$T/$1.out" | head -n 1)
}
# Connections that the agent holds to its targets.
legs() { echo $(($(grep -c event=agent.stream_opened "$T/agent.log") - $(grep -c event=agent.stream_closed "$T/agent.log"))); }
no_legs() { [ "$(legs)" = 0 ]; }
