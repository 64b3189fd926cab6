# SPDX-License-Identifier: Apache-2.0
# Targets that look at the whole tree. `make check` itself runs the unit tests, fuzz corpora and scripts listed in TESTS.
.PHONY: check-style check-layers format tidy coverage check-integration check-long check-conformance check-acceptance \
	check-oom check-valgrind bench fuzz trace
EXTRA_DIST += bootstrap scripts/packages scripts/install-deps scripts/check-layers scripts/check-style scripts/checks.mk \
	scripts/memcmp-allowed.json scripts/demo scripts/check scripts/trace .clang-format .editorconfig README.md NEWS LICENSE

check-layers:
	$(srcdir)/scripts/check-layers $(srcdir)
check-style: check-layers
	$(srcdir)/scripts/check-style $(srcdir)
format:
	cd $(srcdir) && clang-format -i $$(git ls-files '*.c' '*.h' ':!tests/bench')
tidy:
	cd $(srcdir) && clang-tidy -p $(abs_top_builddir) $$(git ls-files '*.c' ':!tests/bench' ':!*_test.c')
compile_commands.json:
	bear -- $(MAKE) clean all
check-integration: all $(check_PROGRAMS)
	bindir=$(abs_top_builddir) $(srcdir)/tests/integration/run $(abs_top_builddir) $(INTEGRATION)
# Minutes to an hour each; wants scripts/install-deps test long.
check-long: all
	$(srcdir)/tests/integration/run $(abs_top_builddir) --long $(LONG)
check-conformance: all
	$(srcdir)/tests/conformance/run $(abs_top_builddir)
check-acceptance: all
	$(srcdir)/tests/conformance/acceptance $(abs_top_builddir)
check-oom: tests/oom/oom_test$(EXEEXT)
	tests/oom/oom_test
check-valgrind: $(check_PROGRAMS)
	for t in $(check_PROGRAMS); do case $$t in *fuzz*) ;; *) srcdir=$(abs_srcdir) valgrind -q --leak-check=full --error-exitcode=9 ./$$t || exit 1 ;; esac; done
# Line coverage of the unit tests, room by room; needs lcov (scripts/install-deps dev).
coverage:
	rm -rf build-coverage && mkdir build-coverage
	cd build-coverage && $(abs_srcdir)/configure -q CFLAGS='-O0 -g --coverage' && $(MAKE) check
	lcov -q -c -d build-coverage -o build-coverage/all.info --rc lcov_branch_coverage=0
	lcov -q -r build-coverage/all.info '/usr/*' '*_test.c' '*/tests/*' -o build-coverage/own.info
	lcov --list build-coverage/own.info
fuzz:
	$(srcdir)/tests/fuzz/run $(abs_top_builddir) 60
bench: all
	$(srcdir)/tests/bench/run $(abs_top_builddir)
.PHONY: check-reproducible sbom
EXTRA_DIST += scripts/check-reproducible scripts/sbom tests/supply/check-programs
# Builds a second time elsewhere and compares what would be installed, bit for bit.
check-reproducible: all
	$(srcdir)/scripts/check-reproducible $(abs_top_builddir)
# The parts of this build, for whoever has to know (CycloneDX JSON in sbom.json).
sbom: all
	$(srcdir)/scripts/sbom $(abs_top_builddir) >sbom.json.new && mv sbom.json.new sbom.json
CLEANFILES += sbom.json sbom.json.new
TESTS += tests/supply/check-programs
trace:
	$(srcdir)/scripts/trace $(srcdir)
