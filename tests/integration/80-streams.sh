# SPDX-License-Identifier: Apache-2.0
# Device streams: the service's POST, the device's answer over MQTT, the gateway, the relay, who may end it (streams.py).
# device-streams:1 device-streams:2 device-streams:3 device-streams:4 device-streams:5 device-streams:6 device-streams:7
# device-streams:8 device-streams:9 device-streams:11 device-streams:12 device-streams:15 device-streams:16 device-streams:17
# device-streams:18 device-streams:19 device-streams:20 device-streams:21 device-streams:22 device-streams:23 device-streams:24 device-streams:25
# hub-mqtt:M21a threat:E3
# time-limit: 120
. "$SRC/lib.sh"
sandbox_up --hubs 1
py streams.py
finish
