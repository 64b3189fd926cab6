# SPDX-License-Identifier: Apache-2.0
signer_libs = certs/libcerts.a wire/libwire.a base/libbase.a $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) $(INIH_LIBS) $(SYSTEMD_LIBS)
signer_parts = %D%/book.h %D%/book.c %D%/serve.h %D%/serve.c
sbin_PROGRAMS += %D%/berth-signer
%C%_berth_signer_SOURCES = %D%/main.c $(signer_parts)
%C%_berth_signer_LDADD = $(signer_libs)

check_PROGRAMS += %D%/serve_test
%C%_serve_test_SOURCES = %D%/serve_test.c $(signer_parts)
%C%_serve_test_LDADD = $(signer_libs) $(CMOCKA_LIBS)
if FUZZING
noinst_PROGRAMS += tests/fuzz/fuzz_desk
else
check_PROGRAMS += tests/fuzz/fuzz_desk
endif
tests_fuzz_fuzz_desk_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_desk.c $(FUZZ_MAIN)
tests_fuzz_fuzz_desk_LDADD = $(FUZZ_ENGINE) $(signer_libs)
