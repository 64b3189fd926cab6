# SPDX-License-Identifier: Apache-2.0
agent_libs = client/libclient.a $(chip_libs) net/libnet.a certs/libcerts.a wire/libwire.a base/libbase.a \
	$(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) $(INIH_LIBS) $(SYSTEMD_LIBS)
bin_PROGRAMS += %D%/berth-agent
%C%_berth_agent_SOURCES = %D%/agent.h %D%/agent.c %D%/main.c %D%/measure.c %D%/proxy.c %D%/queue.c %D%/renew.c \
	%D%/streams.c %D%/streams.h %D%/targets.c %D%/tpm.c
%C%_berth_agent_LDADD = $(agent_libs)

check_PROGRAMS += %D%/agent_test
%C%_agent_test_SOURCES = %D%/agent_test.c %D%/agent.h %D%/agent.c %D%/measure.c %D%/proxy.c %D%/queue.c %D%/renew.c %D%/streams.c %D%/streams.h %D%/targets.c %D%/tpm.c
%C%_agent_test_LDADD = $(agent_libs) $(CMOCKA_LIBS)
