# Everything starts here: `make help`. Each target builds what it needs; no other set-up exists.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Extra arguments: `make test T=tests/unit/mirror K=lockfile`
T ?= tests
K ?=
ALL_F := tests/property
F ?= $(ALL_F)
N ?= 5000
HISTORIES := tests/property/test_witness_histories.py

.DEFAULT_GOAL := help
.PHONY: help demo test check format docs test-real bench fuzz mutate dist lock clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## Mirror examples/app, log and audit it, install from it, attack it (under 2 minutes)
	@$(BIN)/python scripts/demo.py

test: $(STAMP) ## Hermetic tests with coverage (under 10 minutes)
	@$(BIN)/python scripts/run_tests.py $(T) $(if $(K),-k "$(K)")

check: $(STAMP) ## Format, lint, layers, types, dependencies; the first failure stops
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/lint-imports --no-cache
	$(BIN)/flake8 --select ASYNC --extend-ignore ASYNC127,ASYNC9 --startable-in-context-manager run,serve_watch,follow_feed mirrorwitness
	$(BIN)/mypy mirrorwitness tests
	$(BIN)/basedpyright --level error
	$(BIN)/deptry mirrorwitness
	$(BIN)/interrogate --quiet mirrorwitness

format: $(STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff check --fix . || true
	$(BIN)/ruff format .

docs: $(STAMP) ## Write the parts of docs/reference/ that are made from the code, and what k8s/ has of monitoring/
	@$(BIN)/python -m tests.docs.blocks
	@$(BIN)/python -m tests.deploy.rules

test-real: $(STAMP) ## Real S3 servers, npm clients, Verdaccio, nginx, witnesses, a browser; installs them (about 15 minutes)
	@scripts/real/install-s3
	@scripts/real/install-clients
	@scripts/real/install-witness
	@scripts/real/install-browser
	@scripts/real/install-deploy
	@scripts/real/install-terraform
	@scripts/real/install-prometheus
	@$(BIN)/python -m pytest tests/real --run-real --timeout=900 -p no:randomly $(if $(K),-k "$(K)")

bench: $(STAMP) ## Benchmarks beside peers, installs them (about 15 minutes; B="mirror --rounds 1" for one)
	@PYTHON=$(PYTHON) scripts/bench/install
	@$(BIN)/python -m bench $(B)

fuzz: $(STAMP) ## Properties with a large budget, histories of a witness, all kills, atheris (F=FILE for one, N=examples)
	@HYPOTHESIS_PROFILE=nightly FUZZ_EXAMPLES=$(N) $(BIN)/python -m pytest $(F) -n 2 --dist worksteal --timeout=3600 -o faulthandler_timeout=0 \
	  $(if $(filter $(ALL_F),$(F)),--ignore=$(HISTORIES))
ifeq ($(F),$(ALL_F))
	@FUZZ_EXAMPLES=$$((20 * $(N))) $(BIN)/python -m pytest $(HISTORIES) -n 2 --dist worksteal --timeout=3600 -o faulthandler_timeout=0
	@KILL_PERCENT=100 $(BIN)/python -m pytest tests/fault -n 2 --dist worksteal --timeout=3600 -o faulthandler_timeout=0
	@$(BIN)/python -m tests.fuzz $$((60 * $(N) / 5000))
endif

mutate: $(STAMP) ## Mutation score of the critical pure modules, or of M="npm/integrity mirror/gate"
	@$(BIN)/python scripts/mutate.py $(M)

dist: $(STAMP) ## Source archive and wheel in dist/, built twice and compared, tried in an empty environment
	@$(BIN)/python scripts/dist.py

lock: ## Write the lock files anew (needs uv); no index addresses in them
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c requirements/run.txt pyproject.toml requirements/dev.in -o requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/bench.in -o requirements/bench.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/real-deploy.in -o requirements/real-deploy.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/real-terraform.in -o requirements/real-terraform.txt

clean: ## Remove what make built here
	rm -rf $(VENV) .cache dist build mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* demo-mirror
