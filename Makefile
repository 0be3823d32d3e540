# `make quickstart` and `make test` create $(VENV) if it is missing.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= demo,dev,docs,export,weights
OUTPUT ?= output/quickstart
# Use more on a machine with more cores. 0 runs the tests in one process.
TEST_PROCESSES ?= 2
# Environment of the oldest versions, without exports, which need a newer PyTorch, and without the demo; their tests are skipped.
VENV_MIN ?= .venv-min
EXTRAS_MIN ?= dev,docs,weights
PYTEST_ARGS ?=
# Kills of each kind of training.
KILLS ?= 20

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.mlickd-installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-slow test-kill test-min lint format docs clean

help:  ## Show this list
	@echo "make PYTHON=$(PYTHON) VENV=$(VENV) TARGET"
	@sed -n 's/^\([a-z-]*\):.*  ## /  \1|/p' Makefile | while IFS='|' read -r target text; do \
	    printf '%-14s %s\n' "  $$target" "$$text"; done

install: $(INSTALLED)  ## Create the virtual environment and install everything into it
	@echo "$(VENV) is ready"

quickstart: $(INSTALLED)  ## Run the whole method on a dataset that needs no download (OUTPUT=folder)
	$(BIN)/python tools/quickstart.py --output $(OUTPUT)

test: $(INSTALLED)  ## Run the tests (PYTEST_ARGS="-k name" chooses among them)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

test-slow: $(INSTALLED)  ## Run the slow tests
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-kill: $(INSTALLED)  ## Kill training at random moments, resume it and compare the results (KILLS=20)
	OMP_NUM_THREADS=1 PYTHONPATH=projects/MLICKD:tests $(BIN)/python tests/stress/kill_and_resume.py --kills $(KILLS)

test-min:  ## Run the tests with the oldest versions that pyproject.toml allows (best with PYTHON=python3.10)
	$(PYTHON) -m venv --clear $(VENV_MIN)
	$(VENV_MIN)/bin/python -m pip install --quiet uv
	$(VENV_MIN)/bin/uv pip install --python $(VENV_MIN)/bin/python --resolution lowest-direct \
	    --editable ".[$(EXTRAS_MIN)]"
	$(VENV_MIN)/bin/python tools/install_detectron2.py
	PATH="$(CURDIR)/$(VENV_MIN)/bin:$$PATH" OMP_NUM_THREADS=1 $(VENV_MIN)/bin/python -m pytest -n $(TEST_PROCESSES) \
	    --dist loadfile --ignore tests/export $(PYTEST_ARGS)

lint: $(INSTALLED)  ## Check style and formatting
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: $(INSTALLED)  ## Fix style and formatting
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

docs: $(INSTALLED)  ## Build the documentation into site/; a broken link or a missing page is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html"

clean:  ## Remove caches and build leftovers; results and the environment stay
	rm -rf build site .pytest_cache .ruff_cache .hypothesis projects/MLICKD/mlickd.egg-info
	find projects tools tests datasets -name __pycache__ -type d -exec rm -rf {} +

# An environment with a custom build of Detectron2 keeps it, and the versions that it was built for.
$(INSTALLED): pyproject.toml constraints.txt projects/MLICKD/mlickd/cli/install_detectron2.py
	@python=$(BIN)/python; [ -x "$$python" ] || python=$(PYTHON); \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	    echo "error: $$python is not Python 3.10 or newer; name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@constraints="--constraint constraints.txt"; \
	if $(BIN)/python -c 'import detectron2' 2>/dev/null && ! $(BIN)/python -m pip show -q sal-detectron2 2>/dev/null; then \
	    constraints=; echo "$(VENV) has a custom Detectron2: versions that satisfy pyproject.toml stay"; fi; \
	$(BIN)/python -m pip install --no-warn-conflicts $$constraints --editable ".[$(EXTRAS)]"
	$(BIN)/python tools/install_detectron2.py
	@touch $@
