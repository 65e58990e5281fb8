#!/usr/bin/env bash
# The release binary as packages have it: the same bytes from the same sources and compilers, in whichever directory. Prints its path.
#
# usage: scripts/release.sh [TARGET]      TARGET: a target of rustc, this machine's if left out; its standard library is fetched by rustup

. "$(dirname "$0")/lib.sh"

main() {
    local target host cargo_home target_dir flags place=release options=()
    host=$(rustc -vV | sed -n 's/^host: //p')
    target=${1:-$host}
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
    # Flags do not reach macros where a target is named, and their hashes, which are in what uses them, then tell directories apart.
    if [ "$target" != "$host" ]; then
        standard_library "$target"
        options=(--target "$target")
        place=$target/release
    fi
    linker "$target" "$host"
    # Panics, debug information and assertions name files. Of two that match, the last one counts.
    flags=("$cargo_home=cargo" "$PWD=isthmus" "$target_dir=target")
    unset RUSTFLAGS
    CARGO_ENCODED_RUSTFLAGS=$(joined "${flags[@]/#/--remap-path-prefix=}")
    CFLAGS=$(printf -- '-ffile-prefix-map=%s ' "${flags[@]}")
    export CARGO_ENCODED_RUSTFLAGS CFLAGS CARGO_INCREMENTAL=0
    cargo build --release --locked --package isthmus "${options[@]}" >&2
    echo "$target_dir/$place/isthmus"
}

# With what cargo separates flags.
joined() {
    local IFS=$'\x1f'
    echo "$*"
}

standard_library() {
    rustup target list --installed | grep -qxF "$1" && return 0
    say "installing the standard library of $1 by rustup"
    rustup target add "$1"
}

# Debian's cross compilers are called like the target, but for a word.
linker() {
    local target=$1 host=$2 variable
    case $target in
    "$host" | *-musl) return 0 ;;
    esac
    variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_LINKER
    export "$variable=${!variable:-${target/-unknown/}-gcc}"
}

main "$@"
