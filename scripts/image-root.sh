#!/usr/bin/env bash
# What the image holds: the binary, the loader and the libraries that it is linked with, and nothing else.
#
# usage: scripts/image-root.sh BINARY DIRECTORY

. "$(dirname "$0")/lib.sh"
. scripts/elf.sh

main() {
    [ $# = 2 ] || { echo "usage: scripts/image-root.sh BINARY DIRECTORY" >&2; exit 2; }
    local binary=$1 root=$2 place file
    read_elf "$binary"
    mkdir -p "$root"
    install -m 0755 "$binary" "$root/isthmus"
    # What is linked statically looks names up by itself.
    [ "$libc" = gnu ] || return 0
    while read -r place file; do
        install -D -m 0755 "$(realpath "$file")" "$root$place"
    done < <(if [ -z "$(sysroot)" ]; then installed "$binary"; else foreign "$binary"; fi | sort -u)
    [ -e "$root$(interpreter "$binary")" ] || die "$binary: its loader $(interpreter "$binary") is not on this machine"
    # Without them names are looked up, too: this says where first.
    install -D -m 0644 /dev/stdin "$root/etc/nsswitch.conf" <<<'hosts: files dns'
}

# "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)", and "/lib64/ld-linux-x86-64.so.2 (0x…)": both at the place where they are
# looked for.
installed() {
    ldd "$1" | grep -oE '/[^ ]+' | sed 's/.*/& &/'
}

# Of another machine, from where its cross compiler has them: in /lib, where every loader looks.
foreign() {
    local directory name
    directory=$(sysroot)/lib
    echo "$(interpreter "$1") $directory/$(basename "$(interpreter "$1")")"
    LC_ALL=C readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | while read -r name; do
        echo "/lib/$name $directory/$name"
    done
}

main "$@"
