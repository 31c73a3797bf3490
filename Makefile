# `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
PYTEST := $(BIN)/pytest
PYTEST_ARGS ?= -n 2 --dist worksteal
LOCK := scripts/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	--all-extras --group dev pyproject.toml

.PHONY: help setup demo test fuzz soak lint contracts types bench docs ci lock lock-check clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.ready ## Build .venv from requirements.lock (uv is fetched if it is missing)

.venv/.ready: requirements.lock pyproject.toml scripts/find-python scripts/uv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		python="$$(scripts/find-python)"; \
		echo "Building .venv with $$python"; \
		scripts/uv venv --quiet --clear --python "$$python" .venv; }
	@scripts/uv pip sync --quiet --python $(BIN)/python requirements.lock
	@scripts/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## Run the service on real work: embedded PostgreSQL, jobs over REST, a table of results
	@$(BIN)/qd demo

test: setup ## Run all tests (PYTEST_ARGS="-x -k name" to choose)
	@scripts/system-packages
	@scripts/other-pythons
	@$(PYTEST) $(PYTEST_ARGS)

fuzz: export QD_FUZZ_SECONDS := $(or $(SECONDS),600)
fuzz: export QD_FUZZ_EXAMPLES := $(or $(EXAMPLES),200)
fuzz: setup ## Make requests up from the interface's description (SECONDS=600 EXAMPLES=200)
	@$(PYTEST) tests/fuzz/test_interface.py

soak: setup ## Break three processes and their database under load, and check every job (SECONDS=60 SEED=n RATE=200 REPORT=file BARS=no)
	@$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),60) --rate $(or $(RATE),200) \
		$(if $(SEED),--seed $(SEED)) $(if $(REPORT),--report $(REPORT)) $(if $(filter no,$(BARS)),--no-bars)

lint: setup ## Check style, formatting and imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

contracts: setup ## Check that imports point one way
	@$(BIN)/lint-imports

types: setup ## Check types
	@$(BIN)/mypy

bench: setup ## Measure throughput beside the floor of the bare database
	@$(BIN)/python -m benchmarks

docs: setup ## Check the documentation against the code
	@$(PYTEST) tests/docs

ci: ## Everything that must pass before a change goes in
	@.ci/run

lock: ## Write requirements.lock anew from pyproject.toml, keeping pins that still fit
	@$(LOCK) --output-file requirements.lock

lock-check: ## Check that requirements.lock fits pyproject.toml
	@copy="$$(mktemp)"; trap 'rm -f "$$copy"' EXIT; cp requirements.lock "$$copy"; \
	$(LOCK) --output-file "$$copy"; \
	diff -u requirements.lock "$$copy" || { echo "requirements.lock is out of date: run make lock" >&2; exit 1; }

clean: ## Remove everything that was built, but no data
	@rm -rf .venv .tools build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
