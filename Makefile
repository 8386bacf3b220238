# The set-up, the demonstration and the checks. Everything runs from the checkout; nothing is installed globally
# except the Debian packages that `make setup` names.
PYTHON ?= python3
VENV := .venv/bin

.PHONY: help setup setup-cluster image e2e demo test test-all lint format lock plan plan-diff lambdas bench runbook clean

help:
	@echo "make demo      set up, then back up, destroy, restore and prove, on this machine"
	@echo "make test      set up, then run every test that needs no cluster"
	@echo "make test-all  the same with the full counts of property and fault tests"
	@echo "make image     the one image of jobs, sidecar and functions, into build/image/ (LOCALES=de_DE: more of them)"
	@echo "make e2e       the same on a real single-node Kubernetes, with that image"
	@echo "make lint      style, types, import directions, shell scripts"
	@echo "make plan      STACK=prod: what Pulumi would register, in build/plan/"
	@echo "make plan-diff STACK=prod BASE=main: what a change does to that, against a git ref"
	@echo "make lambdas   the functions' zip packages, in build/lambdas/"
	@echo "make bench     every benchmark beside its peer (BENCH=program: one), in build/bench/"
	@echo "make runbook   docs/runbook from the recovery plans, docs/runbook-commands.md from its table"
	@echo "make lock      requirements.txt from pyproject.toml"
	@echo "make clean     stop the sandbox and remove what was built (the shared tool cache stays)"

setup:
	@$(PYTHON) -m sandbox.setup

setup-cluster:
	@$(PYTHON) -m sandbox.setup --cluster

image: setup-cluster
	@$(VENV)/python -m images.build $(addprefix --locale=,$(LOCALES))

e2e: image
	@$(VENV)/python -m pytest tests/e2e

demo: setup
	@$(VENV)/python -m sandbox.demo

test: setup
	@$(VENV)/python -m pytest

test-all: setup
	@AIVO_BACKUP_TESTS=full $(VENV)/python -m pytest

lint: setup
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/basedpyright
	@$(VENV)/lint-imports
	@$(VENV)/shellcheck --external-sources infra/backup/*.sh

format: setup
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .

lock:
	@$(VENV)/uv pip compile -q pyproject.toml --extra infra --extra sandbox --extra dev --universal \
	  --python-version 3.11 --generate-hashes --no-header -o requirements.txt
	@$(VENV)/uv pip compile -q pyproject.toml --constraint requirements.txt \
	  --python-version 3.11 --python-platform linux --generate-hashes --no-header -o images/requirements.txt

plan: setup
	@$(VENV)/python -m sandbox.plan $(or $(STACK),prod)

plan-diff: setup
	@$(VENV)/python -m sandbox.plan_diff $(or $(STACK),prod) $(or $(BASE),main)

lambdas: setup
	@$(VENV)/python -m sandbox.packages

bench: setup
	@$(VENV)/python -m bench $(BENCH)

runbook: setup
	@$(VENV)/python -m sandbox.runbook
	@$(VENV)/python -m sandbox.runbook_commands

clean:
	@if [ -x $(VENV)/python ]; then $(VENV)/python -m sandbox.commands reset; fi
	@rm -rf build .tools .venv
