//! `name-addr` and `addr-spec` values: From, To, Contact, Route, Path (RFC 3261 §20.10, §25.1).

use std::ops::Range;

use memchr::memchr;

use super::{is_lws, trim};

/// Where the parts of an address value stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The URI, without angle brackets.
    pub uri: Range<usize>,
    /// The header parameters with their leading `;`, empty if there are none.
    pub params: Range<usize>,
}

impl Address {
    /// Finds the parts of `value`. `None` where a quote or bracket never closes, or something stands where nothing may.
    ///
    /// Without angle brackets everything from the first `;` on belongs to the header, not to the URI, and a URI with
    /// `?` or `,` has to have brackets (RFC 3261 §20.10).
    pub fn parse(value: &[u8]) -> Option<Address> {
        let mut i = 0;
        let skip = |mut i: usize| {
            while i < value.len() && is_lws(value[i]) {
                i += 1;
            }
            i
        };
        i = skip(i);
        if value.get(i) == Some(&b'"') {
            i = skip(quoted_end(value, i)?);
            if value.get(i) != Some(&b'<') {
                return None;
            }
        }
        let (uri, mut rest) = match memchr(b'<', &value[i..]) {
            Some(lt) if !value[i..i + lt].contains(&b';') && !value[i..i + lt].contains(&b':') => {
                // A display name without quotes is made of tokens (RFC 3261 §25.1).
                let display = &value[i..i + lt];
                if display.iter().any(|&b| !(super::is_token_byte(b) || is_lws(b) || b >= 0x80)) {
                    return None;
                }
                let start = i + lt + 1;
                let gt = start + memchr(b'>', &value[start..])?;
                (start..gt, gt + 1)
            }
            _ => {
                let end = value[i..].iter().position(|&b| b == b';' || is_lws(b)).map_or(value.len(), |p| i + p);
                if value[i..end].iter().any(|b| matches!(b, b'?' | b'"' | b'<' | b'>')) {
                    return None;
                }
                (i..end, end)
            }
        };
        if uri.is_empty() || value[uri.clone()].iter().any(|&b| is_lws(b)) {
            return None;
        }
        rest = skip(rest);
        if rest < value.len() && value[rest] != b';' {
            return None;
        }
        params_close(&value[rest..]).then_some(Address { uri, params: rest..value.len() })
    }
}

/// The value of the parameter `name` of an address value; empty for a parameter without a value.
pub fn parameter<'a>(value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let address = Address::parse(value)?;
    find(&value[address.params], name)
}

/// The value of the parameter `name` in `;a=b;c` (quotes around a value are kept).
pub fn find<'a>(params: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    parameters(params).find_map(|(n, v)| n.eq_ignore_ascii_case(name).then_some(v))
}

/// The parameters of `;a=b;c="d;e"`, one by one: name and value.
pub fn parameters(params: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < params.len() {
            if params[at] == b';' || is_lws(params[at]) {
                at += 1;
                continue;
            }
            let start = at;
            let mut quoted = false;
            while at < params.len() && (quoted || params[at] != b';') {
                match params[at] {
                    b'\\' if quoted => at += 1,
                    b'"' => quoted = !quoted,
                    _ => {}
                }
                at += 1;
            }
            at = at.min(params.len());
            let part = &params[start..at];
            return Some(match memchr(b'=', part) {
                Some(eq) => (trim(&part[..eq]), trim(&part[eq + 1..])),
                None => (trim(part), &part[part.len()..]),
            });
        }
        None
    })
}

/// Whether every quote in `params` closes.
fn params_close(params: &[u8]) -> bool {
    let mut i = 0;
    while let Some(q) = memchr(b'"', &params[i..]) {
        match quoted_end(params, i + q) {
            Some(end) => i = end,
            None => return false,
        }
    }
    true
}

/// Behind the quote that closes the one at `start`.
fn quoted_end(value: &[u8], start: usize) -> Option<usize> {
    let mut i = start + 1;
    while i < value.len() {
        match value[i] {
            b'\\' => i += 1,
            b'"' => return Some(i + 1),
            _ => {}
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(value: &str) -> Option<&str> {
        Address::parse(value.as_bytes()).map(|a| &value[a.uri])
    }

    #[test]
    fn the_uri_is_found_in_every_form() {
        assert_eq!(uri("<sip:a@b;x=y>;tag=1"), Some("sip:a@b;x=y"));
        assert_eq!(uri("sip:a@b;tag=1"), Some("sip:a@b"));
        assert_eq!(uri("\"Q \\\" <x>\" <sip:a@b>"), Some("sip:a@b"));
        assert_eq!(uri("A. Watson <sip:a@b>"), Some("sip:a@b"));
        assert_eq!(uri("Zoë<sip:a@b> ; tag = 2"), Some("sip:a@b"));
    }

    #[test]
    fn tags_are_found_with_white_space_around() {
        assert_eq!(parameter(b"sip:a@b ; tag = 7", b"tag"), Some(&b"7"[..]));
        assert_eq!(parameter(b"<sip:a@b;tag=no>;x=\";tag=no\";TAG=yes", b"tag"), Some(&b"yes"[..]));
        assert_eq!(parameter(b"<sip:a@b;tag=no>", b"tag"), None);
    }

    #[test]
    fn broken_values_are_refused() {
        for bad in ["\"open <sip:a@b>", "<sip:a@b", "sip:a@b?x=y", "<sip:a@b>x", "<>", "\"a\" sip:a@b", "<sip:a b>"] {
            assert_eq!(uri(bad), None, "{bad}");
        }
    }
}
