# SPDX-License-Identifier: Apache-2.0
# A flood of silent connections from the address that a fleet shares, and a storm of honest connects (storm.py): the fleet gets in, nobody
# is told that his credential is wrong. BERTH_STORM says how many links the storm makes (1,500).
# threat:N3 hub-mqtt:M47 hub-mqtt:M5
# time-limit: 150
. "$SRC/lib.sh"
ulimit -n "$(ulimit -Hn)" 2>/dev/null
sandbox_up --hubs 1
NET=$NET py storm.py "${BERTH_STORM:-1500}"
finish
