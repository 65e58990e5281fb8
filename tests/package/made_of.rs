//! The list of what the program is made of.

use crate::made::{EPOCH, file};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

fn bom() -> Value {
    serde_json::from_slice(&fs::read(file(".cdx.json")).unwrap()).unwrap()
}

fn components(bom: &Value) -> &[Value] {
    bom["components"].as_array().unwrap()
}

fn text<'a>(component: &'a Value, key: &str) -> &'a str {
    component[key].as_str().unwrap_or_else(|| panic!("{key} of {component}"))
}

/// name → scopes of the versions of it.
fn scopes(bom: &Value) -> BTreeMap<&str, Vec<&str>> {
    let mut scopes = BTreeMap::<_, Vec<_>>::new();
    for component in components(bom) {
        scopes.entry(text(component, "name")).or_default().push(text(component, "scope"));
    }
    scopes
}

#[test]
fn it_names_what_is_in_the_program_and_what_only_makes_it() {
    let bom = bom();
    let scopes = scopes(&bom);
    let scope = |name| scopes.get(name).map(|scopes| scopes.join(" "));
    for inside in ["tokio", "rustls", "aws-lc-sys", "isthmus-gateway", "isthmus-ebpf", "libc", "preact"] {
        assert_eq!(scope(inside).as_deref(), Some("required"), "{inside}");
    }
    for making in ["serde_derive", "cc", "quote"] {
        assert_eq!(scope(making).as_deref(), Some("excluded"), "{making}");
    }
    // Of tests and benchmarks; and what some feature asks for that is off.
    for outside in ["proptest", "isthmus-tests", "isthmus-benches", "ring", "rcgen-cli"] {
        assert_eq!(scope(outside), None, "{outside}");
    }
}

/// Who looks a crate up by its checksum finds the one that was compiled.
#[test]
fn crates_have_the_checksums_of_the_lock_file() {
    let bom = bom();
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    let crates = components(&bom).iter().filter(|component| text(component, "purl").starts_with("pkg:cargo/"));
    let mut own = BTreeSet::new();
    for component in crates {
        let (name, version) = (text(component, "name"), text(component, "version"));
        let entry = format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        let entry = lock.split_once(&entry).unwrap_or_else(|| panic!("{name} {version} is not in Cargo.lock")).1;
        let entry = entry.split("[[package]]").next().unwrap();
        let locked = entry.lines().find_map(|line| line.strip_prefix("checksum = \"")?.strip_suffix('"'));
        assert_eq!(component["hashes"][0]["content"].as_str(), locked, "{name} {version}");
        if locked.is_none() {
            own.insert(name);
        }
        let licence = component["licenses"][0]["expression"].as_str().unwrap();
        assert!(!licence.is_empty() && !licence.contains('/'), "{name}: {licence}");
    }
    assert!(own.iter().all(|name| name.starts_with("isthmus-")), "{own:?}");
}

#[test]
fn every_reference_leads_to_a_component_and_no_path_is_in_it() {
    let bom = bom();
    let root = text(&bom["metadata"]["component"], "bom-ref");
    let refs: BTreeSet<_> = components(&bom).iter().map(|component| text(component, "bom-ref")).chain([root]).collect();
    assert_eq!(refs.len(), components(&bom).len() + 1, "each once");
    let mut reached = BTreeSet::from([root]);
    for dependency in bom["dependencies"].as_array().unwrap() {
        assert!(refs.contains(text(dependency, "ref")), "{dependency}");
        reached.extend(dependency["dependsOn"].as_array().unwrap().iter().map(|on| on.as_str().unwrap()));
    }
    assert_eq!(reached, refs);
    let created = time::OffsetDateTime::from_unix_timestamp(i64::try_from(EPOCH).unwrap()).unwrap();
    let rfc3339 = time::format_description::well_known::Rfc3339;
    assert_eq!(bom["metadata"]["timestamp"], created.format(&rfc3339).unwrap());
    let whole = bom.to_string();
    assert!(!whole.contains(env!("CARGO_MANIFEST_DIR").trim_end_matches("/tests")), "a path of this machine");
}
