# make demo: set-up, then the main job; with PICTURES=FOLDER your own folder is made searchable first.
# make test: set-up, then lint, types, imports, the docs site, the examples in docstrings, and tests; those of the page
# need Chromium, which is installed where that may be.
# make coverage: the same tests, and which lines and branches they never reach; twice as long.
# make docs: the docs site, in build/docs; `python -m http.server -d build/docs` shows it.
# make test-attack: servers, galleries and readers under attack; make fuzz: random bytes for the readers.
# make test-scale: servers and nodes that are killed and replaced; needs Linux on x86-64.
# make wheel: a wheel in dist/, checked in a fresh environment without the repository.
# Works with GNU make and the one macOS ships. PYTHON names the interpreter that makes .venv.

PYTHON ?= python3
BIN = .venv/bin
CHROMIUM = chromium chromium-browser google-chrome google-chrome-stable

export NO_MKDOCS_2_WARNING = 1 # the theme's notice about another program, before every build

.PHONY: setup demo browser test coverage test-scale test-attack fuzz docs wheel format clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crossatnet needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv/ready

demo: setup
	$(BIN)/crossatnet demo -o demo $(if $(PICTURES),--pictures "$(PICTURES)")

browser:
	@for name in "$$CROSSATNET_CHROMIUM" $(CHROMIUM); do command -v "$$name" >/dev/null && exit 0; done; \
	if command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
		apt-get -qq update >/dev/null && apt-get -qq install --no-install-recommends chromium >/dev/null && exit 0; \
	fi; \
	echo "no Chromium here: the tests of the page will be skipped"

test: setup browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --quiet --strict
	$(BIN)/python -m pytest --doctest-modules src
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

coverage: setup browser
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --cov --cov-report=term

test-scale: setup
	$(BIN)/python -m pytest -m scale

# ATTACK_MINUTES=60 for as many random rounds as take an hour; without it a few of each, in under five minutes.
test-attack: setup
	$(BIN)/python -m pytest tests/attack -m "attack or not attack" -n 2 --dist loadfile

fuzz: setup
	$(BIN)/python tests/attack/fuzz.py --minutes $(or $(ATTACK_MINUTES),10)

docs: setup
	$(BIN)/mkdocs build --strict

wheel: setup
	rm -f dist/*.whl
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .
	$(BIN)/python tools/check_wheel.py dist/*.whl

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo build dist .coverage .mypy_cache .pytest_cache .ruff_cache
