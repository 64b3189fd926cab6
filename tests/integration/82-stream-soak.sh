# SPDX-License-Identifier: Apache-2.0
# Device streams opened, used, stalled, half-closed, killed at speed for a short while; what is left afterwards (stream_soak.py). The
# long edition is tests/long/stream-soak.
# device-streams:15 device-streams:21 device-streams:24
# time-limit: 400
. "$SRC/lib.sh"
[ -z "${BERTH_SANITIZER:-}" ] || skip "what is counted at the end, descriptors and memory, is that of a plain build"
sandbox_up --hubs 1
check_run "a group" "$BERTH" dps group create units --symmetric --key-file "$T/group.key" --env "$ENV"
for u in unit-1 unit-2; do
    check_run "burn $u" "$ENROLL" burn --serial "$u" --identity "$T/$u" --env "$ENV" --group-key-file "$T/group.key" --station "$T/station"
done
py stream_soak.py "${BERTH_SOAK_SECONDS:-10}" "${BERTH_SOAK_SEED:-$RANDOM}"
finish
