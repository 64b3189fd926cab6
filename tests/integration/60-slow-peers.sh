# SPDX-License-Identifier: Apache-2.0
# One byte a second at each stage, and as many half-open connections as descriptors allow, while a device publishes: it keeps its pace, memory
# stays bounded, and every slow peer is closed in time. BERTH_HALF_OPEN says how many (10,000).
# threat:N1 threat:N2 threat:N3 hub-https:H27 dps-device:D40
# time-limit: 150
. "$SRC/lib.sh"
ulimit -n "$(ulimit -Hn)" 2>/dev/null
sandbox_up --hubs 1
py slow_peers.py "${BERTH_HALF_OPEN:-10000}"
finish
