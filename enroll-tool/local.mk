# SPDX-License-Identifier: Apache-2.0
# the folder's name has a dash: automake's names of it an underscore
bin_PROGRAMS += %D%/enroll-tool
%C%_enroll_tool_SOURCES = \
	%D%/burn.c \
	%D%/burn_int.h \
	%D%/individual.c \
	%D%/ca.c \
	%D%/ledger.c \
	%D%/ledger.h \
	%D%/main.c \
	%D%/quota.c \
	%D%/quota.h \
	%D%/station.c \
	%D%/tool.h
%C%_enroll_tool_LDADD = client/libclient.a $(chip_libs) net/libnet.a certs/libcerts.a wire/libwire.a base/libbase.a \
	$(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) $(INIH_LIBS)

check_PROGRAMS += %D%/ledger_test
%C%_ledger_test_SOURCES = %D%/ledger_test.c %D%/ledger.c %D%/ledger.h
%C%_ledger_test_LDADD = certs/libcerts.a wire/libwire.a base/libbase.a $(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)
check_PROGRAMS += %D%/quota_test
%C%_quota_test_SOURCES = %D%/quota_test.c %D%/quota.c %D%/quota.h
%C%_quota_test_LDADD = $(enroll_tool_ledger_test_LDADD)
TESTS += %D%/burn_kill_test.sh %D%/quota_test.sh
EXTRA_DIST += %D%/burn_kill_test.sh %D%/quota_test.sh

# As in wire/local.mk, where the engine and the replay's main are chosen.
if FUZZING
noinst_PROGRAMS += tests/fuzz/fuzz_quota
else
check_PROGRAMS += tests/fuzz/fuzz_quota
endif
tests_fuzz_fuzz_quota_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_quota.c %D%/quota.c %D%/quota.h $(FUZZ_MAIN)
tests_fuzz_fuzz_quota_LDADD = $(FUZZ_ENGINE) certs/libcerts.a wire/libwire.a base/libbase.a $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)
