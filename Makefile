# What people call; everything is explained by `make help`. Variables are passed on as they are:
#   KERNEL  kernels to test, several make a matrix          TEST  what to run (files, ids)     ARGS  further pytest options
#   VMS     virtual machines a kernel                       SUITE of the package mirror
#   GOOD, BAD, TREE, REPEAT  what to bisect                 A, B  two kernels to compare

KERNEL ?=
TEST ?=
VMS ?=
ARGS ?=
GOOD ?=
BAD ?=
TREE ?=
REPEAT ?=
A ?=
B ?=
N ?=
SUITE ?=

# make takes what exists as a file for done, and a variable that it does not know for nobody's.
GOALS := $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST))) setup setup-build setup-check
STRAY := $(foreach goal,$(filter-out $(GOALS),$(MAKECMDGOALS)),$(wildcard $(goal)))
ifneq ($(STRAY),)
$(error '$(STRAY)' is no target: what to run is make test TEST=$(firstword $(STRAY)))
endif
ifneq ($(filter command,$(origin kernel) $(origin test) $(origin args) $(origin vms)),)
$(error variables are in capitals: KERNEL, TEST, ARGS, VMS)
endif

PYTHON := .venv/bin/python
PYTEST := .venv/bin/pytest
# The runner; without a kernel it takes the newest packaged one of this machine's own sources.
RUN := $(PYTHON) -m vm test
# By way of the environment: a path may have spaces and quotes.
export KERNEL
# Files of the project are UTF-8, whatever the locale is.
export PYTHONUTF8 := 1
KERNELS := --kernels "$$KERNEL"
ONE := "$$KERNEL"

.PHONY: help
help: ## show this
	@echo "make test [KERNEL=\"6.12 bullseye/5.10 path/to/bzImage\"] [TEST=tests/splice] [VMS=2] [ARGS=\"-k gcm -x\"]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do \
	    printf '  make %-11s %s\n' "$$name" "$$text"; done
	@echo
	@echo "KERNEL is an image, a kernel tree, a version (6.12), SUITE/VERSION (trixie-backports/7.3), source:VERSION, or running."
	@echo "In brackets are examples; without KERNEL it is the newest packaged one."
	@echo "All options of the runner: .venv/bin/pytest --help (the group 'kernels in virtual machines')."

# A kernel that has to be built needs a compiler and its friends.
BUILDS := $(strip $(findstring source:,$(KERNEL)) $(findstring +,$(KERNEL)) $(wildcard $(addsuffix /Kconfig,$(KERNEL) $(TREE))) \
    $(shell test -e '$(subst ','\'',$(KERNEL))/Kconfig' && echo a tree with a space in its path))

# What needs no virtual machine needs nothing that makes one.
IN_PLACE := $(if $(filter running,$(KERNEL)),$(if $(filter-out running,$(KERNEL))$(filter-out setup test,$(MAKECMDGOALS)),,yes))

.PHONY: setup setup-build setup-check
setup:
	@vm/setup.sh $(if $(IN_PLACE),in-place,$(if $(BUILDS),build))
setup-build:
	@vm/setup.sh build
setup-check:
	@vm/setup.sh build check

.PHONY: test
test: setup ## boot kernels and run the suite in them
	@exec $(RUN) $(KERNELS) $(if $(VMS),--vms $(VMS)) $(ARGS) $(TEST)

# Tests of building and of coverage compile.
.PHONY: check
check: setup-check ## the project's own tests: lint, types, runner, oracles (no kernel is tested)
	$(PYTHON) -m ruff check -q
	$(PYTHON) -m ruff format -q --check
	$(PYTHON) -m mypy --no-error-summary vm tests/afalg
	@imports=$$(.venv/bin/lint-imports --no-cache --no-logo 2>&1) || { echo "$$imports"; exit 1; }
	$(PYTEST) -q -m 'not vm' -n 2 $(ARGS) $(or $(TEST),vm/tests tests/selftests)

.PHONY: pins
pins: ## pin anew what pyproject.toml names, with hashes [ARGS=--upgrade]
	@vm/pins.sh $(ARGS)

.PHONY: check-vm
check-vm: setup-build ## the runner's tests that boot real machines
	$(PYTEST) -q -m vm $(ARGS) $(or $(TEST),vm/tests)

.PHONY: tarball
tarball: setup ## pack what a machine needs to test its own kernel, but for a Python [ARGS="--python 3.11"]
	@exec $(PYTHON) -m vm tarball af-alg-tests.tar.gz $(ARGS)

.PHONY: kernels
kernels: setup ## list cached and available kernels [SUITE=trixie-backports]
	@exec $(PYTHON) -m vm kernels $(foreach suite,$(SUITE),--suite '$(suite)')

.PHONY: kernel
kernel: setup-build ## build a kernel for these tests, print its image [KERNEL=source:6.12+debug, or path/to/linux]
	@exec $(PYTHON) -m vm build $(if $(KERNEL),$(ONE))

.PHONY: clean-cache
clean-cache: setup ## remove what was fetched and built, but for what a run uses (by itself the cache keeps to 30 GB)
	@exec $(PYTHON) -m vm cache --all

.PHONY: clean-results
clean-results: setup ## remove the results of all runs but the newest ten and those of the last hour
	@exec $(PYTHON) -m vm clean-results $(ARGS)

.PHONY: coverage
coverage: setup ## lines and branches of AF_ALG that the suite reaches [KERNEL=source:6.12+coverage]
	@exec $(PYTHON) -m vm coverage $(KERNELS) $(if $(VMS),--vms $(VMS)) $(ARGS) $(TEST)

.PHONY: algorithms
algorithms: setup ## every algorithm of a kernel: drivers, oracle, tests, verdict [KERNEL=6.12]
	@exec $(RUN) --then tests.algorithms.report $(KERNELS) -q $(if $(VMS),--vms $(VMS)) $(ARGS) tests/algorithms

.PHONY: shell
shell: setup ## a shell in the guest the tests have [KERNEL=6.12]
	@exec $(PYTHON) -m vm shell $(ONE)

.PHONY: gdb
gdb: setup ## the same, waiting for gdb [KERNEL=path/to/tree]
	@exec $(PYTHON) -m vm shell --gdb $(ONE)

.PHONY: doctor
doctor: setup ## say what of AF_ALG works on a kernel, and why not [KERNEL=running]
	@exec $(PYTHON) -m vm doctor $(ONE)

.PHONY: matrix
matrix: setup ## several kernels side by side [KERNEL="bullseye/5.10 6.1 6.12"]
	@exec $(RUN) --then vm.results.matrix $(KERNELS) $(if $(VMS),--vms $(VMS)) $(ARGS) $(TEST)

.PHONY: diff
diff: setup ## only what changed between two kernels [A=6.1 B=6.12]
	@$(if $(and $(A),$(B)),,$(error make diff needs two kernels: make diff A=6.1 B=6.12))
	@exec $(RUN) --then vm.results.diff --kernel='$(A)' --kernel='$(B)' -q $(if $(VMS),--vms $(VMS)) $(ARGS) $(TEST)

DIFFERENT = bullseye/5.10 bullseye-security/5.10 6.1 6.12 sid/7.2 trixie-backports/7.3

.PHONY: differences
differences: setup ## write README's table of what differs between kernels, from what they do [KERNEL="6.1 6.12"]
	@exec $(RUN) --kernels '$(or $(KERNEL),$(DIFFERENT))' -q $(if $(VMS),--vms $(VMS)) $(ARGS) \
	    --then tests.errors.differences tests/errors/test_differences.py

.PHONY: programs
programs: setup ## real programs under each policy: what works, falls back, fails [KERNEL="6.12 trixie-backports/7.3"]
	@exec $(PYTHON) -m tests.programs $(KERNELS) $(if $(VMS),--vms $(VMS)) $(ARGS) $(TEST)

# A space in a test's id: give it in quotes inside of TEST.
.PHONY: bisect
bisect: setup ## which package or commit broke (or fixed) a test [GOOD=6.12.74 BAD=6.12.90 TEST=…] [TREE=~/linux] [REPEAT=3]
	@exec $(PYTHON) -m vm bisect '$(TEST)' --good '$(GOOD)' --bad '$(BAD)' $(if $(TREE),--tree '$(TREE)') \
	    $(if $(REPEAT),--repeat $(REPEAT)) $(foreach suite,$(SUITE),--suite '$(suite)') $(ARGS)

# What it prints is the program, and nothing else.
.PHONY: reproducer
reproducer: ## print a C program that shows why a test is red [KERNEL=bullseye/5.10.223 TEST=… GOOD=6.12]
	@vm/setup.sh $(if $(BUILDS),build) >&2
	@exec $(PYTHON) -m vm reproducer '$(TEST)' $(if $(KERNEL),--kernel $(ONE)) $(if $(GOOD),--good '$(GOOD)') $(ARGS)

.PHONY: teeth
teeth: setup-build ## change the kernel's code in small ways, and say which tests notice [TEST="gcm:*" KERNEL=source:6.12]
	@exec $(PYTHON) -m vm teeth $(if $(KERNEL),--kernel=$(ONE)) $(if $(VMS),--vms $(VMS)) $(ARGS) $(foreach name,$(TEST),'$(name)')

.PHONY: flakes
flakes: setup ## run the suite N times on a busy machine, and say which verdicts differ [N=20 KERNEL=6.12]
	@exec $(PYTHON) -m vm flakes $(if $(N),-n $(N)) $(KERNELS) $(if $(VMS),--vms $(VMS)) $(ARGS) $(TEST)

.PHONY: bench
bench: setup ## what the runner costs, and AF_ALG beside a library in user space, as ratios [KERNEL=6.12]
	@$(PYTHON) -m vm bench $(if $(KERNEL),--kernel $(ONE)) $(ARGS); status=$$?; \
	[ $$status -le 1 ] || exit $$status; \
	echo; $(PYTHON) -m tests.bench $(ONE) && exit $$status
