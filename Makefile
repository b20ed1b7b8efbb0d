# make train · make test · make check · make bench: in a fresh clone nothing else is needed first.

PYTHON ?= python3
# v100 or p100: an environment of its own with a torch that has kernels for that card.
TORCH ?=
VENV := .venv$(if $(TORCH),-$(TORCH))
BIN := $(VENV)/bin
ARGS ?=
TESTS ?= tests

.PHONY: help train test check bench zoo soak lock clean install install-dev

help:
	@echo "make train  [ARGS=\"model=vgg16\"]   install into $(VENV) and train"
	@echo "make test   [TESTS=tests/config]   install the test tools too and run the tests"
	@echo "make check                         lint, types, tests: what must pass before a change lands"
	@echo "make bench                         the benchmarks, with their tables"
	@echo "make zoo                           what is published of every network, and a step of each"
	@echo "make soak                          thirty faults in a real Slurm on this machine"
	@echo "make install [TORCH=v100]          only install; TORCH=v100 or p100: into .venv-v100, for that card"
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
	$(BIN)/python -m benchmarks $(ARGS)

zoo: install-dev
	$(BIN)/python -m pytest tests/models/test_zoo.py -m "zoo or not zoo"

soak: install-dev
	$(BIN)/python -m pytest tests/cluster/test_soak.py -m soak -s

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(f"Convoy needs Python 3.11 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}: write make PYTHON=python3.13 …" if not (3, 11) <= v <= (3, 13) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv: apt-get install python3-venv, or make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# A card's lock holds the test tools too, so that the suite can be run in its environment: make test TORCH=v100.
MAIN_LOCK := requirements$(if $(TORCH),-$(TORCH)).lock
DEV_LOCK := requirements-$(if $(TORCH),$(TORCH),dev).lock

$(VENV)/.installed: $(VENV)/.python $(MAIN_LOCK) pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r $(MAIN_LOCK)
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed $(DEV_LOCK)
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r $(DEV_LOCK)
	@touch $@

# torch and torchvision are released in pairs: both are named here, so that they are raised together. botocore, under
# the tests' S3 server, stays below dateutil 3.
LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate -q --group build
PAIR = printf 'torch==2.14.1\ntorchvision==0.29.2\npython-dateutil<3\n'

lock: $(VENV)/.python
	$(BIN)/python -m pip install --disable-pip-version-check -q uv
	$(PAIR) > $(VENV)/pair.txt
	$(LOCK) -c $(VENV)/pair.txt -o requirements.lock
	$(LOCK) -c requirements.lock --extra export --extra s3 --group test --group check -o requirements-dev.lock
	$(LOCK) --extra v100 --extra export --extra s3 --group test --group check -o requirements-v100.lock
	$(LOCK) --extra p100 --extra export --extra s3 --group test --group check -o requirements-p100.lock

clean:
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache
