# The verbs of this project. `make setup` runs by itself where it is needed, and is quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JARS := .tools/kafka/libs/.complete
TOOLS := .tools/bin
COVERAGE_MINIMUM ?= 90
# one more than there are cores: a test often waits
PROCESSES ?= 3
AT_A_TIME := --numprocesses=$(PROCESSES) --dist=loadscope --no-loadscope-reorder
ARGS ?=
COMMIT ?= HEAD

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore
unexport PYTHONDONTWRITEBYTECODE # or each of hundreds of processes compiles all modules, and each test process all tests

.DEFAULT_GOAL := help
.PHONY: help setup tools up demo doctor test faults rolling long bench lint lint-check format format-check types imports tests coverage openapi stored release-archive lock

help: ## say what the verbs are
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)

setup: $(VENV)/.installed $(JARS) ## virtual environment from the hashed lock, Kafka's jars from the pinned pom.xml

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, as PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock # complete: a resolver could only ask for something newer
	$(BIN)/python -m pip check --quiet
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(JARS): comitia/stack/pom.xml | $(VENV)/.installed
	$(BIN)/python -c 'from comitia.stack.kafka import fetch_jars; fetch_jars()'
	@touch $@

tools: $(TOOLS)/toxiproxy-server $(TOOLS)/temporal-server $(TOOLS)/temporal-sql-tool $(TOOLS)/versitygw $(TOOLS)/local-kms $(TOOLS)/tlog-fsck $(TOOLS)/tlog-proofs $(TOOLS)/chromium ## what needs Go: network faults, production's Temporal, locked objects, a KMS, readers of logs; and Debian's Chromium

$(TOOLS)/chromium: # a link; without one, tests in a browser are left out, and say so
	@command -v chromium > /dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends chromium; } > /dev/null || echo "there is no Chromium to be had"
	@mkdir -p $(@D)
	@if command -v chromium > /dev/null; then ln -sf "$$(command -v chromium)" $@; fi

$(TOOLS)/toxiproxy-server: comitia/stack/tools/toxiproxy/go.sum
	cd $(<D) && go build -o $(CURDIR)/$@ github.com/Shopify/toxiproxy/v2/cmd/server

$(TOOLS)/versitygw: comitia/stack/tools/versitygw/go.sum
	cd $(<D) && go build -o $(CURDIR)/$@ github.com/versity/versitygw/cmd/versitygw

$(TOOLS)/local-kms: comitia/stack/tools/local-kms/go.sum
	cd $(<D) && go build -o $(CURDIR)/$@ github.com/nsmithuk/local-kms

$(TOOLS)/tlog-fsck: comitia/stack/tools/tlog/go.sum
	cd $(<D) && go build -o $(CURDIR)/$@ github.com/transparency-dev/tessera/cmd/fsck

$(TOOLS)/tlog-proofs: comitia/stack/tools/tlog/main.go comitia/stack/tools/tlog/go.sum
	cd $(<D) && go build -o $(CURDIR)/$@ .

$(TOOLS)/temporal-server: comitia/stack/tools/temporal/go.sum
	cd $(<D) && go build -o $(CURDIR)/$@ go.temporal.io/server/cmd/server

$(TOOLS)/temporal-sql-tool: comitia/stack/tools/temporal/go.sum | $(TOOLS)/temporal-server
	cd $(<D) && go build -o $(CURDIR)/$@ go.temporal.io/server/cmd/tools/sql

up: setup ## run everything on this machine until Ctrl-C
	$(BIN)/comitia up $(ARGS)

demo: setup ## run the Glasgow election of 2022 through everything; ARGS=--all for every ballot
	$(BIN)/comitia demo $(ARGS)

doctor: setup ## say what is missing on this machine
	$(BIN)/comitia doctor

test: setup ## every check, then every test; with what needs Go where Go is there
	@if command -v go > /dev/null; then $(MAKE) --no-print-directory tools; fi
	@$(MAKE) --no-print-directory lint-check format-check types imports tests

lint-check: $(VENV)/.installed ## ruff's rules
	$(BIN)/ruff check

format-check: $(VENV)/.installed ## ruff's formatting
	$(BIN)/ruff format --check

types: $(VENV)/.installed ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/.installed ## import contracts
	$(BIN)/lint-imports

tests: setup ## pytest on real servers, three at a time; what fails beside others again alone; PROCESSES=n, ARGS for pytest
	@$(BIN)/pytest $(AT_A_TIME) $(ARGS); status=$$?; \
	if [ $$status -ne 1 ]; then exit $$status; fi; \
	echo "Again, alone: what passes now is a test that does not bear company, which is a defect of the test"; \
	$(BIN)/pytest --last-failed --last-failed-no-failures=none -v

coverage: setup ## the same with the branches that it takes in every process, which costs as much again
	$(BIN)/pytest $(AT_A_TIME) --cov --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE_MINIMUM) $(ARGS)

faults: setup tools ## break everything under load, one thing at a time; MINUTES=n at random, SEED=n, ONLY=patterns, RATE=n
	$(BIN)/python -m tests.faults --minutes=$(or $(MINUTES),0) --seed=$(or $(SEED),1) --rate=$(or $(RATE),40) --only='$(ONLY)'

long: setup tools ## the tests that take minutes: production's servers, standbys and restores under load; ARGS for pytest
	$(BIN)/pytest -m long --timeout=1800 $(ARGS)

bench: setup ## measure, check and compare on this machine
	$(BIN)/python -m benchmarks $(ARGS)

rolling: setup ## replace every process, one by one, under load, several times; ARGS='--rounds 5 --votes 100'
	$(BIN)/python -m tests.faults.rolling $(ARGS)

lint: $(VENV)/.installed ## ruff's rules, repaired where that is safe
	$(BIN)/ruff check --fix

format: $(VENV)/.installed ## ruff's formatting, applied
	$(BIN)/ruff format

openapi: setup ## write docs/openapi anew from the running services
	COMITIA_RECORD_OPENAPI=1 $(BIN)/pytest -q tests/end_to_end/test_openapi.py -k committed

stored: setup ## store new and grown contracts, and histories of batches that are not stored yet
	$(BIN)/python -m tests.contracts.record
	$(BIN)/python -m tests.replay.record_submit_votes

release-archive: ## store the committed code as the release that the next one is tested to take over from; COMMIT=...
	git archive --format=tar $(COMMIT) domain workflows activities integrations api workers | xz -9e > tests/upgrade/release.tar.xz

lock: $(VENV)/.installed ## write requirements.lock anew from pyproject.toml
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 \
		--all-extras pyproject.toml --output-file requirements.lock
