# SPDX-License-Identifier: Apache-2.0
# The hub over MQTT: mosquitto's clients first, then by hand what a well-behaved client never sends (hub_mqtt.py).
# hub-mqtt:M2 hub-mqtt:M3 hub-mqtt:M4 hub-mqtt:M5 hub-mqtt:M6 hub-mqtt:M7 hub-mqtt:M8 hub-mqtt:M9 hub-mqtt:M10 hub-mqtt:M12
# hub-mqtt:M14 hub-mqtt:M15 hub-mqtt:M16 hub-mqtt:M17 hub-mqtt:M18 hub-mqtt:M19 hub-mqtt:M20 hub-mqtt:M21 hub-mqtt:M22
# hub-mqtt:M28 hub-mqtt:M30 hub-mqtt:M31 hub-mqtt:M32 hub-mqtt:M33 hub-mqtt:M34 hub-mqtt:M40 hub-mqtt:M41 hub-mqtt:M42 hub-mqtt:M43 hub-mqtt:M45 hub-mqtt:M46
# threat:D1 threat:D3 threat:N10 threat:N13
# time-limit: 120
. "$SRC/lib.sh"
sandbox_up --hubs 1
host=$NET.2
hcs=$(env_get 'e["hubs"][0]["serviceConnectionString"]')
key=$(openssl rand -base64 32)
check "device made" "$(status_of "$hcs" PUT '/devices/mosq?api-version=2021-04-12' \
    '{"deviceId":"mosq","authentication":{"type":"sas","symmetricKey":{"primaryKey":"'"$key"'","secondaryKey":"'"$key"'"}}}')" 200
pub() { # options...
    timeout 20 mosquitto_pub -V mqttv311 -h "$host" -p 8883 --cafile "$SB/ca.pem" -i mosq -u "$host/mosq/?api-version=2021-04-12" \
        -P "$(sas "$host/devices/mosq" "$key" "")" "$@"
}
check_run "mosquitto_pub, QoS 1" pub -q 1 -t 'devices/mosq/messages/events/a=b' -m 'from mosquitto 1'
check_run "mosquitto_pub, QoS 0" pub -q 0 -t 'devices/mosq/messages/events/' -m 'from mosquitto 0'
for i in 1 2 3 4 5; do echo "line $i"; done | pub -q 1 -t 'devices/mosq/messages/events/' -l
check "mosquitto_pub, lines" "$?" 0
got() { "$BERTH" hub monitor --env "$ENV" --hub 1 --device mosq --from earliest --no-follow --json; }
count_is() { [ "$(got | wc -l)" -eq "$1" ]; }
check_run "all read back" wait_until 5 count_is 7
check "in order" "$(got | python3 -c 'import json,sys; print([json.loads(l)["body"] for l in sys.stdin])')" \
    "['from mosquitto 1', 'from mosquitto 0', 'line 1', 'line 2', 'line 3', 'line 4', 'line 5']"
# a desired property reaches mosquitto_sub
timeout 20 stdbuf -oL mosquitto_sub -V mqttv311 -h "$host" -p 8883 --cafile "$SB/ca.pem" -i mosq -u "$host/mosq/?api-version=2021-04-12" \
    -P "$(sas "$host/devices/mosq" "$key" "")" -q 1 -C 1 -v -d -t '$iothub/twin/PATCH/properties/desired/#' >"$T/sub" 2>&1 &
sub=$!
PIDS+=("$sub")
check_run "subscribed" wait_until 10 grep -q SUBACK "$T/sub"
check "twin is patched" "$(IF_MATCH='*' status_of "$hcs" PATCH '/twins/mosq?api-version=2021-04-12' '{"properties":{"desired":{"led":"on"}}}')" 200
check_run "mosquitto_sub hears it" wait_until 10 grep -q '"led":"on"' "$T/sub"
wait "$sub"

py hub_mqtt.py
finish
