# Every target needs only make and Python 3.11 or newer: `make PYTHON=python3.12 test`.
PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
GROUPS := dev docs release cluster
# Simulations, real Airflows, whose processes coverage does not see, and tests of what the others cover: coverage adds more
# than half to their time.
UNCOVERED := tests/faults tests/integration/stack tests/integration/test_start_from_trigger.py tests/integration/test_xcom_backend.py \
	tests/docs tests/fuzz tests/integration/dags tests/integration/test_ten_thousand.py tests/matrix
# More processes than CPUs share the tests, which often wait.
SHARED := --numprocesses 6
STAMP := $(VENV)/.installed
BENCH_VENV ?= .venv-bench
BENCH_BIN := $(BENCH_VENV)/bin
BENCH_STAMP := $(BENCH_VENV)/.installed
# The first call installs the packages in constraints/, by hash. The second downloads nothing, and fails if one is missing.
LOCKED := pip install --quiet --require-hashes --no-deps
UNFETCHED := pip install --quiet --no-index --no-build-isolation
COMPILE := pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links

# American spelling, and the words of CONTRIBUTING.md: what each private word is to be replaced by.
SPELLING := --builtin clear,rare,en-GB_to_en-US --dictionary - --dictionary dev/vocabulary.txt --skip '*.json,*.svg,*.png,dev/vocabulary.txt'

# Container images often set it. Then each process compiles Airflow again, and an Airflow needs 75 s of CPU instead of 43 s.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo demo-task docs ui test test-unit test-ui faults cluster week soak bench bench-triggerer bench-bulk matrix lint format size constraints clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

install: $(STAMP)  ## install everything into .venv

$(STAMP): pyproject.toml constraints/dev.txt constraints/uv.txt Makefile
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "Installing into $(VENV): once, about a minute"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m $(LOCKED) --requirement constraints/uv.txt
	$(BIN)/uv $(LOCKED) --python $(BIN)/python --requirements constraints/dev.txt
	$(BIN)/uv $(UNFETCHED) --python $(BIN)/python $(GROUPS:%=--group %) --editable '.[emulator]'
	@touch $@

demo: $(STAMP)  ## run one export on a real Airflow and the local Platform
	$(BIN)/python -m dev.demo

demo-task: $(STAMP)  ## run an app and export its outputs, in the same way
	$(BIN)/python -m dev.demo --task

ui: $(STAMP)  ## the same as demo, kept running for your browser (DAGS=folder for your DAGs, KNOBS=name=value,name=value)
	@$(BIN)/python -m dev.demo --keep $${DAGS:+--dags "$$DAGS"} $${KNOBS:+--knobs "$$KNOBS"}

test: $(STAMP)  ## run all tests, with coverage
	$(BIN)/python -m pytest $(SHARED) tests $(UNCOVERED:%=--ignore=%) -m "not slow and not ui" \
		--cov --cov-report=term --cov-report=json:coverage.json
	$(BIN)/python -m dev.branches coverage.json
	$(BIN)/python -m pytest --numprocesses 4 $(UNCOVERED) -m "not slow"

test-unit: $(STAMP)  ## run the tests without Airflow processes
	$(BIN)/python -m pytest tests/unit

test-ui: $(STAMP)  ## test the user interface with Chromium (Debian: apt-get install chromium chromium-driver)
	@command -v chromedriver > /dev/null || { echo "chromedriver is not installed. On Debian: apt-get install -y chromium chromium-driver" >&2; exit 1; }
	$(BIN)/python -m pytest tests/ui

faults: $(STAMP)  ## test recovery: kill processes of a real Airflow at chosen points
	$(BIN)/python -m pytest -s tests/faults/test_kills.py
	$(BIN)/python -m pytest -s tests/integration/in_process/test_many_files.py tests/integration/test_ten_thousand.py -m slow

cluster: $(STAMP)  ## run many exports on a multi-process Airflow and kill some processes (Debian: apt-get install redis-server)
	$(BIN)/python -m dev.cluster

week: $(STAMP)  ## run seven DAGs for seven nights on a real Airflow, and print what each night did, 12 minutes
	$(BIN)/python -m dev.week

soak: $(STAMP)  ## run a million simulated schedules, 2 hours (SEEDS=from:to for a part)
	SEEDS=$${SEEDS:-0:1000000} $(BIN)/python -m pytest -s -o timeout=0 tests/faults/test_simulation.py -k invariant

.PHONY: fuzz audit dist
fuzz: $(STAMP)  ## fuzz the parsers with 100,000 broken responses, 3 minutes (FUZZ="--help")
	$(BIN)/python -m tests.fuzz $(FUZZ)
	$(BIN)/python -m tests.fuzz.worst
	FUZZ_EXAMPLES=2000 $(BIN)/python -m pytest -o timeout=600 tests/fuzz/test_properties.py

audit: $(STAMP)  ## check the dependencies for known vulnerabilities, and list their licenses
	$(BIN)/python -m dev.audit

dist: $(STAMP)  ## build wheel and sdist in dist/, and check that they are complete and reproducible
	$(BIN)/python -m dev.release

bench: $(BENCH_STAMP)  ## measure the cost of waiting, compared with other providers (BENCH="--help")
	$(BENCH_BIN)/python -m tests.bench $(BENCH)

bench-triggerer: $(STAMP)  ## measure 5,000 deferred sensors in a real Airflow, 20 minutes (BENCH=--finish: until all are done)
	$(BIN)/python -m tests.bench.real_triggerer $(BENCH)

bench-bulk: $(STAMP) $(BENCH_STAMP)  ## measure many exports on a real Airflow in three ways, 75 minutes (BENCH="--help")
	$(BIN)/python -m tests.bench.end_to_end $(BENCH)
	test ! -e docs/performance/growth.json || $(BENCH_BIN)/python -m tests.bench.growth_plot docs/performance/growth.json

matrix: $(STAMP)  ## test the wheel on every supported Airflow and Python (MATRIX="--help", "--only 2.11,3.3 --python here")
	$(BIN)/python -m dev.matrix $(MATRIX)

$(BENCH_STAMP): pyproject.toml constraints/bench.txt constraints/uv.txt Makefile
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BENCH_BIN)/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_BIN)/python -m $(LOCKED) --requirement constraints/uv.txt
	$(BENCH_BIN)/uv $(LOCKED) --python $(BENCH_BIN)/python --requirements constraints/bench.txt
	$(BENCH_BIN)/uv $(UNFETCHED) --python $(BENCH_BIN)/python --group bench --editable .
	@touch $@

lint: $(STAMP)  ## check style, types, imports between layers, and the documentation
	$(BIN)/codespell $(SPELLING) README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md docs airflow_sb_provider dev example_dags tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

docs: $(STAMP)  ## build the documentation in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(STAMP)  ## format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

size: $(STAMP)  ## count lines of code per folder
	$(BIN)/python -m dev.size

constraints: $(STAMP)  ## pin the newest versions of all packages, with hashes
	$(BIN)/uv $(COMPILE) --extra emulator $(GROUPS:%=--group %) pyproject.toml --output-file constraints/dev.txt
	$(BIN)/uv $(COMPILE) --group bench pyproject.toml --output-file constraints/bench.txt
	echo uv | $(BIN)/uv $(COMPILE) - --output-file constraints/uv.txt

clean:  ## remove all generated files
	rm -rf $(VENV) $(BENCH_VENV) build dist htmlcov .coverage .coverage.* coverage.json
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
