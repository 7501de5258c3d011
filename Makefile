# Two commands do everything on a fresh machine: `make demo` and `make test`.
.PHONY: demo test setup shell build fmt lint slt

demo: setup-build
	$(ENV) cargo run --quiet --bin triune -- demo

test:
	.ci/test

build: setup-build
	$(ENV) cargo build --release --bin triune

shell: setup-build
	$(ENV) cargo run --quiet --bin triune

fmt:
	cargo fmt --all

lint: setup-build
	$(ENV) cargo clippy --workspace --all-targets -- -D warnings

# SQL behaviour only: `make slt FILTER=vector`, `make slt COMPLETE=1` writes the expectations.
slt: setup
	$(ENV) $(if $(COMPLETE),TRIUNE_SLT_COMPLETE=1) TRIUNE_SLT_FILTER="$(FILTER)" cargo test -p triune-tests -p triune-features --test sqllogic -- --nocapture

setup:
	.ci/setup

.PHONY: setup-build
setup-build:
	.ci/setup build

# The protoc that setup brought, where the system has none.
ENV = PROTOC="$$( [ -x .venv/bin/protoc ] && echo $$PWD/.venv/bin/protoc || command -v protoc )"
