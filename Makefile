# Every target installs what it needs; the machine needs only Python 3.11 or later, git and make.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AUDIT := .venv-audit
LOWEST := .venv-lowest
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

export PYTHONDONTWRITEBYTECODE ?=
.DEFAULT_GOAL := help

.PHONY: help run demo test check lint format numbers bench scale chaos mutants fuzz audit lowest lock setup clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(READY) ## run everything in the foreground, with a simulated GitHub and AWS; Ctrl-C stops it
	@$(BIN)/deployer up --sandbox

demo: $(READY) ## the guided tour, unattended; exit code 0 only if every result is right
	@$(BIN)/python -m sandbox.demo

test: $(READY) ## the whole test suite
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

check: $(READY) ## the checks that take seconds: ruff, mypy, import-linter and the unit tests
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --quiet tests/unit

lint: $(READY) ## ruff, mypy --strict, import-linter, the limits of make numbers, cfn-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.numbers --check
	$(BIN)/cfn-lint $$(git grep -lI AWSTemplateFormatVersion -- '*.yml' '*.yaml' '*.json' '*.template' ':!tests' ':!deployer/cli/starter/pipeline.yml')

format: $(READY) ## format the code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

numbers: $(READY) ## measure the code: sizes, complexity, layers, the path of a push, with limits and targets
	@$(BIN)/python -m tools.numbers

bench: $(READY) ## measure the hot paths next to other programs; make scale measures a whole organization
	@$(BIN)/python -m sandbox.bench

scale: $(READY) ## measure 1,000 repositories with 10,000 environments on real processes: ten minutes; SIZE= other options
	@$(BIN)/python -m sandbox.scale $(SIZE)

chaos: $(READY) ## the fault-injection run: SECONDS= length, SEED= seed
	@$(BIN)/python -m tests.chaos $(if $(SECONDS),--seconds=$(SECONDS)) $(if $(SEED),--seed=$(SEED))

mutants: $(READY) ## plant faults in the product, each of which the fault-injection run must detect; five minutes
	@$(BIN)/python -m pytest -m mutants

fuzz: $(READY) ## a coverage-guided fuzzer for all code that parses input from outside: SECONDS= for each of seven targets
	@$(BIN)/python -m tests.fuzz $(if $(SECONDS),--seconds=$(SECONDS))

audit: $(AUDIT)/.ready ## list known vulnerabilities of the locked packages; exit code 3 if the lookup fails
	@$(AUDIT)/bin/python tools/audit.py

lowest: $(LOWEST)/.ready ## tests of the core, the web and the queue with the oldest versions that pyproject.toml allows
	@$(LOWEST)/bin/python -m pytest --numprocesses=2 --dist=loadfile tests/unit tests/web tests/contract/redis_store/test_celery_dispatch.py \
		tests/ops/test_processes.py::test_processes_survive_a_late_and_an_interrupted_redis

setup: $(READY) ## create .venv from requirements.lock, which every target does when needed

lock: ## resolve the dependencies again (needs uv)
	$(LOCK) pyproject.toml --all-extras --output-file requirements.lock
	$(LOCK) pyproject.toml --constraint requirements.lock --output-file requirements-run.lock
	$(LOCK) --group audit --output-file requirements-audit.lock
	$(LOCK) pyproject.toml --all-extras --resolution lowest-direct --output-file requirements-lowest.lock

clean: ## remove the sandbox's state and all caches, but not .venv
	rm -rf .sandbox .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml tools/bootstrap.py
	@$(or $(PYTHON),$(error Python 3.11 or later is needed)) tools/bootstrap.py $(VENV)
	@touch $@

# separate from .venv, because neither deployer nor its tests need the audit tools
$(AUDIT)/.ready: requirements-audit.lock tools/bootstrap.py
	@$(or $(PYTHON),$(error Python 3.11 or later is needed)) tools/bootstrap.py $(AUDIT) requirements-audit.lock
	@touch $@

# separate from .venv too: checks the lower bounds in pyproject.toml
$(LOWEST)/.ready: requirements-lowest.lock pyproject.toml tools/bootstrap.py
	@$(or $(PYTHON),$(error Python 3.11 or later is needed)) tools/bootstrap.py $(LOWEST) requirements-lowest.lock
	@touch $@
