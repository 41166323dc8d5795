# `make` lists the targets; each sets the machine up by itself.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/runtime  ## a virtual environment in .venv with everything that training needs

train: setup  ## train: the eight steps on handwritten digits, or make train ARGS="data.root=~/photos"
	$(BIN)/python src/train.py $(ARGS)

test: .venv/dev  ## the tests, in under five minutes on two cores
	$(BIN)/python -m pytest

test-slow: .venv/dev  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow -n 3 --dist load  # three on two cores: many wait for processes or for Slurm

lint: .venv/dev  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove the environment and the caches, never outputs/
	rm -rf .venv .pytest_cache .ruff_cache src/*.egg-info

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "thaw needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	touch $@

.venv/runtime: .venv/python requirements.txt pyproject.toml
	@echo "installing what training needs into .venv: about 6 GB, 2-3 minutes, once"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/dev: .venv/runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

.PHONY: help setup train test test-slow lint clean
