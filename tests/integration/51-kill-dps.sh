# SPDX-License-Identifier: Apache-2.0
# kill -9 of the DPS and of the hubs at random instants while units register, register again and move between the hubs: who was told
# "assigned" exists at that hub with its key, the records of both sides agree, nobody is ever enabled at two hubs, a twin is never lost,
# and whoever was interrupted can provision afterwards. threat:C6
# dps-device:D38
# time-limit: 420
. "$SRC/lib.sh"
sandbox_up --hubs 2
py kill_dps.py "${BERTH_KILLS:-200}"
finish
