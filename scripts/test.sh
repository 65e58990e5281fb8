#!/usr/bin/env bash
# All tests: unit, property and corpus replay as whoever calls, then the programs of the local hop, the end-to-end topologies and the
# Kubernetes clusters, which load programs and make network namespaces and therefore run as root. Called as a user, only the compiled test programs get root, by sudo; cargo
# never does.
#
# usage: scripts/test.sh [FILTER]      FILTER: as for cargo test, a part of the test's name

. "$(dirname "$0")/lib.sh"

main() {
    local failed=0
    timed "unit and property" cargo test --workspace --exclude isthmus-tests --exclude isthmus-ebpf --locked --no-fail-fast -- "$@" || failed=1
    # They have no names for cargo's filter.
    [ $# -gt 0 ] || timed "console's pages" npm --prefix console test --silent || failed=1
    root_runner
    timed "local hop" cargo test --package isthmus-ebpf --locked --no-fail-fast -- "$@" || failed=1
    # The topologies run the binary itself, which is a package of its own.
    if cargo build --locked --package isthmus; then
        timed "end to end" end_to_end --lib --test harness --test e2e --test guides --test demo --test wan --test console --test monitoring --test package -- "$@" || failed=1
        timed "traces" traces "$@" || failed=1
        timed "Kubernetes" kubernetes "$@" || failed=1
    else
        failed=1
    fi
    report
    return $failed
}

root_runner() {
    local triple
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || die "test: the end-to-end tests make network namespaces. Run as root, or install sudo."
    triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${triple}_RUNNER=sudo --preserve-env"
}

end_to_end() {
    cargo test --package isthmus-tests --locked --no-fail-fast "$@"
}

# The OpenTelemetry Collector's receiver is built for those who run a test that needs it, and so is Kubernetes.
traces() {
    local tests
    tests=$(end_to_end --test traces -- --list "$@") || return
    grep -q ': test$' <<<"$tests" || return 0
    tests/kube/build.sh collector && end_to_end --test traces -- "$@"
}

kubernetes() {
    local tests
    tests=$(end_to_end --test kube_e2e -- --list "$@") || return
    grep -q ': test$' <<<"$tests" || return 0
    # A cluster takes some 600 MB, and most tests have two.
    local at_once=$(($(nproc) < 4 ? $(nproc) : 4))
    tests/kube/build.sh control-plane coredns helm && end_to_end --test kube_e2e -- --test-threads "$at_once" "$@"
}

main "$@"
