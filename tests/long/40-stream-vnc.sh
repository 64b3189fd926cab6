# SPDX-License-Identifier: Apache-2.0
# A remote desktop through a stream: a real VNC server with a screen of one colour on the device, a real client that takes its picture.
# time-limit: 300
. "$SRC/lib.sh"
. "$SRC/../long/device.sh"
for p in Xtigervnc gvnccapture xsetroot pngtopnm; do command -v "$p" >/dev/null || skip "no $p (scripts/install-deps long)"; done
vnc_port=$(free_port)
# the server picks its display's number, and says which one
Xtigervnc -displayfd 5 -geometry 800x600 -depth 24 -SecurityTypes None -rfbport "$vnc_port" -localhost -nolisten tcp -AcceptKeyEvents=0 \
    5>"$T/display" >"$T/vnc.log" 2>&1 &
PIDS+=("$!")
check_run "a VNC server" wait_until 60 is_open "$vnc_port"
check_run "and its screen" wait_until 60 test -s "$T/display"
display=:$(cat "$T/display")
check_run "of one colour" env DISPLAY="$display" xsetroot -solid '#2060a0'
device_up "vnc=$vnc_port"
forward vnc
# its display numbers count from port 5900
for i in 1 2 3; do
    check_run "picture $i" timeout 60 gvnccapture "127.0.0.1:$((PORT - 5900))" "$T/$i.png"
    check "picture $i: the colour, all over" "$(pngtopnm "$T/$i.png" | python3 -c '
import sys
head, data = sys.stdin.buffer.read().split(b"\n255\n", 1)
size = head.split()[1:3]
good = 3 * sum(data[i:i + 3] == b"\x20\x60\xa0" for i in range(0, len(data), 3))
print(b"x".join(size).decode(), good > 0.99 * len(data))')" "800x600 True"
done
check_run "nothing of them stays" wait_until 60 no_legs
finish
