# SPDX-License-Identifier: Apache-2.0
# the folder's name has a dash: automake's names of it an underscore
bin_PROGRAMS += %D%/enroll-tool
%C%_enroll_tool_SOURCES = \
	%D%/burn.c \
	%D%/ca.c \
	%D%/ledger.c \
	%D%/ledger.h \
	%D%/main.c \
	%D%/tool.h
%C%_enroll_tool_LDADD = client/libclient.a $(chip_libs) net/libnet.a certs/libcerts.a wire/libwire.a base/libbase.a \
	$(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) $(INIH_LIBS)

check_PROGRAMS += %D%/ledger_test
%C%_ledger_test_SOURCES = %D%/ledger_test.c %D%/ledger.c %D%/ledger.h
%C%_ledger_test_LDADD = certs/libcerts.a wire/libwire.a base/libbase.a $(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)
TESTS += %D%/burn_kill_test.sh
EXTRA_DIST += %D%/burn_kill_test.sh
