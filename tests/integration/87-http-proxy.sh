# SPDX-License-Identifier: Apache-2.0
# Agent and tools through an HTTP proxy that is not ours: every way they take goes by CONNECT, with a login, or not at all; the servers
# take none from the environment.
# threat:E12
# time-limit: 150
. "$SRC/lib.sh"
PATH=$PATH:/usr/sbin
command -v tinyproxy >/dev/null || skip "no tinyproxy"
narrow=$(free_port) wide=$(free_port) ssh_port=$(free_port) dead=$(free_port)
user=unit password='s3cret.w-rd'
mkdir -m 700 "$T/keys" "$T/ssh"

# --- a proxy as in a company: a login, and nothing but 443; and a wider one without a login ---------------------------
proxy_start() { # name, port, line of its configuration...
    {
        printf 'Port %s\nListen 127.0.0.1\nTimeout 600\nLogFile "%s"\nLogLevel Info\nMaxClients 50\nConnectPort 443\n' "$2" "$T/$1.log"
        printf '%s\n' "${@:3}"
    } >"$T/$1.conf"
    : >"$T/$1.log"
    tinyproxy -d -c "$T/$1.conf" >"$T/$1.out" 2>&1 &
    PIDS+=("$!")
    wait_until 20 is_open "$2" || die "the proxy does not start: $(cat "$T/$1.out")"
}
proxy_start narrow "$narrow" "BasicAuth $user $password"
proxy_start wide "$wide" "ConnectPort 8883"
asked() { grep -c "CONNECT $2 HTTP/1.1" "$T/$1.log"; } # proxy, host:port

# --- servers, with a proxy in their environment that nobody could use -------------------------------------------------
HTTPS_PROXY=http://127.0.0.1:$dead https_proxy=http://127.0.0.1:$dead sandbox_up --hubs 1
dps=$(env_get 'e["dpsHost"]') hub=$(env_get 'e["hubs"][0]["host"]')
check_run "a group" "$BERTH" dps group create units --symmetric --key-file "$T/keys/group.key" --env "$ENV"
check_run "burn" "$ENROLL" burn --serial unit-1 --identity "$T/unit-1" --env "$ENV" --group-key-file "$T/keys/group.key" --station "$T/station"
sshd_start "$ssh_port"
check_run "sshd" wait_until 20 is_open "$ssh_port"

# --- the agent -------------------------------------------------------------------------------------------------------
(umask 077 && printf '%s:%s\n' "$user" "$password" >"$T/keys/proxy" && printf '%s:wrong-word\n' "$user" >"$T/keys/wrong")
conf() { # line of [agent]...
    printf '%s\n' "[agent]" "identity = $T/unit-1" "state = $T/unit-1.state" "telemetry-interval = 1" "$@" "[stream ssh]" \
        "target = 127.0.0.1:$ssh_port" >"$T/agent.conf"
}
refused() { # name, what is said, line...
    conf "${@:3}"
    "$AGENT" --config "$T/agent.conf" --check-config >"$T/refused" 2>&1
    check "$1: status" "$?" 1
    check_has "$1: why" "$(cat "$T/refused")" "$2"
    check "$1: no secret is shown" "$(grep -c 's3cret' "$T/refused")" 0
}
refused "a password in the configuration" "proxy-credential names" "proxy = http://unit:s3cret@127.0.0.1:$narrow"
refused "a kind of proxy that is not known" "only http:// proxies" "proxy = socks5://unit:s3cret@127.0.0.1:$narrow"
refused "no address" "http://HOST:PORT" "proxy = http://unit:s3cret@:"
cp "$T/keys/proxy" "$T/open" && chmod 644 "$T/open"
refused "a password that others may read" "is open to others" "proxy = http://127.0.0.1:$narrow" "proxy-credential = $T/open"
refused "no file" "none.there" "proxy = http://127.0.0.1:$narrow" "proxy-credential = $T/none.there"

agent_start() { # name of its log, line of [agent]...
    LOG=$T/$1.log
    conf "${@:2}"
    "$AGENT" --config "$T/agent.conf" >"$LOG" 2>&1 &
    AGENT_PID=$!
    PIDS+=("$AGENT_PID")
}
agent_start no-login "proxy = http://127.0.0.1:$narrow"
check_run "no login: the agent says so" wait_until 30 grep -q "wants a user and a password (HTTP status 407)" "$LOG"
stop "$AGENT_PID"
agent_start wrong "proxy = http://127.0.0.1:$narrow" "proxy-credential = $T/keys/wrong"
check_run "a wrong one: too" wait_until 30 grep -q "refuses the user or the password" "$LOG"
stop "$AGENT_PID"
agent_start nobody "proxy = http://127.0.0.1:$dead"
check_run "a proxy that is not there: it says so" wait_until 30 grep -q "event=agent.register_failed.*proxy 127.0.0.1:$dead: Connection refused" "$LOG"
stop "$AGENT_PID"
check "and none of these went another way" "$(grep -hc event=agent.assigned "$T/no-login.log" "$T/wrong.log" "$T/nobody.log" | tr -d '\n')" 000
check "nothing but requests for the DPS" "$(grep -c "Established connection" "$T/narrow.log")" 0

agent_start agent-right "proxy = http://127.0.0.1:$narrow" "proxy-credential = $T/keys/proxy"
check_run "with the right one: connected" wait_until 60 grep -q event=agent.hub_up "$LOG"
check_has "8883 is not let through: over WebSocket" "$(grep event=agent.assigned "$LOG")" via=mqtt-ws
check_has "the log names the proxy" "$(grep event=agent.proxy "$LOG")" "host=127.0.0.1 port=$narrow"
check_run "the proxy was asked for both ports, of DPS and hub" test "$(asked narrow "$dps:8883")" -ge 1 -a "$(asked narrow "$dps:443")" -ge 1 -a \
    "$(asked narrow "$hub:8883")" -ge 1 -a "$(asked narrow "$hub:443")" -ge 1

# --- tools, by the environment -----------------------------------------------------------------------------------------
by() { env "HTTPS_PROXY=$1" "${@:2}"; }
url="http://$user:s3cret%2Ew-rd@127.0.0.1:$narrow"
before=$(asked narrow "$hub:443")
check_has "REST" "$(by "$url" "$BERTH" hub device show unit-1 --env "$ENV")" '"connectionState":"Connected"'
check_has "telemetry as it comes" "$(by "$url" timeout "$(patience 60)" "$BERTH" hub monitor --count 1 --json --env "$ENV")" unit-1
check "each by the proxy" "$(($(asked narrow "$hub:443") - before))" 2
q() { printf '%q' "$1"; }
before=$(asked narrow "$hub:443")
head -c 3000000 /dev/urandom >"$T/up"
sum=$(by "$url" timeout "$(patience 60)" ssh -q -F none -i "$T/ssh/id" -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile="$T/ssh/known" \
    -o "ProxyCommand=$(q "$BERTH") stream unit-1 --to ssh --stdio --env $(q "$ENV")" -l "$(id -un)" unit-1 sha256sum <"$T/up" | cut -c1-64)
check "ssh through a stream, a proxy at each end: 3 MB and their end" "$sum" "$(sha256sum <"$T/up" | cut -c1-64)"
check "the POST, and the stream's two ends, all by the proxy" "$(($(asked narrow "$hub:443") - before))" 3
before=$(asked narrow "$dps:443")
check_run "enroll-tool, which enrolls what it burns" by "$url" "$ENROLL" burn --serial unit-2 --identity "$T/unit-2" --env "$ENV" --individual --group-key-file "$T/keys/group.key" \
    --station "$T/station"
check "by the proxy" "$(($(asked narrow "$dps:443") - before))" 1
fails() { # name, proxy, what is said, command...
    by "$2" timeout "$(patience 60)" "${@:4}" </dev/null >"$T/said" 2>&1
    check_run "$1: fails" test "$?" -ne 0
    check_has "$1: says why" "$(cat "$T/said")" "$3"
}
fails "REST without a login" "http://127.0.0.1:$narrow" 407 "$BERTH" hub device show unit-1 --env "$ENV"
fails "REST, the proxy away" "http://127.0.0.1:$dead" "port $dead" "$BERTH" hub device show unit-1 --env "$ENV"
fails "another kind" "socks5://127.0.0.1:$narrow" "HTTPS_PROXY: only http:// proxies" "$BERTH" hub device show unit-1 --env "$ENV"
check_has "NO_PROXY: without it" "$(NO_PROXY=$NET.0/24 by "http://127.0.0.1:$dead" "$BERTH" hub device show unit-1 --env "$ENV")" unit-1
stop "$AGENT_PID"
check "the password is in no log of the agent" "$(cat "$T"/*.log | grep -v '^INFO\|^CONNECT\|^NOTICE' | grep -c 's3cret\|wrong-word')" 0

# --- a proxy that lets 8883 through: MQTT as it is; and hosts without one ------------------------------------------------
rm -r "$T/unit-1.state"
agent_start agent-wide "proxy = http://127.0.0.1:$wide"
check_run "connected" wait_until 60 grep -q event=agent.hub_up "$LOG"
check_has "over MQTT" "$(grep event=agent.assigned "$LOG")" "via=mqtt "
check "by the proxy" "$(asked wide "$dps:8883") $(asked wide "$hub:8883") $(asked wide "$hub:443")" "1 1 0"
stop "$AGENT_PID"
for how in "proxy = http://127.0.0.1:$dead|no-proxy = $NET.0/24" "proxy = none" "no-proxy = example, $NET.0/24"; do
    rm -r "$T/unit-1.state"
    HTTPS_PROXY=http://127.0.0.1:$dead agent_start exempt "${how//|/$'\n'}"
    check_run "without it: $how" wait_until 60 grep -q event=agent.hub_up "$LOG"
    stop "$AGENT_PID"
done
finish
