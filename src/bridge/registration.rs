//! REGISTER for two kinds of registrar: with Path (RFC 3327), and without.
//!
//! A registrar without Path gets a contact that leads to us: `sip:TOKEN@advertised;transport=…;c=N`, where N says which
//! of the flow's contacts it stands for. On the way down, in the 2xx and in requests, the client sees its own again.

use super::FlowState;
use super::identity::Identity;
use crate::edge::Edge;
use crate::sip::address::{Address, parameter};
use crate::sip::uri::Uri;
use crate::sip::{Edits, Message, Name, number};

/// Contacts remembered for one flow: a client has one, or one for each of its accounts.
const MOST_CONTACTS: usize = 16;

/// How long a binding lasts of which nobody says it (RFC 3261 §10.2.1.1: the registrar's choice, commonly this).
const EXPIRES: u32 = 3600;

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

/// What a 2xx to a client's REGISTER with contacts says of them: the seconds that the one that lasts longest has left, 0
/// if the registrar has none of them any more. `None` for a REGISTER without contacts, which changes nothing.
pub(super) fn lasts(identity: &Identity, state: &FlowState, register: &Message, answer: &Message) -> Option<u32> {
    register.field(Name::Contact)?;
    let default = answer.header(Name::Expires).and_then(number);
    let ours = answer.values(Name::Contact).filter_map(|(value, _)| {
        let contact = Address::parse(value)?;
        let uri = Uri::parse(&value[contact.uri.clone()]);
        let stand_in = uri.is_some_and(|uri| identity.is_own(&uri) && uri.user == Some(state.token.as_bytes()));
        let same = || register.values(Name::Contact).any(|(sent, _)| is_same(value, &contact, uri.as_ref(), sent));
        (stand_in || same()).then(|| parameter(value, b"expires").and_then(number).or(default).unwrap_or(EXPIRES))
    });
    Some(ours.max().unwrap_or(0))
}

/// Whether a registrar's contact is the one that the client `sent`: the same URI as far as it says where the client is
/// (RFC 3261 §19.1.4), or the same instance and reg-id (RFC 5626 §6).
fn is_same(value: &[u8], contact: &Address, uri: Option<&Uri<'_>>, sent: &[u8]) -> bool {
    let Some(own) = Address::parse(sent) else {
        return false;
    };
    let instance = |value| parameter(value, b"+sip.instance").map(|id| (id, parameter(value, b"reg-id")));
    let same_place = || match (uri, Uri::parse(&sent[own.uri.clone()])) {
        (Some(a), Some(b)) => {
            (a.secure, a.user, a.port) == (b.secure, b.user, b.port) && a.host.eq_ignore_ascii_case(b.host)
        }
        _ => value[contact.uri.clone()] == sent[own.uri.clone()],
    };
    match (instance(value), instance(sent)) {
        (Some(a), Some(b)) => a == b,
        _ => same_place(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_the_same_by_its_place_or_else_by_its_instance() {
        let same = |value: &str, sent: &str| {
            let contact = Address::parse(value.as_bytes()).expect("an address");
            let uri = Uri::parse(&value.as_bytes()[contact.uri.clone()]);
            is_same(value.as_bytes(), &contact, uri.as_ref(), sent.as_bytes())
        };
        assert!(same("<sip:a@X.invalid;transport=ws>;expires=60", "sip:a@x.invalid"));
        assert!(!same("<sip:a@x.invalid>", "<sip:b@x.invalid>"));
        assert!(!same("<sip:a@x.invalid:5060>", "<sip:a@x.invalid>"));
        assert!(same("<tel:+1>;expires=5", "<tel:+1>"));
        let with = |host: &str, id: &str| format!("<sip:a@{host}>;+sip.instance=\"<urn:uuid:{id}>\";reg-id=1");
        assert!(same(&with("old.invalid", "1"), &with("new.invalid", "1")));
        assert!(!same(&with("x.invalid", "1"), &with("x.invalid", "2")), "another device of the same name");
    }
}
