# SPDX-License-Identifier: Apache-2.0
# Two thousand devices boot at once while one address guesses credentials; then the hubs stand still for a while (dps_storm.py).
# threat:N3 dps-device:D33 dps-device:D39 limits:13
# time-limit: 150
. "$SRC/lib.sh"
sandbox_up --hubs 3
HUB_PIDS="$(pid_of hub1) $(pid_of hub2) $(pid_of hub3)"
export HUB_PIDS
py dps_storm.py
finish
