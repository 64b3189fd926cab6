# SPDX-License-Identifier: Apache-2.0
# Shared access signatures against the real hub and DPS: every spelling that an SDK sends, and every one that must not pass (sas.py).
# sas:S1 sas:S2 sas:S3 sas:S4 sas:S5 sas:S6 sas:S7 sas:S8 sas:S9 sas:S10 sas:S11 sas:S12 sas:S13 sas:S14 sas:S15 sas:S16 sas:S17 sas:S18
# sas:S19 sas:S20 sas:S21 sas:S22 sas:S23 sas:S24 sas:S25 sas:S26 sas:S27 sas:S28 sas:S29 sas:S30 threat:N8 threat:N9
. "$SRC/lib.sh"
sandbox_up --hubs 2
# a token made by openssl instead of by the kit
hcs=$(env_get 'e["hubs"][0]["serviceConnectionString"]')
check "a token by openssl" "$(status_of "$hcs" GET '/devices?api-version=2021-04-12')" 200
py sas.py
finish
