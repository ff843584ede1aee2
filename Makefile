# `make help` lists the targets. Everything runs in .venv, which make itself fills from the hashed lock files.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
FILES ?= examples/smollm2.yaml
UP_FLAGS ?=
PYTEST_FLAGS ?=
CLUSTER ?=
PROGRAMS := etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kwok helm
only ?=
repeat ?=
seconds ?=
seed ?=
CODE := benchmarks charts cli crds e2e images operator router tests workers
PACKAGES := cli crds operator router workers

.PHONY: help
help: ## Show this help.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: $(VENV)/run.stamp ## Serve FILES (default: examples/smollm2.yaml) on 127.0.0.1:8080; UP_FLAGS are passed on.
	@exec $(BIN)/headrace up $(FILES) $(UP_FLAGS)

.PHONY: test
test: $(VENV)/dev.stamp ## Run all tests, those with real processes and the real model too.
	$(BIN)/pytest $(PYTEST_FLAGS)

.PHONY: test-soak
test-soak: $(VENV)/dev.stamp ## Kill, stop and cancel under load for ten minutes, then look for what is left: seconds=60 seed=7.
	@exec $(BIN)/python -m tests.soak $(addprefix seconds=,$(seconds)) $(addprefix seed=,$(seed))

.PHONY: check
check: $(VENV)/dev.stamp ## Format, lint, types, import rules, generated files: what CI runs.
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(PACKAGES) tests benchmarks charts e2e images
	$(BIN)/lint-imports
	$(BIN)/python -m headrace_api.generate --check
	$(BIN)/python -m charts.generate --check

.PHONY: format
format: $(VENV)/dev.stamp ## Format the code and write the generated files.
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/python -m headrace_api.generate
	$(BIN)/python -m charts.generate

.PHONY: bench
bench: $(VENV)/dev.stamp ## Measure every figure beside its peer; writes benchmarks/results/latest.json and plots.
	$(BIN)/python -m benchmarks

.PHONY: bench-operator
bench-operator: $(VENV)/dev.stamp cluster-programs ## Measure the operator beside a bare client, on a control plane with simulated nodes.
	$(BIN)/python -m benchmarks reconcile

.PHONY: bench-cluster
bench-cluster: $(VENV)/dev.stamp ## Measure on a real kind cluster how long users wait: to Ready, from zero, for one worker more.
	$(BIN)/python -m benchmarks cluster

.PHONY: bench-cascade
bench-cascade: $(VENV)/dev.stamp ## Draw cost and quality of the cascade's gate on two real models; writes examples/cascade-gate.json.
	$(BIN)/python -m benchmarks.cascade

.PHONY: e2e
e2e: $(VENV)/dev.stamp ## Run the scenarios on a real kind cluster: only=smoke for one, repeat=5. The first time builds a cluster's parts.
	@exec $(BIN)/python -m e2e $(addprefix only=,$(only)) $(addprefix repeat=,$(repeat))

.PHONY: cluster-programs
cluster-programs: $(VENV)/dev.stamp ## Build the API server and what else tests use of Kubernetes (once, 15 minutes; needs Go).
	@exec $(BIN)/python -m e2e.cluster build $(PROGRAMS)

.PHONY: cluster-up
cluster-up: $(VENV)/dev.stamp ## Give a Kubernetes to test on: CLUSTER=kind (default), api or existing; see e2e/README.md.
	@exec $(BIN)/python -m e2e.cluster up $(addprefix --provider ,$(CLUSTER))

.PHONY: cluster-down
cluster-down: $(VENV)/dev.stamp ## Take away the cluster that cluster-up gave, and all that it started.
	@exec $(BIN)/python -m e2e.cluster down $(addprefix --provider ,$(CLUSTER))

.PHONY: cluster-status
cluster-status: $(VENV)/dev.stamp ## Say what of the cluster runs.
	@exec $(BIN)/python -m e2e.cluster status $(addprefix --provider ,$(CLUSTER))

.PHONY: lock
lock: $(VENV)/uv.stamp ## Resolve the dependencies anew and write the lock files.
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --upgrade --extra cli --group editable pyproject.toml -o locks/run.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra dev --group editable -c locks/run.txt pyproject.toml -o locks/dev.txt
	for part in operator router worker; do \
	  $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --extra $$part -c locks/run.txt pyproject.toml -o locks/$$part.txt; \
	done

.PHONY: clean
clean: ## Remove the virtual environment, caches and build outputs of this folder.
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/uv.stamp: locks/uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headrace needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r locks/uv.txt
	touch $@

$(VENV)/run.stamp: $(VENV)/uv.stamp locks/run.txt pyproject.toml
	test $(VENV)/dev.stamp -nt locks/run.txt || $(UV) pip install -q --python $(BIN)/python --require-hashes -r locks/run.txt
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/dev.stamp: $(VENV)/uv.stamp locks/dev.txt pyproject.toml
	$(UV) pip install -q --python $(BIN)/python --require-hashes -r locks/dev.txt
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@ $(VENV)/run.stamp
