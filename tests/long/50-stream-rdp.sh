# SPDX-License-Identifier: Apache-2.0
# A remote desktop by RDP through a stream: a real xrdp on the device, which shows a screen of one colour, and FreeRDP on the other side,
# whose own screen is looked at: the session is there when it has that colour, and alive when it follows another one.
# time-limit: 300
. "$SRC/lib.sh"
. "$SRC/../long/device.sh"
PATH=$PATH:/usr/sbin
for p in Xtigervnc Xvfb xrdp xfreerdp xsetroot xwdtopnm; do command -v "$p" >/dev/null || skip "no $p (scripts/install-deps long)"; done
vnc_port=$(free_port) rdp_port=$(free_port)

# --- the device: a screen, and xrdp in front of it ---------------------------------------------------------------------
screen_up() { # name, program with its options...; its display in $DISPLAY_OF
    "${@:2}" -displayfd 5 -nolisten tcp 5>"$T/$1.display" >"$T/$1.log" 2>&1 &
    PIDS+=("$!")
    check_run "a screen: $1" wait_until 60 test -s "$T/$1.display"
    DISPLAY_OF=:$(cat "$T/$1.display")
}
screen_up device Xtigervnc -geometry 800x600 -depth 24 -SecurityTypes None -rfbport "$vnc_port" -localhost
device=$DISPLAY_OF
check_run "of one colour" env DISPLAY="$device" xsetroot -solid '#2060a0'
(umask 077 && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=unit-1 -keyout "$T/rdp.key" -out "$T/rdp.pem" 2>/dev/null)
cat >"$T/xrdp.ini" <<C
[Globals]
ini_version=1
fork=true
port=tcp://127.0.0.1:$rdp_port
security_layer=tls
certificate=$T/rdp.pem
key_file=$T/rdp.key
ssl_protocols=TLSv1.2, TLSv1.3
autorun=screen
max_bpp=32
allow_channels=true
[Logging]
LogFile=$T/xrdp.log
LogLevel=INFO
EnableSyslog=false
[Channels]
rdpdr=true
rdpsnd=true
drdynvc=true
cliprdr=true
[screen]
name=screen
lib=libvnc.so
ip=127.0.0.1
port=$vnc_port
username=na
password=na
C
xrdp --nodaemon --config "$T/xrdp.ini" >"$T/xrdp.out" 2>&1 &
PIDS+=("$!")
check_run "xrdp" wait_until 60 is_open "$rdp_port"
device_up "rdp=$rdp_port"
forward rdp

# --- the desk ----------------------------------------------------------------------------------------------------------
mkdir "$T/fb" "$T/home"
screen_up desk Xvfb -screen 0 800x600x24 -fbdir "$T/fb"
desk=$DISPLAY_OF
shows() { # colour as RRGGBB: all of the desk's screen but a pointer
    xwdtopnm "$T/fb/Xvfb_screen0" 2>/dev/null | python3 -c '
import sys
head, data = sys.stdin.buffer.read().split(b"\n255\n", 1)
good = 3 * sum(data[i:i + 3] == bytes.fromhex(sys.argv[1]) for i in range(0, len(data), 3))
sys.exit(not (head.split()[1:3] == [b"800", b"600"] and good > 0.99 * len(data)))' "$1"
}
check_run "before, the desk shows something else" eval '! shows 2060a0'
DISPLAY=$desk HOME=$T/home xfreerdp "/v:127.0.0.1:$PORT" /u:na /p:na /sec:tls /cert:ignore /size:800x600 /bpp:24 -decorations -clipboard \
    >"$T/client.log" 2>&1 &
client=$!
PIDS+=("$client")
check_run "the desk shows the device's screen" wait_until 120 shows 2060a0
check_has "TLS up to xrdp" "$(cat "$T/xrdp.log")" "TLS connection established"
check "by the stream" "$(legs)" 1
for colour in a06020 10c030; do
    check_run "the device's screen turns" env DISPLAY="$device" xsetroot -solid "#$colour"
    check_run "and the desk's with it: $colour" wait_until 60 shows "$colour"
done
stop "$client"
check_run "nothing of it stays" wait_until 60 no_legs
finish
