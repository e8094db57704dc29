# setup: everything in .venv    test, lint, demo: on top of it
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
PACKAGES := libegl1 libgl1 libgl1-mesa-dri libegl-mesa0 libglib2.0-0
TORCH := 2.13.0

.PHONY: help setup test lint demo system
help:
	@echo "make setup   install everything into $(VENV)"
	@echo "make demo    show the bundled clip and the avatar live, in a page (and a window where there is a display)"
	@echo "make test    run the tests"
	@echo "make lint    check the style"

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	@$(MAKE) --no-print-directory system
	@if [ ! -x $(BIN)/python ]; then \
	  if ! "$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then \
	    echo "Python 3.11 or 3.12 is needed: install it, or name it with make setup PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	  "$(PYTHON)" -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@# Without an NVIDIA GPU the CPU build of torch saves several GB, where pip's configuration knows a place for it.
	@if ! $(BIN)/python -c 'import torch, sys; sys.exit(torch.__version__.split("+")[0] != "$(TORCH)")' 2>/dev/null; then \
	  if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then $(BIN)/pip install "torch==$(TORCH)"; \
	  else $(BIN)/pip install "torch==$(TORCH)+cpu" 2>/dev/null || $(BIN)/pip install "torch==$(TORCH)"; fi; \
	fi
	$(BIN)/pip install -e ".[dev]"
	@touch $(STAMP)

# What OpenGL without a screen and OpenCV load at run time; asked for by file, so that any distribution passes.
system:
	@missing=""; for library in libEGL.so.1 libGL.so.1 libgthread-2.0.so.0; do \
	  "$(PYTHON)" -c "import ctypes; ctypes.CDLL('$$library')" 2>/dev/null || missing="$$missing $$library"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
	  echo "missing:$$missing (install EGL, OpenGL with Mesa's drivers, and GLib), then make setup again" >&2; exit 1; fi; \
	if [ "$$(id -u)" != 0 ]; then \
	  echo "missing:$$missing. Run this, then make setup again: sudo apt-get install -y $(PACKAGES)" >&2; exit 1; fi; \
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(PACKAGES)

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check avatar_stream scripts tests

demo: setup
	$(BIN)/avatar-stream demo
