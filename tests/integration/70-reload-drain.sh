# SPDX-License-Identifier: Apache-2.0
# SIGHUP swaps the certificate while devices publish, without a dropped connection; a bad file is refused and nothing changes. SIGTERM
# drains. The service manager is told.
# time-limit: 60
. "$SRC/lib.sh"
sandbox_up --hubs 1
py reload.py
finish
