# Everything a person or CI does here. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export TZ := UTC
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# `make up COMPOSE=1`, and `demo` and `down` likewise: in containers instead of as processes.
COMPOSE ?=
COMPOSED := docker compose --file docker/compose.yaml
SECRETS := .hyperrec/compose
ifdef COMPOSE
export AZURE_STORAGE_ACCOUNT_URL := http://127.0.0.1:10000/devstoreaccount1
export COSMOS_ENDPOINT := http://127.0.0.1:8081
endif

.PHONY: help setup demo test bench check format lock up down contract lint-infra

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

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
	@$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

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

up: setup ## start the local stores and Prefect; COMPOSE=1: in containers
ifdef COMPOSE
	@docker info >/dev/null 2>&1 || { echo "COMPOSE=1 needs a Docker engine that answers; without one, make up starts processes."; exit 1; }
	@# Drawn once. A container's user reads the files, nobody else gets into their folder.
	@mkdir -p $(SECRETS) && chmod 0700 $(SECRETS)
	@[ -s $(SECRETS)/database ] || openssl rand -hex 24 | tr -d '\n' > $(SECRETS)/database
	@[ -s $(SECRETS)/api ] || printf 'operator:%s' "$$(openssl rand -hex 24)" > $(SECRETS)/api
	@chmod 0444 $(SECRETS)/database $(SECRETS)/api
	@HYPERREC_REVISION=$$(git rev-parse HEAD) $(COMPOSED) up --build --detach --wait
	@echo "Prefect: http://127.0.0.1:4200, sign in with what $(SECRETS)/api holds."
else
	@$(BIN)/hyperrec up
endif

down: ## stop the local services
ifdef COMPOSE
	@$(COMPOSED) down
else
	@if [ -x $(BIN)/hyperrec ]; then $(BIN)/hyperrec down; fi
endif

contract: setup ## the contract suite against the official Cosmos emulator; needs Docker
	@$(COMPOSED) up --detach --wait cosmos
	@COSMOS_ENDPOINT=http://127.0.0.1:8081 COSMOS_TARGET=vnext $(BIN)/pytest tests/contract/cosmos

LINTERS := .venv-lint
$(LINTERS)/.installed: infra/lint/requirements.txt
	@$(PYTHON) -m venv $(LINTERS)
	@$(LINTERS)/bin/pip install -qq --requirement infra/lint/requirements.txt
	@touch $@

lint-infra: $(LINTERS)/.installed ## Terraform, images, compose, workflows: checkov, hadolint, actionlint and others
	@PATH="$(CURDIR)/$(LINTERS)/bin:$$PATH" infra/lint/run
