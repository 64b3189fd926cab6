# SPDX-License-Identifier: Apache-2.0
# Module identities: REST by services and by the device itself, links beside their device's, the end of both (modules.py);
# mosquitto's clients as a module.
# hub-mqtt:M11 hub-mqtt:M21a sas:S16
# time-limit: 120
. "$SRC/lib.sh"
sandbox_up --hubs 1
host=$NET.2
hcs=$(env_get 'e["hubs"][0]["serviceConnectionString"]')
key=$(openssl rand -base64 32)
auth='"authentication":{"type":"sas","symmetricKey":{"primaryKey":"'"$key"'","secondaryKey":"'"$key"'"}}'
check "device made" "$(status_of "$hcs" PUT '/devices/mosq?api-version=2021-04-12' '{"deviceId":"mosq"}')" 200
check "module made" "$(status_of "$hcs" PUT '/devices/mosq/modules/m1?api-version=2021-04-12' '{"deviceId":"mosq","moduleId":"m1",'"$auth"'}')" 200
as() { # mosquitto_pub or mosquitto_sub, options...
    timeout 20 stdbuf -oL "$1" -V mqttv311 -h "$host" -p 8883 --cafile "$SB/ca.pem" -i mosq/m1 -u "$host/mosq/m1/?api-version=2021-04-12" \
        -P "$(sas "$host/devices/mosq/modules/m1" "$key" "")" "${@:2}"
}
check_run "mosquitto_pub" as mosquitto_pub -q 1 -t 'devices/mosq/modules/m1/messages/events/a=b' -m 'from a module'
got() { "$BERTH" hub monitor --env "$ENV" --hub 1 --device mosq --from earliest --no-follow --json; }
check_has "read back with the module's id" "$(got)" '"iothub-connection-module-id":"m1"'
as mosquitto_sub -q 1 -C 1 -v -d -t '$iothub/twin/PATCH/properties/desired/#' >"$T/sub" 2>&1 &
sub=$!
PIDS+=("$sub")
check_run "subscribed" wait_until 20 grep -q SUBACK "$T/sub"
check "the module's twin is patched" "$(IF_MATCH='*' status_of "$hcs" PATCH '/twins/mosq/modules/m1?api-version=2021-04-12' '{"properties":{"desired":{"led":"on"}}}')" 200
check_run "mosquitto_sub hears it" wait_until 20 grep -q '"led":"on"' "$T/sub"
wait "$sub"

py modules.py
finish
