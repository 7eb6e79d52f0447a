//! The branch of our Via: it names the flow and the transaction, and shows a loop (RFC 3261 §16.6 step 8).
//!
//! `z9hG4bK` and 28 characters of base64url: flow (8 bytes), transaction (8), loop (4), attempt (1). The transaction
//! is a keyed hash of what identifies it where it came from, so that a CANCEL, or the ACK of a failure, gets the branch
//! of its INVITE.

use std::hash::{BuildHasher, Hasher, RandomState};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::edge::FlowId;
use crate::sip::via::Via;
use crate::sip::{Message, Name};

/// RFC 3261 §8.1.1.7.
const COOKIE: &[u8] = b"z9hG4bK";
const BYTES: usize = 8 + 8 + 4 + 1;
/// Characters behind the cookie.
const CHARS: usize = BYTES / 3 * 4;

/// What a branch of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// The flow that the transaction came on, or goes to.
    pub(super) flow: FlowId,
    /// The transaction.
    pub(super) key: u64,
    /// What is the same only if the same request is here again.
    pub(super) loops: u32,
    /// How many targets were tried before.
    pub(super) attempt: u8,
}

impl Branch {
    /// Writes `z9hG4bK…`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.flow.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.key.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.loops.to_be_bytes());
        bytes[20] = self.attempt;
        let mut text = [0; CHARS];
        out.extend_from_slice(COOKIE);
        if URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).is_ok() {
            out.extend_from_slice(&text);
        }
    }

    /// Reads a branch that [`Branch::write`] wrote.
    pub(super) fn parse(text: &[u8]) -> Option<Branch> {
        let text = text.strip_prefix(COOKIE)?;
        let mut b = [0; BYTES];
        if text.len() != CHARS || URL_SAFE_NO_PAD.decode_slice(text, &mut b) != Ok(BYTES) {
            return None;
        }
        Some(Branch {
            flow: FlowId(u64::from_be_bytes(b[..8].try_into().ok()?)),
            key: u64::from_be_bytes(b[8..16].try_into().ok()?),
            loops: u32::from_be_bytes(b[16..20].try_into().ok()?),
            attempt: b[20],
        })
    }
}

/// Hashes requests into branches, with a key of this process.
#[derive(Debug, Default)]
pub(super) struct Brancher(RandomState);

/// Which way a request goes: the same request on both is two transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToServer = 0,
    ToClient = 1,
}

impl Brancher {
    /// The transaction of `request`, whose top Via is `via`, between us and `flow`. A CANCEL and the ACK of a failure
    /// give their INVITE's.
    pub(super) fn key(&self, request: &Message, via: &Via<'_>, flow: FlowId, way: Way) -> u64 {
        let mut h = self.0.build_hasher();
        h.write_u64(flow.0);
        h.write_u8(way as u8);
        match via.branch {
            Some(branch) if branch.len() > COOKIE.len() && branch.starts_with(COOKIE) => {
                h.write(branch);
                h.write(via.host);
                h.write_u16(via.port.unwrap_or(0));
            }
            // An RFC 2543 client, or one that has a wrong idea of branches (RFC 3261 §17.2.3).
            _ => {
                h.write(request.tag(Name::From).unwrap_or(b""));
                h.write(request.call_id().unwrap_or(b""));
                h.write_u32(request.cseq().map_or(0, |(n, _)| n));
                h.write(request.request_uri().map_or(b"", |(uri, _)| uri));
                h.write(via.host);
                h.write(via.branch.unwrap_or(b""));
            }
        }
        h.finish()
    }

    /// What a proxied request looks like to whoever meets it a second time: everything that decides where it goes.
    pub(super) fn loops(&self, request: &Message, flow: FlowId, way: Way) -> u32 {
        let mut h = self.0.build_hasher();
        h.write_u64(flow.0);
        h.write_u8(way as u8);
        h.write(request.request_uri().map_or(b"", |(uri, _)| uri));
        h.write(request.call_id().unwrap_or(b""));
        h.write(request.header(Name::From).unwrap_or(b""));
        h.write_u32(request.cseq().map_or(0, |(n, _)| n));
        h.finish() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_read_as_it_was_written() {
        let branch = Branch { flow: FlowId(0x0123_4567_89ab_cdef), key: u64::MAX - 5, loops: 77, attempt: 3 };
        let mut text = Vec::new();
        branch.write(&mut text);
        assert_eq!(text.len(), 7 + CHARS);
        assert_eq!(Branch::parse(&text), Some(branch));
        assert_eq!(Branch::parse(&text[..20]), None);
        assert_eq!(Branch::parse(b"z9hG4bKabc"), None);
    }
}
