# SPDX-License-Identifier: Apache-2.0
bin_PROGRAMS += %D%/berth
%C%_berth_SOURCES = \
	%D%/audit.c \
	%D%/audit.h \
	%D%/commands.c \
	%D%/commands.def \
	%D%/check_cmd.c \
	%D%/connect.c \
	%D%/ctl.h \
	%D%/dps_cmd.c \
	%D%/dps_daily.c \
	%D%/dps_fleet.c \
	%D%/dps_kind.h \
	%D%/issuer_cmd.c \
	%D%/explain_cmd.c \
	%D%/grant_cmd.c \
	%D%/local_peer.c \
	%D%/local_peer.h \
	%D%/main.c \
	%D%/monitor.c \
	%D%/rest.c \
	%D%/revoke_cmd.c \
	%D%/sandbox.c \
	%D%/sandbox.h \
	%D%/sandbox_files.c \
	%D%/sandbox_link.c \
	%D%/sandbox_proc.c \
	%D%/stream_client.c \
	%D%/stream_client.h \
	%D%/stream_cmd.c \
	%D%/stream_trust.c \
	%D%/stream_trust.h \
	%D%/tpm_cmd.c
ctl_libs = client/libclient.a net/libnet.a certs/libcerts.a wire/libwire.a base/libbase.a \
	$(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) $(INIH_LIBS)
%C%_berth_LDADD = $(ctl_libs)

check_PROGRAMS += %D%/sandbox_test
%C%_sandbox_test_SOURCES = %D%/sandbox_test.c %D%/ctl.h %D%/local_peer.c %D%/local_peer.h %D%/sandbox.h %D%/sandbox_files.c %D%/sandbox_proc.c %D%/connect.c
%C%_sandbox_test_LDADD = $(ctl_libs) $(CMOCKA_LIBS)
check_PROGRAMS += %D%/audit_test
%C%_audit_test_SOURCES = %D%/audit_test.c %D%/ctl.h %D%/audit.h %D%/audit.c %D%/connect.c
%C%_audit_test_LDADD = $(ctl_libs) $(CMOCKA_LIBS)
