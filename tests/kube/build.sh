#!/usr/bin/env bash
# Builds the Kubernetes that the tests run into target/kube/bin, and the receiver of the OpenTelemetry Collector. Nothing changed since the last time: a fraction of a second.
#
# usage: tests/kube/build.sh [control-plane] [coredns] [helm] [collector] [conformance]     (none: control-plane)
#
# conformance is the MCS API's suite, from the checkout of kubernetes-sigs/mcs-api that MCS_API names.

. "$(dirname "$0")/../../scripts/lib.sh"

kube=$(realpath -m "${CARGO_TARGET_DIR:-$PWD/target}/kube")
sources=$PWD/tests/kube

main() {
    [ $# -gt 0 ] || set -- control-plane
    local what
    for what in "$@"; do
        case $what in
        control-plane) build control-plane "$sources" etcd kube-apiserver kube-controller-manager kube-proxy pods ;;
        coredns) build coredns "$sources/coredns" coredns ;;
        helm) build helm "$sources/helm" helm ;;
        collector) build collector "$sources/collector" collector ;;
        conformance) conformance ;;
        *) die "tests/kube/build.sh: found '$what', expected control-plane, coredns, helm, collector or conformance" ;;
        esac
    done
}

# Always built anew, as whose sources it is made of is not ours to know; Go's own cache makes that quick.
conformance() {
    local suite=${MCS_API:-}/conformance
    [ -f "$suite/go.mod" ] || die "MCS_API: found '${MCS_API:-}', expected a checkout of github.com/kubernetes-sigs/mcs-api"
    say "building the MCS conformance suite of $MCS_API"
    mkdir -p "$kube/bin"
    (cd "$suite" && env CGO_ENABLED=0 GOFLAGS= GOWORK=off go test -c -mod=readonly -trimpath -buildvcs=false -o "$kube/bin/conformance" .)
}

# build MODULE DIRECTORY NAME…: one program, and a link to it for each name. It is named after what it is made of.
build() {
    local module=$1 directory=$2 key name
    shift 2
    key=$(cd "$directory" && cat go.mod go.sum ./*.go "$sources/build.sh" | sha256sum | cut -c1-16)
    local program=$module-$key
    if [ ! -x "$kube/$program" ]; then
        say "building the tests' $module ($(go version 2>/dev/null || echo 'no Go: run make setup'))"
        compile "$directory" "$kube/$program"
        find "$kube" -maxdepth 1 -name "$module-*" ! -name "$program" -delete
    fi
    mkdir -p "$kube/bin"
    for name in "$@"; do
        [ "$(readlink "$kube/bin/$name")" = "../$program" ] || ln -sfn "../$program" "$kube/bin/$name"
    done
}

# Without C, and without what only debuggers read. Kubernetes answers with the version that it is told here.
compile() {
    local version flags=(-s -w)
    mkdir -p "$kube"
    version=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' "$1/go.mod")
    if [ -n "$version" ]; then
        local package=k8s.io/component-base/version major minor
        IFS=.v read -r _ major minor _ <<<"$version"
        flags+=(-X "$package.gitVersion=$version" -X "$package.gitMajor=$major" -X "$package.gitMinor=$minor")
    fi
    (cd "$1" && env CGO_ENABLED=0 GOFLAGS= GOWORK=off \
        go build -mod=readonly -trimpath -buildvcs=false -ldflags="${flags[*]}" -o "$2.new" .)
    mv "$2.new" "$2"
}

main "$@"
