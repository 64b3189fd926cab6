# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += %D%/unit.h %D%/conformance/run %D%/conformance/acceptance %D%/conformance/make-pki.sh %D%/conformance/lib.js \
	%D%/conformance/test-path.js %D%/conformance/test-hub.js %D%/conformance/package.json %D%/conformance/package-lock.json \
	%D%/conformance/.npmrc
