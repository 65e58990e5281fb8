#!/usr/bin/env bash
# A newcomer's clock: from a clean clone to the demonstration's first table, each step accounted for. Prints a table for
# benches/RESULTS.md. What the machine has already (packages, Rust, crates in cargo's cache) is said, as it decides most of it.
#
# usage: scripts/newcomer.sh [--dev] [--loopback]
#   --dev        cargo's dev profile in place of release: to try this script
#   --loopback   the demonstration without root

. "$(dirname "$0")/lib.sh"

main() {
    local profile=release loopback=() argument
    for argument in "$@"; do
        case $argument in
        --dev) profile=dev ;;
        --loopback) loopback=(--loopback) ;;
        *) die "newcomer: found '$argument', expected --dev or --loopback" ;;
        esac
    done
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    had=$(what_is_there)
    step clone git clone --quiet --no-local "file://$PWD" "$work/isthmus"
    cd "$work/isthmus"
    # As in a clone that nobody has built in.
    unset CARGO_TARGET_DIR
    step "packages and Rust" scripts/setup.sh build demo
    step "crates fetched" cargo fetch --locked --quiet
    step "build ($profile)" cargo build --profile "$profile" --locked --quiet --package isthmus
    [ "$profile" = dev ] && profile=debug
    demonstrate "target/$profile/isthmus" demo "${loopback[@]}"
    table
}

what_is_there() {
    local missing
    command -v rustup >/dev/null && echo "rustup is there" || echo "no rustup"
    missing=$(for package in build-essential clang iproute2 nftables nginx-light wrk; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done)
    echo "packages missing: ${missing:-none}"
    echo "crates in cargo's cache: $(find "${CARGO_HOME:-$HOME/.cargo}/registry/cache" -name '*.crate' 2>/dev/null | wc -l)"
}

# step NAME COMMAND…: runs it, and remembers how long it took.
steps=()
total=0
step() {
    local name=$1 start
    shift
    say "$name"
    start=$(now)
    "$@" >&2
    took "$name" $(($(now) - start))
}

took() {
    steps+=("$(printf '| %s | %d.%d |' "$1" $(($2 / 1000)) $(($2 % 1000 / 100)))")
    total=$((total + $2))
}

now() { date +%s%3N; }

# The demonstration, as root unless it is on loopback: when a client in west was first served, and when the table came.
demonstrate() {
    local start served tabled line as=()
    case " $* " in
    *" --loopback "*) ;;
    *) [ "$(id -u)" = 0 ] || as=(sudo) ;;
    esac
    say "the demonstration"
    start=$(now)
    while IFS= read -r line; do
        printf '%s\n' "$line" >&2
        case $line in
        *"a client in west gets"*) served=${served:-$(now)} ;;
        connections*path*) tabled=${tabled:-$(now)} ;;
        esac
    done < <("${as[@]}" "$@" 2>&1)
    [ -n "${served:-}" ] || die "newcomer: the demonstration had no answer"
    [ -n "${tabled:-}" ] || die "newcomer: the demonstration had no table"
    took "the demonstration, to the first answer across clusters" $((served - start))
    took "the demonstration, to its table" $((tabled - served))
}

table() {
    printf 'On %s cores; before: %s\n\n' "$(nproc)" "$(paste -sd ';' <<<"$had" | sed 's/;/; /g')"
    printf '| step | s |\n|---|---|\n'
    printf '%s\n' "${steps[@]}"
    printf '| **all** | **%d.%d** |\n' $((total / 1000)) $((total % 1000 / 100))
}

main "$@"
