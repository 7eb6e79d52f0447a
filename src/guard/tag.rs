//! The To tag of responses that the edge makes itself.
//!
//! It is a keyed hash of the transaction, so the ACK that answers such a response is known by its tag and absorbed
//! without any state (the stateless server of RFC 3261 §8.2.7).

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::sip::via::Via;
use crate::sip::{Message, Name};

/// Makes and recognises the tags of one server.
#[derive(Clone, Debug, Default)]
pub struct LocalTag(RandomState);

impl LocalTag {
    /// The tag for a response to `message`.
    pub fn of(&self, message: &Message) -> [u8; 16] {
        let mut h = self.0.build_hasher();
        if let Some(branch) = message.values(Name::Via).next().and_then(|(v, _)| Via::parse(v)?.branch) {
            h.write(branch);
        }
        h.write(message.call_id().unwrap_or(b""));
        let mut hash = h.finish();
        std::array::from_fn(|_| {
            hash = hash.rotate_left(4);
            b"0123456789abcdef"[(hash & 15) as usize]
        })
    }

    /// Whether `ack` answers a response of ours.
    pub fn absorbs(&self, ack: &Message) -> bool {
        ack.tag(Name::To).is_some_and(|tag| tag == self.of(ack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn the_ack_of_an_own_response_is_known_and_no_other() {
        let tags = LocalTag::default();
        let parse = |branch: &str, tag: &str| {
            Message::parse(Bytes::from(format!(
                "ACK sip:b@x SIP/2.0\r\nVia: SIP/2.0/WS a;branch={branch}\r\nTo: <sip:b@x>;tag={tag}\r\nCall-ID: c\r\n\r\n"
            )))
            .expect("parses")
        };
        let tag = tags.of(&parse("z9hG4bK1", "x"));
        let tag = std::str::from_utf8(&tag).expect("hex");
        assert!(tags.absorbs(&parse("z9hG4bK1", tag)));
        assert!(!tags.absorbs(&parse("z9hG4bK2", tag)));
        assert!(!tags.absorbs(&parse("z9hG4bK1", "x")));
    }
}
