# SPDX-License-Identifier: Apache-2.0
# A real browser (headless Chromium) on a real page of a device's web server: 200 parts over many connections at once, a WebSocket, a
# download whose digest the page itself computes. The page tells what it saw; nothing of it may be missing.
# time-limit: 600
. "$SRC/lib.sh"
. "$SRC/../long/device.sh"
chromium=$(command -v chromium || command -v chromium-browser) || skip "no chromium (scripts/install-deps long)"
web_port=$(free_port)
head -c 50000000 /dev/urandom >"$T/blob"
python3 "$SRC/../long/browser_site.py" "$web_port" "$T/blob" "$T/seen.json" >"$T/web.log" 2>&1 &
PIDS+=("$!")
check_run "a web server" wait_until 30 is_open "$web_port"
device_up "web=$web_port"
forward web
check "the page comes" "$(curl -s -m 60 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$PORT/")" 200
flags=()
[ "$(id -u)" != 0 ] || flags+=(--no-sandbox)
HOME=$T "$chromium" --headless "${flags[@]}" --disable-gpu --disable-dev-shm-usage --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --no-proxy-server --user-data-dir="$T/chromium" --remote-debugging-port=0 \
    "http://127.0.0.1:$PORT/" >"$T/chromium.log" 2>&1 &
browser=$!
PIDS+=("$browser")
check_run "the page has told what it saw" wait_until 300 test -s "$T/seen.json"
told() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1])).get(sys.argv[2]))' "$T/seen.json" "$1"; }
check "every script ran" "$(told scripts)" 100
check "every image is there, of its size" "$(told images)" 100
check "download: byte for byte" "$(told sha256)" "$(sha256sum <"$T/blob" | cut -c1-64)"
check "upload: byte for byte" "$(told upload)" True
check "WebSocket: 200 messages echoed" "$(told echoed)" 200
check "nothing failed" "$(told errors)" "[]"
echo "# the page was complete after $(told ms) ms; $(grep -c event=agent.stream_opened "$T/agent.log") connections"
stop "$browser"
check_run "its connections end with it" wait_until 60 no_legs
check "one stream carried them all" "$(grep -c 'event=hub.stream.opened' "$SB/log/hub1.log")" 1
finish
