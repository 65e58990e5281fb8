#!/usr/bin/env bash
# Makes the documents into a site, target/site, by mdBook. The book is the repository's Markdown as it lies there, so that links between
# files of docs/ and others work in both places; docs/SUMMARY.md is its table of contents. Then each link of the site is followed.

. "$(dirname "$0")/lib.sh"

target=${CARGO_TARGET_DIR:-$PWD/target}
book=$target/site-book
site=$target/site

main() {
    rm -rf "$book" "$site"
    stage
    "$tools/bin/mdbook" build --dest-dir "$site" "$book" >&2
    follow
    say "the site is at ${site#"$PWD"/}/index.html"
}

# Copies every document, and every file that one links to. A directory is no page: its link becomes its name.
stage() {
    local document link file
    mkdir -p "$book/src"
    cp docs/book.toml "$book/"
    documents | while read -r document; do
        mkdir -p "$book/src/$(dirname "$document")"
        cp "$document" "$book/src/$document"
        links "$document" | while read -r link; do
            file=$(dirname "$document")/${link%%#*}
            if [ -d "$file" ]; then
                sed -i "s,\[\([^]]*\)\]($link),\1,g" "$book/src/$document"
            elif [[ $file != *.md ]]; then
                mkdir -p "$book/src/$(dirname "$file")"
                cp "$file" "$book/src/$file"
            fi
        done
    done
    # Links of the summary are relative to docs/; mdBook wants it at the root.
    {
        sed -e 's,](\.\./,](@,; s,](\([^@]\),](docs/\1,; s,](@,](,' docs/SUMMARY.md
        decisions
    } >"$book/src/SUMMARY.md"
    rm "$book/src/docs/SUMMARY.md"
}

# The records of decisions, which are many, by their headings.
decisions() {
    local record
    printf '\n# Decisions\n\n'
    for record in docs/decisions/*.md; do
        printf -- '- [%s](%s)\n' "$(sed -n '1s/^# //p' "$record")" "$record"
    done
}

documents() {
    git ls-files --cached --others --exclude-standard -- '*.md'
}

# The relative links of a document, one a line.
links() {
    grep -oE '\]\([^)[:space:]]+\)' "$1" | sed -e 's,^](,,; s,)$,,' | grep -vE '^(https?:|mailto:|#)' || true
}

# Every relative link of the site leads to a file of it.
follow() {
    local page link broken=0
    while IFS=: read -r page link; do
        link=${link#*\"}
        link=${link%%\"*}
        case $link in
        http://* | https://* | mailto:* | '#'* | javascript:* | data:*) continue ;;
        esac
        link=${link%%#*}
        [ -z "$link" ] || [ -e "$(dirname "$page")/$link" ] || {
            echo "site: ${page#"$site"/}: the link leads nowhere: found '$link'" >&2
            broken=1
        }
    done < <(grep -roE --include='*.html' '(href|src)="[^"]*"' "$site" | grep -v '/print\.html:\|/404\.html:')
    [ "$broken" = 0 ]
}

main "$@"
