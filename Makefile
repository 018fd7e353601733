# Needs Python 3.11 to 3.13 with pip and nothing else; `make help` lists what there is to do.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first of these that runs and is of a version that works; PYTHON=/some/python chooses another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
# what says that .venv holds everything to run emgen, to test it as well, and to build its pages as well
READY := .venv/complete
READY_TO_TEST := .venv/complete-to-test
READY_FOR_DOCS := .venv/complete-for-docs
CODE := emgen scripts tests demo benchmarks .ci setup.py
SMK := Snakefile rules workflow benchmarks

.PHONY: help demo test test-slow test-gpu test-published test-all lint format docs wheel lock licences clean

help: ## what there is to do
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(READY) ## restore a real FIB-SEM crop; ends with results/demo/report.html
	@echo "Takes some minutes; every restored block is a line in results/demo/logs/restore/"
	@$(BIN)/emgen run config/demo.yaml --cores all
	@echo "Report: results/demo/report.html"
	@echo "Volume: results/demo/restored.ome.zarr"

# two at a time with one thread each: most of their time is one process that starts
test: $(READY_TO_TEST) ## the fast tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow and not gpu"

test-slow: $(READY_TO_TEST) ## the slow ones, a real Slurm and the wheel in an empty environment among them
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "slow and not gpu" -rs

test-gpu: $(READY_TO_TEST) ## those that need a CUDA device
	$(BIN)/pytest -m gpu -rs

# torchcfm declares much that its network does not need, so it comes alone and apart
test-published: $(READY_TO_TEST) ## published weights against the module that they were trained with
	$(PIP) install --no-deps --upgrade --target .venv/published torchcfm==1.0.7 POT==0.9.7.post1
	PYTHONPATH=.venv/published $(BIN)/pytest tests/test_published.py -rs

test-all: test test-slow ## both

lint: $(READY_TO_TEST) ## ruff, snakefmt, mypy and Snakemake's own linter
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/snakefmt --check $(SMK)
	$(BIN)/mypy
	$(BIN)/snakemake --lint --configfile config/demo.yaml --config run=lint

format: $(READY_TO_TEST) ## write the code the way lint wants it
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)
	$(BIN)/snakefmt $(SMK)

docs: $(READY_FOR_DOCS) ## the pages, into site/; a broken link ends it
	$(BIN)/mkdocs build --strict --quiet
	@echo "Pages: site/index.html"

wheel: $(READY) ## dist/emgen-VERSION-py3-none-any.whl, which carries the workflow
	rm -rf build dist
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	rm -rf build
	@ls dist/*.whl

lock: $(READY) ## requirements.lock anew, after a pin has changed
	$(PIP) install uv==0.13.9
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/python .ci/lock.py

licences: $(READY) ## docs/licences.md anew, after a pin has changed
	$(BIN)/python .ci/licences.py

clean: ## remove .venv and what tools left behind; results/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis emgen.egg-info build dist site
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

# A whole environment carries the stamp; one that was broken off is completed, one that does not run is
# made anew. Where Debian's python3 comes without ensurepip, the system's pip does its work.
$(READY): requirements.txt pyproject.toml setup.py
	@test -n "$(PYTHON)" || { echo "emgen needs Python 3.11, 3.12 or 3.13 and found none; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Building .venv with $(PYTHON); this takes minutes the first time"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@$(PIP) install --requirement requirements.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(READY_TO_TEST): requirements-dev.txt $(READY)
	@$(PIP) install --requirement requirements-dev.txt
	@touch $@

$(READY_FOR_DOCS): docs/requirements.txt $(READY)
	@$(PIP) install --requirement docs/requirements.txt
	@touch $@
