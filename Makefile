# Two commands do all the set-up:
#   make demo   makes .venv, installs, maps the demo region into runs/demo
#   make test   makes .venv, installs with the test extras, runs linters, type checker and default tests
# The others: make test-all, lint, format, starter, clean. Where pip must be told where a CPU build of
# torch lies (CONTRIBUTING.md): make demo PIP_FLAGS="--find-links FOLDER".

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# The first interpreter that runs and is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS ?=
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_FLAGS) -c constraints.txt
RUN := runs/demo

.PHONY: help demo test test-all test-default test-rest lint format starter clean

help:
	@sed -n 's/^#  *make/make/p' Makefile

# --- set-up: again only where pyproject.toml or constraints.txt changed ---

$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found; hint: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(PIP) -e '.[test]'
	@touch $(VENV)/.installed $@

# --- use ---

demo: $(VENV)/.installed
	$(BIN)/landmeta adapt --region demo --out $(RUN) --overwrite

# --- development ---

test: lint test-default

test-all: test test-rest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-default: $(VENV)/.installed-test
	$(BIN)/python -m pytest

# What the default leaves out and needs no internet; exit 5 says that no such test exists (yet).
test-rest: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "(slow or browser or gpu) and not network" || test $$? -eq 5

# About an hour of CPU; needs the data folder beside the checkout.
starter: $(VENV)/.installed
	$(BIN)/python benchmarks/train_starter.py

clean:
	rm -rf $(VENV) runs/demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
