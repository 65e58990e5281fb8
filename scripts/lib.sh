# Sourced by the scripts beside it: where things are, and how to say what is going on.
# shellcheck shell=bash disable=SC2034 # used by those who source this

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Programs that no package manager of the supported systems has, at the versions that were tried.
CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2
ENVOY_VERSION=1.40.0
GO_VERSION=1.26.8
MDBOOK_VERSION=0.5.4

# They live under target/: `make clean` takes them away, nothing else on the machine sees them.
tools="${CARGO_TARGET_DIR:-$PWD/target}/tools"
export PATH="$tools/bin:${CARGO_HOME:-$HOME/.cargo}/bin:$PATH:/usr/sbin:/sbin"

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf '%s\n' "error: $*" >&2; exit 1; }

# timed NAME COMMAND…: runs it, and remembers how it went for `report`.
timings=()
timed() {
    local name=$1 start=$SECONDS code=0
    shift
    say "$name"
    "$@" || code=$?
    timings+=("$(printf '%-24s %4d s  %s' "$name" $((SECONDS - start)) "$([ "$code" = 0 ] && echo ok || echo "FAILED ($code)")")")
    return "$code"
}

report() {
    [ ${#timings[@]} = 0 ] || printf '    %s\n' "${timings[@]}" >&2
}

# What is packed from here on has nothing of who packs it, where and when. Sets `work`, a directory that goes when the script ends, the
# `version` of isthmus, the `level` of compressors, and SOURCE_DATE_EPOCH to the time of the commit if it is not set.
packing() {
    export LC_ALL=C SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
    umask 022
    level=${PACKAGE_COMPRESSION:-6}
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
}

# archive DIRECTORY WHAT…: a tar on standard output. Names are given in order: nothing depends on how a directory happens to list them.
archive() {
    local at=$1
    shift
    tar -C "$at" --create --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner "$@"
}
