# Needs Python 3.10+ and make, nothing else. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
PACKAGE := .venv/.package
INSTALLED := .venv/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help setup demo ui test test-all lint format docs bench fidelity clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(INSTALLED)  ## Make .venv with lf-dagster and the development tools

# The demo needs the package alone: a first look does not wait for compilers of types and drivers of browsers.
$(PACKAGE): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) -e .
	@touch $@

$(INSTALLED): $(PACKAGE)
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

demo: $(PACKAGE)  ## Run the main job on embedded stand-ins of Langfuse, Mixpanel and PostHog
	@$(BIN)/lf-dagster demo

ui: $(PACKAGE)  ## Open the Dagster UI on the demo's data, with the daemon and the stand-ins running
	@$(BIN)/lf-dagster demo --ui

test: setup  ## Run the tests
	$(BIN)/pytest -n 2 --dist loadgroup -m 'not slow'

test-all: setup  ## Run the tests, the slow ones too
	$(BIN)/pytest -n 2 --dist loadgroup

lint: setup  ## Check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## Write the generated pages, and what is known of the models, again
	$(BIN)/python -c "from lf_dagster.warehouse.described import write; write()"
	$(BIN)/python -c "from lf_dagster.events.described import write; write()"
	$(BIN)/python -m lf_dagster.events.docs > docs/events.md
	$(BIN)/python -m lf_dagster.warehouse.docs > docs/tables.md
	$(BIN)/python -m lf_dagster.assets.docs > docs/ui.md

bench: setup  ## Measure this machine beside dlt and the destinations' own clients (ARGS: --quick, --full, --only legs ...)
	$(BIN)/python -m bench $(ARGS)

fidelity: setup  ## Simulate weeks and compare, event by event, what the destinations hold with what they should
	$(BIN)/python -m bench.fidelity --seeds $(or $(SEEDS),2)

clean:  ## Remove what the demo and the tools left behind
	rm -rf .demo .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
