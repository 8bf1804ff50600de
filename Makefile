# make book   build the book          make test   run everything that must hold      make help   the rest
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# Python compiles what is imported; pip would compile all that is there.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile
TORCH_WITHOUT_CUDA := https://download.pytorch.org/whl/cpu

export JUPYTER_PREFER_ENV_PATH = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help book test lab serve bench sweep format clean setup
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create the environment (.venv) with the pinned versions

# The stamp is written last: an installation that was cut short is taken up again by the next command. requirements.txt names
# every package that its packages need, so that pip need not look for them; only CUDA, where PyTorch has it, is PyTorch's matter.
$(READY): requirements.txt requirements-nodeps.txt pyproject.toml
	@rm -f $@
	@$(BIN)/python -c 'import pip; $(SUITABLE)' 2> /dev/null || { \
	  for python in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3) ""; do \
	    "$$python" -c 'import ensurepip; $(SUITABLE)' 2> /dev/null && break; \
	  done; \
	  test "$$python" || { echo "error: the book needs Python 3.11, 3.12 or 3.13 with its module venv (on Debian and Ubuntu: sudo" \
	    "apt-get install python3-venv), and $(or $(PYTHON),what is here) is none; name one: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	  "$$python" -m venv --clear $(VENV); }
	@echo "Setting up $(VENV) with the pinned versions (a few minutes, once) ..."
	@torch=$$(grep '^torch==' requirements.txt); \
	if [ "$$(uname -s)" = Linux ] && timeout 10 $(BIN)/python -c \
	    'import urllib.request as web; web.urlopen("$(TORCH_WITHOUT_CUDA)/torch/", timeout=5)' 2> /dev/null \
	  && $(INSTALL) --no-deps --index-url $(TORCH_WITHOUT_CUDA) "$$torch" 2> /dev/null; \
	then echo "  PyTorch: without CUDA, from PyTorch's own index"; \
	else echo "  PyTorch: from the default index"; $(INSTALL) --constraint requirements.txt "$$torch"; fi
	@$(INSTALL) --no-deps --requirement requirements.txt --requirement requirements-nodeps.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

book: $(READY) ## build the book; prints the path of its start page
	@$(BIN)/python -m one_step_trap.book.build book

# In the groups and the order of tests/conftest.py: the browser last, since only one may be open in a process.
test: $(READY) ## lint, types, unit tests, every chapter, the built pages in a browser
	@$(BIN)/python tests/needs.py
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest --numprocesses 2 --no-loadscope-reorder $(PYTEST)

lab: $(READY) ## open the chapters in JupyterLab
	@$(BIN)/python -m jupyterlab chapters

serve: $(READY) ## build the book and serve it on this machine
	@$(BIN)/python -m one_step_trap.book.build book
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $${PORT:-8000}

bench: $(READY) ## measure what the book says is fast, as ratios in one run
	$(BIN)/python -m pytest benchmarks --benchmark-columns=min,median,rounds -s

sweep: $(READY) ## compute the long studies anew (minutes to hours; writes data/)
	@$(BIN)/python -m one_step_trap.book.build sweep $(STUDY)

format: $(READY) ## format the code
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean: ## remove everything that was built, and the environment
	rm -rf _build .snakemake $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
