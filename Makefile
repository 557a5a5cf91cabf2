# `make sweep` and `make test` do all the set-up; running them again installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help sweep test test-fast test-long mutations faults statistics test-cluster test-stack test-stack-slice bench deps browser check install clean-venv
.DEFAULT_GOAL := help

help:
	@echo "make sweep       install, then the first sweep and its report (5 minutes on two cores after the install)"
	@echo "make test        install, then all tests"
	@echo "make test-fast   only the tests that take seconds"
	@echo "make test-long   tests of a minute each, beyond the 12 minutes of \`make test\` (some 2 minutes)"
	@echo "make mutations   10,000 broken search spaces: each read, or refused with file and line (some five minutes)"
	@echo "make faults      kills at numbered steps and at random, signals, outages, on real sweeps (some 25 minutes)"
	@echo "make statistics  intervals, boards, corrected winners and claims on simulated patients, a fresh seed (some 4 minutes)"
	@echo "make test-cluster  the rest of the executors' suite on Ray and Slurm (some 3 minutes)"
	@echo "make test-stack  PostgreSQL, S3, MLflow and Ray on loopback: a sweep of 40 trials with faults (some 17 minutes)"
	@echo "make bench       what is fast, row by row against its rivals; an interrupted run is gone on with (hours; docs/performance.md)"
	@echo "make browser     Chromium, pdflatex, PostgreSQL where they are missing (Debian, as root), then the tests of the pages"
	@echo "make deps        known vulnerabilities of the versions in constraints.txt, asked of the package index (75: not reached)"
	@echo "make check       ruff, mypy, import-linter"

sweep: $(INSTALLED)
	$(BIN)/harness sweep search_spaces/quickstart.yaml

# A file of tests stays together, since its tests share what they made. Each process takes up to 2 GiB.
test: $(INSTALLED)
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile -m "not cluster and not long"

test-fast: $(INSTALLED)
	$(BIN)/pytest -m "not slow"

# `make test` breaks 200. Elsewhere a test may take 240 s.
mutations: $(INSTALLED)
	HARNESS_MUTATIONS=10000 $(BIN)/pytest --timeout=1800 tests/config/test_mutations.py

faults: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults

# Into build/statistics.json, line by line; an unfinished file is gone on with.
statistics: $(INSTALLED)
	$(BIN)/python benchmarks/statistics_check.py

# Tests of a minute each whose sisters are in `make test`.
test-long: $(INSTALLED)
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile -m long

# What each executor shows of itself in `make test`, and the rest of the suite here.
test-cluster: $(INSTALLED)
	$(BIN)/pytest -m cluster tests/execute

# A PostgreSQL outage of 5 minutes is part of it.
test-stack: $(INSTALLED)
	$(BIN)/pytest --override-ini=addopts=-q tests/stack
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.stack.faults

# The same with 8 short trials and 10 s, in at most 5 minutes.
test-stack-slice: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.stack.faults --trials 8 --epochs 20 --away 10 --network light

# Into build/bench/, a line for each repeat. `make bench ROWS="3 7"` for some rows.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.bench $(ROWS)
	$(BIN)/python -m benchmarks.bench --table

browser: $(INSTALLED)
	scripts/test-programs
	$(BIN)/pytest -rs tests/report/test_browser.py

check: $(INSTALLED)
	scripts/check

deps: $(INSTALLED)
	scripts/check-deps

install: $(INSTALLED)

# torch and its libraries are 6 GB: 3 to 8 minutes, once, and again only when the versions change.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; choose one by: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (6 GB, 3 to 8 minutes) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev -e .
	@touch $@

clean-venv:
	rm -rf $(VENV)
