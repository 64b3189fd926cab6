# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libnet.a
%C%_libnet_a_SOURCES = \
	%D%/ack_ring.c \
	%D%/ack_ring.h \
	%D%/conn.c \
	%D%/conn.h \
	%D%/conn_int.h \
	%D%/conn_move.c \
	%D%/conn_io.c \
	%D%/conn_open.c \
	%D%/conn_tunnel.c \
	%D%/door.c \
	%D%/door.h \
	%D%/egress.c \
	%D%/egress.h \
	%D%/egress_addr.c \
	%D%/egress_addr.h \
	%D%/egress_impl.h \
	%D%/egress_job.c \
	%D%/fetch.c \
	%D%/fetch.h \
	%D%/http.c \
	%D%/http.h \
	%D%/http_answer.c \
	%D%/http_conn.c \
	%D%/http_head.c \
	%D%/http_impl.h \
	%D%/http_mhd.c \
	%D%/http_route.c \
	%D%/http_rq.c \
	%D%/http_stream.c \
	%D%/listener.c \
	%D%/loop.c \
	%D%/loop.h \
	%D%/mlink.c \
	%D%/mlink.h \
	%D%/mlink_in.c \
	%D%/mlink_int.h \
	%D%/proxy.c \
	%D%/proxy.h \
	%D%/rate.h \
	%D%/relay.c \
	%D%/relay.h \
	%D%/stream.h \
	%D%/tls.c \
	%D%/tls.h \
	%D%/tls_ctx.h \
	%D%/tls_end.c \
	%D%/tls_io.c \
	%D%/tls_io.h \
	%D%/tls_stream.c \
	%D%/tls_stream.h \
	%D%/ws.c \
	%D%/ws.h \
	%D%/ws_client.c \
	%D%/ws_int.h

check_PROGRAMS += %D%/http_test
%C%_http_test_SOURCES = %D%/http_test.c %D%/http_fixture.c %D%/http_fixture.h
%C%_http_test_LDADD = %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(MHD_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS)

check_PROGRAMS += %D%/http_desync_test
%C%_http_desync_test_SOURCES = %D%/http_desync_test.c %D%/http_fixture.c %D%/http_fixture.h
%C%_http_desync_test_LDADD = %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(MHD_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS)

check_PROGRAMS += %D%/http_flow_test
%C%_http_flow_test_SOURCES = %D%/http_flow_test.c %D%/http_fixture.c %D%/http_fixture.h
%C%_http_flow_test_LDADD = %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(MHD_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS)

# Tests of the loop, connections, WebSockets and links share a fixture.
noinst_LIBRARIES += %D%/libnetfixture.a
%C%_libnetfixture_a_SOURCES = %D%/net_fixture.h %D%/net_fixture.c
check_PROGRAMS += %D%/loop_test
%C%_loop_test_SOURCES = %D%/loop_test.c
%C%_loop_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += %D%/conn_test
%C%_conn_test_SOURCES = %D%/conn_test.c
%C%_conn_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += %D%/egress_test
%C%_egress_test_SOURCES = %D%/egress_test.c
%C%_egress_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(MHD_LIBS) $(CURL_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS)

check_PROGRAMS += %D%/conn_tls_test
%C%_conn_tls_test_SOURCES = %D%/conn_tls_test.c
%C%_conn_tls_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += %D%/door_test
%C%_door_test_SOURCES = %D%/door_test.c
%C%_door_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += %D%/conn_tunnel_test
%C%_conn_tunnel_test_SOURCES = %D%/conn_tunnel_test.c
%C%_conn_tunnel_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += %D%/relay_test
%C%_relay_test_SOURCES = %D%/relay_test.c
%C%_relay_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += %D%/tls_stream_test
%C%_tls_stream_test_SOURCES = %D%/tls_stream_test.c
%C%_tls_stream_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += %D%/conn_move_test
%C%_conn_move_test_SOURCES = %D%/conn_move_test.c
%C%_conn_move_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += %D%/mlink_test
%C%_mlink_test_SOURCES = %D%/mlink_test.c
%C%_mlink_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)

check_PROGRAMS += %D%/ws_test
%C%_ws_test_SOURCES = %D%/ws_test.c
%C%_ws_test_LDADD = %D%/libnetfixture.a %D%/libnet.a wire/libwire.a base/libbase.a \
	$(CMOCKA_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)

# The corpus is replayed by make check; with --enable-fuzzing it runs for ever.
if FUZZING
noinst_PROGRAMS += tests/fuzz/fuzz_http_conn
NET_FUZZ_MAIN =
else
check_PROGRAMS += tests/fuzz/fuzz_http_conn
NET_FUZZ_MAIN = tests/fuzz/replay_main.c
endif
tests_fuzz_fuzz_http_conn_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_http_conn.c $(NET_FUZZ_MAIN)
tests_fuzz_fuzz_http_conn_LDADD = $(SAN_FLAGS:fuzzer-no-link=fuzzer) %D%/libnet.a wire/libwire.a base/libbase.a \
	$(MHD_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(JANSSON_LIBS)
