# make book   build the book          make test   run everything that must hold      make help   the rest
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export JUPYTER_PREFER_ENV_PATH = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help book test lab serve bench sweep format clean setup
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create the environment (.venv) with the pinned versions

# The stamp is written last: an installation that was cut short is taken up again by the next command.
$(READY): requirements.txt requirements-nodeps.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "error: the book needs Python 3.11, and $(PYTHON) is another version; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV) with the pinned versions (a few minutes, once) ..."
	@rm -f $@
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-nodeps.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

book: $(READY) ## build the book; prints the path of its start page
	@$(BIN)/python -m one_step_trap.book.build book

# In the groups and the order of tests/conftest.py: the browser last, since only one may be open in a process.
test: $(READY) ## lint, types, unit tests, every chapter, the built pages in a browser
	@$(BIN)/python tests/needs.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --no-loadscope-reorder $(PYTEST)

lab: $(READY) ## open the chapters in JupyterLab
	@$(BIN)/jupyter lab chapters

serve: $(READY) ## build the book and serve it on this machine
	@$(BIN)/python -m one_step_trap.book.build book
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $${PORT:-8000}

bench: $(READY) ## measure what the book says is fast, as ratios in one run
	$(BIN)/pytest benchmarks --benchmark-columns=min,median,rounds -s

sweep: $(READY) ## compute the long studies anew (minutes to hours; writes data/)
	@$(BIN)/python -m one_step_trap.book.build sweep $(STUDY)

format: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove everything that was built, and the environment
	rm -rf _build .snakemake $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
