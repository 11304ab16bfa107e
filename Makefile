# make retrain [PROFILE=smoke]   set up and run everything
# make ablate [PROFILE=study]    set up and run the ablation
# make test                      set up and run every test
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PROFILE ?=
BIN := .venv/bin
# Two processes, a file of tests each, and no threads beside them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
READY := .venv/.ready

.PHONY: help setup retrain ablate test test-fast check audit constraints

help:
	@sed -n '1,3s/^# //p' Makefile

setup: $(READY)

# One stamp for Python's packages and the machine's Vulkan driver; `dualvla doctor` checks both anew.
$(READY): pyproject.toml constraints.txt infra/vulkan.sh
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[sim,dev]' -c constraints.txt
	bash infra/vulkan.sh $(BIN)/python
	touch $(READY)

retrain: $(READY)
	@$(BIN)/dualvla retrain $(if $(PROFILE),--profile $(PROFILE))

ablate: $(READY)
	@$(BIN)/dualvla ablate $(if $(PROFILE),--profile $(PROFILE))

# A browser is wanted by one test alone, which is skipped without it.
test: $(READY)
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get -o DPkg::Lock::Timeout=600 -qq update && apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends chromium >/dev/null; } || \
	  echo "no chromium: the test of Prefect's page will be skipped"
	$(PYTEST)

# Known flaws of the dependencies, where the package index tells of them.
audit: $(READY)
	@$(BIN)/python infra/audit.py

test-fast: $(READY)
	$(PYTEST) -m 'not slow'

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m 'not slow'

# Every version of every dependency, for all platforms; `pip install -c` reads it.
constraints:
	uv pip compile --universal --all-extras --no-header --no-annotate pyproject.toml -o constraints.txt
