# make train · make test · make check · make bench: in a fresh clone nothing else is needed first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
TESTS ?= tests

.PHONY: help train test check bench lock clean install install-dev

help:
	@echo "make train  [ARGS=\"model=vgg16\"]   install into $(VENV) and train"
	@echo "make test   [TESTS=tests/config]   install the test tools too and run the tests"
	@echo "make check                         lint, types, tests: what must pass before a change lands"
	@echo "make bench                         the benchmarks, with their tables"
	@echo "make install                       only install"
	@echo "make lock                          choose new exact versions within pyproject's ranges"

train: install
	$(BIN)/python train.py $(ARGS)

test: install-dev
	$(BIN)/python -m pytest $(TESTS)

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(TESTS)

bench: install-dev
	$(BIN)/python -m benchmarks

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(f"Convoy needs Python 3.11 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}: write make PYTHON=python3.13 …" if not (3, 11) <= v <= (3, 13) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv: apt-get install python3-venv, or make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements-dev.lock
	@touch $@

# torch and torchvision are released in pairs: both are named here, so that they are raised together.
LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate -q --group build
PAIR = printf 'torch==2.14.1\ntorchvision==0.29.2\n'

lock: $(VENV)/.python
	$(BIN)/python -m pip install --disable-pip-version-check -q uv
	$(PAIR) > $(VENV)/pair.txt
	$(LOCK) -c $(VENV)/pair.txt -o requirements.lock
	$(LOCK) -c requirements.lock --group test --group check -o requirements-dev.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
