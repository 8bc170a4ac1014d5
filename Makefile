# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test test-all lint sanitize clean

run: .venv/run.stamp
	@$(BIN)/harp run

test: .venv/test.stamp lint
	@$(BIN)/pytest -n auto --dist worksteal

# The slow tests, too: some twice as long.
test-all: .venv/test.stamp lint
	@$(BIN)/pytest -n auto --dist worksteal -m ''

lint: .venv/test.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# The engine's tests on builds that watch every memory access: minutes.
sanitize: .venv/test.stamp
	@$(BIN)/python -m tests.runtime.sanitized

clean:
	rm -rf .venv

.venv/bin/python:
	@echo "setting up .venv ..."
	@$(PYTHON) -m venv .venv

# --no-compile: compiling every file of torch takes longer than importing the few that a run needs.
.venv/run.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing harp (half a minute the first time) ..."
	@$(PIP) --no-compile -e .
	@touch $@

.venv/test.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing harp with what its tests need ..."
	@$(PIP) -e '.[attacks,bench,fast-jpeg,hub,images,onnx,slurm,structured,tensorboard,timm,torchvision,transformers,tune,dev]'
	@touch $@
