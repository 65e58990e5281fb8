#!/usr/bin/env bash
# Keeps the documents true where a machine can: each relative link leads to a file, each `make` target that they name exists, and
# docs/SUMMARY.md has every document but the records of decisions, so that the site has a page of each.
# (That each `isthmus` command line in them parses is a test of the command itself.)

. "$(dirname "$0")/lib.sh"

main() {
    local documents broken=0
    mapfile -t documents < <(git ls-files --cached --others --exclude-standard -- '*.md')
    links "${documents[@]}" || broken=1
    targets "${documents[@]}" || broken=1
    mapfile -t documents < <(git ls-files --cached -- '*.md')
    summary "${documents[@]}" || broken=1
    return $broken
}

links() {
    local document line target broken=0
    while IFS=: read -r document line target; do
        target=${target#](}
        target=${target%)}
        target=${target%%#*}
        case $target in
        '' | http://* | https://* | mailto:*) continue ;;
        esac
        [ -e "$(dirname "$document")/$target" ] && continue
        echo "$document:$line: the link leads nowhere: found '$target'" >&2
        broken=1
    done < <(grep -nHoE '\]\([^)[:space:]]+\)' "$@")
    return $broken
}

targets() {
    local document line target broken=0
    while IFS=: read -r document line target; do
        target=${target##*make }
        grep -qE "^$target:" Makefile && continue
        echo "$document:$line: no such target in the Makefile: found 'make $target'" >&2
        broken=1
    done < <(grep -nHoE '(`|^(\$ |    )?)make [a-z][a-z-]*' "$@")
    return $broken
}

summary() {
    local document broken=0
    for document in "$@"; do
        case $document in
        docs/SUMMARY.md | docs/decisions/*) continue ;;
        docs/*) grep -qF "](${document#docs/})" docs/SUMMARY.md && continue ;;
        *) grep -qF "](../$document)" docs/SUMMARY.md && continue ;;
        esac
        echo "docs/SUMMARY.md: $document is missing" >&2
        broken=1
    done
    return $broken
}

main "$@"
