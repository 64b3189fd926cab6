# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libserver.a
%C%_libserver_a_SOURCES = %D%/server.h %D%/server_int.h %D%/admin.h %D%/audit.h %D%/authn.h \
	%D%/expiry.h %D%/face.h %D%/metrics.h %D%/policy.h %D%/trust.h %D%/server_sql.h %D%/sql.def \
	%D%/server.c %D%/server_backup.c %D%/server_opts.c %D%/server_conf.c %D%/server_init.c %D%/server_life.c \
	%D%/worker.c %D%/worker_steps.c %D%/clockwatch.c %D%/expiry.c %D%/metrics.c %D%/server_sql.c %D%/admin.c %D%/audit.c \
	%D%/authn.c %D%/policy.c %D%/policy_tx.c %D%/trust.c %D%/admin_certs.c %D%/admin_policies.h %D%/admin_policies.c %D%/admin_keys.c \
	%D%/admin_clock.c

server_test_libs = %D%/libserver.a net/libnet.a certs/libcerts.a store/libstore.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(SQLITE_LIBS) $(MHD_LIBS) $(JANSSON_LIBS) $(INIH_LIBS) \
	$(CURL_LIBS) $(SYSTEMD_LIBS)
server_test_parts = %D%/tests/fixture.h %D%/tests/fixture.c %D%/tests/mini.h %D%/tests/mini.c \
	%D%/tests/asking.h %D%/tests/asking.c

check_PROGRAMS += %D%/tests/life_test %D%/tests/admin_test %D%/tests/admin_cert_test
%C%_tests_life_test_SOURCES = %D%/tests/life_test.c $(server_test_parts)
%C%_tests_life_test_LDADD = $(server_test_libs)
%C%_tests_admin_test_SOURCES = %D%/tests/admin_test.c $(server_test_parts)
%C%_tests_admin_test_LDADD = $(server_test_libs)
%C%_tests_admin_cert_test_SOURCES = %D%/tests/admin_cert_test.c $(server_test_parts)
%C%_tests_admin_cert_test_LDADD = $(server_test_libs)

check_PROGRAMS += %D%/policy_test %D%/clockwatch_test
%C%_policy_test_SOURCES = %D%/policy_test.c
%C%_policy_test_LDADD = $(server_test_libs)
%C%_clockwatch_test_SOURCES = %D%/clockwatch_test.c
%C%_clockwatch_test_LDADD = $(server_test_libs)
