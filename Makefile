# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test test-all lint sanitize docs coverage dist runtime-wheel clean

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

# The docs site in build/docs; a warning, such as a link that leads nowhere, is an error.
docs: .venv/docs.stamp
	@$(BIN)/sphinx-build -q -W --keep-going -b html -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

# The tests of `make test` under coverage. Fails below the floor in pyproject.toml.
coverage: .venv/test.stamp
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n auto --dist worksteal
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

# Wheel and sdist, each tried in an empty environment, with a compiler and without.
dist: .venv/test.stamp
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist .
	@$(BIN)/python -m tests.installed dist

# dist/harp_runtime-*.whl: what it takes to run packages, with numpy alone. MACHINE=aarch64 builds for ARM by its cross
# compiler, g++-aarch64-linux-gnu.
runtime-wheel: .venv/run.stamp
	@$(BIN)/pip install --quiet --disable-pip-version-check 'setuptools>=77'
	@$(BIN)/python wheels/harp_runtime.py $(addprefix --machine ,$(MACHINE))

clean:
	rm -rf .venv build dist

.venv/bin/python:
	@echo "setting up .venv ..."
	@$(PYTHON) -m venv .venv

# --no-compile: compiling every file of torch takes longer than importing the few that a run needs.
.venv/run.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing harp (half a minute the first time) ..."
	@$(PIP) --no-compile -e .
	@touch $@

.venv/docs.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing harp with what its docs need ..."
	@$(PIP) -e '.[docs]'
	@touch $@

.venv/test.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing harp with what its tests need ..."
	@$(PIP) -e '.[attacks,bench,fast-jpeg,hub,images,onnx,slurm,structured,tensorboard,timm,torchvision,transformers,completion,docs,tune,dev]'
	@touch $@
