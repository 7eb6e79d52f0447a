//! SIP messages as bytes: views that parse, and edits that change only what they name. No I/O.
//!
//! In: one buffer with one message ([`Message::parse`]) or a byte stream of many ([`stream::Framer`]).
//! Out: the same bytes with [`edit::Edits`] applied, or a response made from a request ([`response`]).
//! RFC 3261 §7 (messages), §16 (what a proxy needs of them), §18.3 (framing), §25 (grammar).

pub mod address;
pub mod edit;
pub mod header;
pub mod message;
pub mod response;
pub mod stream;
pub mod uri;
pub mod validate;
pub mod via;

pub use edit::Edits;
pub use header::Name;
pub use message::{Message, Method, ParseError, Start};

/// Whether `b` may stand in a `token` (RFC 3261 §25.1).
pub(crate) const fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// Whether `s` is a non-empty `token` (RFC 3261 §25.1).
pub(crate) fn is_token(s: &[u8]) -> bool {
    !s.is_empty() && s.iter().all(|&b| is_token_byte(b))
}

/// Linear white space as it stands inside a header value: SP, HTAB, and the CRLF of a fold.
pub(crate) const fn is_lws(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// `s` without the white space around it.
pub(crate) fn trim(s: &[u8]) -> &[u8] {
    let start = s.iter().position(|&b| !is_lws(b)).unwrap_or(s.len());
    let end = s.iter().rposition(|&b| !is_lws(b)).map_or(start, |i| i + 1);
    &s[start..end]
}

/// An unsigned decimal number of at most ten digits; `None` for anything else, or over `u32::MAX`.
pub(crate) fn number(s: &[u8]) -> Option<u32> {
    if s.is_empty() {
        return None;
    }
    let mut n: u64 = 0;
    for &b in s {
        if !b.is_ascii_digit() {
            return None;
        }
        n = n * 10 + u64::from(b - b'0');
        if n > u64::from(u32::MAX) {
            return None;
        }
    }
    u32::try_from(n).ok()
}
