# SPDX-License-Identifier: Apache-2.0
# The DPS device API over MQTT, MQTT over WebSocket and HTTPS, keys and certificates (dps_device.py).
# dps-device:D3 dps-device:D4 dps-device:D5 dps-device:D6 dps-device:D7 dps-device:D8 dps-device:D9 dps-device:D10 dps-device:D11
# dps-device:D12 dps-device:D13 dps-device:D14 dps-device:D15 dps-device:D16 dps-device:D17 dps-device:D17a dps-device:D18 dps-device:D19
# dps-device:D20 dps-device:D21 dps-device:D22 dps-device:D23 dps-device:D24 dps-device:D25 dps-device:D26 dps-device:D27 dps-device:D28
# dps-device:D32 dps-device:D37 dps-device:D39 dps-service:30 threat:C2 threat:C1
# time-limit: 120
. "$SRC/lib.sh"
sandbox_up --hubs 2
py dps_device.py
finish
