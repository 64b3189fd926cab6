# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libserver.a
%C%_libserver_a_SOURCES = %D%/server.h %D%/server_int.h %D%/admin.h %D%/audit.h %D%/authn.h \
	%D%/metrics.h %D%/policy.h %D%/trust.h %D%/server_sql.h %D%/sql.def \
	%D%/server.c %D%/server_opts.c %D%/server_conf.c %D%/server_init.c %D%/server_life.c \
	%D%/worker.c %D%/clockwatch.c %D%/metrics.c %D%/server_sql.c %D%/admin.c %D%/audit.c \
	%D%/authn.c %D%/policy.c %D%/policy_tx.c %D%/trust.c %D%/admin_certs.c %D%/admin_policies.c
