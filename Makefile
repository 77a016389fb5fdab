# `make demo` and `make test` need Python 3.11 or newer and a package index, nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

CODE := src tests examples utils setup.py
DEMO_VIDEO := examples/assets/moving_shapes.mp4
DEMO_TEXTS := "the red circle" "the star"

.PHONY: demo test test-fast style quality

demo: $(VENV)/.installed
	mkdir -p outputs/demo
	$(BIN)/hf-rvos segment $(DEMO_VIDEO) $(DEMO_TEXTS) --output outputs/demo/overlay.mp4 --json outputs/demo/result.json

test: quality
	$(BIN)/python -m pytest -n 2

test-fast: $(VENV)/.installed-testing
	$(BIN)/python -m pytest -n 2 -m "not slow"

style: $(VENV)/.installed-testing
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

quality: $(VENV)/.installed-testing
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/python utils/check_headers.py
	$(BIN)/python utils/check_repo.py
	$(BIN)/python utils/check_docstrings.py
	$(BIN)/python utils/check_docs_toc.py

# The stamps make the set-up run once, and again when the requirements change.
$(VENV)/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/.installed-testing: $(VENV)/.installed
	$(PIP_INSTALL) --editable ".[testing]"
	touch $@
