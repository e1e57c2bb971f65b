# make demo: set-up, then the main job; with PICTURES=FOLDER your own folder is made searchable first.
# make test: set-up, then lint, types and tests.
# make test-scale: servers and nodes that are killed and replaced; needs Linux on x86-64.
# Works with GNU make and the one macOS ships. PYTHON names the interpreter that makes .venv.

PYTHON ?= python3
BIN = .venv/bin

.PHONY: setup demo test test-scale format clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crossatnet needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv/ready

demo: setup
	$(BIN)/crossatnet demo -o demo $(if $(PICTURES),--pictures "$(PICTURES)")

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --cov --cov-report=term

test-scale: setup
	$(BIN)/python -m pytest -m scale

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo build dist .coverage .mypy_cache .pytest_cache .ruff_cache
