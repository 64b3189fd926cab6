# SPDX-License-Identifier: Apache-2.0
# An open stream goes on while its agent registers: a certificate of two minutes' life is renewed at a DPS that does not answer.
# time-limit: 150
. "$SRC/lib.sh"
sandbox_up --hubs 1
echo_start
check_has "an issuing CA" "$("$BERTH" dps issuer create short --self-signed --env "$ENV")" "is ready"
(umask 077 && openssl rand -base64 64 | tr -d '\n' >"$T/units.key")
key=$(cat "$T/units.key")
check "a group whose certificates live two minutes" "$(status_of "$(env_get 'e["dpsServiceConnectionString"]')" PUT "/enrollmentGroups/units?api-version=2021-10-01" \
    "{\"attestation\":{\"type\":\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":\"$key\",\"secondaryKey\":\"$key\"}},\"clientCertificateIssuancePolicy\":{\"certificateAuthorityName\":\"short\",\"validityMinutes\":2}}")" 200
check_run "a unit of it" "$ENROLL" burn --serial unit-1 --identity "$T/unit-1" --env "$ENV" --station "$T/station" --group-key-file "$T/units.key"
cat >"$T/agent.conf" <<C
[agent]
identity = $T/unit-1
state = $T/unit-1.state
certificate = yes
renew-at = 20
[stream echo]
target = 127.0.0.1:$ECHO_PORT
[log]
level = debug
C
"$AGENT" --config "$T/agent.conf" >"$T/agent.log" 2>&1 &
AGENT_PID=$!
PIDS+=("$AGENT_PID")
at_least() { [ "$(grep -c "$1" "$T/agent.log")" -ge "$2" ]; }
check_run "the agent is connected" wait_until 30 at_least event=agent.hub_up 1
mkfifo "$T/in"
"$BERTH" stream unit-1 --to echo --stdio --env "$ENV" <"$T/in" >"$T/echo.out" 2>"$T/echo.err" &
STREAM=$!
PIDS+=("$STREAM")
exec 8>"$T/in"
echo before >&8
check_run "a stream" wait_until 20 grep -q before "$T/echo.out"
dps=$(pid_of dps)
kill -STOP "$dps"
check_run "the renewal is begun" wait_until 60 at_least "event=agent.register " 2
echo meanwhile >&8
check_run "and the stream goes on, while the DPS does not answer" wait_until 20 grep -q meanwhile "$T/echo.out"
check "which it does not yet, and the agent still waits for it" "$(grep -cE 'event=agent.(assigned|register_failed)' "$T/agent.log")" 1
kill -CONT "$dps"
exec 8>&-
stop "$STREAM"
kill -TERM "$AGENT_PID"
wait "$AGENT_PID"
check "the agent ends in order, also while it registers" "$?" 0
finish
