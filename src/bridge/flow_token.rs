//! The flow token (RFC 5626 §5.1, §5.2): a flow's name in a Path or Record-Route URI, which only this deployment can
//! make.
//!
//! `base64url(version ‖ node ‖ flow ‖ epoch ‖ HMAC-SHA256 truncated to 80 bits)`: 36 characters. Any node that knows
//! the secret can check it without state.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::edge::FlowId;

const VERSION: u8 = 1;
const CLAIM: usize = 1 + 4 + 8 + 4;
const MAC: usize = 10;
/// Characters of a token.
pub const LENGTH: usize = (CLAIM + MAC) / 3 * 4;

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The node that owns the flow.
    pub node: u32,
    /// The flow.
    pub flow: FlowId,
    /// Which owner of the flow's place this was: grows when a client's new flow takes the old one's place.
    pub epoch: u32,
}

/// Whether `text` has the form of a token, whoever has signed it.
pub(super) fn looks_like_one(text: &[u8]) -> bool {
    let mut bytes = [0; CLAIM + MAC];
    text.len() == LENGTH && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(CLAIM + MAC) && bytes[0] == VERSION
}

/// Signs tokens with one key and accepts those of older keys.
#[derive(Debug)]
pub struct TokenKeys {
    node: u32,
    sign: hmac::Key,
    previous: Vec<hmac::Key>,
}

impl TokenKeys {
    /// Keys from the cluster's secrets, for the node of that name.
    pub fn new(node: &str, secret: &[u8], previous: &[&[u8]]) -> TokenKeys {
        let key = |s: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, s);
        TokenKeys {
            node: super::rendezvous::hash(node.as_bytes(), 0) as u32,
            sign: key(secret),
            previous: previous.iter().map(|s| key(s)).collect(),
        }
    }

    /// This node's number in tokens.
    pub fn node(&self) -> u32 {
        self.node
    }

    /// The token of a flow of this node.
    pub fn token(&self, flow: FlowId, epoch: u32) -> String {
        let mut bytes = [0; CLAIM + MAC];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&self.node.to_be_bytes());
        bytes[5..13].copy_from_slice(&flow.0.to_be_bytes());
        bytes[13..CLAIM].copy_from_slice(&epoch.to_be_bytes());
        let tag = hmac::sign(&self.sign, &bytes[..CLAIM]);
        bytes[CLAIM..].copy_from_slice(&tag.as_ref()[..MAC]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What `token` says, if it is one of ours.
    pub fn verify(&self, token: &[u8]) -> Option<Claim> {
        let mut bytes = [0; CLAIM + MAC];
        if token.len() != LENGTH || URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) != Ok(CLAIM + MAC) {
            return None;
        }
        let (claim, mac) = bytes.split_at(CLAIM);
        let genuine = |key| {
            let tag = hmac::sign(key, claim);
            aws_lc_rs::constant_time::verify_slices_are_equal(&tag.as_ref()[..MAC], mac).is_ok()
        };
        if claim[0] != VERSION || !(genuine(&self.sign) || self.previous.iter().any(genuine)) {
            return None;
        }
        Some(Claim {
            node: u32::from_be_bytes(claim[1..5].try_into().ok()?),
            flow: FlowId(u64::from_be_bytes(claim[5..13].try_into().ok()?)),
            epoch: u32::from_be_bytes(claim[13..17].try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_it_was_made_for_and_no_other_is_believed() {
        let keys = TokenKeys::new("edge1", b"secret", &[]);
        let token = keys.token(FlowId(77), 3);
        assert_eq!(token.len(), LENGTH);
        assert_eq!(keys.verify(token.as_bytes()), Some(Claim { node: keys.node(), flow: FlowId(77), epoch: 3 }));
        for i in 0..LENGTH {
            let mut forged = token.clone().into_bytes();
            forged[i] = if forged[i] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys.verify(&forged), None, "byte {i}");
        }
        assert_eq!(keys.verify(&token.as_bytes()[1..]), None);
    }

    #[test]
    fn a_rolled_secret_is_still_believed_while_it_is_listed() {
        let token = TokenKeys::new("a", b"old", &[]).token(FlowId(1), 0);
        assert!(TokenKeys::new("a", b"new", &[b"old"]).verify(token.as_bytes()).is_some());
        assert!(TokenKeys::new("a", b"new", &[]).verify(token.as_bytes()).is_none());
    }
}
