#!/usr/bin/env bash
# Builds and packs what is committed twice, in two directories, with another time zone and umask the second time, and compares. Names
# every file that differs.
#
# usage: scripts/reproducible.sh [TARGET]

. "$(dirname "$0")/lib.sh"

main() {
    local work
    work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/reproducible
    rm -rf "$work"
    mkdir -p "$work"
    git diff --quiet HEAD || say "what is not committed is left out"
    made "$work/once" "$work/first" "$@"
    (
        umask 077
        export TZ=Pacific/Kiritimati
        made "$work/and/a/second/time" "$work/second" "$@"
    )
    if scripts/same.sh "$work/first" "$work/second"; then
        say "built twice, the same bytes:"
        cat "$work/first/SHA256SUMS"
    else
        die "two builds of $(git rev-parse --short HEAD) differ: both are in $work"
    fi
}

# made DIRECTORY OUT [TARGET]: a clone in DIRECTORY, which is removed, makes what is in OUT.
made() {
    local directory=$1 out=$2 binary
    shift 2
    say "building in $directory"
    git clone --quiet --shared . "$directory"
    unset CARGO_TARGET_DIR
    binary=$("$directory/scripts/release.sh" "$@")
    "$directory/scripts/package.sh" "$binary" "$out"
    install -m 0755 "$binary" "$out/isthmus"
    rm -rf "$directory"
}

main "$@"
