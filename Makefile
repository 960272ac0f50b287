# Each target does all the set-up that it needs: a virtual environment in .venv with this package in it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow test-cuda lint benchmark clean

demo: $(STAMP)
	$(BIN)/python benchmarks/demo.py --out demo-out

test: $(STAMP)
	$(BIN)/python -m pytest

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-cuda: $(STAMP)
	$(BIN)/python -m pytest -m cuda

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

benchmark: $(STAMP)
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/views.py
	$(BIN)/python benchmarks/knn.py

clean:
	rm -rf demo-out

# The CUDA build of torch that PyPI has runs on the CPU too.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)
