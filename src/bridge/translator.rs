//! What the bridge does to a message, whichever way it goes (RFC 3261 §16.6, §16.7): the edits, and nothing of where it
//! is sent.

use std::net::SocketAddr;

use super::branch::Branch;
use crate::sip::edit::decimal;
use crate::sip::via::Via;
use crate::sip::{Edits, Message, Method, Name, number};

/// Max-Forwards down by one, or put in as 70 (RFC 3261 §16.6 step 3). The insertion goes to `at`.
pub(super) fn max_forwards(message: &Message, edits: &mut Edits, at: usize) {
    match message.field(Name::MaxForwards) {
        Some(field) => {
            let n = number(message.slice(field.value())).unwrap_or(70).saturating_sub(1);
            edits.replace(field.value(), |out| decimal(out, n));
        }
        None => edits.insert(at, |out| out.extend_from_slice(b"Max-Forwards: 70\r\n")),
    }
}

/// Says in the top Via where the request really came from (RFC 3261 §18.2.1, RFC 3581 §4). `received` is always put
/// in for a client, whose sent-by is a made-up name; for a server only where it differs.
pub(super) fn received(message: &Message, edits: &mut Edits, peer: SocketAddr) {
    let Some((value, at)) = message.values(Name::Via).next() else {
        return;
    };
    let Some(via) = Via::parse(value) else {
        return;
    };
    let write_ip = |out: &mut Vec<u8>| decimal(out, peer.ip().to_canonical());
    if let Some(rport) = &via.rport {
        edits.replace(at.start + rport.value.start..at.start + rport.value.end, |out| {
            out.push(b'=');
            decimal(out, peer.port());
        });
    }
    match via.received {
        Some(r) => edits.replace(at.start + r.start..at.start + r.end, write_ip),
        None => edits.insert(at.start + via.params_at, |out| {
            out.extend_from_slice(b";received=");
            write_ip(out);
        }),
    }
}

/// Writes our Via (RFC 3261 §16.6 step 8, RFC 7118 §5).
pub(super) fn via(out: &mut Vec<u8>, transport: &str, authority: &str, branch: &Branch) {
    for part in ["Via: SIP/2.0/", transport, " ", authority, ";branch="] {
        out.extend_from_slice(part.as_bytes());
    }
    branch.write(out);
    out.extend_from_slice(b"\r\n");
}

/// Takes the top Via value out: the whole field if it is the only one in it (RFC 3261 §16.7 step 3).
pub(super) fn pop_via(message: &Message, edits: &mut Edits) {
    let mut vias = message.values(Name::Via).map(|(_, at)| at);
    let Some(top) = vias.next() else {
        return;
    };
    // A field with no value at all may stand before it.
    let Some(field) = message.fields().iter().find(|f| f.span().contains(&top.start)) else {
        return;
    };
    match vias.next().filter(|second| field.span().contains(&second.start)) {
        Some(second) => edits.remove(top.start..second.start),
        None => edits.remove(field.span()),
    }
}

/// Content-Length where there is none: optional in a WebSocket message, mandatory on a stream (RFC 3261 §20.14).
pub(super) fn content_length(message: &Message, edits: &mut Edits) {
    if message.field(Name::ContentLength).is_none() {
        edits.insert(message.headers_end(), |out| {
            out.extend_from_slice(b"Content-Length: ");
            decimal(out, message.body().len());
            out.extend_from_slice(b"\r\n");
        });
    }
}

/// Takes out what a client has no right to assert (RFC 3325 §7).
pub(super) fn strip_asserted(message: &Message, edits: &mut Edits) {
    for field in message.fields().iter().filter(|f| f.name == Name::Asserted) {
        edits.remove(field.span());
    }
}

/// Whether the request can form a dialog, so that we want to be on its route (RFC 3261 §16.6 step 4). Requests inside
/// a dialog have their route already.
pub(super) fn forms_dialog(method: Method, in_dialog: bool) -> bool {
    !in_dialog
        && !matches!(
            method,
            Method::Register
                | Method::Ack
                | Method::Cancel
                | Method::Bye
                | Method::Options
                | Method::Message
                | Method::Publish
                | Method::Info
                | Method::Prack
                | Method::Update
        )
}

/// Max-Forwards as a number, if it is there.
pub(super) fn hops_left(message: &Message) -> Option<u32> {
    number(message.header(Name::MaxForwards)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::FlowId;
    use bytes::Bytes;

    fn edited(text: &str, edit: impl FnOnce(&Message, &mut Edits)) -> String {
        let message = Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect("parses");
        let mut edits = Edits::new();
        edit(&message, &mut edits);
        let mut out = Vec::new();
        edits.apply(message.bytes(), &mut out);
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn a_clients_via_says_where_it_came_from() {
        let peer: SocketAddr = "192.0.2.7:4711".parse().expect("address");
        let e = |via: &str| {
            edited(&format!("OPTIONS sip:x SIP/2.0\r\nVia: {via}\r\n\r\n"), |m, e| received(m, e, peer))
                .lines()
                .nth(1)
                .expect("via")
                .to_owned()
        };
        assert_eq!(
            e("SIP/2.0/WSS a.invalid;branch=b;rport"),
            "Via: SIP/2.0/WSS a.invalid;received=192.0.2.7;branch=b;rport=4711"
        );
        assert_eq!(
            e("SIP/2.0/WS a.invalid;received=10.0.0.1;rport=1;branch=b, SIP/2.0/TCP c"),
            "Via: SIP/2.0/WS a.invalid;received=192.0.2.7;rport=4711;branch=b, SIP/2.0/TCP c"
        );
    }

    #[test]
    fn popping_takes_one_value_and_leaves_the_rest() {
        let pop = |text| edited(text, pop_via);
        assert_eq!(pop("SIP/2.0 200 OK\r\nVia:\r\nVia: a\r\nv: d\r\n\r\n"), "SIP/2.0 200 OK\r\nVia:\r\nv: d\r\n\r\n");
        assert_eq!(pop("SIP/2.0 200 OK\r\nVia: a/b/c x\r\nVia: d\r\n\r\n"), "SIP/2.0 200 OK\r\nVia: d\r\n\r\n");
        assert_eq!(
            pop("SIP/2.0 200 OK\r\nv:  a/b/c x ,\r\n d\r\nTo: t\r\n\r\n"),
            "SIP/2.0 200 OK\r\nv:  d\r\nTo: t\r\n\r\n"
        );
    }

    #[test]
    fn hops_go_down_and_are_put_in_where_missing() {
        let hops = |text| edited(text, |m, e| max_forwards(m, e, m.headers_start()));
        assert_eq!(
            hops("A sip:x SIP/2.0\r\nMax-Forwards:  10 \r\n\r\n"),
            "A sip:x SIP/2.0\r\nMax-Forwards:  9 \r\n\r\n"
        );
        assert_eq!(hops("A sip:x SIP/2.0\r\nTo: t\r\n\r\n"), "A sip:x SIP/2.0\r\nMax-Forwards: 70\r\nTo: t\r\n\r\n");
    }

    #[test]
    fn our_via_names_flow_and_transaction() {
        let mut out = Vec::new();
        let branch = Branch { flow: FlowId(1), key: 2, loops: 3, attempt: 0 };
        via(&mut out, "TCP", "edge:5060", &branch);
        let line = String::from_utf8(out).expect("utf-8");
        let value = line.trim_start_matches("Via: ").trim_end();
        let parsed = Via::parse(value.as_bytes()).expect("via");
        assert_eq!(parsed.branch.and_then(Branch::parse), Some(branch));
    }
}
