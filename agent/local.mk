# SPDX-License-Identifier: Apache-2.0
bin_PROGRAMS += %D%/berth-agent
%C%_berth_agent_SOURCES = %D%/agent.h %D%/main.c %D%/measure.c
%C%_berth_agent_LDADD = client/libclient.a net/libnet.a certs/libcerts.a wire/libwire.a base/libbase.a \
	$(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) $(INIH_LIBS) $(SYSTEMD_LIBS)
