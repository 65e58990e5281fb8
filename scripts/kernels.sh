#!/usr/bin/env bash
# Loads the programs of ebpf/programs/ into kernels of distributions, each in a machine of its own that qemu emulates (no KVM, no root), and
# runs the tests of ebpf/tests/ and a gateway there: scripts/kernels/init. Says of each kernel what works, and fails where that is not what
# docs/local-hop.md and docs/shared-listener.md promise. 2 to 15 minutes a kernel.
#
# usage: scripts/kernels.sh [--tests NAME[,NAME…]] [--times NUMBER] [--pretend RELEASE] [KERNEL…]
#        KERNEL: 5.10, 5.15, 6.1, 6.12, backports; none: all of them
#        --tests: only those whose names have one of these in them
#        --times: so often
#        --pretend: isthmus is told this release instead of the kernel's own, to see what a kernel says that would not be asked
#
# The kernels are what the suites have at the time: apt looks them up and checks them against the distribution's keys, in directories of
# its own under target/kernels, and nothing is installed.

. "$(dirname "$0")/lib.sh"

# From which release on they are promised: as ebpf/src/ asks for them.
first='s/^const FIRST: (u32, u32) = (\([0-9]*\), \([0-9]*\));/\1.\2/p'
LOCAL_HOP=$(sed -n "$first" ebpf/src/programs.rs)
SHARED_LISTENER=$(sed -n "$first" ebpf/src/shared_listener.rs)
# Seconds that a kernel may take, boot and tests and all.
MOST=${KERNELS_SECONDS:-2400}

at=${CARGO_TARGET_DIR:-$PWD/target}/kernels
filter=""
times=1
pretended=""

main() {
    local kernel failed=0
    while [ $# -gt 0 ]; do
        case $1 in
        --tests) filter=${2:?names of tests}; shift 2 ;;
        --times)
            times=${2:?a number}
            [[ $times =~ ^[1-9][0-9]?$ ]] || die "kernels: found --times '$times', expected a number from 1 to 99"
            shift 2
            ;;
        --pretend) pretended=${2:?a release}; shift 2 ;;
        -*) die "kernels: found '$1', expected --tests, --times or --pretend" ;;
        *) break ;;
        esac
    done
    [ $# -gt 0 ] || set -- 5.10 5.15 6.1 6.12 backports
    for kernel in "$@"; do suite "$kernel" >/dev/null; done
    [ "$(uname -m)" = x86_64 ] || die "kernels: found a machine of $(uname -m), expected x86_64, whose kernels these are"
    timed "build" programs
    for kernel in "$@"; do
        mkdir -p "$at/$kernel"
        # What one suite has not, or has no more, is no reason to try no other.
        if ! timed "$kernel: download" fetch "$kernel" || ! timed "$kernel: initramfs" initramfs "$kernel"; then
            printf '\n%s\n  × %-16s found none that could be fetched and unpacked, expected one\n' "$kernel" "a kernel" >"$at/$kernel/said"
            failed=1
            continue
        fi
        timed "$kernel: run" boot "$kernel" || true
        judge "$kernel" >"$at/$kernel/said" || failed=1
    done
    report
    for kernel in "$@"; do cat "$at/$kernel/said"; done
    return $failed
}

# Where a kernel is from: the package that depends on the newest one, and apt's sources.
suite() {
    case $1 in
    5.10) echo linux-image-amd64 && debian bullseye bullseye-security ;;
    5.15) echo linux-image-virtual && ubuntu jammy jammy-updates jammy-security ;;
    6.1) echo linux-image-amd64 && debian bookworm bookworm-security ;;
    6.12) echo linux-image-amd64 && debian trixie trixie-security ;;
    backports) echo linux-image-amd64 && debian trixie-backports ;;
    keyring) echo ubuntu-keyring && debian trixie ;;
    *) die "kernels: found '$1', expected 5.10, 5.15, 6.1, 6.12 or backports" ;;
    esac
}

debian() {
    local suite key=/usr/share/keyrings/debian-archive-keyring.gpg
    for suite in "$@"; do
        case $suite in
        *-security) echo "deb [signed-by=$key] http://deb.debian.org/debian-security $suite main" ;;
        *) echo "deb [signed-by=$key] http://deb.debian.org/debian $suite main" ;;
        esac
    done
}

# Ubuntu's keys are a package of Debian's.
ubuntu() {
    local suite key=$at/keyring/usr/share/keyrings/ubuntu-archive-keyring.gpg
    for suite in "$@"; do echo "deb [signed-by=$key] http://archive.ubuntu.com/ubuntu $suite main"; done
}

# What runs there: without what debuggers read, as all of it lies in the machine's memory.
programs() {
    local tests program root=$at/programs
    # Of the whole workspace, as scripts/test.sh has it: then what that has compiled need not be compiled anew.
    tests=$(cargo build --locked --workspace --bin isthmus --test kernel --message-format json |
        sed -n 's/.*"executable":"\([^"]*\/kernel-[^"]*\)".*/\1/p') || return
    [ -x "$tests" ] || die "kernels: found '$tests', expected cargo to name one test program"
    rm -rf "$root"
    mkdir -p "$root"/{bin,lib64,modules}
    strip --strip-debug -o "$root/bin/isthmus" "${CARGO_TARGET_DIR:-target}/debug/isthmus"
    strip --strip-debug -o "$root/kernel" "$tests"
    cp scripts/kernels/init "$root/init"
    cp "$(command -v busybox)" "$root/bin/busybox"
    # busybox has programs of these names that take less.
    for program in ip nsenter unshare; do cp "$(command -v $program)" "$root/bin/$program"; done
    libraries "$root" "$root/kernel" "$root"/bin/{isthmus,ip,nsenter,unshare}
}

# libraries ROOT PROGRAM…: what the programs are linked to, where they look for it.
libraries() {
    local root=$1 library
    shift
    ldd "$@" | grep -o '/[^ :]*lib[^ :]*\.so[^ :]*' | sort -u | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
}

# fetch KERNEL: unpacks its image and modules into a directory of its own, unless they are there.
fetch() {
    local dir=$at/$1 packages package
    if [ "$1" = 5.15 ] && [ ! -e "$at/keyring/packages" ]; then fetch keyring; fi
    mkdir -p "$dir"/apt/{lists/partial,cache/archives/partial,none}
    : >"$dir/apt/status"
    suite "$1" | sed 1d >"$dir/apt/sources"
    apt "$dir" apt-get update -qq || return
    packages=$(newest "$dir" "$(suite "$1" | sed -n 1p)")
    [ -n "$packages" ] || { say "kernels: $1: found no package of a kernel in $(cat "$dir/apt/sources")" && return 1; }
    if [ "$(cat "$dir/packages" 2>/dev/null)" != "$packages" ]; then
        rm -rf "${dir:?}"/{usr,lib,boot,etc,packages} "$dir"/*.deb
        # shellcheck disable=SC2086 # one word, one package
        (cd "$dir" && apt "$dir" apt-get download -qq $packages) || return
        for package in "$dir"/*.deb; do dpkg -x "$package" "$dir" || return; done
        rm "$dir"/*.deb
        echo "$packages" >"$dir/packages"
    fi
}

# newest DIRECTORY PACKAGE: it, what it depends on of a kernel and that depends on, with their versions.
newest() {
    apt "$1" apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$2" |
        grep -E "^(ubuntu-keyring|linux-(image|modules|binary)-[0-9].*)$" | sort -u | while read -r package; do
        echo "$package=$(apt "$1" apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p')"
    done
}

# apt DIRECTORY COMMAND…: with the sources and the state of this directory alone.
apt() {
    local dir=$1/apt command=$2
    shift 2
    "$command" -o Dir::Etc::sourcelist="$dir/sources" -o Dir::Etc::sourceparts="$dir/none" -o Dir::Etc::preferencesparts="$dir/none" \
        -o Dir::Etc::preferences=/dev/null -o Dir::State="$dir" -o Dir::State::status="$dir/status" -o Dir::State::lists="$dir/lists" \
        -o Dir::Cache="$dir/cache" -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any "$@"
}

# initramfs KERNEL: the programs, and the modules that the tests need.
initramfs() {
    local dir=$at/$1 root=$at/root modules release module file
    rm -rf "$root"
    cp -a "$at/programs" "$root"
    mkdir -p "$dir/modules/lib"
    [ -d "$dir/lib/modules" ] && modules=$dir/lib/modules || modules=$dir/usr/lib/modules
    ln -sfn "$modules" "$dir/modules/lib/modules"
    release=$(ls "$modules")
    depmod -b "$dir/modules" "$release" 2>/dev/null || return
    for module in veth tls; do
        # Debian's 5.10 has no kTLS: then there is nothing to test of it.
        modprobe -d "$dir/modules" -S "$release" --show-depends "$module" 2>/dev/null || echo "$module" >>"$root/modules/absent"
    done | sed -n 's/^insmod //p' | while read -r file _; do
        module=$(basename "$file" | sed 's/\.ko.*//').ko
        [ ! -e "$root/modules/$module" ] || continue
        case $file in
        *.xz) xz -dc "$file" ;;
        *.zst) zstd -qdc "$file" ;;
        *) cat "$file" ;;
        esac >"$root/modules/$module"
        echo "$module" >>"$root/modules/order"
    done
    (cd "$root" && find . | cpio --quiet --create --format newc --owner 0:0 | gzip -1) >"$dir/initramfs"
}

# boot KERNEL: until it is off, or the time is.
boot() {
    local dir=$at/$1 image tests=$filter
    # A kernel that the local hop is not promised for has nothing to run of its tests.
    if [ -z "$tests$pretended" ] && ! promised "$LOCAL_HOP" "$(ls "$dir/modules/lib/modules/")"; then tests=shared_listener; fi
    image=$(find "$dir" -path '*/boot/vmlinuz-*' -o -path '*/modules/*/vmlinuz' | head -n 1)
    [ -n "$image" ] || die "kernels: no image in $dir: its packages have changed"
    # no_timer_check: on a busy machine an emulated timer is late, and the kernel takes it for broken.
    timeout --foreground "$MOST" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic -no-reboot -nodefaults \
        -serial mon:stdio -kernel "$image" -initrd "$dir/initramfs" \
        -append "console=ttyS0 panic=-1 loglevel=4 no_timer_check isthmus.tests=$tests isthmus.times=$times isthmus.pretend=$pretended" </dev/null | sed -u 's/\r$//' | tee "$dir/log"
}

# judge KERNEL: what the machine has said, and what of it should be otherwise.
judge() {
    local kernel=$1 release wrong=0 hop shared warnings absent
    release=$(told "$kernel" release)
    hop=$(told "$kernel" local_hop)
    shared=$(told "$kernel" shared_listener)
    warnings=$(told "$kernel" warning)
    printf '\n%s: Linux %s\n' "$kernel" "${release:-, which did not boot: see $at/$kernel/log}"
    if [ -z "$release" ]; then return 1; fi
    expect "tests" "$(told "$kernel" tests)" "0 [1-9]* passed; 0 failed*"
    told "$kernel" failed | sed 's/^/                    failed: /'
    if promised "$LOCAL_HOP" "$release"; then
        absent=$(told "$kernel" absent | xargs)
        expect "missing modules" "${absent:-none}" none
        expect "local hop" "$hop" '{"state":"on"*'
        # Both ends of the client's connection and of that with the endpoint, and what the client writes.
        expect "redirected" "$(told "$kernel" redirected)" "4 ends, [1-9]* messages"
    else
        printf '                    those of the local hop were not run: it needs Linux %s\n' "$LOCAL_HOP"
        expect "local hop" "$hop" "{\"state\":\"off\",\"reason\":\"found Linux $release, expected $LOCAL_HOP or later\"*"
    fi
    promised "$SHARED_LISTENER" "$release" && expect "shared listener" "$shared" '{"state":"on"*'
    expect "an answer" "$(told "$kernel" answer)" "through the gateway"
    expect "isthmus ended" "$(told "$kernel" ended)" 0
    expect "kernel's faults" "${warnings:-none}" none
    grep -q '^kernels: end$' "$at/$kernel/log" || expect "the machine" "a panic, or nothing after $MOST s: see $at/$kernel/log" "its end"
    return $wrong
}

# expect WHAT FOUND PATTERN: in `judge`.
expect() {
    # shellcheck disable=SC2053 # a pattern
    if [[ $2 == $3 ]]; then
        printf '  √ %-16s %s\n' "$1" "$2"
    else
        printf '  × %-16s found %s, expected %s\n' "$1" "${2:-nothing}" "$3"
        wrong=1
    fi
}

# promised FIRST RELEASE
promised() {
    [ -n "$2" ] && [ "$(printf '%s\n' "$1" "${2%%-*}" | sort -V | head -n 1)" = "$1" ]
}

# told KERNEL NAME: what the machine has said under this name.
told() {
    sed -n "s/^.*kernels: $2 \{0,1\}//p" "$at/$1/log"
}

main "$@"
