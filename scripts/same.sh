#!/usr/bin/env bash
# Whether two directories of packages hold the same bytes. Names what differs, inside of archives too.
#
# usage: scripts/same.sh DIRECTORY DIRECTORY

. "$(dirname "$0")/lib.sh"

main() {
    [ $# = 2 ] || { echo "usage: scripts/same.sh DIRECTORY DIRECTORY" >&2; exit 2; }
    local work file name same=0
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # the path of now
    trap "rm -rf '$work'" EXIT
    diff <(ls "$1") <(ls "$2") >&2 || same=1
    for file in "$1"/*; do
        name=${file##*/}
        if [ ! -e "$2/$name" ] || cmp -s "$file" "$2/$name"; then
            continue
        fi
        same=1
        echo "$name differs" >&2
        if unpacked "$file" "$work/1/$name" && unpacked "$2/$name" "$work/2/$name"; then
            (cd "$work" && diff -rq --no-dereference "1/$name" "2/$name") | sed 's/^/    /' >&2 || true
        fi
    done
    return $same
}

# Fails for what is no archive.
unpacked() {
    mkdir -p "$2"
    case $1 in
    *.deb) dpkg-deb --raw-extract "$1" "$2" ;;
    *.tar | *.tar.xz) tar -xf "$1" -C "$2" ;;
    *) return 1 ;;
    esac
}

main "$@"
