# Weir. `make run` and `make test` install what is missing (Debian packages), build, and do their job.
ARGS ?=
SEEDS ?= 200
TIME ?= 60

.PHONY: help run test build setup bench fuzz sim format lint install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*##/ { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the packages that building needs
	@scripts/setup build

build: setup ## build/weir, build/libweir.so, build/libweir.a
	@scripts/build build

run: build ## serve on http://127.0.0.1:8787 from ./weir-data (ARGS= for more)
	@exec build/weir serve $(ARGS)

test: ## everything: unit, simulation, fuzz corpora, real clients, sanitizers, lint
	@scripts/setup build test lint
	@scripts/build build
	@scripts/test

bench: ## measure against this machine's floor, nginx, Kafka and DuckDB
	@scripts/setup build bench
	@scripts/build build
	@bench/run

fuzz: ## fuzz each decoder for TIME seconds
	@scripts/setup build test fuzz
	@scripts/fuzz $(TIME)

sim: build ## run SEEDS seeds of the simulated disk
	@scripts/setup build test
	@scripts/build build
	@build/tests/sim/sim --seeds $(SEEDS)
	@build/tests/sim/crash --seeds $(SEEDS)
	@build/tests/sim/compaction --seeds $(SEEDS)
	@build/tests/sim/txn --seeds $(SEEDS)
	@build/tests/sim/groups --seeds $(SEEDS)
	@build/tests/sim/streams --seeds $(SEEDS)
	@build/tests/sim/share --seeds $(SEEDS)
	@build/tests/sim/jetstream --seeds $(SEEDS)

format: ## lay out the sources
	@git ls-files '*.c' '*.h' | grep -v '/tbl/' | xargs clang-format -i

lint: ## formatting and static analysis
	@scripts/setup build lint
	@scripts/build build
	@scripts/lint

install: build ## install into the system (DESTDIR=, PREFIX= by meson)
	@meson install -C build

clean: ## remove what was built
	@rm -rf build
