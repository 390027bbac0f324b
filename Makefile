# `make` lists the targets. Python 3.11 or newer: make PYTHON=python3.12 ...
PYTHON ?= python3
UV ?= uv
SEEDS ?= 1
BIN := .venv/bin
READY := .venv/.ready
COMPILE := $(UV) pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
PROGRAMS = $(shell grep -d skip -lE '^\#!.*python' $(filter-out %.py %/,$(wildcard scripts/* benchmarks/*)) /dev/null)

# What takes longer than a run of the tests may: those of these targets that there are.
NIGHTLY := $(filter laws scorecard real-files chaos,$(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST))))

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint types lock bench curves peers laws chaos chaos-quick soak scorecard real-files nightly clean

help:  ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 13

venv: $(READY)  ## Make the environment .venv; again only when the lock or pyproject.toml changed

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "driftline needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "making .venv: half a minute"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)  ## Watch drift being found in a made-up stream: a minute, no Kafka needed
	$(BIN)/driftline demo

test: $(READY)  ## Run every test; with a real Kafka where Java and Maven are on the PATH
	$(BIN)/pytest $(PYTEST_ARGS)

lint: $(READY)  ## Check style, formatting, and that imports run downwards
	$(BIN)/ruff check . $(PROGRAMS)
	$(BIN)/ruff format --check . $(PROGRAMS)
	$(BIN)/lint-imports

types: $(READY)  ## Check types
	$(BIN)/mypy
	$(foreach folder,$(wildcard scripts benchmarks),MYPYPATH=$(folder) $(BIN)/mypy --scripts-are-modules $(wildcard $(folder)/*.py) $(filter $(folder)/%,$(PROGRAMS)) &&) true

lock:  ## Pin what pyproject.toml asks for anew, with hashes (needs uv)
	$(COMPILE) --all-extras --group dev -o requirements.lock
	$(COMPILE) -c requirements.lock -o deploy/requirements.lock
	@! grep -n '://' requirements.lock deploy/requirements.lock

bench: $(READY)  ## Measure speed
	$(BIN)/python benchmarks/run.py

curves: $(READY)  ## Measure what more features, models and partitions cost
	$(BIN)/python benchmarks/curves.py

peers:  ## Make the environments of the peers in benchmarks/peers
	$(foreach name,$(basename $(notdir $(wildcard benchmarks/peers/*.txt))),$(PYTHON) -m venv .cache/peers/$(name) && \
		.cache/peers/$(name)/bin/python -m pip install -q --disable-pip-version-check --only-binary :all: -r benchmarks/peers/$(name).txt &&) true

soak: $(READY)  ## Half an hour at half of the maximum rate on a real Kafka: nothing may grow
	$(BIN)/python -m tests.soak

scorecard: $(READY)  ## Count false alarms without drift, and what first windows of a drift find, into docs/scorecard.md
	$(BIN)/python -m tests.scorecard --out docs/scorecard.md

real-files: $(READY)  ## Take eight real files from packages to their verdicts on a real Kafka, into docs/real-files.md
	$(BIN)/python -m tests.real_files --out docs/real-files.md

laws: $(READY)  ## Try the laws and crashes with ten thousand examples each
	$(BIN)/pytest -q --hypothesis-profile=chaos --timeout=3600 tests/test_laws.py tests/test_crashes.py

chaos: $(READY)  ## Crash workers and brokers of a real Kafka, and compare with the undisturbed result; SEEDS=3 for more
	$(BIN)/python -m tests.chaos --seeds $(SEEDS) --out docs/recovery.md

chaos-quick: $(READY)  ## A few of these crashes, in three minutes
	$(BIN)/python -m tests.chaos --quick

nightly: SEEDS = 3
nightly: $(READY)  ## Run all that takes long, one after the other, with a table of results; logs in .cache/nightly
	@mkdir -p .cache/nightly; failed=0; for each in $(NIGHTLY); do \
		log=.cache/nightly/$$each.log; began=$$(date +%s); \
		if $(MAKE) $$each SEEDS=$(SEEDS) > $$log 2>&1; then result=passed; else result=FAILED; failed=1; fi; \
		printf '%-12s %s %6d s  %s\n' $$each $$result $$(($$(date +%s) - began)) $$log; \
	done; exit $$failed

clean:  ## Remove the environment, caches and build products
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find detectors streams driftline tests scripts -name __pycache__ -prune -exec rm -rf {} +
