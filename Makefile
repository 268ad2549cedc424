# Two commands: `make demo` shows the product, `make test` proves it. Both install what they need into .venv.
# For maintainers: `make docs` builds the site, `make wheel` the package, each tried; `make test-lowest` tests with the
# lowest versions of all that rankdet needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test pytest lint format docs wheel test-lowest clean

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --editable ".[train]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/rankdet train --config configs/demo.yaml

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint pytest

pytest: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The site needs neither rankdet nor torch: docstrings are read, not imported. Python 3.11 or newer.
.venv-docs/.installed: pyproject.toml
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-docs/bin/python -m pip install --quiet --group docs
	touch $@

docs: .venv-docs/.installed
	.venv-docs/bin/python scripts/reference.py docs/reference
	.venv-docs/bin/zensical build --strict --clean
	.venv-docs/bin/python scripts/check_site.py site

wheel:
	PYTHON=$(PYTHON) scripts/check_wheel.sh

test-lowest:
	PYTHON=$(PYTHON) scripts/test_lowest.sh

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-docs build dist site docs/reference .pytest_cache .mypy_cache .ruff_cache
