# SPDX-License-Identifier: Apache-2.0
# The hub over HTTPS, and the telemetry endpoint that is resumed from a position (hub_https.py).
# hub-https:H2 hub-https:H3 hub-https:H4 hub-https:H5 hub-https:H6 hub-https:H7 hub-https:H8 hub-https:H17 hub-https:H18 hub-https:H24
# hub-https:H26 hub-https:H28 hub-https:H29 hub-https:H30 threat:N4 threat:N6
# time-limit: 60
. "$SRC/lib.sh"
sandbox_up --hubs 1
py hub_https.py
finish
