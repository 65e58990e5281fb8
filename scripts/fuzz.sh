#!/usr/bin/env bash
# Explores the fuzz targets with libFuzzer, and says where a crash's input is. What it finds is kept under target/, so that a later
# run goes on from there. `make test` replays the committed corpus; this one looks for what should be in it.
#
# usage: scripts/fuzz.sh [--seconds N] [--adopt] [TARGET…]     N: for each target, 60 unless told; TARGET: all unless told
#   --adopt: afterwards copy into fuzz/corpus/ what covers code that the committed corpus does not

. "$(dirname "$0")/lib.sh"

main() {
    local seconds=60 adopt=no target failed=0
    while [[ ${1:-} == --* ]]; do
        case $1 in
        --seconds) seconds=${2:?a number of seconds} && shift 2 ;;
        --adopt) adopt=yes && shift ;;
        *) die "fuzz: found '$1', expected --seconds N or --adopt" ;;
        esac
    done
    if [ $# = 0 ]; then
        mapfile -t < <(basename -s .rs fuzz/explore/fuzz_targets/*.rs)
        set -- "${MAPFILE[@]}"
    fi
    for target in "$@"; do
        [ -e "fuzz/explore/fuzz_targets/$target.rs" ] || die "fuzz: found '$target', expected one of fuzz/explore/fuzz_targets"
        timed "$target" explore "$target" "$seconds" || failed=1
        [ "$adopt" = no ] || adopt "$target" || failed=1
    done
    report
    return $failed
}

explore() {
    mkdir -p "target/fuzz/found/$1"
    run "$1" "$PWD/target/fuzz/found/$1" "$PWD/fuzz/corpus/$1" -- "-max_total_time=$2" -max_len=65536 -timeout=20 -print_final_stats=1
}

adopt() {
    run "$1" "$PWD/fuzz/corpus/$1" "$PWD/target/fuzz/found/$1" -- -merge=1 -max_len=65536
}

run() {
    cargo +nightly fuzz run --fuzz-dir fuzz/explore --target-dir "$PWD/target/fuzz" --sanitizer address "$@"
}

main "$@"
