# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += %D%/libdps.a
%C%_libdps_a_SOURCES = %D%/dps.h %D%/dps_sql.h %D%/sql.def %D%/migrations.def \
	%D%/admission.h %D%/assignment.h %D%/attestation.h %D%/backlog.h %D%/challenge.h %D%/dependents.h %D%/driver.h %D%/driver_int.h %D%/enrollment.h %D%/expiry.h \
	%D%/http.h %D%/hublink.h %D%/instance.h %D%/mqtt.h %D%/plan.h %D%/program.h \
	%D%/refusal.h %D%/registration.h %D%/rule.h %D%/rule.def %D%/snapshot.h %D%/throttle.h %D%/tpm_attestation.h \
	%D%/admission.c %D%/assignment.c %D%/attestation.c %D%/backlog.c %D%/challenge.c %D%/tpm_attestation.c %D%/dependents.c %D%/dps_sql.c %D%/driver.c \
	%D%/enrollment.c %D%/enrollment_attestation.c %D%/enrollment_read.c %D%/expiry.c %D%/face.c \
	%D%/http_admin.c %D%/http_dependents.c %D%/http_link.c %D%/http_settings.c %D%/http_device.c %D%/http_query.c %D%/http_service.c %D%/hublink.c \
	%D%/instance.c %D%/mqtt.c %D%/plan.c %D%/program.c %D%/registration.c %D%/registration_step.c \
	%D%/http_check.c %D%/http_refusal.c %D%/refusal.c %D%/registration_tell.c %D%/rule.c %D%/snapshot.c %D%/step_hub.c \
	%D%/throttle.c

%C%_libdps_a_SOURCES += %D%/leftover.h %D%/leftover.c %D%/settings.h %D%/settings.c %D%/step_ask.c %D%/webhook.h %D%/webhook.c \
	%D%/webhook_sign.h %D%/webhook_sign.c %D%/http_webhook.c \
	%D%/revocation.h %D%/revocation.c %D%/revocation_sql.h %D%/revocation_sql.c %D%/http_revocation.c

%C%_libdps_a_SOURCES += %D%/bundle.h %D%/bundle.c %D%/geoip.h %D%/geoip.c \
	%D%/hub_health.h %D%/hub_health.c %D%/http_hub_state.c

%C%_libdps_a_SOURCES += %D%/trust_bundle.h %D%/trust_bundle.c %D%/trust_bundle_sql.h %D%/trust_bundle_sql.c %D%/http_trust_bundle.c

%C%_libdps_a_SOURCES += %D%/dps_sql_int.h %D%/issuance_sql.h %D%/issuance_sql.c %D%/issuer.h %D%/issuer.c \
	%D%/issuance.h %D%/issuance.c %D%/step_issue.c %D%/http_issuers.h %D%/http_issuers.c %D%/http_issuer_put.c

dps_libs = dps/libdps.a server/libserver.a net/libnet.a certs/libcerts.a tpm/libtpm.a store/libstore.a \
	wire/libwire.a base/libbase.a $(SSL_LIBS) $(CRYPTO_LIBS) $(SQLITE_LIBS) $(MHD_LIBS) \
	$(JANSSON_LIBS) $(INIH_LIBS) $(CURL_LIBS) $(SYSTEMD_LIBS) $(MAXMINDDB_LIBS) -lm

sbin_PROGRAMS += %D%/berth-dps
%C%_berth_dps_SOURCES = %D%/main.c
%C%_berth_dps_LDADD = $(dps_libs)

dps_test_libs = $(dps_libs) $(CMOCKA_LIBS)
dps_test_parts = %D%/tests/bench.h %D%/tests/bench.c %D%/tests/mq.c %D%/tests/standin.h %D%/tests/standin.c \
	server/tests/fixture.h server/tests/fixture.c
check_PROGRAMS += %D%/tests/service_test
%C%_tests_service_test_SOURCES = %D%/tests/service_test.c $(dps_test_parts)
%C%_tests_service_test_LDADD = $(dps_test_libs)
check_PROGRAMS += %D%/tests/issuer_test
%C%_tests_issuer_test_SOURCES = %D%/tests/issuer_test.c $(dps_test_parts)
%C%_tests_issuer_test_LDADD = $(dps_test_libs)
check_PROGRAMS += %D%/tests/trust_bundle_test
%C%_tests_trust_bundle_test_SOURCES = %D%/tests/trust_bundle_test.c $(dps_test_parts)
%C%_tests_trust_bundle_test_LDADD = $(dps_test_libs)
check_PROGRAMS += %D%/tests/issue_test
%C%_tests_issue_test_SOURCES = %D%/tests/issue_test.c $(dps_test_parts)
%C%_tests_issue_test_LDADD = $(dps_test_libs)
check_PROGRAMS += %D%/tests/device_test
%C%_tests_device_test_SOURCES = %D%/tests/device_test.c $(dps_test_parts)
%C%_tests_device_test_LDADD = $(dps_test_libs)
check_PROGRAMS += %D%/rules_test
%C%_rules_test_SOURCES = %D%/rules_test.c
%C%_rules_test_LDADD = $(dps_test_libs)
check_PROGRAMS += %D%/webhook_test
%C%_webhook_test_SOURCES = %D%/webhook_test.c
%C%_webhook_test_LDADD = $(dps_test_libs)
if FUZZING
noinst_PROGRAMS += tests/fuzz/fuzz_webhook tests/fuzz/fuzz_issuance tests/fuzz/fuzz_check
else
check_PROGRAMS += tests/fuzz/fuzz_webhook tests/fuzz/fuzz_issuance tests/fuzz/fuzz_check
endif
tests_fuzz_fuzz_webhook_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_webhook.c $(FUZZ_MAIN)
tests_fuzz_fuzz_webhook_LDADD = $(FUZZ_ENGINE) $(dps_libs)
tests_fuzz_fuzz_issuance_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_issuance.c $(FUZZ_MAIN)
tests_fuzz_fuzz_issuance_LDADD = $(FUZZ_ENGINE) $(dps_libs)
tests_fuzz_fuzz_check_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_check.c $(FUZZ_MAIN)
tests_fuzz_fuzz_check_LDADD = $(FUZZ_ENGINE) $(dps_libs)
check_PROGRAMS += %D%/plan_test
%C%_plan_test_SOURCES = %D%/plan_test.c
%C%_plan_test_LDADD = $(dps_test_libs)
check_PROGRAMS += %D%/tests/crash_test
%C%_tests_crash_test_SOURCES = %D%/tests/crash_test.c $(dps_test_parts)
%C%_tests_crash_test_LDADD = $(dps_test_libs)
check_PROGRAMS += %D%/refusal_test
%C%_refusal_test_SOURCES = %D%/refusal_test.c
%C%_refusal_test_LDADD = $(dps_test_libs)
check_PROGRAMS += %D%/tests/tpm_test
%C%_tests_tpm_test_SOURCES = %D%/tests/tpm_test.c $(dps_test_parts) $(tpm_fixture)
%C%_tests_tpm_test_LDADD = $(dps_test_libs)
check_PROGRAMS += %D%/challenge_test
%C%_challenge_test_SOURCES = %D%/challenge_test.c
%C%_challenge_test_LDADD = $(dps_test_libs)
if FUZZING
noinst_PROGRAMS += tests/fuzz/fuzz_geoip
else
check_PROGRAMS += tests/fuzz/fuzz_geoip
endif
tests_fuzz_fuzz_geoip_SOURCES = tests/fuzz/fuzz.h tests/fuzz/fuzz_geoip.c $(FUZZ_MAIN)
tests_fuzz_fuzz_geoip_LDADD = $(FUZZ_ENGINE) $(dps_libs)
check_PROGRAMS += %D%/geoip_test
%C%_geoip_test_SOURCES = %D%/geoip_test.c
%C%_geoip_test_LDADD = $(dps_test_libs)
