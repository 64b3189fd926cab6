# SPDX-License-Identifier: Apache-2.0
# Device streams encrypted from end to end: berth-agent with an X.509 identity, berth stream with each way to know its certificate, ssh and
# scp through it; wrong certificates, a device without one, a target that requires it; the wire by hand (stream_sealed.py).
# threat:E10
# time-limit: 240
. "$SRC/lib.sh"
mkdir -m 700 "$T/keys" "$T/ssh"
check_run "a factory CA" "$ENROLL" ca create --dir "$T/factory" --name Factory
check_run "another" "$ENROLL" ca create --dir "$T/stranger" --name Stranger
sandbox_up --hubs 1 --trust "factory=$T/factory/root.pem"
hub=$(pid_of hub1)
kill -TERM "$hub"
check_run "the sandbox's hub ends" wait_until 20 gone "$hub"
check_run "a hub without a bound on new streams" start hub1 "$HUB" "$SB/hub1/berth.conf" --set streams.new-per-second=0
check_run "a group by certificate" "$BERTH" dps group create xunits --signing-cert "$T/factory/intermediate.pem" --env "$ENV"
check_run "a group by key" "$BERTH" dps group create units --symmetric --key-file "$T/keys/group.key" --env "$ENV"
burn() { "$ENROLL" burn --serial "$1" --identity "$T/$1" --env "$ENV" --station "$T/station" "${@:2}"; }
check_run "burn an X.509 unit" burn sealed-1 --ca-dir "$T/factory"
check_run "burn a SAS unit" burn sas-1 --group-key-file "$T/keys/group.key"

# --- what runs on the devices ---------------------------------------------------------------------------------
ssh_port=$(free_port)
echo_start
sshd_start "$ssh_port"
check_run "sshd" wait_until 10 is_open "$ssh_port"
agent() { # unit, further lines of [stream guarded]
    cat >"$T/$1.conf" <<C
[agent]
identity = $T/$1
state = $T/$1.state
[stream ssh]
target = 127.0.0.1:$ssh_port
[stream echo]
target = 127.0.0.1:$ECHO_PORT
[stream guarded]
target = 127.0.0.1:$ECHO_PORT
${2:-}
C
    "$AGENT" --config "$T/$1.conf" >>"$T/$1.log" 2>&1 &
    AGENT_PID=$!
    PIDS+=("$AGENT_PID")
}
agent sas-1 "end-to-end = required"
wait "$AGENT_PID"
check "required, and no certificate: the agent does not start" "$?" 1
check_has "and says why" "$(cat "$T/sas-1.log")" "this identity has no certificate"
agent sas-1
agent sealed-1 "end-to-end = required"
up() { grep -q event=agent.hub_up "$T/$1.log"; }
check_run "the agents are connected" wait_until 30 up sealed-1
check_run "both" wait_until 30 up sas-1

# --- how the device is known ------------------------------------------------------------------------------------
leaf=$T/sealed-1/factory/device.pem
print=$(openssl x509 -in "$leaf" -noout -fingerprint -sha256 | sed 's/.*=//')
say() { # unit, name, options...: what came back
    printf 'hello %s' "$2" | timeout "$(patience 60)" "$BERTH" stream "$1" --to "$2" --stdio --env "$ENV" "${@:3}" 2>"$T/err"
}
check "by its certificate" "$(say sealed-1 echo --end-to-end --device-cert "$leaf")" "hello echo"
check "by its thumbprint" "$(say sealed-1 echo --device-thumbprint "$print")" "hello echo"
check "by its CA, the root" "$(say sealed-1 echo --device-ca "$T/factory/root.pem")" "hello echo"
check "by its CA, the intermediate alone" "$(say sealed-1 guarded --device-ca "$T/factory/intermediate.pem")" "hello guarded"
say sealed-1 echo --device-ca "$T/stranger/root.pem" >/dev/null
check "another CA: refused" "$?" 1
check_has "and why" "$(cat "$T/err")" "device's certificate"
say sealed-1 echo --device-ca "$T/factory/root.pem" --device-cn sealed-2 >/dev/null
check "another name: refused" "$?" 1
check_has "and why" "$(cat "$T/err")" "not the one that is trusted"
say sealed-1 echo --device-thumbprint "$(printf '%064d' 0)" >/dev/null
check "another thumbprint: refused" "$?" 1
say sealed-1 echo --end-to-end >/dev/null
check "asked for, and not said whom to trust" "$?" 1
check_has "is told" "$(cat "$T/err")" "--device-thumbprint HEX"
say sealed-1 echo --device-thumbprint abcd >/dev/null
check_has "half a thumbprint" "$(cat "$T/err")" "64 hex digits"
say sealed-1 guarded >/dev/null
check "a target that requires it, without: refused" "$?" 3
check_has "and why" "$(cat "$T/err")" "demands encryption from end to end"
say sas-1 echo --device-cert "$leaf" >/dev/null
check "a device without a certificate: refused" "$?" 3
check_has "and why" "$(cat "$T/err")" "no X.509 certificate"
check "without asking it is reached" "$(say sas-1 echo)" "hello echo"
check "as the hub's registry has it, which is said to be weaker" "$(say sealed-1 echo --device-cert-from-hub)" "hello echo"
say sas-1 echo --device-cert-from-hub >/dev/null
check "a device of which the registry has no certificate: refused" "$?" 3
check_has "and why" "$(cat "$T/err")" "no SHA-256 thumbprint"
py stream_sealed.py sealed-1

# --- as people use it ---------------------------------------------------------------------------------------------
q() { printf '%q' "$1"; }
ssh_opts() { # further options of berth stream
    OPTS=(-q -F none -i "$T/ssh/id" -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile="$T/ssh/known" \
        -o "ProxyCommand=$(q "$BERTH") stream sealed-1 --to ssh --stdio --env $(q "$ENV") $1" -o "User=$(id -un)")
}
head -c 30000000 /dev/urandom >"$T/up"
sum=$(sha256sum <"$T/up" | cut -c1-64)
ssh_opts "--device-thumbprint $print"
check "ssh through it" "$(timeout "$(patience 60)" ssh "${OPTS[@]}" sealed-1 'echo $((6 * 7))')" 42
check "both ways, 30 MB, half-closed behind the last byte" "$(timeout "$(patience 90)" ssh "${OPTS[@]}" sealed-1 cat <"$T/up" | sha256sum | cut -c1-64)" "$sum"
rate() { # label
    local t0 t1
    t0=$(date +%s%N)
    timeout "$(patience 90)" scp "${OPTS[@]}" "$T/up" "sealed-1:$T/down.$1" || not_ok "scp $1"
    t1=$(date +%s%N)
    check "scp, $1: byte for byte" "$(sha256sum <"$T/down.$1" | cut -c1-64)" "$sum"
    echo "# scp of 30 MB, $1: $((30000000000 / (t1 - t0))) MB/s"
}
rate encrypted
ssh_opts ""
rate plain
"$BERTH" stream sealed-1 --to guarded --listen 127.0.0.1:0 --env "$ENV" --json --device-ca "$T/factory/root.pem" >"$T/fwd.out" 2>"$T/fwd.err" &
FWD=$!
PIDS+=("$FWD")
wait_until 10 grep -q listening "$T/fwd.out"
port=$(sed -n 's/.*"port":\([0-9]*\).*/\1/p' "$T/fwd.out" | head -n 1)
check "many connections in one sealed session" "$(python3 - "$port" <<'P'
import os, socket, sys, threading
good = []
def one():
    data = os.urandom(500000)
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60)
    t = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
    t.start()
    got = b""
    while (b := s.recv(65536)):
        got += b
    t.join()
    good.append(got == data)
ts = [threading.Thread(target=one) for _ in range(12)]
[t.start() for t in ts]
[t.join() for t in ts]
print(sum(good))
P
)" 12
kill -TERM "$FWD"
wait "$FWD"
check "the proxy ends in order" "$?" 0
for u in sas-1 sealed-1; do check "$u: no secret in its log" "$(grep -cE 'PRIVATE|Bearer|sig=' "$T/$u.log")" 0; done
finish
