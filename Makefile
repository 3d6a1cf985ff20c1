# `make demo` and `make test` do all the set-up that they need; `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
UV := $(shell command -v uv || echo $(VENV)-uv/bin/uv)
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
SPARK := $(VENV)/.installed-spark

.PHONY: help setup demo up down test quick check format docs bench bench-parts clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with everything in it, and the fraudstream command

$(UV):
	@test -n "$(PYTHON)" || { echo "no python3: install Python 3.11 or 3.12"; exit 2; }
	@echo "making uv in $(VENV)-uv"
	@$(PYTHON) -m venv $(VENV)-uv && $(VENV)-uv/bin/pip install --quiet uv

$(STAMP): $(UV) pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
		|| { echo "$(PYTHON) is $$($(PYTHON) --version): fraudstream needs Python 3.11 or 3.12"; exit 2; }
	@echo "installing into $(VENV) (once; about a gigabyte)"
	@test -x $(RUN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet --compile-bytecode --python $(RUN)/python --group dev -c requirements.lock
	@$(UV) pip install --quiet --python $(RUN)/python --no-deps --no-build-isolation --editable .
	@echo "compiling the fold (once)"
	@$(RUN)/python -m adapters.compile_fold
	@touch $@

$(SPARK): $(STAMP)
	@echo "installing Spark, which the tests need (once; half a gigabyte)"
	@$(UV) pip install --quiet --compile-bytecode --python $(RUN)/python --group spark -c requirements.lock
	@touch $@

demo: setup ## stream a history, train, and show live alerts; Ctrl-C ends it, the next start goes on
	@$(RUN)/fraudstream demo $(ARGS)

up: setup ## start the stack in the background
	@$(RUN)/fraudstream up $(ARGS)

down: setup ## end the stack
	@$(RUN)/fraudstream down

test: $(SPARK) ## every test this machine can run; the header names the real backends
	@$(RUN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

quick: $(SPARK) ## the unit and parity tests, without the long one
	@$(RUN)/python -m pytest --numprocesses 2 --dist loadfile -m "not volume and not soak" tests/unit tests/parity $(ARGS)

check: $(SPARK) ## lint, format, types, import rule
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check --quiet . || { echo "not formatted: run make format"; exit 1; }
	@$(RUN)/mypy
	@$(RUN)/lint-imports --no-cache

format: setup ## format the code
	@$(RUN)/ruff check --fix --quiet . ; $(RUN)/ruff format --quiet .

docs: setup ## write the generated pages of docs/, and Grafana's dashboards
	@$(RUN)/python -m tests.contract.generated_docs
	@$(RUN)/python -W ignore -m monitoring.grafana

bench: setup ## measure throughput, latency, features and training beside the peers, and write the pages (under 40 minutes)
	@$(RUN)/fraudstream bench all --docs $(ARGS)

bench-parts: setup ## the fold, its memory, the simulator and the world alone
	@$(RUN)/python -m benchmarks.fold
	@$(RUN)/python -m benchmarks.fold_memory
	@$(RUN)/python -m benchmarks.feature_worker
	@$(RUN)/python -m benchmarks.cold_start
	@$(RUN)/python -m benchmarks.simulator
	@$(RUN)/python -m benchmarks.world

clean: ## remove what setup made (the stack's data is in .fraudstream/: delete that to begin from nothing)
	@rm -rf $(VENV) $(VENV)-uv .mypy_cache .ruff_cache .pytest_cache
