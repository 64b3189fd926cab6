# SPDX-License-Identifier: Apache-2.0
dist_man_MANS += %D%/man/berth.1 %D%/man/berth-sandbox.1 %D%/man/enroll-tool.1 %D%/man/berth.conf.5 %D%/man/berth-log.5 \
	%D%/man/berth-agent.8 %D%/man/berth-dps.8 %D%/man/berth-hub.8 %D%/man/berth-signer.8
dist_doc_DATA = %D%/quickstart.md %D%/streams.md %D%/operations.md %D%/compatibility.md %D%/performance.md %D%/architecture.md %D%/threat-model.md
EXTRA_DIST += %D%/protocol tests/docs/check-docs
TESTS += tests/docs/check-docs
