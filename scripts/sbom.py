"""What the program is made of, as CycloneDX: crates with versions, licences and checksums, and what of npm is in the console.

usage: SOURCE_DATE_EPOCH=… python3 scripts/sbom.py TARGET

SOURCE_DATE_EPOCH is the document's time. What is in the program has the scope "required"; what only takes part in its making (build
scripts, macros, and what these need) has "excluded". No path of a machine is in it: the same tree gives the same text.
"""

import datetime
import json
import os
import re
import subprocess
import sys

PACKAGE = "isthmus"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/sbom.py TARGET")
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    crates, edges = parse_tree(cargo_tree(sys.argv[1], "normal,build"))
    linked, _ = parse_tree(cargo_tree(sys.argv[1], "normal,no-proc-macro"))
    checksums = read_checksums("Cargo.lock")
    npm = read_npm("console")
    root = next(iter(crates))
    edges[root] |= {package["bom-ref"] for package in npm}
    others = sorted(set(crates) - {root})
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(int(os.environ["SOURCE_DATE_EPOCH"])),
            "component": {"type": "application", **component(root, crates[root], checksums)},
        },
        "components": [{"type": "library", **component(ref, crates[ref], checksums),
                        "scope": "required" if ref in linked else "excluded"} for ref in others] + npm,
        "dependencies": [{"ref": ref, "dependsOn": sorted(edges[ref])} for ref in [root, *others]],
    }
    json.dump(bom, sys.stdout, indent=1)
    print()


def cargo_tree(target, edges):
    """A line for each crate: "2|tokio v1.54.0|MIT", with how deep it is. The same features as in the build of the program alone."""
    command = ["cargo", "tree", "--locked", "--package", PACKAGE, "--target", target, "--edges", edges,
               "--prefix", "depth", "--format", "|{p}|{l}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def parse_tree(text):
    """Crates by purl, with name, version and licence, the root first; and what each depends on."""
    crates, edges, above = {}, {}, []
    for line in text.splitlines():
        depth, crate, licence = line.removesuffix(" (*)").split("|")
        name, version = crate.split(" ")[:2]
        ref = f"pkg:cargo/{name}@{version.removeprefix('v').replace('+', '%2B')}"
        crates[ref] = {"name": name, "version": version.removeprefix("v"), "licence": licence}
        edges.setdefault(ref, set())
        del above[int(depth):]
        if above:
            edges[above[-1]].add(ref)
        above.append(ref)
    return crates, edges


def component(ref, crate, checksums):
    found = {"bom-ref": ref, "name": crate["name"], "version": crate["version"], "purl": ref}
    # A slash is how old manifests write OR.
    found["licenses"] = [{"expression": " ".join(crate["licence"].replace("/", " OR ").split())}]
    if checksum := checksums.get((crate["name"], crate["version"])):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


def read_checksums(lock):
    """(name, version) → SHA-256 of the crate, as the lock file pins it. Our own have none."""
    with open(lock, encoding="utf-8") as file:
        blocks = file.read().split("[[package]]")[1:]
    entries = [dict(re.findall(r'^(name|version|checksum) = "(.*)"$', block, re.MULTILINE)) for block in blocks]
    return {(entry["name"], entry["version"]): entry["checksum"] for entry in entries if "checksum" in entry}


def read_npm(directory):
    """The npm packages that the console's sources import: the page is in the program."""
    with open(os.path.join(directory, "package-lock.json"), encoding="utf-8") as file:
        locked = json.load(file)["packages"]
    names = set()
    for name in os.listdir(os.path.join(directory, "src")):
        if name.endswith((".ts", ".tsx")):
            with open(os.path.join(directory, "src", name), encoding="utf-8") as file:
                names.update(re.findall(r'from "(@[^/".]+/[^/"]+|[^./"@][^/"]*)', file.read()))
    return [npm_component(name, locked[f"node_modules/{name}"]) for name in sorted(names)]


def npm_component(name, locked):
    ref = f"pkg:npm/{name.replace('@', '%40')}@{locked['version']}"
    return {"type": "library", "bom-ref": ref, "name": name, "version": locked["version"], "purl": ref,
            "licenses": [{"expression": locked["license"]}], "scope": "required"}


def timestamp(epoch):
    return datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    main()
