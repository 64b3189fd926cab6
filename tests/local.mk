# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += %D%/unit.h %D%/conformance/run %D%/conformance/acceptance %D%/conformance/make-pki.sh %D%/conformance/lib.js \
	%D%/conformance/test-path.js %D%/conformance/test-hub.js %D%/conformance/package.json %D%/conformance/package-lock.json \
	%D%/conformance/.npmrc
# whole folders: what a run leaves in them does not go along
EXTRA_DIST += %D%/fuzz/run %D%/integration %D%/bench .ci/run
dist-hook:
	find $(distdir)/tests -name __pycache__ -prune -exec rm -rf {} +
