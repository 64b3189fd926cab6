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
