# SPDX-License-Identifier: Apache-2.0
# Two that hold the key of one device: their takeovers cost more and more time, others notice nothing, alarms are raised; then the device
# is disabled and off within a second, at the hub, at the DPS, and by its CA (rivals.py).
# hub-mqtt:M9 hub-mqtt:M10 hub-mqtt:M40 threat:D7 threat:D10
# time-limit: 90
. "$SRC/lib.sh"
sandbox_up --hubs 1
NET=$NET py rivals.py
check_run "the audit trail is unbroken" sh -c '"$1" hub audit --env "$2" --hub 1 >"$3" && "$1" audit verify "$3"' sh "$BERTH" "$ENV" "$T/audit"
finish
