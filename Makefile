# Needs Python 3.11 to 3.13 with pip and nothing else; `make help` lists what there is to do.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first of these that runs and is of a version that works; PYTHON=/some/python chooses another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
VENV := .venv/complete
CODE := emgen scripts tests demo benchmarks

.PHONY: help demo test test-slow test-gpu test-published test-all lint format clean

help: ## what there is to do
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV) ## restore a real FIB-SEM crop; ends with results/demo/report.html
	@echo "Takes some minutes; every restored block is a line in results/demo/logs/restore/"
	@$(BIN)/snakemake --configfile config/demo.yaml --cores all --quiet host reason
	@echo "Report: results/demo/report.html"
	@echo "Volume: results/demo/restored.ome.zarr"

# two at a time with one thread each: most of their time is one process that starts
test: $(VENV) ## the fast tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow and not gpu"

test-slow: $(VENV) ## the slow ones, a real Slurm among them (root; skipped in words elsewhere)
	$(BIN)/pytest -m "slow and not gpu" -rs

test-gpu: $(VENV) ## those that need a CUDA device
	$(BIN)/pytest -m gpu -rs

# torchcfm declares much that its network does not need, so it comes alone and apart
test-published: $(VENV) ## published weights against the module that they were trained with
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .venv/published torchcfm==1.0.7 POT==0.9.7.post1
	PYTHONPATH=.venv/published $(BIN)/pytest tests/test_published.py -rs

test-all: test test-slow ## both

lint: $(VENV) ## ruff, snakefmt, mypy and Snakemake's own linter
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint --configfile config/demo.yaml --config run=lint

format: $(VENV) ## write the code the way lint wants it
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)
	$(BIN)/snakefmt Snakefile rules

clean: ## remove .venv and what tools left behind; results/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis emgen.egg-info build
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

# A whole environment carries the stamp; one that was broken off is completed, one that does not run is
# made anew. Where Debian's python3 comes without ensurepip, the system's pip does its work.
$(VENV): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "emgen needs Python 3.11, 3.12 or 3.13 and found none; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Building .venv with $(PYTHON); this takes minutes the first time"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --requirement requirements.txt
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
