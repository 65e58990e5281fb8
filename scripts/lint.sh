#!/usr/bin/env bash
# Everything that can be checked without running the product. Runs all checks, then says which failed.

. "$(dirname "$0")/lib.sh"

main() {
    local failed=0
    timed fmt cargo fmt --all --check || failed=1
    timed clippy cargo clippy --workspace --all-targets --locked --quiet -- -D warnings || failed=1
    timed doc env RUSTDOCFLAGS="-D warnings" \
        cargo doc --workspace --no-deps --document-private-items --locked --quiet || failed=1
    timed deny cargo deny --locked check --hide-inclusion-graph licenses bans sources || failed=1
    timed advisories advisories || failed=1
    timed shellcheck shellcheck .ci/run scripts/*.sh scripts/kernels/init tests/kube/*.sh tests/src/guide/*.sh deploy/debian/p* || failed=1
    timed console npm --prefix console run --silent check || failed=1
    timed rules promtool check rules deploy/monitoring/rules.yaml || failed=1
    timed dashboard node tests/monitoring/grafana/check.mjs deploy/monitoring/dashboard.json || failed=1
    timed documents scripts/check-documents.sh || failed=1
    timed hygiene hygiene || failed=1
    report
    return $failed
}

# Known vulnerabilities of the crates in Cargo.lock. The database is a git repository; without a network there is none, and that is
# not the tree's fault. It must be seen, though, and a database that was fetched must pass.
advisories() {
    if cargo deny --log-level off fetch db >/dev/null 2>&1; then
        cargo deny --locked --log-level error check --hide-inclusion-graph --disable-fetch advisories
    else
        echo "advisories: NOT CHECKED, the advisory database cannot be fetched from here" >&2
        timings+=("    advisories were NOT CHECKED: no network")
    fi
}

# What does not belong into a repository: places of one machine, private registries, whitespace at line ends, and very large files.
hygiene() {
    local files found=0
    mapfile -d '' -t files < <(git ls-files -z --cached --others --exclude-standard | grep -zvE '\.(svg|bin)$|/corpus/')
    refuse 'a path of one machine' '(^|[^[:alnum:]_.~-])/(root|work|home/[[:alnum:]]+|Users)/' && found=1
    refuse 'a private registry' '[a]rtifactory|(extra-)?[i]ndex-url|replace-with[[:space:]]*=' && found=1
    refuse 'whitespace at the end of a line' '[[:blank:]]$' && found=1
    refuse 'a conflict marker' '^(<<<<<<<|>>>>>>>) ' && found=1
    if grep -n '^source = ' Cargo.lock | grep -v '"registry+https://github.com/rust-lang/crates.io-index"$'; then
        echo "hygiene: Cargo.lock names a source other than crates.io" >&2
        found=1
    fi
    if git ls-files -z | xargs -0 -r stat --printf '%s %n\n' -- 2>/dev/null | awk '$1 > 1000000 { print $2 ": " $1 " bytes" }' | grep .; then
        echo "hygiene: found a file above 1 MB" >&2
        found=1
    fi
    return $found
}

# refuse WHAT PATTERN: prints the lines of $files that match, and succeeds if there are any.
refuse() {
    if grep -nIE -d skip -- "$2" "${files[@]}" /dev/null; then
        echo "hygiene: found $1" >&2
        return 0
    fi
    return 1
}

main "$@"
