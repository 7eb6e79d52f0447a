//! Edits of a message: what to put in and what to take out, and nothing else changes.
//!
//! The edits are collected first, in any order, and then applied in one pass into the buffer that is sent from. One
//! [`Edits`] serves many messages: its storage is kept.

use std::io::Write;
use std::ops::Range;

#[derive(Clone, Copy, Debug)]
struct Op {
    /// What is taken out; empty for an insertion.
    start: usize,
    end: usize,
    /// What is put in, in `text`.
    from: usize,
    to: usize,
}

/// Insertions, replacements and removals, by offset into one message.
#[derive(Debug, Default)]
pub struct Edits {
    ops: Vec<Op>,
    text: Vec<u8>,
    /// How the length changes.
    grows: isize,
}

impl Edits {
    /// No edits yet.
    pub const fn new() -> Edits {
        Edits { ops: Vec::new(), text: Vec::new(), grows: 0 }
    }

    /// Forgets all edits and keeps the storage.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.text.clear();
        self.grows = 0;
    }

    /// Puts what `write` writes before the byte at `at`. Insertions at one place come out in the order they were made.
    pub fn insert(&mut self, at: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.replace(at..at, write);
    }

    /// Takes `range` out.
    pub fn remove(&mut self, range: Range<usize>) {
        self.replace(range, |_| {});
    }

    /// Puts what `write` writes where `range` stands. Ranges of edits must not overlap.
    pub fn replace(&mut self, range: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.text.len();
        write(&mut self.text);
        let to = self.text.len();
        self.grows += (to - from) as isize - range.len() as isize;
        self.ops.push(Op { start: range.start, end: range.end, from, to });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// How long `source` will be with the edits applied.
    pub fn len_of(&self, source: &[u8]) -> usize {
        source.len().saturating_add_signed(self.grows)
    }

    /// Writes `source` with the edits applied to the end of `out`. Every byte outside the edits comes out as it is.
    pub fn apply(&mut self, source: &[u8], out: &mut Vec<u8>) {
        out.reserve(self.len_of(source));
        self.pieces(source, |piece| out.extend_from_slice(piece));
    }

    /// As [`Edits::apply`], to the beginning of `out`. Returns [`Edits::len_of`], or 0 where there is no room for as much.
    pub fn apply_to(&mut self, source: &[u8], out: &mut [u8]) -> usize {
        if self.len_of(source) > out.len() {
            return 0;
        }
        let mut written = 0;
        self.pieces(source, |piece| {
            out[written..written + piece.len()].copy_from_slice(piece);
            written += piece.len();
        });
        written
    }

    fn pieces(&mut self, source: &[u8], mut piece: impl FnMut(&[u8])) {
        // A handful of edits, most of them made in order: insertion sort is what the library does for so few. Stable,
        // so that insertions at one place keep their order; they stand before what is taken out or replaced there.
        self.ops.sort_by_key(|op| (op.start, op.end));
        let mut at = 0;
        for op in &self.ops {
            debug_assert!(op.start >= at, "edits overlap");
            piece(&source[at..op.start]);
            piece(&self.text[op.from..op.to]);
            at = op.end;
        }
        piece(&source[at..]);
    }
}

/// Writes a number in decimal.
pub(crate) fn decimal(out: &mut Vec<u8>, n: impl std::fmt::Display) {
    // Writing to a Vec does not fail.
    let _ = write!(out, "{n}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_made_in_any_order_come_out_in_place() {
        let mut e = Edits::new();
        e.insert(5, |t| t.extend_from_slice(b"!"));
        e.replace(0..1, |t| t.extend_from_slice(b"H"));
        e.remove(2..4);
        e.insert(5, |t| t.extend_from_slice(b"?"));
        let mut out = b"> ".to_vec();
        assert_eq!(e.len_of(b"hello"), 5);
        e.apply(b"hello", &mut out);
        assert_eq!(out, b"> Heo!?");
        let mut room = [b'.'; 6];
        assert_eq!((e.apply_to(b"hello", &mut room), &room), (5, b"Heo!?."));
        assert_eq!(e.apply_to(b"hello", &mut room[..4]), 0);
    }

    #[test]
    fn an_insertion_stands_before_what_is_replaced_at_its_place() {
        let mut e = Edits::new();
        e.remove(1..3);
        e.insert(1, |t| t.extend_from_slice(b"+"));
        let mut out = Vec::new();
        e.apply(b"abcd", &mut out);
        assert_eq!(out, b"a+d");
    }
}
