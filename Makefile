# `make demo` and `make test` are all that a new user needs; `make check` is what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VENDOR := service/dashboard/static/vendor
# Test processes: one more than cores, for some tests mostly wait.
WORKERS ?= $(shell $(PYTHON) -c "import os; print((os.cpu_count() or 1) + 1)")

# A process that starts reads what an earlier one compiled; the tests start a hundred.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo serve test bench fuzz soak check format lint types layers docs clean

setup: $(VENV)/.installed $(VENDOR)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(VENDOR)/.installed: service/dashboard/package.json service/dashboard/package-lock.json
	cd service/dashboard && npm ci --silent --ignore-scripts
	@mkdir -p $(VENDOR)
	cp service/dashboard/node_modules/htmx.org/dist/htmx.min.js $(VENDOR)/
	cp service/dashboard/node_modules/uplot/dist/uPlot.iife.min.js service/dashboard/node_modules/uplot/dist/uPlot.min.css $(VENDOR)/
	@touch $@

demo: setup
	$(BIN)/offbeat demo $(if $(ONCE),--once)

serve: setup
	$(BIN)/offbeat serve

test: setup
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -q

bench: setup
	$(BIN)/python -m bench $(ARGS)

fuzz: setup
	$(BIN)/python -m tests.fuzz --inputs $(or $(FUZZ),1000000) $(ARGS)

# Kills processes and takes the store away for a quarter of an hour; see docs/testing.md.
soak: setup
	$(BIN)/python -m tests.soak kills $(ARGS)
	$(BIN)/python -m tests.soak outages
	$(BIN)/python -m tests.soak outages --database

check: setup lint types layers test

format: setup
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

lint: setup
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python -m service.settings > docs/configuration.md

clean:
	rm -rf $(VENV) $(VENDOR) service/dashboard/node_modules
