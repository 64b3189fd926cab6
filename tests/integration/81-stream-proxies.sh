# SPDX-License-Identifier: Apache-2.0
# Device streams as people use them: berth-agent with a list of targets on the device's side, berth stream on the other; a real sshd, scp,
# a web server, half-closes, many connections, what is not listed, what is not running, the hub gone and back.
# device-streams:24 device-streams:26
# time-limit: 180
. "$SRC/lib.sh"
mkdir -m 700 "$T/keys" "$T/web" "$T/ssh"
sandbox_up --hubs 1
check_run "a group" "$BERTH" dps group create units --symmetric --key-file "$T/keys/group.key" --env "$ENV"
check_run "burn" "$ENROLL" burn --serial unit-1 --identity "$T/unit-1" --env "$ENV" --group-key-file "$T/keys/group.key" \
    --station "$T/station"

# --- what runs on the device ----------------------------------------------------------------------------------
web_port=$(free_port) ssh_port=$(free_port) dead_port=$(free_port)
printf 'hello from behind the firewall\n' >"$T/web/index.html"
head -c 3000000 /dev/urandom >"$T/web/blob"
(cd "$T/web" && exec python3 -m http.server --bind 127.0.0.1 "$web_port") >"$T/web.log" 2>&1 &
PIDS+=("$!")
sshd_start "$ssh_port"
check_run "sshd and a web server" wait_until 10 is_open "$ssh_port"
check_run "both" wait_until 10 is_open "$web_port"
cat >"$T/agent.conf" <<C
[agent]
identity = $T/unit-1
state = $T/unit-1.state
telemetry-interval = 60
[stream ssh]
target = 127.0.0.1:$ssh_port
[stream web]
target = 127.0.0.1:$web_port
[stream dead]
target = 127.0.0.1:$dead_port
C
start_agent() {
    "$AGENT" --config "$T/agent.conf" >>"$T/agent.log" 2>&1 &
    AGENT_PID=$!
    PIDS+=("$AGENT_PID")
}
ups() { [ "$(grep -c event=agent.hub_up "$T/agent.log")" -ge "$1" ]; }
start_agent
check_run "the agent is connected" wait_until 20 ups 1

# --- one connection by standard input and output: ssh's ProxyCommand --------------------------------------------
q() { printf '%q' "$1"; }
proxy="$(q "$BERTH") stream unit-1 --to ssh --stdio --env $(q "$ENV")"
ssh_do() {
    timeout 60 ssh -q -F none -i "$T/ssh/id" -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile="$T/ssh/known" \
        -o "ProxyCommand=$proxy" -l "$(id -un)" unit-1 "$@"
}
check "ssh through a stream" "$(ssh_do 'echo $((6 * 7))')" 42
check "a second session right after the first" "$(ssh_do 'echo again')" again
head -c 20000000 /dev/urandom >"$T/up"
check "standard input in full, and its end (half-close)" "$(ssh_do 'sha256sum' <"$T/up" | cut -c1-64)" "$(sha256sum <"$T/up" | cut -c1-64)"
check "an exit status comes back" "$(ssh_do 'exit 7'; echo $?)" 7
check_run "scp there" timeout 90 scp -q -F none -i "$T/ssh/id" -o IdentitiesOnly=yes -o StrictHostKeyChecking=no \
    -o UserKnownHostsFile="$T/ssh/known" -o "ProxyCommand=$proxy" -o "User=$(id -un)" "$T/up" "unit-1:$T/down"
check "byte for byte" "$(cmp "$T/up" "$T/down" && echo same)" same

# --- a local port, many connections over one session ------------------------------------------------------------
forward() { # name; $PORT, $FORWARD
    "$BERTH" stream unit-1 --to "$1" --listen 127.0.0.1:0 --env "$ENV" --json >"$T/$1.out" 2>"$T/$1.err" &
    FORWARD=$!
    PIDS+=("$FORWARD")
    wait_until 10 grep -q listening "$T/$1.out"
    PORT=$(sed -n 's/.*"port":\([0-9]*\).*/\1/p' "$T/$1.out" | head -n 1)
}
forward web
web=$PORT forward_web=$FORWARD
check "a web page" "$(curl -s -m 20 "http://127.0.0.1:$web/")" "hello from behind the firewall"
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    curl -s -m 60 -o "$T/blob.$i" "http://127.0.0.1:$web/blob" &
    curls="${curls:-} $!"
done
for p in $curls; do wait "$p"; done
check "twelve at once, each in full" "$(sha256sum "$T"/blob.* | cut -c1-64 | sort | uniq -c | tr -s ' ')" \
    " 12 $(sha256sum <"$T/web/blob" | cut -c1-64)"
opened() { "$BERTH" stream list --env "$ENV" | python3 -c 'import json,sys; print(len(json.load(sys.stdin)["value"]))'; }
check "one stream at the hub for all of them" "$(opened)" 1
out=$("$BERTH" stream list --env "$ENV")
check_has "the operator sees to whom" "$out" '"deviceId":"unit-1"'
sid=$(printf '%s' "$out" | python3 -c 'import json,sys; print(json.load(sys.stdin)["value"][0]["sid"])')
check_run "and ends it" "$BERTH" stream kill "$sid" --env "$ENV"
none_open() { [ "$(opened)" = 0 ]; }
check_run "it is gone" wait_until 10 none_open
check "the next connection opens another" "$(curl -s -m 20 "http://127.0.0.1:$web/")" "hello from behind the firewall"

# --- what must not work, and says why ---------------------------------------------------------------------------
err=$("$BERTH" stream unit-1 --to db --stdio --env "$ENV" </dev/null 2>&1 >/dev/null)
check "not listed: refused" "$?" 3
check_has "and the reason" "$err" "rejects"
check_has "in the agent's log too" "$(cat "$T/agent.log")" "event=agent.stream_rejected name=db"
err=$("$BERTH" stream unit-1 --to dead --stdio --env "$ENV" </dev/null 2>&1 >/dev/null)
check "nothing runs there: refused" "$?" 3
err=$("$BERTH" stream nobody --to ssh --stdio --env "$ENV" </dev/null 2>&1 >/dev/null)
check "no such device" "$?" 3
check_has "by its name" "$err" "404 DeviceNotFound: nobody"
err=$("$BERTH" stream unit-1 --to ssh --listen localhost:1 --env "$ENV" 2>&1)
check "a name is no address to listen at" "$?" 1
"$BERTH" stream unit-1 --to ssh --env "$ENV" >/dev/null 2>&1
check "neither --listen nor --stdio" "$?" 2
if [ "$(id -u)" = 0 ]; then
    code=$(setpriv --reuid 65534 --clear-groups curl -s -m 10 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$web/")
    check "another user's connection is refused" "$code" 000
    check_has "which is said" "$(cat "$T/web.err")" "another user"
fi

# --- ends --------------------------------------------------------------------------------------------------------
kill -KILL "$AGENT_PID"
wait "$AGENT_PID" 2>/dev/null
metrics=$(env_get 'e["metrics"]["hubs"][0]')
asked() { curl -s -m 10 "$metrics" | awk '$1 == "berth_hub_stream_requests_total" { print $2 }'; }
before=$(asked)
asked_once_more() { [ "$(asked)" -gt "$before" ]; }
printf 'GET / HTTP/1.0\r\n\r\n' | "$BERTH" stream unit-1 --to web --stdio --env "$ENV" --connect-timeout 60 >"$T/waited" 2>"$T/waited.err" &
waits=$!
check_run "a stream is asked for while the agent is away" wait_until 20 asked_once_more
start_agent
check_run "the agent came back" wait_until 30 ups 2
wait "$waits" # the hub asks by the filter that it kept, before the link is up, and again when that is subscribed anew
check "and takes it" "$? $(tail -n 1 "$T/waited")" "0 hello from behind the firewall"
check "once" "$(grep -c 'event=agent.stream_gateway' "$T/agent.log")" 0
check_run "and so do streams" wait_until 30 curl -s -m 10 -o /dev/null "http://127.0.0.1:$web/"
curl -s -m 60 -N "http://127.0.0.1:$web/blob" -o "$T/last"
kill -TERM "$forward_web"
wait "$forward_web"
check "the proxy ends in order" "$?" 0
kill -TERM "$AGENT_PID"
wait "$AGENT_PID"
check "the agent ends in order" "$?" 0
finish
