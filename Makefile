# Everything one does here by hand. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

MUSL := $(shell uname -m)-unknown-linux-musl
# The nightly toolchain is for cargo-fuzz alone: sanitizer coverage is not on stable.
FUZZ_TOOLCHAIN ?= nightly
FUZZ_SECONDS ?= 30
# A workspace of its own, because it is built by another toolchain.
FUZZ := $(wildcard fuzz/Cargo.toml)
BENCH_ARGS ?=
# The image's machine, by the name that images have for it.
ARCH ?= $(if $(findstring aarch64,$(MUSL)),arm64,amd64)
IMAGE_MACHINE := $(if $(filter arm64,$(ARCH)),aarch64,x86_64)
# The paths of this machine would be in the messages of panics, and make it another binary elsewhere.
IMAGE_FLAGS := --remap-path-prefix=$(CURDIR)=/src --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## the sidecar in front of a small demo app, with flags from a file (the first build takes minutes)
	scripts/setup.sh build
	cargo build --locked --release --bin tidegate --example demo_app
	scripts/run-demo.sh target/release/tidegate target/release/examples/demo_app

.PHONY: test
test: ## what CI runs: formatting, lints, documentation, the static binary, every test (installs what is missing)
	scripts/setup.sh test
	cargo fmt --all --check
	$(if $(FUZZ),cargo fmt --manifest-path $(FUZZ) --check)
	cargo clippy --locked --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings --allow rustdoc::private-intra-doc-links' cargo doc --locked --no-deps --document-private-items --lib
	cargo build --locked --target $(MUSL) --bin tidegate
	cargo test --locked

.PHONY: image
image: ## the container image as an OCI archive below target/image, without a container engine; ARCH=arm64 for the other machine
	scripts/setup.sh image $(ARCH)
	PATH=$(CURDIR)/target/cross/bin:$$PATH RUSTFLAGS='$(IMAGE_FLAGS)' \
		cargo $(if $(findstring $(IMAGE_MACHINE),$(MUSL)),build,zigbuild) --locked --profile dist --target $(IMAGE_MACHINE)-unknown-linux-musl --bin tidegate
	scripts/image.py --arch $(ARCH) --binary target/$(IMAGE_MACHINE)-unknown-linux-musl/dist/tidegate

.PHONY: bench
bench: ## measure against nginx, HAProxy and bare baselines; BENCH_ARGS=--quick for a first look
	scripts/setup.sh bench
	cargo build --locked --profile dist --bin tidegate
	cargo bench --locked --profile dist --bench evaluation
	cargo bench --locked --profile dist --bench compare -- $(BENCH_ARGS)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZ_SECONDS each (30)
	scripts/setup.sh fuzz $(FUZZ_TOOLCHAIN)
	@targets=$$(cargo +$(FUZZ_TOOLCHAIN) fuzz list); \
	for target in $$targets; do \
		echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
		cargo +$(FUZZ_TOOLCHAIN) fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) -timeout=10; \
	done

.PHONY: fmt
fmt: ## format the code
	cargo fmt --all
	$(if $(FUZZ),cargo fmt --manifest-path $(FUZZ))

.PHONY: clean
clean: ## remove what was built
	cargo clean
