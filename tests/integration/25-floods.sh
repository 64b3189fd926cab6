# SPDX-License-Identifier: Apache-2.0
# Floods of one device while a neighbour works, and a day that is over (threat:D6, limits:16, limits:19).
# time-limit: 60
. "$SRC/lib.sh"
sandbox_up --hubs 1
py floods.py
finish
