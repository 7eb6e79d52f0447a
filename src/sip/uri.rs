//! SIP and SIPS URIs (RFC 3261 §19.1), borrowed from the message they stand in.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use memchr::{memchr, memchr2, memrchr};

use super::number;

/// A `sip:` or `sips:` URI taken apart. Nothing is unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// Whether the scheme is `sips`.
    pub secure: bool,
    /// What stands before the `@`, with the password if there is one; `None` without an `@`.
    pub user: Option<&'a [u8]>,
    /// Host name, IPv4 address, or IPv6 reference with its brackets.
    pub host: &'a [u8],
    /// Port, if one is said.
    pub port: Option<u16>,
    /// The parameters without the leading `;`.
    pub params: &'a [u8],
    /// The header part without the leading `?`.
    pub headers: &'a [u8],
}

/// What a Request-URI's scheme lets the edge do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:` or `sips:`.
    Sip,
    /// `tel:` (RFC 3966), which a proxy may pass on to somebody who knows numbers.
    Tel,
    /// Any other well-formed scheme: 416.
    Unknown,
    /// No scheme at all: 400.
    None,
}

/// The scheme of `uri`.
pub fn scheme(uri: &[u8]) -> Scheme {
    let Some(colon) = memchr(b':', uri) else {
        return Scheme::None;
    };
    let s = &uri[..colon];
    if s.eq_ignore_ascii_case(b"sip") || s.eq_ignore_ascii_case(b"sips") {
        Scheme::Sip
    } else if s.eq_ignore_ascii_case(b"tel") {
        Scheme::Tel
    } else if s.first().is_some_and(u8::is_ascii_alphabetic)
        && s.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    {
        Scheme::Unknown
    } else {
        Scheme::None
    }
}

impl<'a> Uri<'a> {
    /// Takes `uri` apart. `None` where it is no SIP URI, or holds white space, angle brackets, a broken escape, a
    /// host that is none, or a port that is none.
    pub fn parse(uri: &'a [u8]) -> Option<Uri<'a>> {
        let colon = memchr(b':', uri)?;
        let secure = match colon {
            3 if uri[..3].eq_ignore_ascii_case(b"sip") => false,
            4 if uri[..4].eq_ignore_ascii_case(b"sips") => true,
            _ => return None,
        };
        let rest = &uri[colon + 1..];
        if !well_formed(rest) {
            return None;
        }
        // A user part may hold `;` and `?`, a host part no `@`: so the last `@` before the headers divides them.
        let (user, rest) = match memrchr(b'@', rest) {
            Some(0) => return None,
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let host_end = if rest.first() == Some(&b'[') {
            memchr(b']', rest)? + 1
        } else {
            rest.iter().position(|b| matches!(b, b':' | b';' | b'?')).unwrap_or(rest.len())
        };
        let host = &rest[..host_end];
        if !is_host(host) {
            return None;
        }
        let mut tail = &rest[host_end..];
        let mut port = None;
        if tail.first() == Some(&b':') {
            let end = memchr2(b';', b'?', tail).unwrap_or(tail.len());
            port = Some(u16::try_from(number(&tail[1..end])?).ok()?);
            tail = &tail[end..];
        }
        let (params, headers) = match memchr(b'?', tail) {
            Some(q) => (&tail[..q], &tail[q + 1..]),
            None => (tail, &tail[..0]),
        };
        let params = match params {
            [] => params,
            [b';', params @ ..] => params,
            _ => return None,
        };
        Some(Uri { secure, user, host, port, params, headers })
    }

    /// A parameter's value; empty for one without a value.
    pub fn param(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.params.split(|&b| b == b';').find_map(|p| match memchr(b'=', p) {
            Some(eq) if p[..eq].eq_ignore_ascii_case(name) => Some(&p[eq + 1..]),
            None if p.eq_ignore_ascii_case(name) => Some(&p[..0]),
            _ => None,
        })
    }

    /// Whether host and port are `host` and `port`, where an absent port means `default`.
    pub fn is_at(&self, host: &[u8], port: u16, default: u16) -> bool {
        self.port.unwrap_or(default) == port && same_host(self.host, host)
    }
}

/// Whether two hosts are the same: names without case, addresses by value.
pub fn same_host(a: &[u8], b: &[u8]) -> bool {
    if a.eq_ignore_ascii_case(b) {
        return true;
    }
    a.first() == Some(&b'[') && matches!((address(a), address(b)), (Some(x), Some(y)) if x == y)
}

/// The address that `host` spells, IPv6 in brackets or bare.
pub fn address(host: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(host).ok()?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    IpAddr::from_str(bare).ok()
}

/// Whether `host` is a host name, an IPv4 address, or an IPv6 reference.
pub fn is_host(host: &[u8]) -> bool {
    if let [b'[', inner @ .., b']'] = host {
        return std::str::from_utf8(inner).is_ok_and(|t| Ipv6Addr::from_str(t).is_ok());
    }
    // Underscores are no part of the grammar, but of many a deployment's names.
    !host.is_empty() && host.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// No byte that ends a URI or hides something in it, and every `%` followed by two hex digits.
fn well_formed(s: &[u8]) -> bool {
    let mut i = 0;
    while i < s.len() {
        match s[i] {
            0..=b' ' | 0x7f | b'<' | b'>' | b'"' => return false,
            b'%' => {
                if !s.get(i + 1..i + 3).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)) {
                    return false;
                }
                i += 2;
            }
            _ => {}
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_they_stand() {
        let u = Uri::parse(b"sips:a;b?c:pw@[2001:db8::1]:5061;transport=ws;lr?Subject=x").expect("uri");
        assert!(u.secure);
        assert_eq!(u.user, Some(&b"a;b?c:pw"[..]));
        assert_eq!(u.host, b"[2001:db8::1]");
        assert_eq!(u.port, Some(5061));
        assert_eq!(u.param(b"TRANSPORT"), Some(&b"ws"[..]));
        assert_eq!(u.param(b"lr"), Some(&b""[..]));
        assert_eq!(u.param(b"l"), None);
        assert_eq!(u.headers, b"Subject=x");
    }

    #[test]
    fn what_is_no_sip_uri_is_refused() {
        for bad in [
            &b"sip:"[..],
            b"sip:@host",
            b"sip:a@",
            b"sip:a@b c",
            b"sip:a@b:99999",
            b"sip:a@b:",
            b"sip:a@[::1",
            b"sip:a@[zz]",
            b"sip:%zz@b",
            b"<sip:a@b>",
            b"http://x",
            b"sip",
        ] {
            assert_eq!(Uri::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn hosts_compare_by_meaning() {
        assert!(same_host(b"Edge1.Example.com", b"edge1.example.COM"));
        assert!(same_host(b"[::1]", b"[0:0:0:0:0:0:0:1]"));
        assert!(!same_host(b"127.0.0.1", b"127.0.0.2"));
    }
}
