# make demo   install and run the main job with the embedded model   (writes outputs/demo/)
# make test   install and run the whole test suite
# make test-browser  the pages in Chromium: hostile text, phone-sized windows
# make check  ruff (lint, format) and mypy
# make clean  remove what the others made

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PARITY := $(VENV)/parity/.tried

.PHONY: demo test test-browser check clean install

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

# pages in a real browser: apt-get install chromium, or CHROMIUM=/path/to/it
test-browser: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,browser]'
	$(BIN)/python -m pytest -m browser tests/pages

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) outputs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
