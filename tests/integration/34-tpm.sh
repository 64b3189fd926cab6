# SPDX-License-Identifier: Apache-2.0
# TPMs against a real DPS and hub: chips by swtpm, blobs opened by tpm2-tools as docs/protocol/dps-tpm.md 10 says (tpm.py).
# dps-tpm:T1 dps-tpm:T2 dps-tpm:T3 dps-tpm:T4 dps-tpm:T5 dps-tpm:T6 dps-tpm:T7 dps-tpm:T8 dps-tpm:T9 dps-tpm:T10 dps-tpm:T11 dps-tpm:T12
# dps-tpm:T13 dps-tpm:T19 dps-tpm:T20 dps-device:D35 dps-device:D36 threat:C5 threat:N12
# time-limit: 240
. "$SRC/lib.sh"
for p in swtpm swtpm_setup tpm2_createek; do
    command -v "$p" >/dev/null || skip "$p is not installed"
done
sandbox_up --hubs 1
py tpm.py
py tpm_agent.py
finish
