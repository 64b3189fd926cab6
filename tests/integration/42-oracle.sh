# SPDX-License-Identifier: Apache-2.0
# Does the time of an answer tell whether an id is enrolled? At the DPS and at a hub, over HTTPS and MQTT, alternating (oracle.py,
# oracle_hub.py). threat:N8 dps-device:D12
# time-limit: 150
. "$SRC/lib.sh"
sandbox_up --hubs 1
py oracle.py
py oracle_hub.py
finish
