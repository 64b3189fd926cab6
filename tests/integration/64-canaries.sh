# SPDX-License-Identifier: Apache-2.0
# Known secrets go in by every door, used rightly and wrongly; then they are searched for, as bytes and in every way they are written, in
# the data, the logs, what /proc shows, and core files (canaries.py). The files that are there to hold them are not looked at.
# threat:S6
# time-limit: 180
. "$SRC/lib.sh"
sandbox_up --hubs 1
py canaries.py
finish
