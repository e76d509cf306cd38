# Everything a reader of the README may type. `make help` lists it, from the comments behind the targets.
# Written for GNU make 3.81 and later, which is what macOS ships.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
LOCAL := $(BIN)/python -m infra.local

# Without compiled files of its own code and packages every start would take twice as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

.PHONY: help run status kill pause resume restart reset load-venue dlq test check format format-check lint types walls requirements

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^## / { printf "\n%s\n", substr($$0, 4) } \
	  /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Run the system (PORT=8080 STATE_DIR=.run and the other knobs come from the environment)

# The supervisor takes the shell's place, so that every signal reaches it, and ends when make does, even by kill -9.
run: .venv/.run-stamp ## run everything until Ctrl-C or SIGTERM
	@exec $(LOCAL) run --parent $$PPID

## Act on the running system, from a second terminal

status: .venv/.run-stamp ## show each process; JSON=1 for machines
	@$(LOCAL) status $(if $(JSON),--json)

kill: .venv/.run-stamp ## kill -9 one service, as a crash would: SERVICE=wallet
	@$(LOCAL) kill $(call needed,SERVICE)

pause: .venv/.run-stamp ## freeze SERVICE=wallet, or all services
	@$(LOCAL) pause $(SERVICE)

resume: .venv/.run-stamp ## let SERVICE=wallet, or all services, go on
	@$(LOCAL) resume $(SERVICE)

restart: .venv/.run-stamp ## end one service politely and start it again: SERVICE=wallet
	@$(LOCAL) restart $(call needed,SERVICE)

load-venue: .venv/.run-stamp ## load a real venue: FILE=infra/local/sample_venue.json
	@$(LOCAL) load "$(call needed,FILE)"

dlq: .venv/.run-stamp ## look into the dead letters: ARGS="…"
	@$(LOCAL) with-env -- $(BIN)/python -m libs.common.messaging.dlq $(ARGS)

reset: .venv/.run-stamp ## delete all data in STATE_DIR after asking; YES=1 does not ask
	@$(LOCAL) reset $(if $(YES),--yes)

## Check the code

test: .venv/.dev-stamp ## run every test that needs no container engine; name what was skipped: ARGS="…"
	@$(BIN)/pytest $(ARGS)

check: format-check lint types walls ## what CI runs: format, lint, types, import walls, then the tests
	@$(MAKE) test

format: .venv/.dev-stamp ## format the code
	@$(BIN)/ruff format

format-check: .venv/.dev-stamp
	@$(BIN)/ruff format --check

lint: .venv/.dev-stamp ## find mistakes
	@$(BIN)/ruff check

types: .venv/.dev-stamp ## check the types
	@$(BIN)/mypy

walls: .venv/.dev-stamp ## check which part may import which
	@$(BIN)/lint-imports

## Keep the house

PIN = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate pyproject.toml

requirements: .venv/.dev-stamp ## pin what pyproject.toml asks for; ARGS=--upgrade for the newest
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(PIN) $(ARGS) --extra local -o requirements/run.txt
	@$(PIN) $(ARGS) --extra local --extra dev -o requirements/dev.txt

# `make run` needs less than the tests do, and a cold start should not wait for the rest. What the tests need includes it.
.venv/.run-stamp: requirements/run.txt
	$(venv)
	@echo "installing requirements/run.txt into .venv" && $(INSTALL) -r requirements/run.txt && touch $@

.venv/.dev-stamp: requirements/dev.txt
	$(venv)
	@echo "installing requirements/dev.txt into .venv" && $(INSTALL) -r requirements/dev.txt && touch .venv/.run-stamp $@

INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

define venv
@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 …")' \
  && $(PYTHON) -m venv --clear .venv; }
endef

needed = $(if $($(1)),$($(1)),$(error say which: $(1)=…))
