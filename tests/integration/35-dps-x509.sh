# SPDX-License-Identifier: Apache-2.0
# X.509 attestation: several roots, rotation while devices register, proof of possession by openssl, what a change of trust cuts off and
# when (dps_x509.py). dps-device:D22 dps-device:D31 dps-service:G14 threat:S2 threat:C4
# time-limit: 120
. "$SRC/lib.sh"
sandbox_up --hubs 2
py dps_x509.py
finish
