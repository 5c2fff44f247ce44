# The commands of the project. `make serve` and `make test` need Python 3.11+ with venv, make and a package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: install serve test test-full lint mutants bench peers evaluate clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml deploy/constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON). On Debian: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv is missing. On Debian: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[serve,postgres,traces,dev]'
	@touch $@

serve: install
	$(BIN)/forecast-gateway serve

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -m "not slow"

test-full: lint
	$(BIN)/pytest

# Wants two cores of its own for a quarter of an hour. `make peers` first, to have other servers measured beside it.
bench: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.benchmark

peers: install
	$(BIN)/python -m tests.benchmark.peers --install

evaluate: install
	$(BIN)/python -m evaluation bolt-nano auto-theta auto-ets bolt-nano+dynamic-theta --most 40 --data ../shared/data --out evaluation/out
	$(BIN)/python -m evaluation.ensembles --most 40 --data ../shared/data --out evaluation/out
	$(BIN)/python -m evaluation.anomalies --data ../shared/data

mutants: install
	$(BIN)/python -m tests.conformance.mutants

clean:
	rm -rf $(VENV) .clients .peers build *.egg-info
