//! One Via value (RFC 3261 §20.42, §18.2; RFC 3581 for `rport`; RFC 7118 §5 for WS and WSS).

use std::ops::Range;

use memchr::memchr;

use super::address::parameters;
use super::{is_lws, is_token, number, trim, uri};

/// A Via value taken apart. Places are offsets into the value it was parsed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS`, `WS`, `WSS`, …
    pub transport: &'a [u8],
    /// The sent-by host, IPv6 in brackets.
    pub host: &'a [u8],
    /// The sent-by port.
    pub port: Option<u16>,
    /// The branch parameter.
    pub branch: Option<&'a [u8]>,
    /// Where the `received` parameter's value stands.
    pub received: Option<Range<usize>>,
    /// Where `rport` stands: the end of the name, and its value if it has one.
    pub rport: Option<Rport>,
    /// Where the sent-by ends, and the parameters begin.
    pub params_at: usize,
}

/// Where an `rport` parameter stands in its Via value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rport {
    /// From the end of the name to the end of the parameter: what is to be replaced by `=port`.
    pub value: Range<usize>,
}

impl<'a> Via<'a> {
    /// Takes one Via value apart. `None` where it is none, or has an empty parameter.
    pub fn parse(value: &'a [u8]) -> Option<Via<'a>> {
        // sent-protocol: name SLASH version SLASH transport, white space allowed around the slashes.
        let first = memchr(b'/', value)?;
        let second = first + 1 + memchr(b'/', &value[first + 1..])?;
        if !trim(&value[..first]).eq_ignore_ascii_case(b"SIP") || trim(&value[first + 1..second]) != b"2.0" {
            return None;
        }
        let mut at = second + 1;
        while at < value.len() && is_lws(value[at]) {
            at += 1;
        }
        let transport_at = at;
        while at < value.len() && !is_lws(value[at]) {
            at += 1;
        }
        let transport = &value[transport_at..at];
        let sent_by_at = at;
        let params_at = memchr(b';', &value[at..]).map_or(value.len(), |p| at + p);
        let sent_by = trim(&value[sent_by_at..params_at]);
        let (host, port) = sent_by_parts(sent_by)?;
        if !is_token(transport) {
            return None;
        }
        let mut via = Via {
            transport,
            host,
            port,
            branch: None,
            received: None,
            rport: None,
            params_at: sent_by_at + (sent_by.as_ptr() as usize - value[sent_by_at..].as_ptr() as usize) + sent_by.len(),
        };
        let base = value.as_ptr() as usize;
        let place = |s: &[u8]| {
            let start = s.as_ptr() as usize - base;
            start..start + s.len()
        };
        let mut quotes = false;
        let semicolons = |s: &[u8]| s.iter().filter(|&&b| b == b';').count();
        let mut separators = semicolons(&value[params_at..]);
        for (name, v) in parameters(&value[params_at..]) {
            // One stands before the parameter; those inside are quoted.
            separators -= 1 + semicolons(name) + semicolons(v);
            quotes |= memchr(b'"', v).is_some();
            if name.eq_ignore_ascii_case(b"branch") {
                via.branch = Some(v);
            } else if name.eq_ignore_ascii_case(b"received") {
                via.received = Some(place(v));
            } else if name.eq_ignore_ascii_case(b"rport") {
                let name = place(name);
                let end = if v.is_empty() { name.end } else { place(v).end };
                via.rport = Some(Rport { value: name.end..end });
            }
        }
        if separators > 0 {
            return None;
        }
        if quotes && value.iter().filter(|&&b| b == b'"').count() % 2 == 1 {
            return None;
        }
        Some(via)
    }
}

fn sent_by_parts(sent_by: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_end = if sent_by.first() == Some(&b'[') {
        memchr(b']', sent_by)? + 1
    } else {
        memchr(b':', sent_by).unwrap_or(sent_by.len())
    };
    let host = trim(&sent_by[..host_end]);
    let port = match trim(&sent_by[host_end..]) {
        [] => None,
        [b':', port @ ..] => Some(u16::try_from(number(trim(port))?).ok()?),
        _ => return None,
    };
    uri::is_host(host).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browsers_via_is_taken_apart() {
        let v = Via::parse(b"SIP/2.0/WSS df7jal23ls0d.invalid;rport;branch=z9hG4bKx").expect("via");
        assert_eq!(v.transport, b"WSS");
        assert_eq!(v.host, b"df7jal23ls0d.invalid");
        assert_eq!(v.branch, Some(&b"z9hG4bKx"[..]));
        assert_eq!(v.rport.map(|r| r.value), Some(38..38));
        assert_eq!(v.params_at, 32);
    }

    #[test]
    fn white_space_ipv6_and_filled_parameters_are_read() {
        let value = b"SIP / 2.0 / TCP [2001:db8::9:1] : 5070 ; received=192.0.2.1;rport = 9 ;branch=b";
        let v = Via::parse(value).expect("via");
        assert_eq!((v.host, v.port), (&b"[2001:db8::9:1]"[..], Some(5070)));
        assert_eq!(v.received.clone().map(|r| &value[r]), Some(&b"192.0.2.1"[..]));
        assert_eq!(v.rport.map(|r| &value[r.value]), Some(&b" = 9"[..]));
        assert_eq!(&value[v.params_at..v.params_at + 2], b" ;");
    }

    #[test]
    fn a_quoted_semicolon_separates_nothing() {
        let v = Via::parse(b"SIP/2.0/WS h;x=\";;\";branch=b").expect("via");
        assert_eq!(v.branch, Some(&b"b"[..]));
    }

    #[test]
    fn broken_values_are_refused() {
        for bad in [
            "SIP/2.0/UDP h;",
            "SIP/2.0/UDP h;;branch=1",
            "SIP/2.0/UDP h;a=\";\";",
            "SIP/2.0/UDP",
            "SIP/2.0 host",
            "SIP/3.0/UDP h",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP a b",
            "",
        ] {
            assert_eq!(Via::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
