# SPDX-License-Identifier: Apache-2.0
# Sourced by every NN-*.sh. From `run`: BUILD, SRC, T (folder), NET (first three numbers of the loopback block), BERTH_SLOW.
# Nothing waits by time: wait_until asks a condition until a deadline. Processes are ended by number. Python's half is kit.py.
set -u
: "${BUILD:?}" "${SRC:?}" "${T:?}" "${NET:?}" "${BERTH_SLOW:=1}"
export PYTHONDONTWRITEBYTECODE=1
unset https_proxy HTTPS_PROXY # everything here is on loopback
BERTH=$BUILD/ctl/berth HUB=$BUILD/hub/berth-hub DPS=$BUILD/dps/berth-dps AGENT=$BUILD/agent/berth-agent ENROLL=$BUILD/enroll-tool/enroll-tool SIGNER=$BUILD/signer/berth-signer
export BERTH HUB DPS AGENT ENROLL SIGNER
SB=$T/sandbox
PIDS=() SANDBOXES=() BAD=0

ok() { echo "ok   $1"; }
not_ok() { BAD=$((BAD + 1)); echo "not ok $1${2:+ -- $2}"; }
check() { # name, got, wanted
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$2', wanted '$3'"; fi
}
check_has() { # name, text, part
    case $2 in *"$3"*) ok "$1" ;; *) not_ok "$1" "'$3' is not in '${2:0:400}'" ;; esac
}
check_run() { # name, command...
    local name=$1
    shift
    if "$@"; then ok "$name"; else not_ok "$name" "failed: $*"; fi
}
skip() { echo "$1"; exit 77; }
die() { echo "not ok $1"; exit 1; }
# So many seconds of a quiet machine and a plain build, as seconds of this build and this machine now.
patience() {
    local load cpus=${CPUS:=$(nproc)}
    read -r load _ </proc/loadavg
    load=$((${load%.*} / cpus))
    echo $(($1 * BERTH_SLOW * (load > 4 ? 4 : load > 1 ? load : 1)))
}
wait_until() { # seconds, command...: true as soon as the command is
    local end=$((SECONDS + $(patience "$1")))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        read -rt 0.02 <>"$T/.never" || true
    done
}
[ -p "$T/.never" ] || mkfifo "$T/.never"

alive() { kill -0 "$1" 2>/dev/null; }
gone() { ! alive "$1" || grep -qs '^State:.Z' "/proc/$1/status"; }
# A server in the background, ready when this returns. start NAME PROGRAM CONF [--set ...]; its number is in $PID, its log in $T/NAME.log
start() {
    local name=$1 fifo=$T/$1.ready line
    shift
    rm -f "$fifo"
    mkfifo "$fifo"
    "$1" --config "$2" --ready-fd 7 "${@:3}" 7>"$fifo" >>"$T/$name.log" 2>&1 &
    PID=$!
    PIDS+=("$PID")
    read -rt "$(patience 20)" line <"$fifo" && [ "$line" = ready ]
}
stop() { # pid
    kill -TERM "$1" 2>/dev/null || return 0
    wait_until 20 gone "$1" || kill -KILL "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
is_open() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
echo_start() { # what it reads comes back; its port in $ECHO_PORT
    ECHO_PORT=$(free_port)
    python3 - "$ECHO_PORT" <<'P' &
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while (b := self.request.recv(65536)):
            self.request.sendall(b)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
P
    PIDS+=("$!")
    check_run "an echo" wait_until 20 is_open "$ECHO_PORT"
}
# A real sshd on 127.0.0.1, for the key $T/ssh/id; $T/ssh is there. Its log is $T/sshd.log. sshd_start PORT
sshd_start() {
    ssh-keygen -q -t ed25519 -N '' -f "$T/ssh/host"
    ssh-keygen -q -t ed25519 -N '' -f "$T/ssh/id"
    cp "$T/ssh/id.pub" "$T/ssh/authorized"
    cat >"$T/ssh/sshd_config" <<C
ListenAddress 127.0.0.1
Port $1
HostKey $T/ssh/host
AuthorizedKeysFile $T/ssh/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
C
    [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
    "$(command -v sshd || echo /usr/sbin/sshd)" -D -e -f "$T/ssh/sshd_config" >"$T/sshd.log" 2>&1 &
    PIDS+=("$!")
}
sandbox_up() { # options...; $SB, $ENV
    SANDBOXES+=("$SB")
    "$BERTH" sandbox up --dir "$SB" --address "$NET.1" "$@" >"$T/up.out" 2>&1 || { cat "$T/up.out"; die "sandbox up"; }
    ENV=$SB/env.json
    export SB ENV
}
pid_of() { # dps, hub1, hub2
    "$BERTH" sandbox status --dir "$SB" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]]["pid"])' "$1"
}
env_get() { # python expression over e
    python3 -c 'import json,sys; e=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$ENV" "$1"
}
py() { python3 "$SRC/$1" "${@:2}" || BAD=$((BAD + 1)); }

# --- tokens, by openssl -----------------------------------------------------------------------------------------------------
enc() { python3 -c 'import sys,urllib.parse; print(urllib.parse.quote(sys.argv[1],safe=""))' "$1"; }
sas() { # resource, base64 key, policy or "", seconds to live (600)
    local sr se sig hex
    sr=$(enc "$1") se=$(($(date +%s) + ${4:-600}))
    hex=$(printf %s "$2" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
    sig=$(printf '%s\n%s' "$sr" "$se" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$hex" -binary | openssl base64 -A)
    printf 'SharedAccessSignature sr=%s&sig=%s&se=%s%s' "$sr" "$(enc "$sig")" "$se" "${3:+&skn=$3}"
}
cs_token() { # service connection string
    local host=${1#HostName=} name=${1#*SharedAccessKeyName=} key=${1#*SharedAccessKey=}
    sas "${host%%;*}" "$key" "${name%%;*}"
}
rest() { # connection string, method, path with query, [body]; prints the body, then a line with the status
    local host=${1#HostName=}
    host=${host%%;*}
    curl -sS -m "$(patience 20)" --cacert "$SB/ca.pem" -X "$2" -H "Authorization: $(cs_token "$1")" -H 'Content-Type: application/json' \
        ${4:+--data-binary "$4"} ${IF_MATCH:+-H "If-Match: $IF_MATCH"} -w '\n%{http_code}\n' "https://$host$3"
}
status_of() { rest "$@" | tail -n 1; }

finish() { # at the end of every test
    [ "$BAD" -eq 0 ] || { echo "$BAD rows failed"; exit 1; }
    exit 0
}
cleanup() {
    local status=$? p s
    trap '' INT TERM
    for p in ${PIDS[@]+"${PIDS[@]}"}; do kill -TERM "$p" 2>/dev/null; done
    for p in ${PIDS[@]+"${PIDS[@]}"}; do wait_until 5 gone "$p" || kill -KILL "$p" 2>/dev/null; done
    for s in ${SANDBOXES[@]+"${SANDBOXES[@]}"}; do "$BERTH" sandbox down --dir "$s" >/dev/null 2>&1; done
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
