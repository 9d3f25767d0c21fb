# Thin on purpose: every target is what CI runs and what a person can type.
# On a bare Debian or Ubuntu machine, as root: `make demo` runs the main job, `make test` runs all tests.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.NOTPARALLEL:
PYTHON ?=
BIN := .venv/bin
# Tests with real containers at a time: each has a network namespace, roots and cgroups of its own.
E2E_WORKERS ?= 2

.PHONY: demo demo-down install dev check format schemas test test-unit test-e2e soak bench clean root

demo: root install              ## install what is needed and run the examples
	@scripts/demo up

demo-down: root                 ## take away all that the demo made
	@scripts/demo down

install: .venv/.installed       ## what the product needs: Debian packages and a virtual environment in the checkout
dev: .venv/.dev                 ## and what its tests need

.venv/.installed: requirements.lock pyproject.toml scripts/packages
	@scripts/packages run
	@PYTHON="$(PYTHON)" scripts/venv requirements.lock
	@touch $@

.venv/.dev: requirements-dev.lock pyproject.toml scripts/packages
	@scripts/packages run test
	@PYTHON="$(PYTHON)" scripts/venv requirements-dev.lock
	@touch $@ .venv/.installed

check: dev                      ## format, lint, types, import contracts, schemas
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m gitops.manifests.schema --check
	$(BIN)/python -m gitops.manifests.compose.reference --check

format: dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: dev
	$(BIN)/python -m gitops.manifests.schema
	$(BIN)/python -m gitops.manifests.compose.reference

test: root test-unit test-e2e   ## all tests, the ones with real containers included
	@echo "All tests passed. Left to \`make soak\`: the long repetitions of the fault tests (pytest -m soak)."

test-unit: dev
	$(BIN)/pytest -q -n auto -m "not e2e and not soak"

test-e2e: root dev
	$(BIN)/pytest -q -n $(E2E_WORKERS) --dist worksteal --durations 15 --durations-min 5 -m "e2e and not soak"

soak: root dev                  ## the fault tests many times over; hours
	$(BIN)/pytest -q -m soak --timeout 7200

bench: root dev                 ## figures beside Docker's, in the same run
	$(BIN)/python -m benchmarks

root:
	@[ "$$(id -u)" -eq 0 ] || { echo "error: this works with real containers and needs root: run it as root" >&2; exit 1; }

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
