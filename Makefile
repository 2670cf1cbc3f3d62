# make demo   install and run the main job with the embedded model   (writes outputs/demo/)
# make test   install and run the whole test suite
# make test-server  build a real vLLM for the CPU (3.5 GB, in .venv-server) and run the tests against it
# make check  ruff (lint, format) and mypy
# make clean  remove what the others made

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SERVER := .venv-server
PARITY := $(VENV)/parity/.tried

.PHONY: demo test test-server check clean install

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "zoomzero needs Python >= 3.10: run make PYTHON=/path/to/python3")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

# torchvision is no dependency: transformers' own processors need it, and the suite compares ours with them. It lies outside
# site-packages, where only that comparison sees it; without it the comparison is skipped.
$(PARITY): $(READY)
	mkdir -p $(VENV)/parity
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/parity \
		torchvision==0.28.0 || echo "no torchvision: the comparison with transformers' processors will be skipped"
	touch $(PARITY)

demo: $(READY)
	$(BIN)/zoomzero demo --out outputs/demo

test: $(READY) $(PARITY)
	$(BIN)/python -m pytest

$(SERVER)/.ready: tests/policy/server/install.sh
	bash tests/policy/server/install.sh $(SERVER)

test-server: $(READY) $(SERVER)/.ready
	ZOOMZERO_VLLM=$(SERVER) $(BIN)/python -m pytest -m server tests/policy/server

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(SERVER) outputs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
