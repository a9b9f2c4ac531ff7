# Everything from a fresh clone with Python 3.11 and make: each target installs what it needs into .venv when it is missing.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install

# One process a core, one thread each: tiny networks gain nothing from a second thread. A file stays in one process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-all lint bench bench-scaling wheel clean

help:
	@echo "make demo      find, sign, train, attack and verify a ticket on real digits (after the installation, under a minute)"
	@echo "make test      the fast tests"
	@echo "make test-all  all tests, with all extras, and coverage"
	@echo "make lint      ruff and mypy"
	@echo "make bench     one table of ratios against named references (a few minutes)"
	@echo "make bench-scaling  time and memory against parameters and suspects"
	@echo "make wheel     build dist/ticketguard-*.whl"
	@echo "make clean     remove .venv and everything built"

demo: .venv/.demo
	$(BIN)/ticketguard demo

test: .venv/.dev
	$(PYTEST)

test-all: .venv/.all
	$(PYTEST) -m "" --durations=40 --cov=ticketguard --cov-report=term-missing:skip-covered --cov-fail-under=90

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev
	$(BIN)/python benchmarks/bench.py

bench-scaling: .venv/.dev
	$(BIN)/python benchmarks/bench_scaling.py

wheel: .venv/.torch
	$(BIN)/python -m pip --disable-pip-version-check --quiet wheel --no-deps --wheel-dir dist .
	@ls dist/*.whl

clean:
	rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Torch comes first and alone: it is by far the largest piece, and its version decides what the rest resolves to.
.venv/.torch:
	@echo "installing into .venv (once; a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv
	@$(PIP) "$(TORCH)"
	@touch $@

.venv/.demo: .venv/.torch pyproject.toml
	@$(PIP) --editable ".[demo]"
	@touch $@

.venv/.dev: .venv/.torch pyproject.toml
	@$(PIP) --editable ".[dev]"
	@touch $@ .venv/.demo

.venv/.all: .venv/.torch pyproject.toml
	@$(PIP) --editable ".[$$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"], sep=",")')]"
	@touch $@ .venv/.demo .venv/.dev
