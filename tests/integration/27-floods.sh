# SPDX-License-Identifier: Apache-2.0
# Floods of one device while a neighbour works, and a day that is over (threat:D6, limits:16, limits:19); queries as weapons (threat:D11).
# time-limit: 90
. "$SRC/lib.sh"
sandbox_up --hubs 1
py floods.py
py query_floods.py
finish
