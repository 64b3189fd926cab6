# SPDX-License-Identifier: Apache-2.0
# The soak of tests/integration/82-stream-soak.sh for an hour. BERTH_SOAK_SECONDS and BERTH_SOAK_SEED choose another time, and the run
# whose seed was printed once more.
# time-limit: 100000
export BERTH_SOAK_SECONDS="${BERTH_SOAK_SECONDS:-3600}"
. "$SRC/82-stream-soak.sh"
