# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += %D%/unit.h %D%/conformance/run %D%/conformance/acceptance %D%/conformance/make-pki.sh %D%/conformance/lib.js \
	%D%/conformance/test-path.js %D%/conformance/test-hub.js %D%/conformance/test-modules.js %D%/conformance/test-dps-service.js %D%/conformance/package.json %D%/conformance/package-lock.json \
	%D%/conformance/.npmrc
# whole folders: what a run leaves in them does not go along
EXTRA_DIST += %D%/fuzz/run %D%/integration %D%/long .ci/run
# not the folder: what was built below a folder of that name would go along
EXTRA_DIST += %D%/bench/bench.py %D%/bench/fleet %D%/bench/mqttload.c %D%/bench/peers.py %D%/bench/run %D%/bench/streamload.c \
	%D%/bench/streams.py %D%/bench/tpm.py
dist-hook:
	find $(distdir)/tests -name __pycache__ -prune -exec rm -rf {} +

# Engine and main of the replay are chosen in wire/local.mk.
tests_fuzz_targets = %D%/fuzz/fuzz_text %D%/fuzz/fuzz_conf %D%/fuzz/fuzz_identity %D%/fuzz/fuzz_stream %D%/fuzz/fuzz_relay \
	%D%/fuzz/fuzz_segment %D%/fuzz/fuzz_mux %D%/fuzz/fuzz_link
if FUZZING
noinst_PROGRAMS += $(tests_fuzz_targets)
else
check_PROGRAMS += $(tests_fuzz_targets)
endif
%C%_fuzz_fuzz_text_SOURCES = %D%/fuzz/fuzz.h %D%/fuzz/fuzz_text.c $(FUZZ_MAIN)
%C%_fuzz_fuzz_text_LDADD = $(FUZZ_ENGINE) base/libbase.a $(CRYPTO_LIBS)
%C%_fuzz_fuzz_conf_SOURCES = %D%/fuzz/fuzz.h %D%/fuzz/fuzz_conf.c $(FUZZ_MAIN)
%C%_fuzz_fuzz_conf_LDADD = $(FUZZ_ENGINE) base/libbase.a $(CRYPTO_LIBS) $(INIH_LIBS)
%C%_fuzz_fuzz_segment_SOURCES = %D%/fuzz/fuzz.h %D%/fuzz/fuzz_segment.c $(FUZZ_MAIN)
%C%_fuzz_fuzz_segment_LDADD = $(FUZZ_ENGINE) store/libstore.a base/libbase.a $(SQLITE_LIBS) $(CRYPTO_LIBS)
%C%_fuzz_fuzz_stream_SOURCES = %D%/fuzz/fuzz.h %D%/fuzz/fuzz_stream.c $(FUZZ_MAIN)
%C%_fuzz_fuzz_stream_LDADD = $(FUZZ_ENGINE) hub/libhub.a server/libserver.a net/libnet.a certs/libcerts.a store/libstore.a wire/libwire.a \
	base/libbase.a $(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(SQLITE_LIBS) $(JANSSON_LIBS) $(INIH_LIBS) $(SYSTEMD_LIBS)
%C%_fuzz_fuzz_relay_SOURCES = %D%/fuzz/fuzz.h %D%/fuzz/fuzz_relay.c $(FUZZ_MAIN)
%C%_fuzz_fuzz_relay_LDADD = $(FUZZ_ENGINE) net/libnet.a wire/libwire.a base/libbase.a $(MHD_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)
%C%_fuzz_fuzz_mux_SOURCES = %D%/fuzz/fuzz.h %D%/fuzz/fuzz_mux.c $(FUZZ_MAIN)
%C%_fuzz_fuzz_mux_LDADD = $(FUZZ_ENGINE) client/libclient.a net/libnet.a certs/libcerts.a wire/libwire.a base/libbase.a \
	$(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)
%C%_fuzz_fuzz_link_SOURCES = %D%/fuzz/fuzz.h %D%/fuzz/fuzz_link.c $(FUZZ_MAIN)
%C%_fuzz_fuzz_link_LDADD = $(tests_fuzz_fuzz_mux_LDADD)
%C%_fuzz_fuzz_identity_SOURCES = %D%/fuzz/fuzz.h %D%/fuzz/fuzz_identity.c $(FUZZ_MAIN)
%C%_fuzz_fuzz_identity_LDADD = $(FUZZ_ENGINE) client/libclient.a certs/libcerts.a wire/libwire.a base/libbase.a \
	$(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) -lm

# Row 17 of tests/bench/run.
noinst_PROGRAMS += %D%/bench/issuebench
%C%_bench_issuebench_SOURCES = %D%/bench/issuebench.c
%C%_bench_issuebench_LDADD = $(dps_libs)

# Out of memory at every allocation; skips itself in sanitizer builds.
check_PROGRAMS += %D%/oom/oom_test
%C%_oom_oom_test_SOURCES = %D%/oom/oom.h %D%/oom/oom_malloc.c %D%/oom/oom_test.c enroll-tool/ledger.c enroll-tool/ledger.h \
	$(tpm_fixture)
%C%_oom_oom_test_LDADD = client/libclient.a tpm/libtpm.a certs/libcerts.a wire/libwire.a base/libbase.a \
	$(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) $(INIH_LIBS) -lm
