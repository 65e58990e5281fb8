# The documented way in. Each target installs what it is missing first (scripts/setup.sh), and says so.
#
#   make demo ARGS="--seconds 5"      ARGS goes to the program
#   make test ARGS=half_close         … or, for tests, picks by name

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH):/usr/sbin:/sbin

ARGS ?=
TARGET ?=
target := $(or $(CARGO_TARGET_DIR),target)
# Namespaces need root, and nothing else does: cargo always runs as you.
sudo := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env)

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install whatever is missing for all of the below
	@scripts/setup.sh

.PHONY: build
build: ## The release binary, target/release/isthmus
	@scripts/setup.sh build
	cargo build --release --locked --package isthmus

.PHONY: demo
demo: ## Two clusters on this machine, one service, real traffic (ARGS="--loopback": without root)
	@scripts/setup.sh demo
	cargo build --release --locked --package isthmus
	@$(if $(findstring --loopback,$(ARGS)),,$(sudo)) $(target)/release/isthmus demo $(ARGS)

.PHONY: test
test: ## All tests; those in network namespaces as root, by sudo (ARGS=name picks some)
	@scripts/setup.sh test
	@scripts/test.sh $(ARGS)

.PHONY: lint
lint: ## Format, clippy, rustdoc, licences and bans, shellcheck, documents
	@scripts/setup.sh lint
	@scripts/lint.sh

.PHONY: site
site: ## The documents as a site, target/site/index.html
	@scripts/setup.sh build site
	@scripts/site.sh

.PHONY: fmt
fmt: ## Format the code
	@scripts/setup.sh build
	cargo fmt --all

.PHONY: bench
bench: ## Side by side with Envoy, HAProxy and nginx (ARGS=--quick: two minutes; ARGS=wan, ARGS=loopback, ARGS=control, ARGS=ports)
ifneq ($(filter control,$(ARGS)),)
	@scripts/setup.sh test
	@tests/kube/build.sh control-plane
	cargo build --release --locked --package isthmus --package isthmus-benches-control
	@$(sudo) $(target)/release/isthmus-benches-control $(ARGS)
else
	@scripts/setup.sh bench
	cargo build --release --locked --package isthmus --package isthmus-benches
	@$(if $(filter --quick loopback,$(ARGS)),$(if $(filter wan,$(ARGS)),$(sudo)),$(sudo)) $(target)/release/isthmus-benches $(ARGS)
endif

.PHONY: soak
soak: ## Two clusters with the local hop under churn for ten minutes, as root by sudo (ARGS="--seconds 60 --clients 64")
	@scripts/setup.sh test
	cargo build --locked --package isthmus
	cargo build --locked --package isthmus-tests --bin soak
	@$(sudo) $(target)/debug/soak $(ARGS)

.PHONY: kernels
kernels: ## The programs of ebpf/ in kernels of distributions, in machines that qemu emulates (ARGS="5.15 6.1")
	@scripts/setup.sh build kernels
	@scripts/kernels.sh $(ARGS)

.PHONY: conformance
conformance: ## The MCS API's conformance suite (MCS_API=checkout of kubernetes-sigs/mcs-api, ARGS=report.md)
	@scripts/setup.sh test
	@tests/kube/build.sh conformance control-plane
	cargo build --locked --package isthmus
	cargo build --locked --package isthmus-tests --bin mcs-conformance
	@$(sudo) $(target)/debug/mcs-conformance $(ARGS)

.PHONY: fuzz
fuzz: ## Look for inputs that break a parser (ARGS="--seconds 600 mux_pair"; needs nightly Rust)
	@scripts/setup.sh build fuzz
	@scripts/fuzz.sh $(ARGS)

.PHONY: package
package: ## .deb, tarball, image, SBOM and checksums, in target/package (TARGET=aarch64-unknown-linux-gnu: for others)
	@scripts/setup.sh build package $(TARGET)
	@binary=$$(scripts/release.sh $(TARGET)) && scripts/package.sh "$$binary" $(target)/package/$(TARGET)

.PHONY: reproducible
reproducible: ## Build and pack twice, in two directories, and compare
	@scripts/setup.sh build package $(TARGET)
	@scripts/reproducible.sh $(TARGET)

.PHONY: clean
clean: ## Remove everything built, and the tools in target/tools
	cargo clean
