# `make` or `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup build run test lint fuzz bench soak clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do printf '%-8s %s\n' "$$target" "$$text"; done

setup: ## install what is missing (Debian, Ubuntu), as root or through sudo
	scripts/setup.sh

build: ## sipwsd, optimised: target/release/sipwsd
	scripts/setup.sh build
	cargo build --locked --release -p sipwsd

run: build ## sipwsd, a SIP server and the web phone, to try in a browser
	scripts/setup.sh run
	cd examples/web-phone && npm ci && npm run build
	examples/web-phone/run.sh

test: ## lint, unit and integration tests, browser tests, a short fuzz run
	scripts/setup.sh test
	scripts/test.sh

lint: ## format, clippy, docs, licences, shell scripts
	scripts/setup.sh lint
	scripts/lint.sh

fuzz: ## fuzz every target for FUZZ_SECONDS (60) each
	scripts/fuzz.sh

bench: ## micro-benchmarks (criterion)
	cargo bench --locked --workspace

soak: ## the soak test (tests/soak.rs, seconds long in `make test`) for SOAK_SECONDS (600)
	SOAK_SECONDS=$${SOAK_SECONDS:-600} cargo test --locked --release --test soak -- --nocapture

clean: ## delete what was built and installed into the tree
	cargo clean
	rm -rf fuzz/target fuzz/artifacts fuzz/coverage tests/browser/node_modules examples/web-phone/node_modules examples/web-phone/dist
