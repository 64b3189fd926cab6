# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libstore.a
%C%_libstore_a_SOURCES = \
	%D%/lite.h %D%/lite.c \
	%D%/disk.h %D%/disk.c \
	%D%/db.h %D%/db.c %D%/migrate.c \
	%D%/scan.h %D%/scan.c \
	%D%/backup.h %D%/backup.c \
	%D%/batch.h %D%/batch.c \
	%D%/store.h %D%/store.c \
	%D%/fileio.h %D%/fileio.c \
	%D%/segfile.h %D%/segfile.c \
	%D%/segment.h %D%/segment.c \
	%D%/segscan.h %D%/segscan.c \
	%D%/segindex.h %D%/segindex.c \
	%D%/segwriter.h %D%/segwriter.c \
	%D%/segrecover.h %D%/segrecover.c \
	%D%/segreader.h %D%/segreader.c \
	%D%/segtable.h %D%/segtable.c \
	%D%/marks.h %D%/marks.c \
	%D%/logwriter.h %D%/logwriter.c \
	%D%/gather.h %D%/gather.c \
	%D%/seglog.h %D%/seglog.c

store_test_libs = %D%/libstore.a base/libbase.a $(CMOCKA_LIBS) $(CRYPTO_LIBS) $(SQLITE_LIBS)
store_test_files = %D%/fixture.h %D%/fixture.c
check_PROGRAMS += %D%/store_test
%C%_store_test_SOURCES = %D%/store_test.c $(store_test_files)
%C%_store_test_LDADD = $(store_test_libs)
check_PROGRAMS += %D%/gather_test
%C%_gather_test_SOURCES = %D%/gather_test.c
%C%_gather_test_LDADD = $(store_test_libs)
check_PROGRAMS += %D%/seglog_test
%C%_seglog_test_SOURCES = %D%/seglog_test.c %D%/failio.h %D%/failio.c $(store_test_files)
%C%_seglog_test_LDADD = $(store_test_libs)
check_PROGRAMS += %D%/crash_test
%C%_crash_test_SOURCES = %D%/crash_test.c %D%/failvfs.h %D%/failvfs.c %D%/failio.h %D%/failio.c $(store_test_files)
%C%_crash_test_LDADD = $(store_test_libs)
