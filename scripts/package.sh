#!/usr/bin/env bash
# What is given to others, of a binary: a .deb, a tarball with the same contents, a container image, a list of what it is made of (SBOM)
# and checksums. The same binary and commit make the same bytes.
#
# usage: scripts/package.sh BINARY DIRECTORY
#
# SOURCE_DATE_EPOCH is the time that everything in them has, that of the commit if it is not set. PACKAGE_COMPRESSION is a level of xz
# and gzip from 0 to 9, 6 if it is not set: tests take less.

. "$(dirname "$0")/lib.sh"
. scripts/elf.sh

main() {
    [ $# = 2 ] || { echo "usage: scripts/package.sh BINARY DIRECTORY" >&2; exit 2; }
    local binary=$1 out=$2 name
    packing
    read_elf "$binary"
    name=isthmus-$version-$cpu-linux-$libc
    mkdir -p "$out"
    stripped "$binary" "$work/isthmus"
    python3 scripts/sbom.py "$cpu-unknown-linux-$libc" >"$work/isthmus.cdx.json"
    stage "$work" "$work/$name"
    tarball "$work" "$name" >"$out/$name.tar.xz"
    deb "$work/$name" "$out/isthmus_${version}_$arch.deb"
    scripts/image.sh "$work/isthmus" "$out/$name.oci.tar"
    install -m 0644 "$work/isthmus.cdx.json" "$out/$name.cdx.json"
    sums "$out" "$name.tar.xz" "isthmus_${version}_$arch.deb" "$name.oci.tar" "$name.cdx.json"
}

# stage WORK ROOT: everything that a package holds, at its place. What is added here is in all of them.
stage() {
    local from=$1 root=$2 page
    install -D -m 0755 "$from/isthmus" "$root/usr/bin/isthmus"
    install -d -m 0755 "$root/etc/isthmus"
    install -D -m 0644 deploy/systemd/isthmus.service "$root/usr/lib/systemd/system/isthmus.service"
    install -D -m 0644 deploy/systemd/sysusers.conf "$root/usr/lib/sysusers.d/isthmus.conf"
    install -D -m 0644 deploy/systemd/tmpfiles.conf "$root/usr/lib/tmpfiles.d/isthmus.conf"

    run_elf "$from/isthmus" man --out "$from/man"
    for page in "$from"/man/*.1; do
        gzip -9n <"$page" | install -D -m 0644 /dev/stdin "$root/usr/share/man/man1/${page##*/}.gz"
    done
    completions "$from/isthmus" bash "$root/usr/share/bash-completion/completions/isthmus"
    completions "$from/isthmus" zsh "$root/usr/share/zsh/vendor-completions/_isthmus"
    completions "$from/isthmus" fish "$root/usr/share/fish/vendor_completions.d/isthmus.fish"

    local doc=$root/usr/share/doc/isthmus
    install -D -m 0644 deploy/systemd/isthmus.yaml "$doc/examples/isthmus.yaml"
    install -D -m 0644 deploy/debian/copyright "$doc/copyright"
    install -D -m 0644 "$from/isthmus.cdx.json" "$doc/isthmus.cdx.json"
    gzip -9n <CHANGELOG.md | install -D -m 0644 /dev/stdin "$doc/NEWS.gz"
    debian_changelog | gzip -9n | install -D -m 0644 /dev/stdin "$doc/changelog.gz"
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

completions() {
    run_elf "$1" completions "$2" | install -D -m 0644 /dev/stdin "$3"
}

debian_changelog() {
    printf 'isthmus (%s) unstable; urgency=medium\n\n  * See NEWS.gz.\n\n -- %s  %s\n' \
        "$version" "$(maintainer)" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
}

maintainer() {
    sed -n 's/^Maintainer: //p' deploy/debian/control
}

tarball() {
    archive "$1" "$2" | xz -T1 "-$level"
}

# deb ROOT FILE: ROOT gets a directory DEBIAN.
deb() {
    local root=$1 script
    install -d -m 0755 "$root/DEBIAN"
    (cd "$root" && find etc usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$arch/" -e "s/@SIZE@/$(kibibytes "$root")/" \
        -e "s/@LIBRARIES@/$(depends)/" deploy/debian/control >"$root/DEBIAN/control"
    for script in postinst prerm postrm; do
        install -m 0755 "deploy/debian/$script" "$root/DEBIAN/$script"
    done
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    # With several threads xz makes other bytes than with one.
    DPKG_DEB_THREADS_MAX=1 dpkg-deb --root-owner-group -Zxz "-z$level" --build "$root" "$2" >/dev/null
}

# As dpkg counts: each file in whole KiB, and one for each directory.
kibibytes() {
    find "$1/etc" "$1/usr" -printf '%y %s\n' | awk '{ sum += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print sum }'
}

# What the binary is linked with, as Debian's packages are called.
depends() {
    [ "$libc" = gnu ] || return 0
    echo "libc6 (>= $glibc), libgcc-s1, "
}

sums() {
    (cd "$1" && shift && sha256sum -- "$@" >SHA256SUMS)
}

main "$@"
