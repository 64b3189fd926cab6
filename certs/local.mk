# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libcerts.a
%C%_libcerts_a_SOURCES = \
	%D%/cert.h %D%/cert_int.h %D%/cert.c %D%/cert_text.c %D%/name.c %D%/strength.c \
	%D%/chain.h %D%/chain_int.h %D%/chain.c %D%/chain_cache.h %D%/chain_cache.c %D%/verdicts.h %D%/verdicts.c \
	%D%/leaf.h %D%/leaf.c %D%/proof.h %D%/proof.c \
	%D%/private_file.h %D%/private_file.c \
	%D%/keyring.h %D%/keyring.c %D%/mac.c \
	%D%/signer.h %D%/signer_int.h %D%/signer.c %D%/signer_key.c %D%/csr.c %D%/csr_plain.c \
	%D%/statement.h %D%/statement.c \
	%D%/signer_hard.h %D%/signer_pkcs11.c %D%/signer_tpm.c \
	%D%/signer_pool.h %D%/signer_pool.c %D%/desk.h %D%/desk_int.h %D%/desk.c \
	%D%/desk_wire.h %D%/desk_wire.c %D%/desk_far.c

certs_test_libs = %D%/libcerts.a base/libbase.a $(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS)
certs_zoo = %D%/zoo.h %D%/zoo.c
check_PROGRAMS += %D%/chain_test
%C%_chain_test_SOURCES = %D%/chain_test.c $(certs_zoo)
%C%_chain_test_LDADD = $(certs_test_libs)
check_PROGRAMS += %D%/keyring_test
%C%_keyring_test_SOURCES = %D%/keyring_test.c
%C%_keyring_test_LDADD = $(certs_test_libs)
check_PROGRAMS += %D%/signer_test
%C%_signer_test_SOURCES = %D%/signer_test.c $(certs_zoo)
%C%_signer_test_LDADD = $(certs_test_libs)
check_PROGRAMS += %D%/csr_test
%C%_csr_test_SOURCES = %D%/csr_test.c $(certs_zoo)
%C%_csr_test_LDADD = $(certs_test_libs)
check_PROGRAMS += %D%/cert_test
%C%_cert_test_SOURCES = %D%/cert_test.c $(certs_zoo)
%C%_cert_test_LDADD = $(certs_test_libs)

# As in wire/local.mk, where the engine and the replay's main are chosen.
if FUZZING
noinst_PROGRAMS += tests/fuzz/fuzz_cert
else
check_PROGRAMS += tests/fuzz/fuzz_cert
endif
tests_fuzz_fuzz_cert_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_cert.c $(FUZZ_MAIN)
tests_fuzz_fuzz_cert_LDADD = $(FUZZ_ENGINE) %D%/libcerts.a base/libbase.a $(SSL_LIBS) $(CRYPTO_LIBS)
