# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libbase.a
%C%_libbase_a_SOURCES = \
	%D%/cdefs.h %D%/cdefs.c \
	%D%/limits.h %D%/list.h \
	%D%/err.def %D%/err.h %D%/err.c \
	%D%/span.h %D%/span.c \
	%D%/buf.h %D%/buf.c \
	%D%/arena.h %D%/arena.c \
	%D%/rd.h %D%/rd.c \
	%D%/secret.h %D%/secret.c \
	%D%/clock.h %D%/clock.c \
	%D%/text.h %D%/text.c \
	%D%/mailbox.h %D%/mailbox.c \
	%D%/map.h %D%/map.c \
	%D%/log.h %D%/log.c \
	%D%/fs.h %D%/fs.c \
	%D%/conf.h %D%/conf.c
