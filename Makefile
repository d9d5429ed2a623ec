# Two commands matter: `make demo` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := crypto services protos/generate.py protos/reference.py tests examples benchmarks
# One numerical thread per process: many processes share few cores here.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
# Many tests wait for processes more than they compute, so more run at once than there are cores.
export PYTEST_XDIST_AUTO_NUM_WORKERS := $(shell $(PYTHON) -c 'import os; print(os.cpu_count() * 3 // 2)')

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-slow bench bench-full lint format protos lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(VENV)/.installed ## Make the virtual environment

$(VENV)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "FinSecure needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing (a few minutes the first time) ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[torch,demo,dev]'
	@touch $@

MODE ?= masks
demo: setup ## Train one model across five banks and show the result; MODE=masks|paillier|bgv|ckks
	$(BIN)/finsecure demo --mode $(MODE) --out demo-out

test: setup ## Run the tests (without the slow ones)
	$(BIN)/pytest -q -n auto --dist worksteal -m "not slow"

test-slow: setup ## Run only the slow tests: long fuzzing, load, drills
	$(BIN)/pytest -q -m slow

test-all: test test-slow ## Run all tests

bench: setup ## Measure against the machine's limits and a peer; writes docs/benchmarks.md (minutes)
	$(BIN)/python -m benchmarks

bench-full: setup ## The same with more repetitions and the peer at full size (hours)
	$(BIN)/python -m benchmarks --full

lint: setup ## Linters, formatter, types, import contracts, wire contract
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/released/finsecure-0.1.0.binpb
	$(BIN)/python protos/generate.py --check

format: setup ## Format the code
	$(BIN)/ruff check --fix $(PACKAGES)
	$(BIN)/ruff format $(PACKAGES)
	$(BIN)/buf format --write

protos: setup ## Regenerate protos/python
	$(BIN)/python protos/generate.py

lock: setup ## Write requirements.lock from the present environment
	$(BIN)/pip freeze --exclude-editable | sed -E 's/^(torch==[0-9.]+)\+.*/\1/' > requirements.lock

clean: ## Remove what the commands above made
	rm -rf $(VENV) demo-out build dist
