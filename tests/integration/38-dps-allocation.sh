# SPDX-License-Identifier: Apache-2.0
# Who chooses the hub: a webhook that behaves, fails, lies, stalls and floods; round trips; weights; a hub that is drained
# (dps_allocation.py). dps-device:D29 dps-device:D30 dps-service:G11 dps-service:29 threat:E1 threat:E2
# time-limit: 150
. "$SRC/lib.sh"
sandbox_up --hubs 3
py dps_allocation.py
finish
