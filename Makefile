# `make demo` and `make test` need Python 3.11 or newer and a package index, nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

CODE := src tests examples utils setup.py
DEMO_VIDEO := examples/assets/moving_shapes.mp4
DEMO_TEXTS := "the orange figure" "the white diamond"

.PHONY: demo test test-fast style quality

demo: $(VENV)/.installed
	mkdir -p outputs/demo
	$(BIN)/hf-rvos segment $(DEMO_VIDEO) $(DEMO_TEXTS) --output outputs/demo/overlay.mp4 --json outputs/demo/result.json

test: quality
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 20 --durations-min 5

test-fast: $(VENV)/.installed-testing
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

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

# The stamps make the set-up run once, and again when the requirements change. What tests need includes the rest.
$(VENV)/.installed $(VENV)/.installed-testing: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".$(if $(findstring testing,$@),[testing])"
	touch $(VENV)/.installed $@
