# SPDX-License-Identifier: Apache-2.0
# Another user of the machine puts links, folders and pipes where our programs are about to write, all the while (hostile_links.py).
# threat:E4
# time-limit: 120
. "$SRC/lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root, to be two users"
python3 "$SRC/hostile_links.py" || BAD=$((BAD + 1))
finish
