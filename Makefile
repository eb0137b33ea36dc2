# Every verb of this repository; `make` alone lists them. The first that needs it builds .venv from requirements/,
# where each package is pinned by its hash. Works with GNU make 3.81 (macOS) and newer.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# The first Python that is new enough; `make PYTHON=/path/to/python test` takes another.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$each; break; }; done)
# pytest's processes.
JOBS ?= 2
# A fault campaign: its dice, its size (of the 1,000 that every row is written for), and where its figures go.
SEED ?= 11
KILLS ?= 20
RESULTS ?= faults.txt
# How many worlds are simulated.
SEEDS ?= 1000

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_NO_INPUT := 1
export PIP_QUIET := 1

COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11

##@ Those of the README

demo: $(VENV)/run.stamp  ## run plotburn end to end against a sandbox: no keys, no network (ARGS="--keep --movies 20")
	@$(BIN)/python -m conveyor_apps.demo $(ARGS)

cutmv: $(VENV)/cutmv.stamp  ## cut videos in the browser: http://127.0.0.1:8787 (ARGS="--port 9000")
	@$(BIN)/python -m conveyor_apps.cutmv $(ARGS)

generation: $(VENV)/cutmv.stamp  ## make videos from prompts in the browser, no keys needed: http://127.0.0.1:8787 (ARGS="--mode alarm")
	@$(BIN)/python -m conveyor_apps.generation $(ARGS)

concierge: $(VENV)/concierge.stamp  ## messages that must arrive, with a sandbox beside them: http://127.0.0.1:8787 (ARGS="serve --port 9000")
	@$(BIN)/python -m conveyor_apps.concierge $(ARGS)

test: lint types contracts  ## lint, types, import contracts and all tests: what CI runs
	@$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

##@ While you work

check: lint types contracts  ## what CI runs first: lint, types, contracts, house rules; under a minute
	@$(BIN)/pytest -q tests/house $(ARGS)

lint: $(VENV)/dev.stamp  ## ruff
	@$(BIN)/ruff check --quiet src apps tests bench examples

types: $(VENV)/dev.stamp  ## mypy, strict
	@$(BIN)/mypy --no-error-summary

contracts: $(VENV)/dev.stamp  ## import contracts: the floors, and who may talk to a database
	@$(BIN)/lint-imports --no-logo >$(VENV)/contracts.log 2>&1 || { cat $(VENV)/contracts.log; exit 1; }

faults: $(VENV)/dev.stamp  ## a long campaign of faults on purpose (KILLS=1000 SEED=11 ARGS="-k F03")
	@SEED=$(SEED) KILLS=$(KILLS) FAULTS_RESULTS=$(RESULTS) $(BIN)/pytest tests/faults tests/stores tests/plans tests/simulation -m campaign $(ARGS)

simulate: $(VENV)/dev.stamp  ## the real code in invented worlds, each from its seed (SEEDS=10000)
	@$(BIN)/python -m conveyor.sim --seeds 1-$(SEEDS) --jobs $(JOBS) $(ARGS)

versions: $(VENV)/dev.stamp  ## the store's tests on PostgreSQL 14 to 18, fetched with npm (ARGS="14 18")
	@$(BIN)/python tests/versions.py $(ARGS)

bench: $(VENV)/dev.stamp  ## the published scenarios, beside other queues (see bench/README.md)
	@$(BIN)/python -m bench $(ARGS)

plots: $(VENV)/dev.stamp  ## draw the docs' figures and write their tables from bench/results/*.json
	@$(BIN)/python -m bench.plot $(ARGS)

docs: $(VENV)/dev.stamp  ## write the generated pages of docs/ anew, and run every example
	@$(BIN)/python tests/house/pages.py
	@$(BIN)/pytest -q tests/docs tests/house/test_generated.py $(ARGS)

##@ Housekeeping

venv: $(VENV)/dev.stamp  ## build .venv with everything that tests need

lock:  ## pin requirements/*.txt anew from pyproject.toml (needs uv)
	@$(COMPILE) pyproject.toml --group dev --output-file requirements/dev.txt
	@$(COMPILE) pyproject.toml --constraints requirements/dev.txt --output-file requirements/run.txt
	@printf 'imageio-ffmpeg\n' | $(COMPILE) - --constraints requirements/dev.txt --output-file requirements/cutmv.txt
	@printf 'aiosmtpd\naiosmtplib\npyarrow\n' | $(COMPILE) - --constraints requirements/dev.txt --output-file requirements/concierge.txt
	@$(COMPILE) --group build --constraints requirements/dev.txt --output-file requirements/build.txt
	@echo "pinned: $$(grep -c == requirements/run.txt) to run, $$(grep -c == requirements/dev.txt) to develop"

clean:  ## remove .venv, caches and what tests left
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z]+:.*##/ {printf "  make %-10s %s\n", $$1, $$2}' Makefile

# The environment. A stamp is newer than what it was built from; a second `make` does nothing.

$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { \
		echo "conveyor needs Python 3.11 or newer: install it, or name it with \`make PYTHON=...\`" >&2; exit 1; }
	@echo "building $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make environments; on Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/run.stamp: $(VENV)/pyvenv.cfg requirements/run.txt requirements/build.txt pyproject.toml
	@$(BIN)/python -m pip install --require-hashes --requirement requirements/run.txt --requirement requirements/build.txt
	@$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

# FFmpeg comes with pip where the system has none.
$(VENV)/cutmv.stamp: $(VENV)/run.stamp requirements/cutmv.txt
	@command -v "$${CUTMV_FFMPEG:-ffmpeg}" >/dev/null || $(BIN)/python -m pip install --require-hashes --requirement requirements/cutmv.txt
	@touch $@

$(VENV)/concierge.stamp: $(VENV)/run.stamp requirements/concierge.txt
	@$(BIN)/python -m pip install --require-hashes --requirement requirements/concierge.txt
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	@echo "adding what tests need to $(VENV)"
	@$(BIN)/python -m pip install --require-hashes --requirement requirements/dev.txt
	@touch $@

.PHONY: demo cutmv generation concierge test check lint types contracts faults simulate versions bench plots docs venv lock clean help
