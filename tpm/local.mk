# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libtpm.a
%C%_libtpm_a_SOURCES = %D%/public.h %D%/public.c %D%/prim.h %D%/prim.c %D%/share.c \
	%D%/blob.h %D%/blob_int.h %D%/blob.c

# The TPM of the machine: for programs on devices. The servers do without the TPM stack.
noinst_LIBRARIES += %D%/libchip.a
%C%_libchip_a_SOURCES = %D%/chip.h %D%/chip.c %D%/chip_tell.c
chip_libs = %D%/libchip.a %D%/libtpm.a $(TSS_ESYS_LIBS)

tpm_fixture = %D%/fixture.h %D%/fixture.c %D%/samples.h
tpm_test_libs = %D%/libtpm.a base/libbase.a $(CMOCKA_LIBS) $(CRYPTO_LIBS) $(TSS_MU_LIBS)
check_PROGRAMS += %D%/public_test
%C%_public_test_SOURCES = %D%/public_test.c $(tpm_fixture)
%C%_public_test_LDADD = $(tpm_test_libs)
check_PROGRAMS += %D%/blob_test
%C%_blob_test_SOURCES = %D%/blob_test.c $(tpm_fixture)
%C%_blob_test_LDADD = $(tpm_test_libs)

# As in wire/local.mk, where the engine and the replay's main are chosen.
if FUZZING
noinst_PROGRAMS += tests/fuzz/fuzz_tpm
else
check_PROGRAMS += tests/fuzz/fuzz_tpm
endif
tests_fuzz_fuzz_tpm_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_tpm.c $(FUZZ_MAIN)
tests_fuzz_fuzz_tpm_LDADD = $(FUZZ_ENGINE) %D%/libtpm.a base/libbase.a $(CRYPTO_LIBS) $(TSS_MU_LIBS)
