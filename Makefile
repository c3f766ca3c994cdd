# Each target does everything from a fresh clone: virtual environment, installation, run.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check
# Without an NVIDIA driver, prefer PyTorch's own index of CPU builds where it can be reached: the builds on PyPI bring
# gigabytes of CUDA along.
CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH_INDEX ?= $(shell command -v nvidia-smi >/dev/null 2>&1 || \
	(curl --silent --fail --head --max-time 5 $(CPU_INDEX)/ >/dev/null 2>&1 && echo --extra-index-url $(CPU_INDEX)))

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-min lint format docs architectures clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml .ci/constraints.txt | $(BIN)/python
	@echo "Installing dpt_peft[$*] into $(VENV) (the first time takes a few minutes) ..."
	@$(BIN)/python -m pip install $(PIP_FLAGS) $(TORCH_INDEX) --constraint .ci/constraints.txt --editable '.[$*]'
	@touch $@

quickstart: $(VENV)/.installed-quickstart  ## train a few-shot classifier four ways on real text (about 5 minutes on two cores)
	@$(BIN)/python -m dpt_peft.quickstart $(ARGS)

test: $(VENV)/.installed-dev  ## run all tests; ARGS="-k name" picks some
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

test-min:  ## run the tests with the lowest supported versions, in an environment of its own; ARGS="-m core" a subset
	@$(MAKE) --no-print-directory VENV=.venv-min .venv-min/.installed-min
	@OMP_NUM_THREADS=1 .venv-min/bin/python -m pytest -n 2 $(ARGS)

.venv-min/.installed-min: pyproject.toml .ci/constraints-min.txt | $(BIN)/python
	@$(BIN)/python -m pip install $(PIP_FLAGS) $(TORCH_INDEX) --constraint .ci/constraints-min.txt --editable '.[dev]'
	@touch $@

lint: $(VENV)/.installed-dev  ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(VENV)/.installed-dev  ## let ruff format and fix
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

docs: $(VENV)/.installed-docs  ## build the site into build/docs; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/site/mkdocs.yml
	@echo "build/docs/index.html"

architectures: $(VENV)/.installed-dev  ## rebuild docs/architectures.md (a few minutes)
	@$(BIN)/python examples/benchmarks/architecture_table.py --output docs/architectures.md

clean:  ## remove environments and caches
	rm -rf .venv .venv-min build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
