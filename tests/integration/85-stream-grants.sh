# SPDX-License-Identifier: Apache-2.0
# Rights to open streams for a time: the REST plane, what they open and do not, their end (stream_grants.py); berth stream grant with
# berth-agent at the other end.
# threat:E11
# time-limit: 200
. "$SRC/lib.sh"
mkdir -m 700 "$T/keys"
sandbox_up --hubs 1
check_run "a group" "$BERTH" dps group create units --symmetric --key-file "$T/keys/group.key" --env "$ENV"
check_run "burn" "$ENROLL" burn --serial unit-1 --identity "$T/unit-1" --env "$ENV" --group-key-file "$T/keys/group.key" --station "$T/station"
echo_start
cat >"$T/agent.conf" <<C
[agent]
identity = $T/unit-1
state = $T/unit-1.state
[stream echo]
target = 127.0.0.1:$ECHO_PORT
[stream other]
target = 127.0.0.1:$ECHO_PORT
C
"$AGENT" --config "$T/agent.conf" >"$T/agent.log" 2>&1 &
PIDS+=("$!")
check_run "the agent is connected" wait_until 30 grep -q event=agent.hub_up "$T/agent.log"

grant() { "$BERTH" stream grant "$@" --env "$ENV"; }
out=$(grant unit-1 --to echo --for 2h --file "$T/echo.cs" --name ticket-7)
check_has "a grant, and where it is" "$out" "grant ticket-7 until "
check "in a file for its owner alone" "$(stat -c %a "$T/echo.cs")" 600
check "its key is not on the terminal" "$(printf %s "$out" | grep -c "$(sed 's/.*SharedAccessKey=//' "$T/echo.cs")")" 0
with() { "$BERTH" stream "$@" --connection-string-file "$T/echo.cs" --ca-file "$SB/ca.pem"; }
check "who has it reaches that name" "$(printf hello | timeout "$(patience 60)" "$BERTH" stream unit-1 --to echo --stdio --connection-string-file "$T/echo.cs" --ca-file "$SB/ca.pem")" hello
with unit-1 --to other --stdio </dev/null >/dev/null 2>"$T/err"
check "and no other" "$?" 3
check_has "which is said" "$(cat "$T/err")" "401"
with list >/dev/null 2>&1
check "it administrates nothing" "$?" 3
check_has "the grants" "$(grant list)" '"name":"ticket-7"'
mkfifo "$T/in"
with unit-1 --to echo --stdio <"$T/in" >"$T/open.out" 2>"$T/open.err" &
open=$!
PIDS+=("$open")
exec 8>"$T/in"
echo ping >&8
check_run "a connection is open" wait_until 20 grep -q ping "$T/open.out"
check_run "taken back" grant revoke ticket-7
check_run "it is over" wait_until 20 gone "$open"
wait "$open" 2>/dev/null
exec 8>&-
with unit-1 --to echo --stdio </dev/null >/dev/null 2>&1
check "and opens nothing more" "$?" 3
grant revoke ticket-7 >/dev/null 2>&1
check "taken back twice" "$?" 3
check_run "for those that begin alike" grant unit- --prefix --to echo --for 90s --file "$T/prefix.cs"
check_run "for all" grant --all-devices --to echo --for 1d --file "$T/all.cs" --json
for bad in "unit-1 --to echo --file $T/x" "unit-1 --to echo --for 2y --file $T/x" "unit-1 --to echo --for 32d --file $T/x" \
    "--to echo --for 1h --file $T/x" "unit-1 --all-devices --to echo --for 1h --file $T/x" "unit-1 --to echo --for 1h"; do
    # shellcheck disable=SC2086
    grant $bad >/dev/null 2>&1
    got=$?
    check "stream grant ${bad//$T/T}: usage" "$got" 2
done
py stream_grants.py
finish
