# SPDX-License-Identifier: Apache-2.0
# kill -9 of the hub at random instants while devices publish: every message whose PUBACK arrived is in the log exactly as sent, in
# order. BERTH_KILLS says how often (100). threat:D8
# time-limit: 240
. "$SRC/lib.sh"
sandbox_up --hubs 1
py kill_hub.py "${BERTH_KILLS:-100}"
finish
