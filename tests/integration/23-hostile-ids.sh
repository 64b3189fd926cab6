# SPDX-License-Identifier: Apache-2.0
# Ids that are legal and look like something else (`.`, `..`, `%2e`, quotes, 128 bytes), pairs of ids that are the same or not, texts that
# steer a terminal: through every route (hostile_ids.py), then through `berth`. The hub's file calls are watched (strace, where there is one).
# threat:D4 threat:D5 threat:D9 threat:N13 threat:S4
# time-limit: 120
. "$SRC/lib.sh"
sandbox_up --hubs 1
py hostile_ids.py

check_run "the hub is up again" start hub1 "$HUB" "$SB/hub1/berth.conf"

# what `berth` prints of it: no byte that steers or turns around
plain() { LC_ALL=C.UTF-8 grep -qP '[\x00-\x08\x0b-\x1f\x7f\x{80}-\x{9f}\x{61c}\x{200e}\x{200f}\x{202a}-\x{202e}\x{2066}-\x{2069}]' "$1"; }
for c in "hub twin show marked" "hub device show marked" "hub device list" "hub monitor --device marked --from earliest --no-follow" \
    "hub monitor --device marked --from earliest --no-follow --json" "hub twin show $(printf 'no\033[31m\302\233such')"; do
    # shellcheck disable=SC2086 # the words are meant to part
    "$BERTH" $c --env "$ENV" --hub 1 >"$T/shown" 2>&1
    check_run "berth $(printf %q "$c"): something is shown" [ -s "$T/shown" ]
    if plain "$T/shown"; then not_ok "berth $(printf %q "$c"): steers the terminal" "$(cat -v "$T/shown")"; else ok "berth $(printf %q "$c"): plain"; fi
done
"$BERTH" hub twin show marked --env "$ENV" --hub 1 >"$T/shown"
check "and it is the same JSON" "$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["tags"]["t"] == "\u001b[2J\u009b31m\u202eabc\u2066\u200f")' "$T/shown")" True

# the audit trail, and what happens to it
"$BERTH" hub audit --env "$ENV" --hub 1 >"$T/hub.audit" && "$BERTH" dps audit --env "$ENV" >"$T/dps.audit"
check_run "the hub's audit trail is unbroken" "$BERTH" audit verify "$T/hub.audit"
check_run "the DPS's audit trail is unbroken" "$BERTH" audit verify "$T/dps.audit" --json
last=$("$BERTH" audit verify "$T/hub.audit" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["hash"])')
check_run "and ends where it did" "$BERTH" audit verify "$T/hub.audit" --last-hash "$last"
n=$(wc -l <"$T/hub.audit")
check_run "it has entries ($n)" [ "$n" -ge 6 ]
tampered() { # name, wanted text, options of verify...
    local out
    if out=$("$BERTH" audit verify "$T/bad.audit" "${@:3}" 2>&1); then not_ok "$1" "not noticed"; else
        check_has "$1: named" "$out" "$T/bad.audit"
        check_has "$1: and what" "$out" "$2"
    fi
}
sed '3s/"result":"OK"/"result":"E_ETAG"/' "$T/hub.audit" >"$T/bad.audit" && tampered "a changed entry" "line 3: entry 3 was changed"
sed '4d' "$T/hub.audit" >"$T/bad.audit" && tampered "an entry taken out" "entry 5 follows entry 3"
sed '$d' "$T/hub.audit" >"$T/bad.audit" && tampered "the end cut off" "another hash" --last-hash "$last"
{ sed -n 2p "$T/hub.audit" && cat "$T/hub.audit"; } >"$T/bad.audit" && tampered "an entry moved" "entry 1 follows entry 2"
finish
