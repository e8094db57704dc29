# setup: everything in .venv    test, test-fast, lint, demo: on top of it
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
# What tests of outputs run against; without them those tests skip and say why.
BROWSER_PACKAGES := chromium xvfb xdotool imagemagick
SERVER_PACKAGES := ffmpeg nginx libnginx-mod-rtmp janus coturn openssl gstreamer1.0-tools \
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
PACKAGES := libegl1 libgl1 libgl1-mesa-dri libegl-mesa0 libglib2.0-0
TORCH := 2.13.0

.PHONY: help setup test test-fast lint demo picture system test-tools
help:
	@echo "make setup   install everything into $(VENV)"
	@echo "make demo    show the bundled clip and the avatar live, in a page (and a window where there is a display)"
	@echo "make test    run all tests"
	@echo "make test-fast    run those in which nothing is started"
	@echo "make lint    check style and types"
	@echo "make picture make the README's moving picture anew"
	@echo "make test-tools   install other people's software that some tests run against (Debian, npm)"

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
	@echo "Compiling for this machine, once: a minute."
	$(BIN)/avatar-stream doctor --prepare || echo "not everything is here: see above"
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

# Two at once, for most of live and peers is waiting; what a screen shows needs the processor for itself.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/peers/test_window.py
	$(BIN)/python -m pytest tests/peers/test_window.py

test-fast: setup
	$(BIN)/python -m pytest tests/unit

test-tools:
	@# RUNLEVEL: servers are installed and not started.
	apt-get update -q
	@# In two parts, so that a distribution without one of the servers still gets the browser.
	@for packages in "$(BROWSER_PACKAGES)" "$(SERVER_PACKAGES)"; do \
	  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$packages \
	  || echo "not installed: $$packages; the tests that need them skip" >&2; done
	@if command -v npm >/dev/null; then npm ci --prefix tests/npm --ignore-scripts --no-audit --no-fund; \
	else echo "npm is missing: the tests of players from npm skip (Debian: apt-get install npm)" >&2; fi

lint: setup
	$(BIN)/ruff check avatar_stream deploy scripts tests
	$(BIN)/ruff format --check avatar_stream scripts tests
	$(BIN)/mypy

demo: setup
	$(BIN)/avatar-stream demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

# The README's moving picture, with the model as it is now.
picture: setup
	$(BIN)/avatar-stream demo --record
	$(BIN)/python scripts/readme_picture.py
