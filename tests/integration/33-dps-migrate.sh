# SPDX-License-Identifier: Apache-2.0
# A device that registers again: migrate, reset, never, sticky, back to the first hub, a hub that is gone, away, unlinked or drained; both
# hubs looked at over REST (dps_migrate.py). dps-device:D34 dps-service:G12 threat:C6
# time-limit: 180
. "$SRC/lib.sh"
sandbox_up --hubs 3
py dps_migrate.py
finish
