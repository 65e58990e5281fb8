# Sourced after lib.sh: what a binary is for, and how to treat one of another machine.
# shellcheck shell=bash disable=SC2034 # used by those who source this

# read_elf BINARY: sets `cpu` (x86_64, aarch64), `arch` (amd64, arm64: Debian's and OCI's name), `libc` (gnu, musl) and, for gnu, `glibc`,
# the version that it needs at least.
read_elf() {
    local machine
    machine=$(LC_ALL=C readelf -h "$1" | sed -n 's/^ *Machine: *//p')
    case $machine in
    *X86-64) cpu=x86_64 arch=amd64 ;;
    AArch64) cpu=aarch64 arch=arm64 ;;
    *) die "$1: found a binary for '$machine', expected one for x86-64 or aarch64" ;;
    esac
    if [ -z "$(interpreter "$1")" ]; then
        libc=musl glibc=
        return
    fi
    libc=gnu
    # Packed relocations are glibc 2.36's, and say so by a name without a number.
    glibc=$(LC_ALL=C readelf -VW "$1" | sed -nE 's/.*Name: GLIBC_([0-9.]+) .*/\1/p; s/.*Name: GLIBC_ABI_DT_RELR .*/2.36/p' | sort -V | tail -n 1)
}

# The loader that it asks for; nothing of one that is linked statically.
interpreter() {
    LC_ALL=C readelf -lW "$1" | sed -n 's/.*\[Requesting program interpreter: \(.*\)\].*/\1/p'
}

# Where Debian's cross compilers have the libraries of another machine; nothing for this one.
sysroot() {
    [ "$cpu" = "$(uname -m)" ] || echo "/usr/$cpu-linux-gnu"
}

# run_elf BINARY ARG…: under qemu's emulation where it is for another machine.
run_elf() {
    if [ "$cpu" = "$(uname -m)" ]; then
        "$@"
    else
        "qemu-$cpu" -L "$(sysroot)" "$@"
    fi
}

# stripped FROM TO: without symbols and debug information, which stay in FROM.
stripped() {
    local prefix=
    [ "$cpu" = "$(uname -m)" ] || prefix=$cpu-linux-gnu-
    "${prefix}strip" -o "$2" "$1"
}
