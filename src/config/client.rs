//! `[client]`: WebSocket connections that we open (RFC 6455 §4.1), and what each server wants to hear.

use super::address::{bracketed, split_host_port};
use super::secret::Secret;
use super::sections::TlsVersion;
use super::text::text_value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// `[client]`: WebSocket connections that we open. How long one may take is `timeouts.connect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    /// PEM file with further trust anchors for `wss` servers, beside the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Whether a `wss` server has to prove who it is.
    pub verify: bool,
    /// The oldest TLS version that is spoken.
    pub min_version: TlsVersion,
    /// The Origin header (RFC 6454) towards servers that have none of their own in `host`. `None`: no such header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// What single servers want.
    pub host: Vec<ClientHost>,
}

impl Default for Client {
    fn default() -> Self {
        Self { ca: None, verify: true, min_version: TlsVersion::V1_2, origin: None, host: Vec::new() }
    }
}

impl Client {
    /// What is said of the server: an entry with its port comes before one for all ports.
    pub fn host(&self, host: &str, port: u16) -> Option<&ClientHost> {
        let same = |entry: &&ClientHost| entry.host.host.eq_ignore_ascii_case(host);
        let with_port = |wanted| self.host.iter().filter(same).find(|entry| entry.host.port == wanted);
        with_port(Some(port)).or_else(|| with_port(None))
    }
}

/// `[[client.host]]`: what a server wants in the request that opens a connection to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientHost {
    /// The server, as it is called where it is connected to: `pbx.example.com`, or `pbx.example.com:8443` for that port
    /// alone. The one key that must be given.
    pub host: HostPort,
    /// The request's target: path and query.
    #[serde(default = "root")]
    pub target: String,
    /// The Origin header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Further headers, such as Authorization and Cookie.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
}

fn root() -> String {
    "/".to_owned()
}

/// A host, and a port if one is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, lower case; an IPv6 address without brackets.
    pub host: String,
    /// `None`: every port.
    pub port: Option<u16>,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match split_host_port(text)? {
            (_, Some(0)) => Err("port 0 cannot be connected to".to_owned()),
            (host, port) => Ok(Self { host, port }),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bracketed(&self.host))?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

text_value!(HostPort, "a host such as \"pbx.example.com\" or \"pbx.example.com:8443\"");

/// Is this a request target of path and query (RFC 9112 §3.2.1)?
pub(crate) fn check_target(target: &str) -> Result<(), &'static str> {
    if !target.starts_with('/') {
        return Err("the target is a path and begins with /");
    }
    if !target.bytes().all(|b| b.is_ascii_graphic()) || target.contains('#') {
        return Err("the target has a character in it that has to be escaped, as %20 for a space");
    }
    Ok(())
}

/// Is this a header that may stand in the opening handshake beside those that are there (RFC 9110 §5.5, RFC 6455 §4.1)?
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), &'static str> {
    /// Ours to say, or without meaning where there is no body.
    const TAKEN: [&str; 6] = ["host", "upgrade", "connection", "content-length", "transfer-encoding", "origin"];
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err("this is no name for a header: letters, digits and -");
    }
    let lower = name.to_ascii_lowercase();
    if TAKEN.contains(&lower.as_str()) || lower.starts_with("sec-websocket-") {
        return Err("this header is the handshake's own; for Origin there is the key origin");
    }
    check_value(value)
}

/// Does this value stay in its line?
pub(crate) fn check_value(value: &str) -> Result<(), &'static str> {
    if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        return Err("a header's value with a line break or another control character in it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_the_port_comes_before_one_for_all_ports() {
        let entry = |host: &str, target: &str| ClientHost {
            host: host.parse().expect("a host"),
            target: target.to_owned(),
            origin: None,
            headers: BTreeMap::new(),
        };
        let host = vec![entry("PBX", "/all"), entry("pbx:8443", "/one"), entry("[::1]:80", "/six")];
        let client = Client { host, ..Client::default() };
        let target = |host, port| client.host(host, port).map(|entry| entry.target.as_str());
        assert_eq!(target("pbx", 443), Some("/all"));
        assert_eq!(target("Pbx", 8443), Some("/one"));
        assert_eq!(target("::1", 80), Some("/six"));
        assert_eq!(target("::1", 81), None);
        assert_eq!(target("other", 8443), None);
    }

    #[test]
    fn a_header_stays_in_its_line_and_is_not_the_handshakes_own() {
        assert_eq!(check_header("Authorization", "Bearer a\tb \u{fc}"), Ok(()));
        for value in ["a\r\nX: y", "a\nb", "a\0"] {
            assert!(check_header("Cookie", value).is_err(), "{value:?}");
        }
        for name in ["", "a b", "a:", "ä", "HOST", "Sec-WebSocket-Key", "origin"] {
            assert!(check_header(name, "x").is_err(), "{name}");
        }
    }

    #[test]
    fn a_target_is_path_and_query() {
        for right in ["/", "/ws?token=a%20b&x=[1]"] {
            assert_eq!(check_target(right), Ok(()));
        }
        for wrong in ["", "ws", "/a b", "/a#b", "/\u{e4}", "/a\r\nHost: x"] {
            assert!(check_target(wrong).is_err(), "{wrong:?}");
        }
    }
}
