# SPDX-License-Identifier: Apache-2.0
# Units for systemd, the user, folders, example configurations, completion.
berth_units = %D%/berth-dps.service %D%/berth-hub.service %D%/berth-hub@.service %D%/berth-agent.service %D%/berth-signer.service
systemdsystemunit_DATA = $(berth_units)
sysusersdir = $(prefix)/lib/sysusers.d
tmpfilesdir = $(prefix)/lib/tmpfiles.d
bashcompletion_DATA = %D%/berth
exampledir = $(docdir)/examples
dist_example_DATA = %D%/dps.conf %D%/hub.conf %D%/agent.conf %D%/signer.conf

EXTRA_DIST += %D%/berth-dps.service.in %D%/berth-hub.service.in %D%/berth-hub@.service.in %D%/berth-agent.service.in \
	%D%/berth-signer.service.in \
	%D%/hardening.inc %D%/berth.sysusers %D%/berth.tmpfiles %D%/berth %D%/make-example %D%/make-completion
CLEANFILES += $(berth_units)

# paths are known to make only; the lines that all units share stand once, in hardening.inc
.service.in.service:
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(SED) -e '/^@hardening@$$/{' -e 'r $(srcdir)/packaging/hardening.inc' -e 'd' -e '}' \
		-e 's|@sbindir[@]|$(sbindir)|g' -e 's|@bindir[@]|$(bindir)|g' $< > $@.tmp && mv $@.tmp $@
SUFFIXES = .service .service.in
$(berth_units): $(srcdir)/%D%/hardening.inc Makefile

install-data-local:
	$(MKDIR_P) $(DESTDIR)$(sysusersdir) $(DESTDIR)$(tmpfilesdir) $(DESTDIR)$(bashcompletiondir)
	ln -sf berth $(DESTDIR)$(bashcompletiondir)/enroll-tool
	$(INSTALL_DATA) $(srcdir)/%D%/berth.sysusers $(DESTDIR)$(sysusersdir)/berth.conf
	$(INSTALL_DATA) $(srcdir)/%D%/berth.tmpfiles $(DESTDIR)$(tmpfilesdir)/berth.conf
uninstall-local:
	rm -f $(DESTDIR)$(sysusersdir)/berth.conf $(DESTDIR)$(tmpfilesdir)/berth.conf $(DESTDIR)$(bashcompletiondir)/enroll-tool
