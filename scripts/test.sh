#!/usr/bin/env bash
# All tests: unit, property and corpus replay as whoever calls, then the programs of the local hop, the end-to-end topologies and the
# Kubernetes clusters, which load programs and make network namespaces and therefore run as root. Called as a user, only the compiled test programs get root, by sudo; cargo
# never does.
#
# usage: scripts/test.sh [FILTER]      FILTER: as for cargo test, a part of the test's name

. "$(dirname "$0")/lib.sh"

# Test programs of tests/ that need nothing built but isthmus.
end_to_end=(harness e2e guides demo wan console monitoring package)
# Those, and the others of tests/ and ebpf/, run as root, in steps of their own. All that are not here run as whoever calls.
as_root=(kernel "${end_to_end[@]}" traces kube_e2e)

main() {
    local failed=0
    # Always the whole workspace: for a selection of its own cargo would compile most crates anew, with other features. The topologies run
    # the binary that is built here.
    timed "build" cargo build --workspace --bins --tests --locked || { report; return 1; }
    timed "unit and property" units "$@" || failed=1
    # They have no names for cargo's filter.
    [ $# -gt 0 ] || timed "console's pages" npm --prefix console test --silent || failed=1
    root_runner
    timed "local hop" cargo_test --test kernel -- "$@" || failed=1
    timed "end to end" cargo_test "${end_to_end[@]/#/--test=}" -- "$@" || failed=1
    timed "traces" traces "$@" || failed=1
    timed "Kubernetes" kubernetes "$@" || failed=1
    report
    return $failed
}

cargo_test() {
    cargo test --workspace --locked --no-fail-fast "$@"
}

# Libraries, binaries, and every test program that is not among those that need root: a new one is run though nobody names it here.
units() {
    local name names targets=(--lib --bins)
    names=$(cargo metadata --no-deps --locked --format-version 1 | tr '{' '\n' | sed -n 's/.*"kind":\["test"\].*"name":"\([^"]*\)".*/\1/p' | sort -u)
    [ -n "$names" ] || die "test: cargo metadata names no test program"
    for name in $names; do
        [[ " ${as_root[*]} " = *" $name "* ]] || targets+=(--test "$name")
    done
    cargo_test "${targets[@]}" -- "$@" && cargo_test --doc -- "$@"
}

root_runner() {
    local triple
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || die "test: the end-to-end tests make network namespaces. Run as root, or install sudo."
    triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${triple}_RUNNER=sudo --preserve-env"
}

# The OpenTelemetry Collector's receiver is built for those who run a test that needs it, and so is Kubernetes.
traces() {
    local tests
    tests=$(cargo_test --test traces -- --list "$@") || return
    grep -q ': test$' <<<"$tests" || return 0
    tests/kube/build.sh collector && cargo_test --test traces -- "$@"
}

kubernetes() {
    local tests
    tests=$(cargo_test --test kube_e2e -- --list "$@") || return
    grep -q ': test$' <<<"$tests" || return 0
    # A cluster takes some 600 MB, and most tests have two.
    local at_once=$(($(nproc) < 4 ? $(nproc) : 4))
    tests/kube/build.sh control-plane coredns helm && cargo_test --test kube_e2e -- --test-threads "$at_once" "$@"
}

main "$@"
