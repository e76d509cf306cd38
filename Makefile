# Everything a reader of the README may type. `make help` lists it, from the comments behind the targets.
# Written for GNU make 3.81 and later, which is what macOS ships.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
LOCAL := $(BIN)/python -m infra.local
NATIVE := $(BIN)/python -m infra.native
CONTAINERS := $(BIN)/python -m infra.docker

# Without compiled files of its own code and packages every start would take twice as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

.PHONY: help overload nightly run status kill pause resume restart reset load-venue rooms room refund dlq retell audit topics native up down test test-real test-containers image-check load simulate mutants fuzz kills chaos chaos-results incident check format format-check lint types walls dashboards requirements

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^## / { printf "\n%s\n", substr($$0, 4) } \
	  /^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Run the system (PORT=8080 STATE_DIR=.run and the other knobs come from the environment)

# What starts a system takes the shell's place (`exec`): a shell between would get make's SIGTERM and pass nothing on.
# The supervisor also ends when make does by kill -9.
run: .venv/.run-stamp ## run everything until Ctrl-C or SIGTERM
	@exec $(LOCAL) run --parent $$PPID

native: .venv/.run-stamp ## fetch what BACKENDS=native runs, into the user's cache folder
	@$(NATIVE) fetch --java-only

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

rooms: .venv/.run-stamp ## show each waiting room; JSON=1 for machines
	@$(LOCAL) rooms $(if $(JSON),--json)

# The operator's own words go by the environment: quotes in them are the shell's business otherwise.
room: .venv/.run-stamp ## change a room: ROOM=1 WHO=… WHY=… and STATE=open|paused|closed CAPACITY=… OPENS_AT=…|none
	@$(LOCAL) room "$(call needed,ROOM)" --who "$$WHO" --why "$$WHY" \
	  --state "$$STATE" --capacity "$$CAPACITY" --opens-at "$$OPENS_AT"

refund: .venv/.run-stamp ## give the points of a paid reservation back: RESERVATION=… WHO=… WHY=…
	@$(LOCAL) refund "$(call needed,RESERVATION)" --who "$$WHO" --why "$$WHY"

dlq: .venv/.run-stamp ## look into the dead letters: ARGS="…"
	@$(LOCAL) with-env -- $(BIN)/python -m libs.common.messaging.dlq $(ARGS)

retell: .venv/.run-stamp ## tell a broker again what it has lost: SINCE_S=600 ARGS="--dry-run"
	@$(LOCAL) with-env -- $(BIN)/python -m libs.common.messaging.retell --since-s "$(call needed,SINCE_S)" $(ARGS)

audit: .venv/.run-stamp ## check every invariant on its stores and streams; JSON=1 HISTORY=file LIVE=url SETTLE_S=30
	@$(BIN)/python -m loadtest.audit $(if $(JSON),--json) $(if $(HISTORY),--history "$(HISTORY)") \
	  $(if $(LIVE),--live "$(LIVE)") $(if $(SETTLE_S),--settle-s "$(SETTLE_S)")

topics: .venv/.run-stamp ## make the topics on a Kafka, or set them right: BROKER_URL=kafka://…
	@BROKER_URL="$(call needed,BROKER_URL)" $(BIN)/python -m infra.kafka topics $(ARGS)

reset: .venv/.run-stamp ## delete all data in STATE_DIR after asking; YES=1 does not ask
	@$(LOCAL) reset $(if $(YES),--yes)

## Run the system in containers, where there is an engine

up: .venv/.run-stamp ## build the images, start docker-compose.yml and wait until all of it is healthy
	@$(CONTAINERS) up

down: .venv/.run-stamp ## stop the containers; what they stored stays in its volumes
	@$(CONTAINERS) down

## Put load on a system (loadtest/README.md)

# SECONDS counts only when it is given to this command: shells have a variable of that name of their own.
load: .venv/.dev-stamp ## load a fresh system, audit it, plot it: PROFILE=spike ENGINE=k6 SCRIPT=file SECONDS=n USERS=n TARGET=url
	@exec $(BIN)/python -m loadtest $(or $(PROFILE),load) $(if $(ENGINE),--engine "$(ENGINE)") $(if $(SCRIPT),--script "$(SCRIPT)") \
	  $(if $(call said,SECONDS),--seconds "$(SECONDS)") $(if $(USERS),--users "$(USERS)") \
	  $(if $(TARGET),--target "$(TARGET)") $(if $(TOKEN),--token "$(TOKEN)") $(if $(FOLDER),--folder "$(FOLDER)")

said = $(findstring command,$(origin $(1)))

## Check the code

test: .venv/.dev-stamp ## run every test that needs no container engine; name what was skipped: ARGS="…"
	@$(BIN)/pytest $(ARGS)

# What it needs is asked for here, once; whatever a test then misses is a failure, not a skip.
test-real: .venv/.dev-stamp native ## run what needs a real Kafka and MongoDB's protocol (Java, Maven): docs/native-backends.md
	@REQUIRE_REAL=1 $(NATIVE) serve -- $(BIN)/pytest $(REAL_CONTRACTS) $(ARGS)
	@$(NATIVE) path >/dev/null # fetches prometheus and promtool where they are missing
	@REQUIRE_REAL=1 E2E_BACKENDS=native $(BIN)/pytest infra/native infra/prometheus infra/grafana tests/e2e $(ARGS)

REAL_CONTRACTS = libs/common/tests/test_kafka_bus.py libs/common/tests/test_kafka_frozen.py \
  libs/common/tests/test_kafka_topics.py libs/common/tests/test_mongo_store.py tests/audit/test_doors.py

# With an engine; without one each suite is named as skipped, or as failed where REQUIRE_CONTAINERS=1 asks for it.
test-containers: .venv/.dev-stamp ## run the contracts of broker and store on the containers of docker-compose.yml
	@REQUIRE_REAL=1 $(CONTAINERS) serve -- $(BIN)/pytest $(REAL_CONTRACTS) libs/common/tests/test_bus_contract.py $(ARGS)

image-check: .venv/.dev-stamp ## build and run every image without an engine
	@$(CONTAINERS) image-check

# SEED=n shows what happened in one, to whom it concerns.
simulate: .venv/.dev-stamp ## run the services in one loop with faults: SEEDS=2000 FIRST=0 WORKERS=2 JUMPS=1, or SEED=n
	@$(BIN)/python -m tests.simulation $(if $(SEED),replay --first $(SEED),run --first $(or $(FIRST),0) \
	  --seeds $(or $(SEEDS),100) --workers $(or $(WORKERS),2)) $(if $(JUMPS),--jumps)

mutants: .venv/.dev-stamp ## leave one rule of the product out at a time, and see the simulation notice: SEEDS=200 ONLY=no-pin
	@$(BIN)/python -m tests.simulation mutants --seeds $(or $(SEEDS),200) --workers $(or $(WORKERS),2) $(if $(ONLY),--only $(ONLY))

fuzz: .venv/.dev-stamp ## throw wrong input at a running system: BUDGET_S=300 SEED=n
	@FUZZ_BUDGET_S=$(or $(BUDGET_S),300) FUZZ_SEED=$(or $(SEED),$$(date +%s)) $(BIN)/pytest tests/fuzz $(ARGS)

kills: .venv/.dev-stamp ## kill, freeze and replace real processes under a sale: SEEDS=20 FIRST=0, E2E_BACKENDS=native
	@KILLS_SEEDS=$(or $(SEEDS),1) KILLS_FIRST=$(or $(FIRST),0) $(BIN)/pytest tests/kills $(ARGS)

overload: .venv/.dev-stamp ## offer a fresh system four times what it can do, for SECONDS=60; 3 minutes
	@exec $(BIN)/python -m loadtest.overload $(if $(call said,SECONDS),--seconds "$(SECONDS)")

nightly: .venv/.dev-stamp ## run all that takes long, one after another, and tell what passed; a night
	@exec $(BIN)/python -m tests.nightly

incident: .venv/.dev-stamp ## expire the caches of 2,400 readers: off, cashews, ours; ARGS="--outage-s 12", 2 minutes at most
	@exec $(BIN)/python -m loadtest.incident $(ARGS)

chaos: .venv/.dev-stamp ## break a running system in every way of the matrix: EXPERIMENT=F4 SEEDS=20 FIRST=0 BACKENDS=native, or LIST=1
	@exec $(BIN)/python -m loadtest.chaos $(if $(LIST),list,run --experiment "$(EXPERIMENT)" \
	  --seeds $(or $(SEEDS),0) --first $(or $(FIRST),0))

chaos-results: .venv/.dev-stamp ## write docs/chaos/results.md from the runs that were made
	@$(BIN)/python -m loadtest.chaos report --table docs/chaos/results.md

check: format-check lint types walls ## what CI runs: format, lint, types, import walls, the tests, the images
	@$(MAKE) test
	@$(MAKE) image-check

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

dashboards: .venv/.run-stamp ## write infra/grafana/dashboards from the services' metrics
	@$(BIN)/python -m infra.grafana

# What the tests ran with is what ships: every other file has the versions of dev.txt.
IMAGES = catalog gateway queue reservation wallet tools
PIN = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate pyproject.toml

requirements: .venv/.dev-stamp ## pin what pyproject.toml asks for; ARGS=--upgrade for the newest
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@$(PIN) $(ARGS) --extra local --extra dev -o requirements/dev.txt
	@$(PIN) --constraint requirements/dev.txt --extra local -o requirements/run.txt
	@for image in $(IMAGES); do \
	  $(PIN) --constraint requirements/dev.txt --extra $$image -o requirements/$$image.txt || exit 1; done

# An upgrade can take away the Python that .venv points to: then nothing counts that was installed for it.
ifneq ($(shell test -x $(BIN)/python && echo there),there)
.PHONY: .venv/.run-stamp .venv/.dev-stamp
endif

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
