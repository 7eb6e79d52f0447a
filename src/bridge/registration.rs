//! REGISTER for two kinds of registrar: with Path (RFC 3327), and without.
//!
//! A registrar without Path gets a contact that leads to us: `sip:TOKEN@advertised;transport=…;c=N`, where N says which
//! of the flow's contacts it stands for. On the way down, in the 2xx and in requests, the client sees its own again.

use super::FlowState;
use super::identity::Identity;
use crate::edge::Edge;
use crate::sip::address::Address;
use crate::sip::uri::Uri;
use crate::sip::{Edits, Message, Name, number};

/// Contacts remembered for one flow: a client has one, or one for each of its accounts.
const MOST_CONTACTS: usize = 16;

/// Whether the client says `Supported: path` itself.
pub(super) fn supports_path(message: &Message) -> bool {
    message.values(Name::Supported).any(|(tag, _)| tag.eq_ignore_ascii_case(b"path"))
}

/// Puts our contact in the place of each of the client's.
pub(super) fn hide_contacts(identity: &Identity, message: &Message, edits: &mut Edits, state: &FlowState, tls: bool) {
    for (value, at) in message.values(Name::Contact) {
        let Some(address) = Address::parse(value) else {
            continue;
        };
        let uri = &value[address.uri.clone()];
        // `*`, and contacts that are no SIP URIs, lead nowhere through us.
        if Uri::parse(uri).is_none() {
            continue;
        }
        let number = remember(state, uri);
        // Our URI has parameters, so it needs the brackets that a bare one may lack.
        let bare = address.uri.start == 0 || value[address.uri.start - 1] != b'<';
        edits.replace(at.start + address.uri.start..at.start + address.uri.end, |out| {
            if bare {
                out.push(b'<');
            }
            identity.contact(out, &state.token, tls, number);
            if bare {
                out.push(b'>');
            }
        });
    }
}

fn remember(state: &FlowState, uri: &[u8]) -> usize {
    let mut contacts = state.contacts.lock();
    if let Some(i) = contacts.iter().position(|c| c == uri) {
        return i;
    }
    if contacts.len() == MOST_CONTACTS {
        // One that changes its contact all the time loses the oldest claim to being called by it.
        contacts[MOST_CONTACTS - 1] = uri.to_vec();
        return MOST_CONTACTS - 1;
    }
    contacts.push(uri.to_vec());
    contacts.len() - 1
}

/// The client's own contact URI that stands behind ours.
fn behind(state: &FlowState, uri: &Uri<'_>) -> Option<Vec<u8>> {
    let n = uri.param(b"c").and_then(number)?;
    state.contacts.lock().get(n as usize).cloned()
}

/// Puts clients' own contacts back into a 2xx: those of this flow, and those of other flows that registered the same
/// address.
pub(super) fn show_contacts(identity: &Identity, edge: Option<&Edge>, message: &Message, edits: &mut Edits) {
    for (value, at) in message.values(Name::Contact) {
        let Some(address) = Address::parse(value) else {
            continue;
        };
        let own = Uri::parse(&value[address.uri.clone()]).filter(|uri| identity.is_own(uri));
        let original = own.and_then(|uri| {
            let claim = identity.keys.verify(uri.user?)?;
            let flow = edge?.registry.get(claim.flow)?;
            behind(flow.attached::<FlowState>()?, &uri)
        });
        if let Some(original) = original {
            edits.replace(at.start + address.uri.start..at.start + address.uri.end, |out| {
                out.extend_from_slice(&original);
            });
        }
    }
}

/// Puts the client's own contact back where our stand-in is the Request-URI.
pub(super) fn show_request_uri(identity: &Identity, state: &FlowState, message: &Message, edits: &mut Edits) {
    let Some((text, at)) = message.request_uri() else {
        return;
    };
    let own = Uri::parse(text).filter(|uri| identity.is_own(uri) && uri.user == Some(state.token.as_bytes()));
    if let Some(original) = own.and_then(|uri| behind(state, &uri)) {
        edits.replace(at, |out| out.extend_from_slice(&original));
    }
}
