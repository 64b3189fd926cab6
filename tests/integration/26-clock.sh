# SPDX-License-Identifier: Apache-2.0
# The clock of a site is set a day and ten years ahead and back, while devices are connected and telemetry flows (threat:E6).
# time-limit: 120
. "$SRC/lib.sh"
command -v cc >/dev/null || skip "no C compiler for the clock that is set"
has_capability() { python3 -c 'import os, sys; sys.exit("security.capability" not in os.listxattr(sys.argv[1]))' "$1"; }
if has_capability "$HUB" || has_capability "$DPS"; then skip "a program with a capability of its own takes no clock that is preloaded; needs root"; fi
cc -shared -fPIC -O1 -o "$T/clock.so" "$SRC/clock_shim.c" || die "clock_shim.c"
head -c 8 /dev/zero >"$T/clock"
sandbox_up --hubs 1
check_has "an issuing CA" "$("$BERTH" dps issuer create unit-ca --self-signed --env "$ENV")" "is ready"
(umask 077 && openssl rand -base64 64 | tr -d '\n' >"$T/units.key")
key=$(cat "$T/units.key")
check "a group that gives certificates" "$(status_of "$(env_get 'e["dpsServiceConnectionString"]')" PUT "/enrollmentGroups/units?api-version=2021-10-01" \
    "{\"attestation\":{\"type\":\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":\"$key\",\"secondaryKey\":\"$key\"}},\"clientCertificateIssuancePolicy\":{\"certificateAuthorityName\":\"unit-ca\",\"validityMinutes\":43200}}")" 200
check_run "a unit of it" "$ENROLL" burn --serial unit-1 --identity "$T/unit-1" --env "$ENV" --station "$T/station" --group-key-file "$T/units.key"
cat >"$T/agent.conf" <<C
[agent]
identity = $T/unit-1
state = $T/unit-1.state
certificate = yes
telemetry-interval = 1
[log]
level = debug
C
py clock.py
finish
