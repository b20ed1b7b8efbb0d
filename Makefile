# make train, make test, make check and make bench install what they need; a fresh clone requires nothing else.

PYTHON ?= python3
# v100 or p100: a separate environment with a torch that has kernels for that card.
TORCH ?=
VENV := .venv$(if $(TORCH),-$(TORCH))
BIN := $(VENV)/bin
ARGS ?=
DEVICE ?= cuda
# What a machine with torch, Lightning and torchmetrics may lack for make gpu, and its Python.
WHEELS ?= adjusttext annotated-types googleapis-common-protos hydra-core omegaconf opentelemetry-[a-z-]* platformdirs \
	pydantic pydantic-core simplejpeg typing-inspection wandb
WHEELS_PYTHON ?= 3.12
TESTS ?= tests

.PHONY: help train test test-slow check bench gpu wheels zoo soak faults docs site install-docs lock clean install install-dev

help:
	@echo "make train  [ARGS=\"model=vgg16\"]   install into $(VENV) and train"
	@echo "make test   [TESTS=tests/config]   install the test tools and run the tests, about 10 minutes"
	@echo "make test-slow                     run the slow tests: Slurm jobs, long runs, processes"
	@echo "make check                         lint, check types, and run both"
	@echo "make bench                         run the benchmarks and print their tables"
	@echo "make gpu [DEVICE=cpu]              check and measure on a GPU, at most 9 minutes; on a CPU only a rehearsal"
	@echo "make wheels                        prepare make gpu for a machine that has torch but no package index"
	@echo "make zoo                           check all networks, the slowest included"
	@echo "make soak                          inject fifty faults into jobs of a real Slurm on this machine"
	@echo "make faults                        inject faults into runs, and print how many they survived"
	@echo "make install [TORCH=v100]          only install; TORCH=v100 or p100 installs into .venv-v100 or .venv-p100"
	@echo "make docs                          write the tables of docs/models.md from the cards in conf/model"
	@echo "make site                              build the documentation as a site in build/site/html"
	@echo "make lock                          choose new exact versions within the ranges of pyproject.toml"

train: install
	$(BIN)/python train.py $(ARGS)

test: install-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

test-slow: install-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS) -m slow

check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS) -m slow

bench: install-dev
	$(BIN)/python -m benchmarks $(ARGS)

# With a folder wheels/, the interpreter's own torch is used, and what it lacks is installed from there.
gpu: $(if $(wildcard wheels/*.whl),wheels/.installed,install-dev)
	$(if $(wildcard wheels/*.whl),PYTHONPATH=src:wheels/site $(PYTHON),$(BIN)/python) \
		-m benchmarks.gpu --device $(DEVICE) --output outputs/gpu/gpu.jsonl $(ARGS)

wheels/.installed: $(wildcard wheels/*.whl)
	$(PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target wheels/site wheels/*.whl
	touch $@

wheels: install
	rm -rf wheels
	mkdir wheels
	for name in $(foreach name,$(WHEELS),"$(name)"); do grep -oE "^$$name==[^ ]+" requirements.lock; done > wheels/requirements.txt
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir wheels \
		"$$(grep -oE '^antlr4-python3-runtime==[^ ]+' requirements.lock)"
	$(BIN)/pip download --quiet --no-deps --dest wheels --only-binary=:all: --python-version $(WHEELS_PYTHON) \
		$(foreach glibc,17 24 27 28 31 34 35,--platform manylinux_2_$(glibc)_x86_64) --platform manylinux2014_x86_64 \
		--requirement wheels/requirements.txt

zoo: install-dev
	$(BIN)/python -m pytest tests/models/test_zoo.py -m "zoo or not zoo"

soak: install-dev
	$(BIN)/python -m pytest tests/cluster -m soak -s

faults: install-dev
	$(BIN)/python -m pytest tests -m faults -s

install: $(VENV)/.installed

install-docs: $(VENV)/.installed-docs

install-dev: $(VENV)/.installed-dev

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(f"Convoy needs Python 3.11 to 3.14, and $(PYTHON) is {v[0]}.{v[1]}: write make PYTHON=python3.13 …" if not (3, 11) <= v <= (3, 14) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv: apt-get install python3-venv, or make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# A card's lock includes the test tools, so that the tests also run in its environment: make test TORCH=v100.
MAIN_LOCK := requirements$(if $(TORCH),-$(TORCH)).lock
DEV_LOCK := requirements-$(if $(TORCH),$(TORCH),dev).lock

$(VENV)/.installed: $(VENV)/.python $(MAIN_LOCK) pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r $(MAIN_LOCK)
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed $(DEV_LOCK)
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r $(DEV_LOCK)
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed requirements-docs.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements-docs.lock
	@touch $@

# torch and torchvision are released in pairs, so both are pinned here and upgraded together. botocore, a dependency of
# the tests' S3 server, requires dateutil below 3.
LOCK_FORM = --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q
LOCK = $(BIN)/uv pip compile pyproject.toml $(LOCK_FORM) --group build
PAIR = printf 'torch==2.14.1\ntorchvision==0.29.2\npython-dateutil<3\n'

docs: install
	sed -i '/^<!-- Generated/q' docs/models.md
	printf '\n' >> docs/models.md
	$(BIN)/convoy models format=md >> docs/models.md

site: install-docs
	$(BIN)/python docs/site/build_site.py build/site

lock: $(VENV)/.python
	$(BIN)/python -m pip install --disable-pip-version-check -q uv
	$(PAIR) > $(VENV)/pair.txt
	$(LOCK) -c $(VENV)/pair.txt -o requirements.lock
	$(LOCK) -c requirements.lock --extra export --extra s3 --extra parquet --extra huggingface --extra pandas --extra tiff --extra search --extra segmentation --group test --group check -o requirements-dev.lock
	$(LOCK) --extra v100 --extra export --extra s3 --extra parquet --extra huggingface --extra pandas --extra tiff --extra search --extra segmentation --group test --group check -o requirements-v100.lock
	$(LOCK) --extra p100 --extra export --extra s3 --extra parquet --extra huggingface --extra pandas --extra tiff --extra search --extra segmentation --group test --group check -o requirements-p100.lock
	$(BIN)/uv pip compile --group docs -c requirements-dev.lock $(LOCK_FORM) -o requirements-docs.lock

clean:
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache
