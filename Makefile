# `make` lists the targets. Each installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/runtime  ## install everything that training needs into .venv

train: setup  ## train on handwritten digits, or make train ARGS="data.root=~/photos"
	$(BIN)/python src/train.py $(ARGS)

test: .venv/dev  ## run the tests, in under five minutes on two cores
	$(BIN)/python -m pytest

test-slow: .venv/dev  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow -n 3 --dist load  # 3 processes on two cores, since many tests wait

lint: .venv/dev  ## check code and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove .venv and caches, but not outputs/
	rm -rf .venv .pytest_cache .ruff_cache src/*.egg-info

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: thaw needs Python 3.11 or newer, but this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	touch $@

.venv/runtime: .venv/python requirements.txt pyproject.toml
	@echo "installing what training needs into .venv (once): about 6 GB, 2-3 minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/dev: .venv/runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

.PHONY: help setup train test test-slow lint clean
