# The verbs of this project; `make help` lists them.
#
# The engine (llama.cpp) is built once, for this machine's CPU, into a target folder of its own; everything else is
# plain cargo. All commands on the runner share flags, profile and folder, since any difference builds the engine anew.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
RUNNER_TARGET_DIR ?= $(TARGET_DIR)/runner
RUNNER_DIR := $(abspath $(RUNNER_TARGET_DIR))
RUNNER := $(RUNNER_DIR)/release/fleetune-runner
# Python with the packages of tests/python, for tests alone.
PYTHON_DIR := $(TARGET_DIR)/python
# With Optuna, for `make test-optuna`.
OPTUNA_DIR := $(TARGET_DIR)/optuna-python
# And with those of what `make bench ARGS=--rival` compares with.
RIVAL_DIR := $(TARGET_DIR)/bench-python
# And with those of `make bench-samplers`.
SAMPLERS_DIR := $(TARGET_DIR)/bench-samplers-python

# Back end of the engine: cuda, vulkan, rocm, or empty for the CPU alone.
ifeq ($(origin RUNNER_FEATURES),undefined)
RUNNER_FEATURES := $(shell scripts/setup.sh backend)
endif
export RUNNER_FEATURES
RUNNER_RUSTFLAGS ?= -C target-cpu=native
# CUDA code for the card in this machine alone; keeps the build short.
CMAKE_CUDA_ARCHITECTURES ?= native
ifneq ($(findstring cuda,$(RUNNER_FEATURES)),)
export CMAKE_CUDA_ARCHITECTURES
endif

# runner-cargo VERB: cargo on the runner, always with the same flags.
runner-cargo = env -u CARGO_ENCODED_RUSTFLAGS RUSTFLAGS="$(RUNNER_RUSTFLAGS)" \
	cargo $(1) --release $(LOCKED) -p fleetune-runner --target-dir "$(RUNNER_DIR)" \
	$(if $(RUNNER_FEATURES),--features "$(RUNNER_FEATURES)")

# python-in FOLDER,LIST: a Python of its own with the packages of LIST. The stamp is the list itself, copied last.
python-in = if ! cmp -s "$(2)" "$(1)/requirements.txt" || ! "$(1)/bin/python" -c 'import grpc' 2>/dev/null; then \
		echo "installing Python packages into $(1)"; \
		rm -rf "$(1)"; \
		python3 -m venv "$(1)"; \
		"$(1)/bin/python" -m pip install --quiet --disable-pip-version-check -r "$(2)"; \
		cp "$(2)" "$(1)/requirements.txt"; \
	fi

# Set by `make ci`: the lock file is complete and is not changed.
LOCKED ?=

MODEL ?=
ARGS ?=
# Seconds of faults in a drill.
DRILL_S ?= 600
SYNTHETIC := $(TARGET_DIR)/models/synthetic-15m-q4_0.gguf

# `lint` and `test` use the same target folders; side by side they would only wait for each other.
.NOTPARALLEL:
.PHONY: help setup setup-tests setup-rival setup-samplers packages runner tune test test-optuna test-llama-bench lint fmt drill bench bench-optuna bench-scale bench-samplers bench-engine bench-tools doc ci

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: packages runner ## Install what is missing and build the engine, once (minutes), for this machine

packages:
	@scripts/setup.sh

# With what is installed; images build it alone.
runner:
	@$(call runner-cargo,build) --quiet

# Besides, what tests alone need: a Python with clients of gRPC.
setup-tests: setup
	@scripts/setup.sh tests
	@$(call python-in,$(PYTHON_DIR),tests/python/requirements.txt)

setup-rival:
	@scripts/setup.sh tests
	@$(call python-in,$(RIVAL_DIR),tests/python/bench-requirements.txt)

setup-samplers:
	@scripts/setup.sh tests
	@$(call python-in,$(SAMPLERS_DIR),tests/python/bench_samplers/requirements.txt)

tune: setup ## Tune llama.cpp for MODEL=file.gguf on this machine (ARGS="..." go to `fleetune tune`)
	@cargo build --release $(LOCKED) -p fleetune-cli
	@# Renamed into place: a runner that a search is using cannot be written to.
	@cmp -s "$(RUNNER)" "$(TARGET_DIR)/release/fleetune-runner" || \
		{ cp "$(RUNNER)" "$(TARGET_DIR)/release/.fleetune-runner.new" && \
		mv -f "$(TARGET_DIR)/release/.fleetune-runner.new" "$(TARGET_DIR)/release/fleetune-runner"; }
	@model="$(MODEL)"; \
	if [ -z "$$model" ]; then \
		model="$(SYNTHETIC)"; \
		echo "No MODEL=file.gguf given: tuning a small synthetic model (random weights, 15 million parameters)."; \
		echo "Its result says nothing about your own models; it shows that everything works."; \
		mkdir -p "$$(dirname "$$model")"; \
		[ -e "$$model" ] || \
			"$(TARGET_DIR)/release/fleetune" model synth --arch llama --size 15m --quant q4_0 -o "$$model"; \
	fi; \
	"$(TARGET_DIR)/release/fleetune" tune "$$model" $(ARGS)

# Threads that spin while they wait make every number on a busy machine meaningless, and tests slow.
test: export OMP_WAIT_POLICY := passive
test: export FLEETUNE_RUNNER := $(RUNNER)
test: export FLEETUNE_PYTHON := $(PYTHON_DIR)/bin/python
test: setup-tests ## Run all tests, the runner's included
	cargo test $(LOCKED) --no-fail-fast
	$(call runner-cargo,test)

test-optuna: export FLEETUNE_OPTUNA_PYTHON := $(OPTUNA_DIR)/bin/python
test-optuna: ## Run Optuna 5.0.0 and its dashboard on a server, and the tests of the Python package (installs all, and Chromium)
	@scripts/setup.sh browser
	@$(call python-in,$(OPTUNA_DIR),tests/python/optuna/requirements.txt)
	@"$(OPTUNA_DIR)/bin/python" -m pip install --quiet --disable-pip-version-check ./python
	@rm -rf python/build python/src/*.egg-info
	cargo test $(LOCKED) -p fleetune-tests --test optuna -- --ignored --test-threads=1

# Checks of overflows and assertions stay on: a drill is no benchmark.
drill: packages ## Kill, cut and restart coordinators, workers and databases, and check that nothing is lost (DRILL_S=600, ARGS="--seed N --storage sqlite")
	cargo build $(LOCKED) -p fleetune-tests
	@"$(TARGET_DIR)/debug/fleetune-drill" --seconds $(DRILL_S) $(ARGS)

test-llama-bench: export FLEETUNE_RUNNER := $(RUNNER)
test-llama-bench: export FLEETUNE_LLAMA_BENCH := $(RUNNER_DIR)/bench-engine/llama-bench
test-llama-bench: bench-tools setup ## Measure with a real llama-bench (linked with the runner's engine; fetches 77 MB)
	python3 scripts/bench-engine.py --target-dir "$(RUNNER_DIR)" --build-only
	OMP_WAIT_POLICY=passive cargo test $(LOCKED) -p fleetune-tests --test llama_bench -- --ignored

lint: ## Check format, lints, dependency arrows and licences
	cargo fmt --all --check
	cargo clippy $(LOCKED) --all-targets -- -D warnings
	@scripts/setup.sh
	$(call runner-cargo,clippy) --all-targets -- -D warnings
	scripts/check-arrows.sh
	@if [ ! -f deny.toml ]; then echo "cargo deny: skipped, there is no deny.toml"; \
	elif cargo deny --version >/dev/null 2>&1; then cargo deny check; \
	else echo "cargo deny: skipped, it is not installed (cargo install cargo-deny)"; fi

fmt: ## Format the code
	cargo fmt --all

# Each by itself: what the load generator needs for tests must not reach the program that is measured.
bench: export FLEETUNE_BENCH_PYTHON := $(RIVAL_DIR)/bin/python
bench: packages $(if $(findstring --rival,$(ARGS)),setup-rival) ## Load a coordinator with asks and tells, on SQLite and Postgres: 5 minutes (ARGS="--clients 8 ...")
	cargo build --release $(LOCKED) -p fleetune-cli
	cargo build --release $(LOCKED) -p fleetune-tests --bin fleetune-load
	@"$(TARGET_DIR)/release/fleetune-load" $(ARGS)

# All options: tests/python/bench_samplers/__main__.py. FLEETUNE=path measures another build than this one.
bench-samplers: export FLEETUNE ?= $(TARGET_DIR)/release/fleetune
bench-samplers: export OUT ?= $(TARGET_DIR)/bench-samplers
bench-samplers: packages setup-samplers ## Compare our samplers with Optuna's, for hours (SUITES= SAMPLERS= SEEDS= PARALLEL= PROBLEMS=, LATENCY_ONLY=1)
	@[ "$(origin FLEETUNE)" != file ] || [ -n "$(LATENCY_ONLY)" ] || cargo build --release $(LOCKED) -p fleetune-cli
	@nice -n 10 "$(SAMPLERS_DIR)/bin/python" tests/python/bench_samplers

bench-scale: packages ## A coordinator with 1,000 workers, and with a study that grows to 1,000,000 trials (ARGS="--storage sqlite ...")
	cargo build --release $(LOCKED) -p fleetune-cli
	cargo build --release $(LOCKED) -p fleetune-tests --bin fleetune-load
	@"$(TARGET_DIR)/release/fleetune-load" --workers 1000 --rate 200 --clients 8 --sampler tpe --seconds 20 $(ARGS)
	@"$(TARGET_DIR)/release/fleetune-load" --growth 1000,10000,100000,1000000 $(ARGS)

bench-optuna: export FLEETUNE_BENCH_PYTHON := $(RIVAL_DIR)/bin/python
bench-optuna: packages setup-rival ## Compare with Optuna's server under programs of Optuna's, on Postgres (ARGS="--clients 8 --sizes 1000 ...")
	@"$(RIVAL_DIR)/bin/python" -m pip install --quiet --disable-pip-version-check ./python
	@rm -rf python/build python/src/*.egg-info
	cargo build --release $(LOCKED) -p fleetune-cli
	cargo build --release $(LOCKED) -p fleetune-tests --bin fleetune-load
	@"$(TARGET_DIR)/release/fleetune-load" --optuna $(if $(ARGS),$(ARGS),--clients 8,32 --seconds 20)

bench-engine: bench-tools setup ## Compare the runner with llama-bench on the same engine (python3 with pip; fetches 77 MB)
	python3 scripts/bench-engine.py --runner "$(RUNNER)" --target-dir "$(RUNNER_DIR)"

# Before the engine is built, which takes minutes.
bench-tools:
	@command -v python3 >/dev/null || { \
		echo "error: python3 is missing; the comparison is written in it (Debian, Ubuntu: apt-get install python3-pip)" >&2; \
		exit 1; }
	@python3 -m pip --version >/dev/null 2>&1 || { \
		echo "error: python3 has no pip, which fetches llama-bench (Debian, Ubuntu: apt-get install python3-pip)" >&2; \
		exit 1; }

doc: ## Build the API documentation
	cargo doc $(LOCKED) --no-deps

ci: ## What continuous integration runs: lints and tests
	@$(MAKE) lint test LOCKED=--locked
