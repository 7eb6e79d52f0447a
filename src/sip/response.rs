//! A response made from the request that it answers (RFC 3261 §8.2.6), and what follows an INVITE on
//! one hop: CANCEL (§9.1), the ACK of a failure (§17.1.1.3).

use super::edit::decimal;
use super::header::Name;
use super::message::{Message, Method};

/// The usual phrase for a status code (RFC 3261 §21).
pub const fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        200 => "OK",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        423 => "Interval Too Brief",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => "Error",
    }
}

/// What a response says beyond what it copies from its request.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The status code.
    pub status: u16,
    /// The reason phrase, without line breaks; empty means [`phrase`].
    pub reason: &'a str,
    /// The tag that To gets when it has none; a 100 gets none (RFC 3261 §8.2.6.2).
    pub to_tag: &'a [u8],
    /// Further header fields, each closed by CRLF.
    pub headers: &'a [u8],
}

impl<'a> Reply<'a> {
    /// A reply with the usual phrase.
    pub fn new(status: u16, to_tag: &'a [u8]) -> Reply<'a> {
        Reply { status, reason: phrase(status), to_tag, headers: b"" }
    }
}

/// Whether a response to `request` can be formed: it is a request, not an ACK, and somebody is named in a Via.
pub fn can_answer(request: &Message) -> bool {
    !matches!(request.method(), None | Some(Method::Ack)) && request.field(Name::Via).is_some()
}

/// Writes the response that `reply` describes to the end of `out`.
pub fn write(request: &Message, reply: Reply<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"SIP/2.0 ");
    decimal(out, reply.status);
    out.push(b' ');
    out.extend_from_slice(if reply.reason.is_empty() {
        phrase(reply.status).as_bytes()
    } else {
        reply.reason.as_bytes()
    });
    out.extend_from_slice(b"\r\n");
    let mut seen_to = false;
    for field in request.fields() {
        match field.name {
            Name::Via | Name::From | Name::CallId | Name::CSeq => {
                out.extend_from_slice(request.slice(field.span()));
            }
            Name::To if !seen_to => {
                seen_to = true;
                let value = request.slice(field.value());
                out.extend_from_slice(b"To: ");
                out.extend_from_slice(value);
                if reply.status > 100 && !reply.to_tag.is_empty() && super::address::parameter(value, b"tag").is_none()
                {
                    out.extend_from_slice(b";tag=");
                    out.extend_from_slice(reply.to_tag);
                }
                out.extend_from_slice(b"\r\n");
            }
            _ => {}
        }
    }
    out.extend_from_slice(reply.headers);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// Writes a request that follows an INVITE on its own hop: its CANCEL (RFC 3261 §9.1), or the ACK of a failure that is
/// not passed on (§17.1.1.3). `via` is the INVITE's own Via field, `to` the To to use, and the Routes are those of
/// the INVITE that stand at or behind `routes_from`.
pub fn write_hop(method: Method, invite: &Message, via: &[u8], to: &[u8], routes_from: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(invite.request_uri().map_or(b"", |(uri, _)| uri));
    out.extend_from_slice(b" SIP/2.0\r\n");
    out.extend_from_slice(via);
    for (route, _) in invite.values(Name::Route).filter(|(_, r)| r.start >= routes_from) {
        out.extend_from_slice(b"Route: ");
        out.extend_from_slice(route);
        out.extend_from_slice(b"\r\n");
    }
    let from = invite.header(Name::From).unwrap_or(b"");
    let call_id = invite.call_id().unwrap_or(b"");
    for (label, value) in [(&b"From: "[..], from), (b"To: ", to), (b"Call-ID: ", call_id)] {
        out.extend_from_slice(label);
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"CSeq: ");
    decimal(out, invite.cseq().map_or(0, |(n, _)| n));
    out.push(b' ');
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b"\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_response_copies_what_identifies_its_transaction() {
        let request = Message::parse(Bytes::from_static(
            b"INVITE sip:b@x SIP/2.0\r\nv: SIP/2.0/WS a;branch=z9hG4bK1\r\nVia: SIP/2.0/TCP b\r\nf: <sip:a@x>;tag=1\r\n\
              t: <sip:b@x>\r\ni: c\r\nCSeq: 1 INVITE\r\nSubject: no\r\n\r\nbody",
        ))
        .expect("parses");
        let mut out = Vec::new();
        write(&request, Reply { headers: b"Retry-After: 5\r\n", ..Reply::new(503, b"xyz") }, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "SIP/2.0 503 Service Unavailable\r\nv: SIP/2.0/WS a;branch=z9hG4bK1\r\nVia: SIP/2.0/TCP b\r\n\
             f: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=xyz\r\ni: c\r\nCSeq: 1 INVITE\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn an_ack_cannot_be_answered() {
        let ack =
            Message::parse(Bytes::from_static(b"ACK sip:b@x SIP/2.0\r\nVia: SIP/2.0/WS a\r\n\r\n")).expect("parses");
        assert!(!can_answer(&ack));
    }
}
