# SPDX-License-Identifier: Apache-2.0
# A gigabyte by scp through berth stream --stdio and a real sshd, other sessions beside it, and what other tunnels hang at: a second
# session, a large copy, a socket that is closed on one side, a client that is gone. BERTH_LONG_MB chooses another size.
# device-streams:26
# time-limit: 3600
. "$SRC/lib.sh"
. "$SRC/../long/device.sh"
command -v scp >/dev/null || skip "no openssh client"
mb=${BERTH_LONG_MB:-1000}
mkdir -m 700 "$T/ssh"
ssh_port=$(free_port)
sshd_start "$ssh_port"
check_run "sshd" wait_until 30 is_open "$ssh_port"
device_up "ssh=$ssh_port"
q() { printf '%q' "$1"; }
proxy="$(q "$BERTH") stream unit-1 --to ssh --stdio --env $(q "$ENV")"
how=(-q -F none -i "$T/ssh/id" -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o "UserKnownHostsFile=$T/ssh/known"
    -o "ProxyCommand=$proxy" -o "User=$(id -un)")
ssh_do() { timeout 300 ssh "${how[@]}" unit-1 "$@"; }
check "a first session" "$(ssh_do echo one)" one
head -c "${mb}000000" /dev/urandom >"$T/up"
sum=$(sha256sum <"$T/up")

# --- a large copy, and a second session at the same time ------------------------------------------------------------
t0=$SECONDS
timeout 3000 scp "${how[@]}" "$T/up" "unit-1:$T/down" &
copy=$!
begun() { [ -s "$T/down" ]; }
check_run "the copy runs" wait_until 120 begun
check "a second session beside it" "$(ssh_do 'echo $((6 * 7))')" 42
check_run "and the copy still runs" alive "$copy"
check "a third, with input and its end" "$(head -c 1000000 "$T/up" | ssh_do sha256sum)" "$(head -c 1000000 "$T/up" | sha256sum)"
wait "$copy"
check "the copy ends well" "$?" 0
took=$((SECONDS - t0))
check "there: byte for byte" "$(sha256sum <"$T/down")" "$sum"
echo "# $mb MB there in $took s, $((mb / (took > 0 ? took : 1))) MB/s"
t0=$SECONDS
check_run "and back" timeout 3000 scp "${how[@]}" "unit-1:$T/down" "$T/back"
took=$((SECONDS - t0))
check "back: byte for byte" "$(sha256sum <"$T/back")" "$sum"
echo "# $mb MB back in $took s, $((mb / (took > 0 ? took : 1))) MB/s"
rm -f "$T/back" "$T/down"

# --- one side closed ---------------------------------------------------------------------------------------------------
forward ssh
half=$(python3 - "$PORT" <<'P'
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60)
s.sendall(b"SSH-2.0-half\r\n")
s.shutdown(socket.SHUT_WR)  # the server's words come all the same, and its end
s.settimeout(60)
got = b""
while True:
    d = s.recv(65536)
    if not d:
        break
    got += d
print(got[:8].decode())
P
)
check "a socket closed on one side hears the other to its end" "$half" "SSH-2.0-"
check_run "nothing of it stays" wait_until 60 no_legs

# --- the client is gone ----------------------------------------------------------------------------------------------------
# ssh and its proxy vanish in the middle of a copy, without a word to anybody
ssh "${how[@]}" unit-1 "cat >$T/cut" <"$T/up" &
cut=$!
cut_begun() { [ -s "$T/cut" ]; }
check_run "another copy runs" wait_until 120 cut_begun
child=$(pgrep -P "$cut" -f -- --stdio)
kill -KILL "$cut" "$child"
wait "$cut" 2>/dev/null
check_run "its connection to sshd ends" wait_until 60 no_legs
check "and the next session works" "$(ssh_do echo next)" next
check_run "no stream is left but the local port's" wait_until 60 \
    sh -c "[ \$($(q "$BERTH") stream list --env $(q "$ENV") | grep -o deviceId | wc -l) = 1 ]"
finish
