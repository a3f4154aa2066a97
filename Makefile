# make demo: from nothing to a small model that tells stories. make test: the test suite.
# Both need only Python >= 3.11, make and the package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt

.PHONY: demo test test-slow test-gpu test-mutations test-crash test-hub lint docs clean

demo: $(VENV)/installed
	rm -rf demo
	$(BIN)/python examples/demo.py

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/installed-dev
	TORCHINDUCTOR_COMPILE_THREADS=2 $(BIN)/python -m pytest -m gpu --numprocesses 8

test-mutations: $(VENV)/installed-dev
	$(BIN)/python tests/mutations.py

test-crash: $(VENV)/installed-dev
	PYTHONPATH=tests $(BIN)/python -m crash --bugs

test-hub: $(VENV)/installed-dev
	PYTHONPATH=tests $(BIN)/python -m hub_crash

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/installed
	$(BIN)/python docs/commands.py > docs/commands.md

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --group dev
	touch $@

clean:
	rm -rf $(VENV) demo dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
