# SPDX-License-Identifier: Apache-2.0
# A backup of servers at work; an old one that is put back is refused until an administrator says that he has seen to what was revoked
# since; connects that race a disable (restore.py). BERTH_RACES: how many. threat:C9
# time-limit: 120
. "$SRC/lib.sh"
sandbox_up --hubs 1
py restore.py
finish
