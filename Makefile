# Every target depends on the virtual environment, which is made from the lock.
# A fresh machine needs make and python3 (3.11 to 3.13), nothing else. Plain `make` prints the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SIZE ?= 512MB
CRASHES ?= 200
WORKERS ?= 2
N ?= 50000
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
COMMIT ?= $(or $(shell git describe --always --exclude '*' --abbrev=12 --dirty=.dirty 2>/dev/null),unknown)
# Reads a Dockerfile from its standard input and takes the image's name as its last word.
IMAGE_BUILD ?= docker build --file - . --tag
PURE_TESTS := tests/larder tests/agent/planning tests/controller/planning $(wildcard tests/webhook/test_mutation_*.py tests/certs/test_authority_*.py)
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header
# What the agent is allowed in a cluster: uid 0 without any capability.
AS_AGENT := setpriv --bounding-set=-all --inh-caps=-all

.DEFAULT_GOAL := help
.PHONY: help install check static format lint types imports test cover test-as-agent test-crash fuzz test-cluster images image-of-kserve demo bench bench-fill bench-cluster lock clean

help: ## print the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: $(VENV)/.installed ## make .venv from requirements/dev.lock (every other target does it first)

$(VENV)/.installed: requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "Larder needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	    "name another one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "$(PYTHON) lacks the modules venv and ensurepip; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

check: static test cover ## all that must be green before a commit

static: lint types imports ## everything but the tests

format: install ## write the code as the formatter wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --select I .

lint: install ## format and lint, without changing a file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## mypy, strict
	$(BIN)/mypy

imports: install ## rooms import one way only, decisions do no I/O
	$(BIN)/lint-imports

test: install ## the whole test suite
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -rs

# The pure code again, by its own tests alone: no line of it may rest on a test of a whole program.
cover: export COVERAGE_FILE ?= .coverage
cover: install ## every branch of the pure code is held by its own tests
	$(BIN)/coverage run -m pytest -q $(PURE_TESTS)
	$(BIN)/coverage report

# Needs root. Nothing is written into the checkout, which may belong to somebody else. Left out are
# the tests that mount a filesystem, which nobody can without capabilities.
test-as-agent: install ## the agent's tests as the identity it has in a cluster: uid 0, no capabilities
	@test "$$(id -u)" = 0 || { echo "make test-as-agent needs uid 0; try: sudo make test-as-agent" >&2; exit 1; }
	HYPOTHESIS_STORAGE_DIRECTORY=$$(mktemp -d) PYTHONDONTWRITEBYTECODE=1 \
	  $(AS_AGENT) $(BIN)/pytest -n $(WORKERS) --dist loadgroup -rs -p no:cacheprovider tests/agent \
	  --deselect tests/agent/store/test_store_root.py::test_a_filesystem_mounted_read_only_is_refused_without_a_write \
	  --deselect tests/agent/store/test_store_root.py::test_in_a_pod_the_disk_of_the_kubelet_or_the_runtime_is_the_systems

test-crash: install ## kill the agent CRASHES=200 times at random moments and look at its disk
	$(BIN)/python -m tests.crash.run --runs $(CRASHES)

fuzz: install ## ask the webhook about N=50000 odd pods, and in odd bytes: no error, no hang, no invalid patch
	$(BIN)/python -m tests.fuzz.run --reviews $(N)
	$(BIN)/python -m tests.fuzz.run_http --conversations 5000

# Needs a node, and on it what `make images` builds; NODE= leaves out the tests that do. The cluster
# keeps Larder's install afterwards: `kubectl delete -k deploy/base` takes it away.
NODE ?= yes
test-cluster: install ## the tests that need a cluster: KUBECONFIG names one to try things in, as its admin
	@test -n "$$KUBECONFIG" || { echo "make test-cluster needs KUBECONFIG, the admin's of a cluster" \
	  "to try things in, and kubectl; try: KUBECONFIG=~/.kube/config make test-cluster" >&2; exit 1; }
	$(BIN)/pytest -p no:cacheprovider tests/cluster $(if $(NODE),,--ignore=tests/cluster/node)

images: ## build larder-agent, larder-webhook and, for tests, larder-demo with IMAGE_BUILD (docker)
	@for name in agent webhook demo; do \
	  echo "larder-$$name:$(VERSION) of commit $(COMMIT)"; \
	  sed 's/^ARG COMMIT=unknown$$/ARG COMMIT=$(COMMIT)/' Dockerfile.$$name \
	    | $(IMAGE_BUILD) larder-$$name:$(VERSION) || exit 1; \
	done

# Only for a cluster that can pull nothing: the name is KServe's.
image-of-kserve: ## the demo's initializer under the name of KServe's image, where that cannot be pulled
	echo 'FROM larder-demo:$(VERSION)' | $(IMAGE_BUILD) kserve/storage-initializer:v0.20.0

demo: install ## the whole way on this machine, with models of SIZE=512MB
	$(BIN)/larder demo --size $(SIZE)

bench: install ## measure admission, hit and fill (SHORT=1: in a minute, with coarse figures)
	$(BIN)/python -m bench $(if $(SHORT),--short)

# Wants 20 GB of disk, and versitygw for S3: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
bench-fill: install ## how fast a verified fill is, against others that verify nothing (SHORT=1)
	$(BIN)/python -m bench.fill_race $(if $(SHORT),--short)

# The demo overlay has to be there: kubectl apply -k deploy/overlays/demo --server-side
bench-cluster: install ## measure what Larder costs the cluster of KUBECONFIG, with the demo overlay in it (SHORT=1)
	$(BIN)/python -m bench.cluster $(if $(SHORT),--short)

lock: install ## write requirements/*.lock from pyproject.toml
	$(LOCK) --extra demo --extra dev --output-file requirements/dev.lock pyproject.toml
	$(LOCK) --constraint requirements/dev.lock --output-file requirements/runtime.lock pyproject.toml
	$(LOCK) --constraint requirements/dev.lock --group build --output-file requirements/build.lock
	$(LOCK) --constraint requirements/dev.lock --group demo-image --output-file requirements/demo.lock

clean: ## remove what the other targets made, .venv too
	rm -rf $(VENV) .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache \
	  bench/results build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
