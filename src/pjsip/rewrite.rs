//! What differs between a message on the WebSocket and the same message in PJSIP: bytes in, bytes out, no I/O.
//!
//! - A WebSocket message may have no Content-Length (RFC 7118 §5.2); PJSIP wants one on a reliable transport.
//! - A browser's Contact names a host under `.invalid` (RFC 7118 §5.1), which nobody can resolve. PJSIP finds an open
//!   connection by the address of its peer: so the Contact of a client that reached us without a proxy in between gets
//!   that address, and all that PJSIP sends to it finds the connection.
//! - URIs on the wire say `transport=ws`, over TLS too (RFC 7118 §5.3). PJSIP tells its transports apart by that very
//!   parameter: over TLS, what it reads says `wss`, and what it writes is changed back.

use std::net::SocketAddr;
use std::ops::Range;

use memchr::{memmem, memrchr};

use crate::sip::address::{self, Address};
use crate::sip::uri::Uri;
use crate::sip::{Edits, Message, Name, edit};

/// The connection that a message came on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// The address of the peer, as PJSIP knows it.
    pub(super) peer: SocketAddr,
    /// Over TLS.
    pub(super) secure: bool,
    /// Made by the peer, not by us.
    pub(super) accepted: bool,
}

/// Collects the edits that make `message` one for PJSIP.
pub(super) fn inbound(message: &Message, from: Arrival, edits: &mut Edits) {
    if message.field(Name::ContentLength).is_none() {
        edits.insert(message.headers_end(), |out| {
            out.extend_from_slice(b"Content-Length: ");
            edit::decimal(out, message.body().len());
            out.extend_from_slice(b"\r\n");
        });
    }
    let reachable = from.accepted && is_direct(message);
    let several = message.values(Name::Contact).nth(1).is_some();
    for (value, at) in message.values(Name::Contact) {
        let Some((uri, contact)) = uri_in(value) else { continue };
        if reachable && contact.param(b"gr").is_none() && !(several && ends(value)) {
            reach(value, at.start, &contact, from, edits);
        } else if from.secure {
            secure(value, at.start, &value[uri], edits);
        }
    }
    if !from.secure {
        return;
    }
    for name in [Name::RecordRoute, Name::Route, Name::Path] {
        for (value, at) in message.values(name) {
            if let Some((uri, _)) = uri_in(value) {
                secure(value, at.start, &value[uri], edits);
            }
        }
    }
    if let Some((uri, at)) = message.request_uri() {
        secure(uri, at.start, uri, edits);
    }
    // RFC 3608: where the requests of a registered client are to go.
    if let Some(value) = message.header_named(b"Service-Route") {
        secure(value, place(value, message.bytes()).start, value, edits);
    }
}

/// Whether the peer of the connection is the client itself, and no proxy that could say its own address.
fn is_direct(message: &Message) -> bool {
    match message.method() {
        Some(_) => message.values(Name::Via).nth(1).is_none(),
        None => message.field(Name::RecordRoute).is_none(),
    }
}

/// Whether a Contact ends its binding: a client that has learnt a new address for itself ends the old one in the same
/// REGISTER, and with the connection's address in both one would end the other.
fn ends(value: &[u8]) -> bool {
    Address::parse(value).is_some_and(|a| address::find(&value[a.params], b"expires") == Some(b"0"))
}

fn uri_in(value: &[u8]) -> Option<(Range<usize>, Uri<'_>)> {
    let uri = Address::parse(value)?.uri;
    Some((uri.clone(), Uri::parse(&value[uri])?))
}

/// Where `part`, a slice of `whole`, stands in it.
fn place(part: &[u8], whole: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// Gives a Contact the address that its connection is found by.
fn reach(value: &[u8], at: usize, contact: &Uri<'_>, from: Arrival, edits: &mut Edits) {
    let host = place(contact.host, value);
    let end = match contact.port {
        // The digits as they stand, which may begin with zeros.
        Some(_) => host.end + 1 + value[host.end + 1..].iter().take_while(|b| b.is_ascii_digit()).count(),
        None => host.end,
    };
    edits.replace(at + host.start..at + end, |out| edit::decimal(out, from.peer));
    match contact.param(b"transport") {
        Some(_) if from.secure => secure(value, at, value, edits),
        Some(_) => {}
        None => edits.insert(at + end, |out| {
            out.extend_from_slice(if from.secure { b";transport=wss" } else { b";transport=ws" });
        }),
    }
}

const TRANSPORT: &[u8] = b"transport=";

/// Makes `wss` of the `transport=ws` in `uri`, a slice of `value`, which stands at `at`.
fn secure(value: &[u8], at: usize, uri: &[u8], edits: &mut Edits) {
    if let Some(named) = transports(uri).find(|named| uri[named.clone()].eq_ignore_ascii_case(b"ws")) {
        edits.insert(at + place(uri, value).start + named.end, |out| out.push(b's'));
    }
}

/// Where the values of `transport` parameters stand in `text`.
fn transports(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    memmem::find_iter(text, TRANSPORT).filter(|&at| at > 0 && text[at - 1] == b';').map(|at| {
        let start = at + TRANSPORT.len();
        let len = text[start..].iter().take_while(|b| b.is_ascii_alphanumeric()).count();
        start..start + len
    })
}

/// Collects the edits that make bytes of PJSIP's ready for a connection over TLS. Any other connection takes them as
/// they are.
///
/// Credentials were computed over the Request-URI (RFC 7616 §3.4.3): where there are some, both stay as they are.
pub(super) fn outbound(bytes: &[u8], edits: &mut Edits) {
    let headers = memmem::find(bytes, b"\r\n\r\n").map_or(bytes, |end| &bytes[..end]);
    for named in transports(headers).filter(|named| headers[named.clone()].eq_ignore_ascii_case(b"wss")) {
        let line = memrchr(b'\n', &headers[..named.start]).map_or(0, |end| end + 1);
        let kept = match line {
            0 => CREDENTIALS.iter().any(|name| memmem::find(headers, name).is_some()),
            _ => CREDENTIALS.iter().any(|name| headers[line - 1..].starts_with(name)),
        };
        if !kept {
            edits.remove(named.end - 1..named.end);
        }
    }
}

/// The headers with credentials, as PJSIP writes them.
const CREDENTIALS: [&[u8]; 2] = [b"\nAuthorization:", b"\nProxy-Authorization:"];

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: Arrival = Arrival {
        peer: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 40_000),
        secure: false,
        accepted: true,
    };

    fn read(text: &str, from: Arrival) -> String {
        let message = Message::parse(text.replace('\n', "\r\n").into_bytes().into()).expect("a message");
        let (mut edits, mut out) = (Edits::new(), Vec::new());
        inbound(&message, from, &mut edits);
        assert_eq!(edits.len_of(message.bytes()), {
            edits.apply(message.bytes(), &mut out);
            out.len()
        });
        String::from_utf8(out).expect("text").replace("\r\n", "\n")
    }

    fn written(text: &str) -> String {
        let (mut edits, mut out) = (Edits::new(), Vec::new());
        outbound(text.as_bytes(), &mut edits);
        edits.apply(text.as_bytes(), &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_content_length_is_made_up_where_there_is_none() {
        let body = "OPTIONS sip:a@b SIP/2.0\nVia: SIP/2.0/WS x.invalid\n\n12345";
        assert!(read(body, ACCEPTED).contains("x.invalid\nContent-Length: 5\n\n12345"));
        let said = "OPTIONS sip:a@b SIP/2.0\nl: 5\n\n12345";
        assert_eq!(read(said, ACCEPTED), said);
    }

    #[test]
    fn a_browsers_contact_gets_the_address_of_its_connection() {
        let register = |contact: &str| {
            format!("REGISTER sip:b SIP/2.0\nVia: SIP/2.0/WS x.invalid\nContact: {contact}\nContent-Length: 0\n\n")
        };
        for (sent, plain, tls) in [
            (
                "<sip:u@x.invalid;transport=ws>;reg-id=1",
                "<sip:u@192.0.2.7:40000;transport=ws>;reg-id=1",
                "<sip:u@192.0.2.7:40000;transport=wss>;reg-id=1",
            ),
            (
                "\"A, B\" <sip:u@x.invalid:0080;ob>",
                "\"A, B\" <sip:u@192.0.2.7:40000;transport=ws;ob>",
                "\"A, B\" <sip:u@192.0.2.7:40000;transport=wss;ob>",
            ),
            ("*", "*", "*"),
            ("<sip:u@x.invalid;gr=1>", "<sip:u@x.invalid;gr=1>", "<sip:u@x.invalid;gr=1>"),
            ("<tel:+1>", "<tel:+1>", "<tel:+1>"),
        ] {
            assert_eq!(read(&register(sent), ACCEPTED), register(plain));
            assert_eq!(read(&register(sent), Arrival { secure: true, ..ACCEPTED }), register(tls));
        }
        let v6 = Arrival { peer: "[2001:db8::1]:9".parse().expect("an address"), ..ACCEPTED };
        assert_eq!(read(&register("<sip:x.invalid>"), v6), register("<sip:[2001:db8::1]:9;transport=ws>"));
    }

    #[test]
    fn an_old_contact_that_ends_beside_a_new_one_does_not_become_the_same() {
        let register = |contact: &str| {
            format!("REGISTER sip:b SIP/2.0\nVia: SIP/2.0/WS x.invalid\nContact: {contact}\nContent-Length: 0\n\n")
        };
        assert_eq!(
            read(&register("<sip:u@new.invalid>, <sip:u@old.invalid>;expires=0"), ACCEPTED),
            register("<sip:u@192.0.2.7:40000;transport=ws>, <sip:u@old.invalid>;expires=0")
        );
        let alone = read(&register("<sip:u@x.invalid>;expires=0"), ACCEPTED);
        assert_eq!(alone, register("<sip:u@192.0.2.7:40000;transport=ws>;expires=0"));
    }

    #[test]
    fn a_contact_from_behind_a_proxy_stays() {
        let proxied = "INVITE sip:a@b SIP/2.0\nVia: SIP/2.0/WS p, SIP/2.0/UDP c\nContact: <sip:u@c>\nl: 0\n\n";
        assert_eq!(read(proxied, ACCEPTED), proxied);
        let routed = "SIP/2.0 200 OK\nVia: SIP/2.0/WS p\nRecord-Route: <sip:p;lr>\nContact: <sip:u@c>\nl: 0\n\n";
        assert_eq!(read(routed, ACCEPTED), routed);
        let ours = "SIP/2.0 200 OK\nVia: SIP/2.0/WS p\nContact: <sip:u@c>\nl: 0\n\n";
        assert_eq!(read(ours, Arrival { accepted: false, ..ACCEPTED }), ours);
    }

    #[test]
    fn what_credentials_were_computed_over_stays() {
        for name in ["Authorization", "Proxy-Authorization"] {
            let head = "REGISTER sip:b;transport=wss SIP/2.0\r\nContact: <sip:a;transport=wss>\r\n";
            let credentials = format!("{name}: Digest uri=\"sip:b;transport=wss\"\r\n\r\n");
            let wanted = format!("{}{credentials}", head.replace("a;transport=wss", "a;transport=ws"));
            assert_eq!(written(&format!("{head}{credentials}")), wanted);
        }
    }

    #[test]
    fn over_tls_ws_is_wss_for_pjsip_and_ws_again_on_the_wire() {
        let wire = "INVITE sip:a@b;transport=ws SIP/2.0\nVia: SIP/2.0/WSS p;rport, SIP/2.0/UDP c\n\
                    Record-Route: <sip:p;transport=ws;lr>, <sip:q;transport=tcp;lr>\n\
                    Route: <sip:r;lr;transport=ws>\nContact: <sip:u@c;transport=ws>\n\
                    Service-Route: <sip:s;transport=ws;lr>\nContent-Length: 19\n\na=b;transport=wss\n";
        let inside = wire
            .replace("transport=ws ", "transport=wss ")
            .replace("transport=ws;", "transport=wss;")
            .replace("transport=ws>", "transport=wss>");
        let arrival = Arrival { secure: true, ..ACCEPTED };
        assert_eq!(read(wire, arrival), inside);
        assert_eq!(written(&inside.replace('\n', "\r\n")), wire.replace('\n', "\r\n"));
        assert_eq!(written("SIP/2.0 200 OK\r\nContact: <sip:a;transport=WSS>\r\n\r\n").matches("WS>").count(), 1);
        assert_eq!(read(wire, ACCEPTED), wire);
    }
}
