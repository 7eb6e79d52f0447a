//! Which web pages may connect: patterns for the Origin header (RFC 6454, RFC 6455 §10.2).

use super::address::check_host_name;
use super::text::text_value;
use std::fmt;
use std::str::FromStr;

/// One entry of `listen.origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// `*`: every page of the web.
    Any,
    /// One origin, in normal form: lower case, no default port, no trailing slash; or `null`.
    Exact(String),
    /// `https://*.example.com`: every host under a domain, at any depth, but not the domain itself.
    Subdomains {
        /// Lower case, as in `https`.
        scheme: String,
        /// The domain, lower case, without the leading dot.
        suffix: String,
        /// `None`: the scheme's default port.
        port: Option<u16>,
    },
}

impl OriginPattern {
    /// Does the value of an Origin header match? Scheme and host are compared without regard to case; `:80` after
    /// `http` and `:443` after `https` are the same as no port.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) if exact == "null" => origin == "null",
            Self::Exact(exact) => Parts::split(origin).is_ok_and(|parts| parts.to_string() == *exact),
            Self::Subdomains { scheme, suffix, port } => Parts::split(origin).is_ok_and(|parts| {
                parts.scheme == *scheme
                    && parts.port == *port
                    && parts
                        .host
                        .strip_suffix(suffix.as_str())
                        .and_then(|rest| rest.strip_suffix('.'))
                        .is_some_and(|label| !label.is_empty())
            }),
        }
    }
}

/// scheme "://" host [ ":" port ], in normal form (RFC 6454 §6.2).
struct Parts {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Parts {
    fn split(origin: &str) -> Result<Self, String> {
        let (scheme, rest) =
            origin.split_once("://").ok_or("an origin begins with a scheme, as in https://app.example.com")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(plain) {
            return Err("the scheme is letters, digits, + - and dots, as in https://app.example.com".to_owned());
        }
        if let Some(end) = rest.find(['/', '?', '#']) {
            return Err(format!("an origin has no path; did you mean {scheme}://{}?", &rest[..end]));
        }
        if rest.contains('@') {
            return Err("an origin has no user name".to_owned());
        }
        let (host, port) = match rest.rfind(':') {
            // The colons of an IPv6 address stand before its bracket.
            Some(colon) if !rest[colon..].contains(']') => (&rest[..colon], Some(&rest[colon + 1..])),
            _ => (rest, None),
        };
        if host.is_empty() {
            return Err("an origin names a host, as in https://app.example.com".to_owned());
        }
        let scheme = scheme.to_ascii_lowercase();
        let port = match port {
            Some(port) => Some(port.parse::<u16>().map_err(|_| "the port is a number from 0 to 65535".to_owned())?),
            None => None,
        };
        let default = match scheme.as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        };
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port: port.filter(|port| Some(*port) != default) })
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for OriginPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => return Ok(Self::Any),
            // What browsers send for file: pages and sandboxed frames (RFC 6454 §7.3).
            "null" => return Ok(Self::Exact("null".to_owned())),
            _ => {}
        }
        if !text.is_ascii() {
            return Err("browsers send names in their ASCII form; write it as xn--…".to_owned());
        }
        let parts = Parts::split(text)?;
        if let Some(suffix) = parts.host.strip_prefix("*.") {
            check_host_name(suffix)?;
            return Ok(Self::Subdomains { scheme: parts.scheme, suffix: suffix.to_owned(), port: parts.port });
        }
        if parts.host.contains('*') {
            return Err("a star stands alone (\"*\") or for the first labels, as in https://*.example.com".to_owned());
        }
        if !parts.host.starts_with('[') {
            check_host_name(&parts.host)?;
        }
        Ok(Self::Exact(parts.to_string()))
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Subdomains { scheme, suffix, port } => {
                write!(f, "{scheme}://*.{suffix}")?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

text_value!(OriginPattern, "an origin such as \"https://app.example.com\", \"https://*.example.com\" or \"*\"");

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, origin: &str) -> bool {
        pattern.parse::<OriginPattern>().expect(pattern).matches(origin)
    }

    #[test]
    fn an_exact_origin_is_compared_in_normal_form() {
        assert!(matches("https://app.example.com", "https://app.example.com"));
        assert!(matches("HTTPS://App.Example.com:443", "https://app.example.com"));
        assert!(matches("http://app.example.com", "http://APP.example.com:80"));
        assert!(!matches("https://app.example.com", "http://app.example.com"));
        assert!(!matches("https://app.example.com", "https://app.example.com:8443"));
        assert!(!matches("https://app.example.com", "https://app.example.com.evil.net"));
        assert!(!matches("https://app.example.com", "null"));
        assert!(matches("http://[::1]:3000", "http://[::1]:3000"));
        assert!(matches("capacitor://localhost", "capacitor://localhost"));
        assert!(matches("null", "null") && !matches("null", "https://null"));
    }

    #[test]
    fn a_star_covers_every_depth_but_not_the_domain_itself() {
        let pattern = "https://*.example.com";
        assert!(matches(pattern, "https://a.example.com") && matches(pattern, "https://a.b.Example.com:443"));
        for other in ["https://example.com", "https://.example.com", "https://badexample.com", "http://a.example.com"] {
            assert!(!matches(pattern, other), "{other}");
        }
        assert!(!matches(pattern, "https://a.example.com:8443"));
        assert!(!matches(pattern, "https://a.example.com/"), "no origin ends in a slash");
        assert!(!matches(pattern, "https://evil.net/a.example.com"));
        assert!(matches("https://*.example.com:8443", "https://a.example.com:8443"));
        assert!(matches("*", "whatever"));
    }

    #[test]
    fn what_no_browser_would_send_is_refused_with_the_mend() {
        let why = |text: &str| text.parse::<OriginPattern>().expect_err(text);
        assert_eq!(why("https://app.example.com/"), "an origin has no path; did you mean https://app.example.com?");
        assert!(why("app.example.com").contains("begins with a scheme"));
        assert!(why("https://*").contains("a star stands alone"));
        assert!(why("https://app.*.com").contains("a star stands alone"));
        assert!(why("https://bücher.example").contains("xn--"));
        assert!(why("https://a:99999").contains("0 to 65535"));
        assert!(why("https://").contains("names a host"));
        assert!(why("https://a b").contains("host name"));
    }
}
