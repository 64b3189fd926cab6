# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libhub.a
%C%_libhub_a_SOURCES = \
	%D%/hub.h \
	%D%/face.c \
	%D%/migrations.def \
	%D%/sql.def \
	%D%/hub_sql.h \
	%D%/hub_sql_int.h \
	%D%/hub_sql.c \
	%D%/hub_sql_module.c \
	%D%/work.h \
	%D%/work.c \
	%D%/registry.h \
	%D%/registry_int.h \
	%D%/registry.c \
	%D%/registry_note.c \
	%D%/registry_tx.c \
	%D%/device_input.c \
	%D%/authenticate.c \
	%D%/twin.h \
	%D%/twin_int.h \
	%D%/twin.c \
	%D%/twin_doc.c \
	%D%/twin_write.c \
	%D%/fence.h \
	%D%/fence.c \
	%D%/provision.h \
	%D%/provision_int.h \
	%D%/provision.c \
	%D%/provision_put.c \
	%D%/http_service.h \
	%D%/http_service.c \
	%D%/http_modules.c \
	%D%/http_provision.h \
	%D%/http_provision.c \
	%D%/http_provision_many.c \
	%D%/directory.h \
	%D%/directory.c \
	%D%/rivals.h \
	%D%/rivals.c \
	%D%/session.h \
	%D%/session.c \
	%D%/session_filters.c \
	%D%/metrics.h \
	%D%/mqtt.h \
	%D%/mqtt.c \
	%D%/mqtt_telemetry.c \
	%D%/mqtt_twin.c \
	%D%/http_device.h \
	%D%/http_device.c \
	%D%/http_monitor.h \
	%D%/http_monitor.c \
	%D%/streams.h \
	%D%/streams_int.h \
	%D%/streams.c \
	%D%/stream_ask.c \
	%D%/stream_audit.c \
	%D%/stream_bridge.c \
	%D%/stream_init.c \
	%D%/stream_token.h \
	%D%/stream_token.c \
	%D%/mqtt_stream.c \
	%D%/http_streams.c \
	%D%/hub_sql_grant.c \
	%D%/stream_grant.h \
	%D%/stream_grant.c \
	%D%/http_grants.c \
	%D%/allowance.h \
	%D%/allowance.c \
	%D%/telemetry.c \
	%D%/telemetry.h

sbin_PROGRAMS += %D%/berth-hub
%C%_berth_hub_SOURCES = %D%/main.c
%C%_berth_hub_LDADD = %D%/libhub.a server/libserver.a net/libnet.a certs/libcerts.a store/libstore.a wire/libwire.a \
	base/libbase.a $(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(SQLITE_LIBS) $(JANSSON_LIBS) $(INIH_LIBS) \
	$(SYSTEMD_LIBS)

hub_test_libs = %D%/libhub.a server/libserver.a net/libnet.a certs/libcerts.a store/libstore.a wire/libwire.a base/libbase.a \
	$(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(SQLITE_LIBS) $(JANSSON_LIBS) $(INIH_LIBS) $(SYSTEMD_LIBS) $(CMOCKA_LIBS)
hub_link_bed = %D%/tests/link.h %D%/tests/link.c
hub_test_bed = %D%/tests/bed.h %D%/tests/bed.c store/fixture.h store/fixture.c
check_PROGRAMS += %D%/registry_test
%C%_registry_test_SOURCES = %D%/registry_test.c $(hub_test_bed)
%C%_registry_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/twin_test
%C%_twin_test_SOURCES = %D%/twin_test.c $(hub_test_bed)
%C%_twin_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/provision_test
%C%_provision_test_SOURCES = %D%/provision_test.c $(hub_test_bed)
%C%_provision_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/authenticate_test
%C%_authenticate_test_SOURCES = %D%/authenticate_test.c $(hub_test_bed)
%C%_authenticate_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/face_test
%C%_face_test_SOURCES = %D%/face_test.c
%C%_face_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/session_test
%C%_session_test_SOURCES = %D%/session_test.c $(hub_test_bed) $(hub_link_bed)
%C%_session_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/module_test
%C%_module_test_SOURCES = %D%/module_test.c $(hub_test_bed) $(hub_link_bed)
%C%_module_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/telemetry_test
%C%_telemetry_test_SOURCES = %D%/telemetry_test.c $(hub_test_bed) $(hub_link_bed)
%C%_telemetry_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/allowance_test
%C%_allowance_test_SOURCES = %D%/allowance_test.c $(hub_test_bed) $(hub_link_bed)
%C%_allowance_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/rivals_test
%C%_rivals_test_SOURCES = %D%/rivals_test.c
%C%_rivals_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/directory_test
%C%_directory_test_SOURCES = %D%/directory_test.c
%C%_directory_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/monitor_test
%C%_monitor_test_SOURCES = %D%/monitor_test.c $(hub_test_bed) $(hub_link_bed)
%C%_monitor_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/http_device_test
%C%_http_device_test_SOURCES = %D%/http_device_test.c $(hub_test_bed) $(hub_link_bed)
%C%_http_device_test_LDADD = $(hub_test_libs)
check_PROGRAMS += %D%/stream_token_test
%C%_stream_token_test_SOURCES = %D%/stream_token_test.c
%C%_stream_token_test_LDADD = $(hub_test_libs)
