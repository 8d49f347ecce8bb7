# Each target is a line or two; the work is in Python modules. CI calls `make test` and nothing else.
PYTHON ?= python3
VENV := .venv/bin
LEDGER := tests/e2e/test_no_task_ends.py
# A busy machine misses a deadline now and then: such a test has one more try, two of them a run, and the
# summary shows it with its traceback. What the ledger says of tasks is never tried again.
PYTEST := $(VENV)/python -m pytest --reruns=1 --max-suite-reruns=2 --rerun-show-tracebacks \
	--rerun-exclude-path=$(LEDGER)

.PHONY: help demo down test test-all test-lanes test-alone test-cluster test-ledger test-stacks test-objects
.PHONY: check images bench bench-keda soak venv settings

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: venv ## a cluster, the images, the `local` stack, a flood of 3 x 10,000 tasks; leaves it running
	@$(VENV)/python -m demo up

down: venv ## removes what `make demo` made, once its tasks are done (DEMO_ON_DESTROY=discard: at once)
	@$(VENV)/python -m demo down

test: check ## `make check`, then the tests: unit, program, cluster, end to end
	@$(PYTHON) -m demo.environment packages
	@$(MAKE) --no-print-directory test-lanes AND="and not slow"

test-all: check ## `make test` with the longer matrices
	@$(PYTHON) -m demo.environment packages
	@$(MAKE) --no-print-directory test-lanes

test-lanes: # Side by side: those for a cluster mostly wait, the others compute.
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=line test-alone test-ledger test-stacks test-objects

test-alone:
	@$(PYTEST) -m "not cluster $(AND)"

test-cluster: # It kills the cluster's own processes: before any other test has something on it.
	@$(PYTEST) -m "cluster $(AND)" tests/devcluster

test-ledger: test-cluster # Its scenes wait for most of their time.
	@$(PYTEST) -m "cluster $(AND)" $(LEDGER)

test-stacks: test-cluster
	@$(PYTEST) -m "cluster $(AND)" --ignore=$(LEDGER) tests/e2e

test-objects: test-ledger
	@$(PYTEST) -m "cluster $(AND)" --ignore=tests/devcluster --ignore=tests/e2e

check: venv ## format, lint, types, who may import whom
	@$(VENV)/ruff format --check . && $(VENV)/ruff check .
	@$(VENV)/mypy && $(VENV)/lint-imports

images: venv ## REGISTRY=host/folder [TAG=…] [PUSH=1]: scaler, Flower and sample application
	@$(VENV)/python -m demo.images --registry "$(REGISTRY)" --tag "$(TAG)" $(if $(PUSH),--push)

bench: venv ## the figures that README.md promises, measured here
	@$(PYTHON) -m demo.environment packages
	@$(VENV)/python -m bench.scaler && $(VENV)/python -m bench.page --pools 1 && $(VENV)/python -m bench.flood

bench-keda: venv ## side by side with real KEDA + HPA: docs/keda.md; 25 min, and 10 for the first build
	@$(VENV)/python -m bench.keda $(BENCH)

soak: venv ## the slow tier, 40 min: 200 scale-ins, 20 destroys, and what faults cost, as a table
	@$(PYTHON) -m demo.environment packages
	@$(VENV)/python -m bench.soak

venv: ## the Python environment, .venv
	@$(PYTHON) -m demo.environment venv

settings: venv ## rewrites README.md's table of settings from the schema
	@$(VENV)/python -m infra.settings --write
