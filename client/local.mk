# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libclient.a
%C%_libclient_a_SOURCES = \
	%D%/credential.c \
	%D%/credential.h \
	%D%/dps_client.c \
	%D%/dps_client.h \
	%D%/dps_client_int.h \
	%D%/dps_https.c \
	%D%/env.c \
	%D%/env.h \
	%D%/hub_client.c \
	%D%/hub_client.h \
	%D%/identity.c \
	%D%/identity.h \
	%D%/link.c \
	%D%/link.h \
	%D%/mclient.c \
	%D%/mclient.h \
	%D%/mux.c \
	%D%/mux.h \
	%D%/mux_int.h \
	%D%/proxy_env.c \
	%D%/proxy_env.h \
	%D%/service.c \
	%D%/service.h \
	%D%/splice.c \
	%D%/splice.h

client_test_libs = %D%/libclient.a net/libnetfixture.a net/libnet.a certs/libcerts.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) $(INIH_LIBS)
check_PROGRAMS += %D%/credential_test
%C%_credential_test_SOURCES = %D%/credential_test.c
%C%_credential_test_LDADD = $(client_test_libs)
check_PROGRAMS += %D%/env_test %D%/hub_client_test %D%/identity_test %D%/mclient_test %D%/mux_test %D%/proxy_env_test %D%/service_test
check_PROGRAMS += %D%/dps_client_test
%C%_dps_client_test_SOURCES = %D%/dps_client_test.c
%C%_dps_client_test_LDADD = $(client_test_libs)
%C%_identity_test_SOURCES = %D%/identity_test.c
%C%_identity_test_LDADD = $(client_test_libs)
%C%_mclient_test_SOURCES = %D%/mclient_test.c
%C%_mclient_test_LDADD = $(client_test_libs)
%C%_proxy_env_test_SOURCES = %D%/proxy_env_test.c
%C%_proxy_env_test_LDADD = $(client_test_libs)
%C%_service_test_SOURCES = %D%/service_test.c
%C%_service_test_LDADD = $(client_test_libs)
%C%_env_test_SOURCES = %D%/env_test.c
%C%_env_test_LDADD = $(client_test_libs)
%C%_hub_client_test_SOURCES = %D%/hub_client_test.c
%C%_hub_client_test_LDADD = $(client_test_libs)
%C%_mux_test_SOURCES = %D%/mux_test.c
%C%_mux_test_LDADD = $(client_test_libs)
