# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libhub.a
%C%_libhub_a_SOURCES = \
	%D%/hub.h \
	%D%/face.c \
	%D%/migrations.def \
	%D%/sql.def \
	%D%/hub_sql.h \
	%D%/hub_sql.c \
	%D%/work.h \
	%D%/work.c \
	%D%/registry.h \
	%D%/registry_int.h \
	%D%/registry.c \
	%D%/registry_note.c \
	%D%/registry_tx.c \
	%D%/device_input.c \
	%D%/leaf.h \
	%D%/leaf.c \
	%D%/authenticate.c \
	%D%/twin.h \
	%D%/twin_int.h \
	%D%/twin.c \
	%D%/twin_doc.c \
	%D%/twin_write.c \
	%D%/provision.h \
	%D%/provision.c \
	%D%/http_service.h \
	%D%/http_service.c \
	%D%/http_provision.h \
	%D%/http_provision.c \
	%D%/directory.h \
	%D%/telemetry.h
