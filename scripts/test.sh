#!/usr/bin/env bash
# All tests: unit, property and corpus replay as whoever calls, then the end-to-end topologies, which make network namespaces and
# therefore run as root. Called as a user, only the compiled test programs get root, by sudo; cargo never does.
#
# usage: scripts/test.sh [FILTER]      FILTER: as for cargo test, a part of the test's name

. "$(dirname "$0")/lib.sh"

main() {
    local failed=0
    timed "unit and property" cargo test --workspace --exclude isthmus-tests --locked --no-fail-fast -- "$@" || failed=1
    timed "end to end" end_to_end "$@" || failed=1
    report
    return $failed
}

end_to_end() {
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "test: the end-to-end tests make network namespaces. Run as root, or install sudo."
        export "CARGO_TARGET_${triple}_RUNNER=sudo --preserve-env"
    fi
    # The topologies run the binary itself, which is a package of its own.
    cargo build --locked --package isthmus && cargo test --package isthmus-tests --locked --no-fail-fast -- "$@"
}

main "$@"
