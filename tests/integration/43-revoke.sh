# SPDX-License-Identifier: Apache-2.0
# A stolen device is cut off at the DPS, its hub and its CA by one command, also when a hub is away and the DPS is killed meanwhile; and the
# drill of a stolen station (docs/operations.md), with its ledger (revoke.py). threat:D10 threat:S2
# time-limit: 150
. "$SRC/lib.sh"
sandbox_up --hubs 2
py revoke.py
finish
