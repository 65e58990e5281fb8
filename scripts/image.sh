#!/usr/bin/env bash
# A container image of a binary, as the OCI has it, without Docker: a tar of layers, configuration, manifest and index. `docker load`,
# `podman load` and `skopeo copy oci-archive:…` take it. What is in it is scripts/image-root.sh's, what is started the Dockerfile's.
#
# usage: scripts/image.sh BINARY FILE
#
# SOURCE_DATE_EPOCH and PACKAGE_COMPRESSION as for scripts/package.sh.

. "$(dirname "$0")/lib.sh"
. scripts/elf.sh

main() {
    [ $# = 2 ] || { echo "usage: scripts/image.sh BINARY FILE" >&2; exit 2; }
    packing
    blobs=$work/image/blobs/sha256
    layers=() diff_ids=()
    mkdir -p "$blobs" "$work/libraries" "$work/program"
    read_elf "$1"
    # What rarely changes is a layer of its own: a machine that has it fetches the program alone.
    scripts/image-root.sh "$1" "$work/libraries"
    mv "$work/libraries/isthmus" "$work/program/isthmus"
    layer "$work/libraries"
    layer "$work/program"
    index "$work/image"
    contents "$work/image" >"$2"
}

# layer DIRECTORY: becomes a blob, which the manifest names by what it is compressed, and the configuration by what it is not.
layer() {
    contents "$1" >"$work/layer.tar"
    diff_ids+=("sha256:$(digest "$work/layer.tar")")
    gzip -n "-$((level > 0 ? level : 1))" "$work/layer.tar"
    blob "$work/layer.tar.gz"
    layers+=("$(descriptor application/vnd.oci.image.layer.v1.tar+gzip "$blob")")
}

# contents DIRECTORY: a tar of what is in it.
contents() {
    archive "$1" --transform='s,^\./,,' .
}

index() {
    local created manifest tag config
    created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
    tag=isthmus:$version
    cat >"$work/config" <<-END
		{"created":"$created","architecture":"$arch","os":"linux",
		 "config":{"User":"$(dockerfile USER)","Entrypoint":$(dockerfile ENTRYPOINT),
		  "Labels":{"org.opencontainers.image.title":"isthmus","org.opencontainers.image.version":"$version","org.opencontainers.image.licenses":"Apache-2.0"}},
		 "rootfs":{"type":"layers","diff_ids":["$(joined '","' "${diff_ids[@]}")"]},
		 "history":[{"created":"$created","comment":"the C library"},{"created":"$created","comment":"isthmus $version"}]}
	END
    blob "$work/config"
    config=$blob
    cat >"$work/manifest" <<-END
		{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		 "config":$(descriptor application/vnd.oci.image.config.v1+json "$config"),
		 "layers":[$(joined , "${layers[@]}")]}
	END
    blob "$work/manifest"
    manifest=$(descriptor application/vnd.oci.image.manifest.v1+json "$blob")
    manifest="${manifest%\}},\"platform\":{\"architecture\":\"$arch\",\"os\":\"linux\"},\"annotations\":{\"org.opencontainers.image.ref.name\":\"$version\"}}"
    cat >"$1/index.json" <<-END
		{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[$manifest]}
	END
    echo '{"imageLayoutVersion":"1.0.0"}' >"$1/oci-layout"
    # For a Docker that does not know the layout.
    local paths=("${layers[@]##*\"sha256:}")
    paths=("${paths[@]%%\"*}")
    cat >"$1/manifest.json" <<-END
		[{"Config":"blobs/sha256/${config##*/}","RepoTags":["$tag"],"Layers":["$(joined '","' "${paths[@]/#/blobs/sha256/}")"]}]
	END
}

# blob FILE: moves it among the blobs, and sets `blob` to where it is.
blob() {
    blob=$blobs/$(digest "$1")
    mv "$1" "$blob"
}

descriptor() {
    printf '{"mediaType":"%s","digest":"sha256:%s","size":%d}' "$1" "${2##*/}" "$(stat -c %s "$2")"
}

digest() {
    sha256sum "$1" | cut -d ' ' -f 1
}

# joined SEPARATOR WORD…
joined() {
    local separator=$1 all=$2
    shift 2
    printf '%s' "$all" "${@/#/$separator}"
}

# What the Dockerfile says of `USER` and `ENTRYPOINT`.
dockerfile() {
    sed -n "s/^$1 //p" Dockerfile
}

main "$@"
