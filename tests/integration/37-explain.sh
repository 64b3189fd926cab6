# SPDX-License-Identifier: Apache-2.0
# Every refusal of a device is kept with its rule, its reason and the way to mend it; the dry run says the same beforehand
# (dps_explain.py). threat:N8
# time-limit: 120
. "$SRC/lib.sh"
sandbox_up --hubs 2
py dps_explain.py
finish
