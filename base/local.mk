# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libbase.a
%C%_libbase_a_SOURCES = \
	%D%/cdefs.h %D%/cdefs.c \
	%D%/limits.h %D%/list.h \
	%D%/err.def %D%/err.h %D%/err.c \
	%D%/span.h %D%/span.c \
	%D%/buf.h %D%/buf.c \
	%D%/arena.h %D%/arena.c \
	%D%/rd.h %D%/rd.c \
	%D%/secret.h %D%/secret.c \
	%D%/crypto_lib.h %D%/crypto_lib.c \
	%D%/clock.h %D%/cli.h %D%/cli.c %D%/clock.c \
	%D%/text.h %D%/text.c \
	%D%/mailbox.h %D%/mailbox.c \
	%D%/map.h %D%/map.c \
	%D%/log.h %D%/log.c \
	%D%/fs.h %D%/fs.c \
	%D%/crc32c.h %D%/crc32c.c \
	%D%/conf.h %D%/conf.c %D%/conf_int.h %D%/conf_value.c

# Each test stands beside its module; buf_test also covers rd and arena, cdefs_test also list.
check_PROGRAMS += \
	%D%/cdefs_test %D%/err_test %D%/span_test %D%/buf_test %D%/secret_test %D%/crypto_lib_test %D%/clock_test \
	%D%/text_test %D%/mailbox_test %D%/map_test %D%/log_test %D%/fs_test %D%/conf_test %D%/cli_test %D%/crc32c_test
base_test_libs = %D%/libbase.a $(CMOCKA_LIBS) $(CRYPTO_LIBS) $(INIH_LIBS)
%C%_cdefs_test_SOURCES = %D%/cdefs_test.c
%C%_cdefs_test_LDADD = $(base_test_libs)
%C%_err_test_SOURCES = %D%/err_test.c
%C%_err_test_LDADD = $(base_test_libs)
%C%_span_test_SOURCES = %D%/span_test.c
%C%_span_test_LDADD = $(base_test_libs)
%C%_buf_test_SOURCES = %D%/buf_test.c
%C%_buf_test_LDADD = $(base_test_libs)
%C%_crypto_lib_test_SOURCES = %D%/crypto_lib_test.c
%C%_crypto_lib_test_LDADD = $(base_test_libs)
%C%_secret_test_SOURCES = %D%/secret_test.c
%C%_secret_test_LDADD = $(base_test_libs)
%C%_clock_test_SOURCES = %D%/clock_test.c
%C%_clock_test_LDADD = $(base_test_libs)
%C%_text_test_SOURCES = %D%/text_test.c
%C%_text_test_LDADD = $(base_test_libs)
%C%_mailbox_test_SOURCES = %D%/mailbox_test.c
%C%_mailbox_test_LDADD = $(base_test_libs)
%C%_map_test_SOURCES = %D%/map_test.c
%C%_map_test_LDADD = $(base_test_libs)
%C%_log_test_SOURCES = %D%/log_test.c
%C%_log_test_LDADD = $(base_test_libs) $(JANSSON_LIBS)
%C%_fs_test_SOURCES = %D%/fs_test.c
%C%_fs_test_LDADD = $(base_test_libs)
%C%_conf_test_SOURCES = %D%/conf_test.c
%C%_conf_test_LDADD = $(base_test_libs)
%C%_cli_test_SOURCES = %D%/cli_test.c
%C%_cli_test_LDADD = $(base_test_libs)
%C%_crc32c_test_SOURCES = %D%/crc32c_test.c
%C%_crc32c_test_LDADD = $(base_test_libs)
