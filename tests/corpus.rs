//! What the fuzzer has found so far, with ordinary Rust: each kept input goes through the checks of its target again.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../fuzz/checks.rs"]
mod checks;

use std::path::Path;

/// Runs `check` over the corpus of `target`. A panic names the input.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let inputs = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut replayed = 0;
    for input in inputs {
        let path = input.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| check(&data)).is_err() {
            panic!("{} breaks the rules of `{target}` in fuzz/checks.rs", path.display());
        }
        replayed += 1;
    }
    assert!(replayed > 0, "{} is empty", folder.display());
}

#[test]
fn messages_are_read_and_answered_without_surprises() {
    replay("message", checks::message);
}

#[test]
fn streams_are_framed_alike_however_they_are_cut() {
    replay("stream", checks::stream);
}

#[test]
fn edits_change_what_they_name() {
    replay("edits", checks::edits);
}

#[test]
fn only_proper_handshakes_are_accepted() {
    replay("handshake", checks::handshake);
}

#[test]
fn only_own_tokens_are_believed() {
    replay("token", checks::token);
}

/// Not only what was kept: the messages of RFC 4475 as well.
#[test]
fn torture_messages_are_read_and_answered_without_surprises() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "sip") {
            checks::message(&std::fs::read(path).unwrap());
        }
    }
}
