# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libwire.a
%C%_libwire_a_SOURCES = \
	%D%/mqtt.h %D%/mqtt_bits.h %D%/mqtt.c %D%/mqtt_write.c \
	%D%/topic.h %D%/topic.c %D%/topic_user.c \
	%D%/decode.h %D%/decode.c \
	%D%/props.h %D%/props.c %D%/logmeta.h %D%/logmeta.c \
	%D%/sas.h %D%/sas.c \
	%D%/connstr.h %D%/connstr.c \
	%D%/ws.h %D%/ws.c \
	%D%/json.h %D%/json_jansson.h %D%/json.c %D%/json_load.c %D%/json_make.c %D%/json_member.c \
	%D%/twin.h %D%/twin.c %D%/where.h %D%/where_int.h %D%/where.c %D%/where_judge.c \
	%D%/http.h %D%/http.c %D%/http_body.c %D%/http_path.c \
	%D%/proxy.h %D%/proxy.c

WIRE_TEST_LIBS = %D%/libwire.a base/libbase.a $(CMOCKA_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS) -lm
check_PROGRAMS += %D%/mqtt_test %D%/topic_test %D%/props_test %D%/logmeta_test %D%/sas_test %D%/connstr_test %D%/ws_test \
	%D%/json_test %D%/twin_test %D%/http_test %D%/proxy_test %D%/where_test
%C%_mqtt_test_SOURCES = %D%/mqtt_test.c
%C%_mqtt_test_LDADD = $(WIRE_TEST_LIBS)
%C%_topic_test_SOURCES = %D%/topic_test.c
%C%_topic_test_LDADD = $(WIRE_TEST_LIBS)
%C%_props_test_SOURCES = %D%/props_test.c
%C%_props_test_LDADD = $(WIRE_TEST_LIBS)
%C%_logmeta_test_SOURCES = %D%/logmeta_test.c
%C%_logmeta_test_LDADD = $(WIRE_TEST_LIBS)
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
%C%_where_test_SOURCES = %D%/where_test.c
%C%_where_test_LDADD = $(WIRE_TEST_LIBS)
%C%_http_test_SOURCES = %D%/http_test.c
%C%_http_test_LDADD = $(WIRE_TEST_LIBS)
%C%_proxy_test_SOURCES = %D%/proxy_test.c
%C%_proxy_test_LDADD = $(WIRE_TEST_LIBS)

# Fuzz targets. With --enable-fuzzing they run for ever, so they are no tests then; the engine is linked in by
# turning fuzzer-no-link into fuzzer (automake wants no linker flag in an LDADD).
FUZZ_ENGINE = $(SAN_FLAGS:fuzzer-no-link=fuzzer)
EXTRA_DIST += tests/fuzz/corpus
wire_fuzz_targets = \
	tests/fuzz/fuzz_mqtt tests/fuzz/fuzz_topic tests/fuzz/fuzz_props \
	tests/fuzz/fuzz_sas tests/fuzz/fuzz_connstr tests/fuzz/fuzz_ws \
	tests/fuzz/fuzz_json tests/fuzz/fuzz_twin tests/fuzz/fuzz_http tests/fuzz/fuzz_proxy tests/fuzz/fuzz_where tests/fuzz/fuzz_logmeta
if FUZZING
noinst_PROGRAMS += $(wire_fuzz_targets)
FUZZ_MAIN =
else
check_PROGRAMS += $(wire_fuzz_targets)
FUZZ_MAIN = tests/fuzz/replay_main.c
endif
FUZZ_LIBS = $(FUZZ_ENGINE) %D%/libwire.a base/libbase.a $(CRYPTO_LIBS) $(JANSSON_LIBS) -lm
tests_fuzz_fuzz_mqtt_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_mqtt.c $(FUZZ_MAIN)
tests_fuzz_fuzz_mqtt_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_topic_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_topic.c $(FUZZ_MAIN)
tests_fuzz_fuzz_topic_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_props_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_props.c $(FUZZ_MAIN)
tests_fuzz_fuzz_props_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_sas_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_sas.c $(FUZZ_MAIN)
tests_fuzz_fuzz_sas_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_connstr_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_connstr.c $(FUZZ_MAIN)
tests_fuzz_fuzz_connstr_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_ws_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_ws.c $(FUZZ_MAIN)
tests_fuzz_fuzz_ws_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_json_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_json.c $(FUZZ_MAIN)
tests_fuzz_fuzz_json_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_twin_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_twin.c $(FUZZ_MAIN)
tests_fuzz_fuzz_twin_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_http_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_http.c $(FUZZ_MAIN)
tests_fuzz_fuzz_http_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_proxy_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_proxy.c $(FUZZ_MAIN)
tests_fuzz_fuzz_proxy_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_logmeta_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_logmeta.c $(FUZZ_MAIN)
tests_fuzz_fuzz_logmeta_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_where_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_where.c $(FUZZ_MAIN)
tests_fuzz_fuzz_where_LDADD = $(FUZZ_LIBS)
