# Everything a person or CI does here. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export TZ := UTC
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test bench check format lock up down

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(VENV)/.installed infra/local/node_modules/.installed ## virtual environment, locked dependencies, Azurite

# torch comes first and alone, so that a CPU build that is at hand is taken.
$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "hyperrec needs Python 3.11: install it (Debian: apt-get install python3.11-venv) or give PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --constraint constraints.txt torch
	$(BIN)/pip install -qq --constraint constraints.txt --editable '.[pipeline,telemetry,research,dev]'
	@touch $@

infra/local/node_modules/.installed: infra/local/package-lock.json
	@if command -v npm >/dev/null; then \
	    npm ci --prefix infra/local --silent --no-audit --no-fund && touch $@; \
	else \
	    echo "No Node: blobs will be kept in a folder instead of Azurite."; \
	fi

# Another server of the same protocol, which bears witness to ours in the contract suite.
tests/contract/witness/node_modules/.installed: tests/contract/witness/package-lock.json
	@if command -v npm >/dev/null; then \
	    npm ci --prefix tests/contract/witness --silent --no-audit --no-fund && touch $@; \
	fi

demo: setup ## the main job on this machine: HYPERREC_DATA=file-or-folder, or a synthetic shop
	@$(BIN)/hyperrec demo

test: setup tests/contract/witness/node_modules/.installed ## the whole test suite
	@$(BIN)/pytest --numprocesses 2 --dist loadfile

BENCH ?= full
bench: setup ## measure training and scoring: BENCH=full, or quick for minutes
	@$(BIN)/python -m tests.benchmarks --size $(BENCH)

check: setup ## ruff, mypy and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## rewrite the code in the project's style
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lock: setup ## write constraints.txt from the present environment
	@$(BIN)/pip freeze --exclude-editable | sed -E 's/\+cpu$$//' > constraints.txt

up: setup ## start the local stores and Prefect
	@$(BIN)/hyperrec up

down: ## stop the local services
	@if [ -x $(BIN)/hyperrec ]; then $(BIN)/hyperrec down; fi
