# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libwire.a
%C%_libwire_a_SOURCES = \
	%D%/mqtt.h %D%/mqtt_bits.h %D%/mqtt.c %D%/mqtt_write.c \
	%D%/topic.h %D%/topic.c %D%/topic_user.c \
	%D%/decode.h %D%/decode.c \
	%D%/props.h %D%/props.c \
	%D%/sas.h %D%/sas.c \
	%D%/connstr.h %D%/connstr.c \
	%D%/ws.h %D%/ws.c \
	%D%/json.h %D%/json.c %D%/json_member.c \
	%D%/twin.h %D%/twin.c \
	%D%/http.h %D%/http.c %D%/http_body.c %D%/http_path.c

WIRE_TEST_LIBS = %D%/libwire.a base/libbase.a $(CMOCKA_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) -lm
check_PROGRAMS += %D%/mqtt_test %D%/topic_test %D%/props_test %D%/sas_test %D%/connstr_test %D%/ws_test \
	%D%/json_test %D%/twin_test %D%/http_test
%C%_mqtt_test_SOURCES = %D%/mqtt_test.c
%C%_mqtt_test_LDADD = $(WIRE_TEST_LIBS)
%C%_topic_test_SOURCES = %D%/topic_test.c
%C%_topic_test_LDADD = $(WIRE_TEST_LIBS)
%C%_props_test_SOURCES = %D%/props_test.c
%C%_props_test_LDADD = $(WIRE_TEST_LIBS)
%C%_sas_test_SOURCES = %D%/sas_test.c
%C%_sas_test_LDADD = $(WIRE_TEST_LIBS)
%C%_connstr_test_SOURCES = %D%/connstr_test.c
%C%_connstr_test_LDADD = $(WIRE_TEST_LIBS)
%C%_ws_test_SOURCES = %D%/ws_test.c
%C%_ws_test_LDADD = $(WIRE_TEST_LIBS)
%C%_json_test_SOURCES = %D%/json_test.c
%C%_json_test_LDADD = $(WIRE_TEST_LIBS)
%C%_twin_test_SOURCES = %D%/twin_test.c
%C%_twin_test_LDADD = $(WIRE_TEST_LIBS)
%C%_http_test_SOURCES = %D%/http_test.c
%C%_http_test_LDADD = $(WIRE_TEST_LIBS)
