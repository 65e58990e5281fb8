#!/usr/bin/env bash
# What the image holds: the binary, the loader and the libraries that it is linked with, and nothing else.
#
# usage: scripts/image-root.sh BINARY DIRECTORY

set -euo pipefail

main() {
    [ $# = 2 ] || { echo "usage: scripts/image-root.sh BINARY DIRECTORY" >&2; exit 2; }
    local binary=$1 root=$2 library
    mkdir -p "$root"
    install -m 0755 "$binary" "$root/isthmus"
    # "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)", and "/lib64/ld-linux-x86-64.so.2 (0x…)": both at the place where they are
    # looked for.
    while read -r library; do
        install -D -m 0755 "$(realpath "$library")" "$root$library"
    done < <(ldd "$binary" | grep -oE '/[^ ]+' | sort -u)
    # Without them names are looked up, too: this says where first.
    install -D -m 0644 /dev/stdin "$root/etc/nsswitch.conf" <<<'hosts: files dns'
}

main "$@"
