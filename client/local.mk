# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libclient.a
%C%_libclient_a_SOURCES = \
	%D%/dps_client.c \
	%D%/dps_client.h \
	%D%/hub_client.c \
	%D%/hub_client.h \
	%D%/identity.c \
	%D%/identity.h \
	%D%/link.c \
	%D%/link.h \
	%D%/mclient.c \
	%D%/mclient.h \
	%D%/service.c \
	%D%/service.h
