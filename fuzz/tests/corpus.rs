//! Replays the corpus: what an exploration has found once stays found.

use isthmus_fuzz::TARGETS;
use std::{collections::BTreeSet, fs, path::PathBuf};

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn every_input_of_the_corpus_keeps_every_promise() {
    for target in TARGETS {
        let directory = corpus().join(target.name);
        let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        let mut count = 0;
        for entry in entries {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            let kept = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(kept.is_ok(), "{} breaks a promise", path.display());
            count += 1;
        }
        assert!(count > 0, "{} is empty", directory.display());
    }
}

#[test]
fn every_target_can_be_explored_and_every_corpus_has_a_target() {
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let listed = |directory: PathBuf| -> BTreeSet<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(listed(corpus()), names);
    assert_eq!(listed(corpus().with_file_name("explore").join("fuzz_targets")), names);
}
