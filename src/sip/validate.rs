//! Is this message fit to pass (RFC 3261 §16.3 for requests, §18.1.2 and §16.7 for responses)?
//!
//! A proxy judges what it has to understand and lets the rest be. What is wrong comes back as the status and the
//! phrase to answer with.

use memchr::memchr;

use super::address::Address;
use super::header::Name;
use super::message::{Message, Method, Start};
use super::uri::{self, Scheme, Uri};
use super::via::Via;
use super::{is_lws, is_token, number};

/// Via values a message may have; a path that long is a loop.
const MAX_VIAS: usize = 100;

/// Why a message does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The status to answer a request with.
    pub status: u16,
    /// What is wrong, fit for a reason phrase.
    pub reason: &'static str,
}

const fn bad(reason: &'static str) -> Result<(), Fault> {
    Err(Fault { status: 400, reason })
}

/// How the message came, which decides what its Content-Length has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One message to a WebSocket message: Content-Length may be absent, else it is exact (RFC 7118 §5).
    WebSocket,
    /// Framed by Content-Length already.
    Stream,
}

/// Checks `message`.
pub fn check(message: &Message, transport: Transport) -> Result<(), Fault> {
    // First of all: what follows the start line of another version may be written by another grammar.
    if let Start::Request { version, .. } = message.start() {
        check_version(message.slice(version.start as usize..version.end as usize))?;
    }
    check_fields(message)?;
    if let Start::Request { method, method_at, uri, .. } = message.start() {
        check_request_uri(message.slice(uri.start as usize..uri.end as usize))?;
        let token = message.slice(method_at.start as usize..method_at.end as usize);
        if message.cseq().is_some_and(|(_, m)| m != token) {
            return bad("CSeq Method Does Not Match");
        }
        check_max_forwards(message)?;
        if *method == Method::Register || *method == Method::Invite {
            check_contacts(message)?;
        }
    } else if message.status() == Some(0) {
        return bad("Bad Status Code");
    }
    check_length(message, transport)
}

fn check_fields(message: &Message) -> Result<(), Fault> {
    let mut seen = [0u16; Name::Malformed as usize + 1];
    for field in message.fields() {
        seen[field.name as usize] += 1;
        let value = message.slice(field.value());
        if field.name == Name::Malformed {
            return bad("Malformed Header Field");
        }
        if memchr(0, value).is_some() && !nul_is_quoted(value) {
            return bad("NUL in Header Field");
        }
        // Where it matters to a proxy, a CR or LF that is not part of a fold could be read as a line end by the next hop.
        if !folds_only(value) {
            return bad("Bare CR or LF in Header Field");
        }
        if field.name.is_single() && seen[field.name as usize] > 1 {
            return bad(match field.name {
                Name::From => "More Than One From",
                Name::To => "More Than One To",
                Name::CallId => "More Than One Call-ID",
                Name::CSeq => "More Than One CSeq",
                Name::MaxForwards => "More Than One Max-Forwards",
                Name::ContentLength => "More Than One Content-Length",
                _ => "Header Field Repeated",
            });
        }
        match field.name {
            Name::From | Name::To => check_party(value, field.name)?,
            Name::CallId if value.is_empty() || value.iter().any(|&b| b == 0 || is_lws(b)) => {
                return bad("Bad Call-ID");
            }
            Name::CSeq => match message.cseq() {
                // RFC 3261 §8.1.1.5: less than 2**31.
                Some((n, m)) if n < 1 << 31 && is_token(m) => {}
                _ => return bad("Bad CSeq"),
            },
            Name::Route | Name::RecordRoute => {
                for part in super::message::split_values(value) {
                    if Address::parse(&value[part]).is_none() {
                        return bad("Bad Route");
                    }
                }
            }
            _ => {}
        }
    }
    for (name, reason) in [
        (Name::Via, "Missing Via"),
        (Name::From, "Missing From"),
        (Name::To, "Missing To"),
        (Name::CallId, "Missing Call-ID"),
        (Name::CSeq, "Missing CSeq"),
    ] {
        if seen[name as usize] == 0 {
            return bad(reason);
        }
    }
    let mut vias = message.values(Name::Via);
    if vias.next().and_then(|(v, _)| Via::parse(v)).is_none() {
        return bad("Bad Via");
    }
    if vias.count() >= MAX_VIAS {
        return bad("Too Many Via");
    }
    Ok(())
}

/// Whether every NUL in `value` stands behind a backslash in a quoted string, the one place where the grammar has it
/// (RFC 3261 §25.1 `quoted-pair`; RFC 4475 §3.1.1.2).
fn nul_is_quoted(value: &[u8]) -> bool {
    let (mut quoted, mut i) = (false, 0);
    while i < value.len() {
        match value[i] {
            b'\\' if quoted => i += 1,
            b'"' => quoted = !quoted,
            0 => return false,
            _ => {}
        }
        i += 1;
    }
    // In a string that nobody closes, nothing is quoted.
    !quoted
}

/// Whether every CR and LF in `value` is part of a fold.
fn folds_only(value: &[u8]) -> bool {
    let mut at = 0;
    while let Some(p) = memchr::memchr2(b'\r', b'\n', &value[at..]) {
        let i = at + p;
        if value[i] != b'\r' || value.get(i + 1) != Some(&b'\n') || !matches!(value.get(i + 2), Some(b' ' | b'\t')) {
            return false;
        }
        at = i + 3;
    }
    true
}

fn check_party(value: &[u8], name: Name) -> Result<(), Fault> {
    let (bad_address, bad_uri) =
        if name == Name::From { ("Bad From", "Bad URI in From") } else { ("Bad To", "Bad URI in To") };
    let Some(address) = Address::parse(value) else {
        return bad(bad_address);
    };
    let text = &value[address.uri];
    match uri::scheme(text) {
        Scheme::Sip if Uri::parse(text).is_none() => bad(bad_uri),
        Scheme::None => bad(bad_uri),
        _ => Ok(()),
    }
}

fn check_version(version: &[u8]) -> Result<(), Fault> {
    if version.eq_ignore_ascii_case(b"SIP/2.0") {
        Ok(())
    } else if version.iter().any(|&b| is_lws(b)) {
        bad("White Space Behind SIP Version")
    } else {
        Err(Fault { status: 505, reason: "Version Not Supported" })
    }
}

fn check_request_uri(text: &[u8]) -> Result<(), Fault> {
    if text.is_empty() || text.iter().any(|&b| is_lws(b)) {
        return bad("White Space in Request Line");
    }
    if text.iter().any(|b| matches!(b, b'<' | b'>' | b'"')) {
        return bad("Bad Request-URI");
    }
    match uri::scheme(text) {
        Scheme::Sip => match Uri::parse(text) {
            // A Request-URI has no header part (RFC 3261 §19.1.1, table 1).
            Some(u) if u.headers.is_empty() => Ok(()),
            Some(_) => bad("Header Part in Request-URI"),
            None => bad("Bad Request-URI"),
        },
        Scheme::Tel => Ok(()),
        Scheme::Unknown => Err(Fault { status: 416, reason: "Unsupported URI Scheme" }),
        Scheme::None => bad("Bad Request-URI"),
    }
}

fn check_max_forwards(message: &Message) -> Result<(), Fault> {
    match message.header(Name::MaxForwards).map(number) {
        None | Some(Some(0..=255)) => Ok(()),
        Some(_) => bad("Bad Max-Forwards"),
    }
}

fn check_contacts(message: &Message) -> Result<(), Fault> {
    for (value, _) in message.values(Name::Contact) {
        let fine = value == b"*"
            || Address::parse(value).is_some_and(|a| match uri::scheme(&value[a.uri.clone()]) {
                Scheme::Sip => Uri::parse(&value[a.uri]).is_some(),
                Scheme::None => false,
                _ => true,
            });
        if !fine {
            return bad("Bad Contact");
        }
    }
    Ok(())
}

fn check_length(message: &Message, transport: Transport) -> Result<(), Fault> {
    let Some(value) = message.header(Name::ContentLength) else {
        return Ok(());
    };
    let Some(length) = number(value) else {
        return bad("Bad Content-Length");
    };
    let body = message.body().len();
    match (length as usize).cmp(&body) {
        std::cmp::Ordering::Equal => Ok(()),
        _ if transport == Transport::Stream => Ok(()),
        std::cmp::Ordering::Greater => bad("Content-Length Greater Than Body"),
        std::cmp::Ordering::Less => bad("Bytes Behind the Body"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn verdict(text: &str) -> Result<(), Fault> {
        check(&Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect("parses"), Transport::WebSocket)
    }

    #[test]
    fn another_version_is_told_so_whatever_its_fields_look_like() {
        let text = "OPTIONS sip:b@x SIP/7.0\r\nVia: SIP/7.0/UDP c;branch=z9hG4bK1\r\n\r\n";
        assert_eq!(verdict(text), Err(Fault { status: 505, reason: "Version Not Supported" }));
    }

    fn request(line: &str, more: &str) -> String {
        let method = line.split(' ').next().unwrap_or("");
        format!(
            "{line}\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n{more}\r\n"
        )
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(verdict(&request("OPTIONS sip:b@x SIP/2.0", "")), Ok(()));
        assert_eq!(verdict(&request("NEW tel:+1555 SIP/2.0", "Max-Forwards: 70\r\n")), Ok(()));
    }

    #[test]
    fn a_nul_passes_only_behind_a_backslash_in_quotes() {
        let nul = |value: &str| verdict(&request("OPTIONS sip:b@x SIP/2.0", &format!("Subject: {value}\r\n")));
        assert_eq!(nul("\"a \\\0 b\""), Ok(()));
        for bad in ["\0", "\"\0\"", "\\\0", "\"\\\\\0\"", "\"\" \\\0", "\"\\\0"] {
            assert_eq!(nul(bad), Err(Fault { status: 400, reason: "NUL in Header Field" }), "{bad:?}");
        }
    }

    #[test]
    fn faults_say_what_is_wrong() {
        let cases = [
            ("OPTIONS sip:b@x SIP/7.0", "", 505, "Version Not Supported"),
            ("OPTIONS sip:b@x  SIP/2.0", "", 400, "White Space in Request Line"),
            ("OPTIONS <sip:b@x> SIP/2.0", "", 400, "Bad Request-URI"),
            ("OPTIONS foo:bar SIP/2.0", "", 416, "Unsupported URI Scheme"),
            ("OPTIONS sip:b@x SIP/2.0", "CSeq: 2 OPTIONS\r\n", 400, "More Than One CSeq"),
            ("OPTIONS sip:b@x SIP/2.0", "nonsense\r\n", 400, "Malformed Header Field"),
            ("OPTIONS sip:b@x SIP/2.0", "Content-Length: 4\r\n", 400, "Content-Length Greater Than Body"),
            ("OPTIONS sip:b@x SIP/2.0", "Max-Forwards: 300\r\n", 400, "Bad Max-Forwards"),
            ("OPTIONS sip:b@x SIP/2.0", "X: a\nVia: b\r\n", 400, "Bare CR or LF in Header Field"),
            ("INVITE sip:b@x SIP/2.0", "Contact: <sip:a@\r\n", 400, "Bad Contact"),
        ];
        for (line, more, status, reason) in cases {
            assert_eq!(verdict(&request(line, more)), Err(Fault { status, reason }), "{line} {more}");
        }
    }
}
