//! Where we listen and whom we connect to: `ws://host:port/path`, `tcp://address:port`, `sip:host;transport=tcp`.

use super::text::text_value;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A WebSocket address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenUrl {
    /// `wss://`: TLS.
    pub secure: bool,
    /// A name or an address, lower case; an IPv6 address without brackets.
    pub host: String,
    /// 80 for `ws://` and 443 for `wss://` if not given; 0: the system chooses.
    pub port: u16,
    /// The path that clients ask for, with its leading slash; `/` if not given.
    pub path: String,
}

impl FromStr for ListenUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secure, rest) = match split_scheme(text) {
            Some(("ws", rest)) => (false, rest),
            Some(("wss", rest)) => (true, rest),
            _ => return Err("must begin with ws:// or wss://".to_owned()),
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if !path.starts_with('/') || path.contains(['?', '#']) || !path.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("what follows the port is a path such as /sip, without a query".to_owned());
        }
        let (host, port) = split_host_port(authority)?;
        Ok(Self { secure, host, port: port.unwrap_or(if secure { 443 } else { 80 }), path: path.to_owned() })
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}:{}{}", bracketed(&self.host), self.port, self.path)
    }
}

text_value!(ListenUrl, "a URL such as \"ws://127.0.0.1:8080/\" or \"wss://0.0.0.0:443/\"");

/// An address on which SIP servers reach us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SipListen {
    /// `tls://`.
    pub tls: bool,
    /// Port 5060 for `tcp://` and 5061 for `tls://` if not given; 0: the system chooses.
    pub addr: SocketAddr,
}

impl FromStr for SipListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tls, rest) = match split_scheme(text) {
            Some(("tcp", rest)) => (false, rest),
            Some(("tls", rest)) => (true, rest),
            _ => return Err("must begin with tcp:// or tls://".to_owned()),
        };
        let (host, port) = split_host_port(rest)?;
        let ip: IpAddr =
            host.parse().map_err(|_| "expected an IP address after the scheme, as in tcp://127.0.0.1:5062")?;
        Ok(Self { tls, addr: SocketAddr::new(ip, port.unwrap_or(default_sip_port(tls))) })
    }
}

impl fmt::Display for SipListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "tls" } else { "tcp" }, self.addr)
    }
}

text_value!(SipListen, "an address such as \"tcp://127.0.0.1:5062\" or \"tls://0.0.0.0:5061\"");

/// A SIP server that we connect to (RFC 3261 §19.1, without user part; only TCP and TLS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUri {
    /// `sips:` or `transport=tls`.
    pub tls: bool,
    /// A name or an address, lower case; an IPv6 address without brackets.
    pub host: String,
    /// 5060 for TCP and 5061 for TLS if not given; never 0.
    pub port: u16,
    /// The URI as it was written.
    pub text: String,
}

impl UpstreamUri {
    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }
}

impl FromStr for UpstreamUri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secure, rest) = match text.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sip") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sips") => (true, rest),
            _ => return Err("must be a SIP URI such as sip:pbx.example.com;transport=tcp".to_owned()),
        };
        if rest.contains('@') {
            return Err("a SIP server's URI has no user part; leave out what stands before the @".to_owned());
        }
        if rest.contains('?') {
            return Err("a SIP server's URI has no headers; leave out what follows the ?".to_owned());
        }
        let mut parts = rest.split(';');
        let (host, port) = split_host_port(parts.next().unwrap_or_default())?;
        if host == "invalid" || host.ends_with(".invalid") {
            return Err("names under .invalid lead nowhere (RFC 2606)".to_owned());
        }
        let mut tls = secure;
        for parameter in parts {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !name.eq_ignore_ascii_case("transport") {
                return Err(format!("unknown parameter {name}; only transport=tcp and transport=tls"));
            }
            match value.to_ascii_lowercase().as_str() {
                "tls" => tls = true,
                // With sips this means TLS over TCP (RFC 3261 §26.2.2).
                "tcp" => {}
                other => return Err(format!("transport={other} is not spoken to SIP servers; only tcp and tls")),
            }
        }
        if port == Some(0) {
            return Err("port 0 cannot be connected to".to_owned());
        }
        Ok(Self { tls, host, port: port.unwrap_or(default_sip_port(tls)), text: text.to_owned() })
    }
}

impl fmt::Display for UpstreamUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

text_value!(UpstreamUri, "a SIP URI such as \"sip:pbx.example.com;transport=tcp\"");

fn default_sip_port(tls: bool) -> u16 {
    if tls { 5061 } else { 5060 }
}

fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let known = ["ws", "wss", "tcp", "tls"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
    Some((known, rest))
}

/// `host [ ":" port ]`, an IPv6 address in brackets; gives the host in lower case, without brackets.
pub(super) fn split_host_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
        let address: Ipv6Addr = address.parse().map_err(|_| format!("{address} is no IPv6 address"))?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or("only a port may follow the IPv6 address, as in [::1]:5060")?),
        };
        (address.to_string(), port)
    } else if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address stands in brackets: [{text}]"));
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        check_host_name(host)?;
        (host.to_ascii_lowercase(), port)
    };
    let port = port
        .map(|port| {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            port.parse::<u16>().ok().filter(|_| digits).ok_or("the port is a number from 0 to 65535".to_owned())
        })
        .transpose()?;
    Ok((host, port))
}

/// A host name (RFC 1123 §2.1, and `_`, which private networks use) or an IPv4 address.
pub(super) fn check_host_name(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(format!("{host} is no IPv4 address"));
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if host.len() > 253 || !host.strip_suffix('.').unwrap_or(host).split('.').all(label) {
        return Err(format!("\"{host}\" is no host name: letters, digits and - between dots"));
    }
    Ok(())
}

/// The host as a URI writes it: an IPv6 address in brackets.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_url_has_default_port_and_path() {
        let url: ListenUrl = "ws://127.0.0.1".parse().expect("url");
        assert_eq!((url.secure, url.host.as_str(), url.port, url.path.as_str()), (false, "127.0.0.1", 80, "/"));
        let url: ListenUrl = "WSS://[::1]:0/sip/ws".parse().expect("url");
        assert_eq!((url.secure, url.host.as_str(), url.port, url.path.as_str()), (true, "::1", 0, "/sip/ws"));
        assert_eq!(url.to_string(), "wss://[::1]:0/sip/ws");
        assert_eq!(
            "wss://Edge.example.com".parse::<ListenUrl>().expect("url").to_string(),
            "wss://edge.example.com:443/"
        );
    }

    #[test]
    fn a_wrong_listen_url_is_refused_with_the_mend() {
        let why = |text: &str| text.parse::<ListenUrl>().expect_err(text);
        assert!(why("http://127.0.0.1").contains("ws:// or wss://"));
        assert!(why("127.0.0.1:80").contains("ws:// or wss://"));
        assert!(why("ws://:80/").contains("host is missing"));
        assert!(why("ws://::1/").contains("in brackets: [::1]"));
        assert!(why("ws://[::1/").contains("not closed"));
        assert!(why("ws://[::1]80/").contains("[::1]:5060"));
        assert!(why("ws://10.0.0.300/").contains("no IPv4 address"));
        assert!(why("ws://a:65536/").contains("0 to 65535"));
        assert!(why("ws://a:+80/").contains("0 to 65535"));
        assert!(why("ws://a/?x=1").contains("without a query"));
        assert!(why("ws://user@a/").contains("no host name"));
    }

    #[test]
    fn a_sip_listener_is_an_ip_address() {
        let listen: SipListen = "tls://0.0.0.0".parse().expect("address");
        assert_eq!((listen.tls, listen.addr), (true, "0.0.0.0:5061".parse().expect("address")));
        assert_eq!("tcp://[::]:0".parse::<SipListen>().expect("address").to_string(), "tcp://[::]:0");
        let why = |text: &str| text.parse::<SipListen>().expect_err(text);
        assert!(why("udp://127.0.0.1").contains("tcp:// or tls://"));
        assert!(why("tcp://localhost:5060").contains("IP address"));
        assert!(why("tcp://127.0.0.1:5060/").contains("0 to 65535"));
    }

    #[test]
    fn an_upstream_uri_says_transport_and_port() {
        let read = |text: &str| text.parse::<UpstreamUri>().map(|uri| (uri.tls, uri.authority()));
        assert_eq!(read("sip:pbx.example.com"), Ok((false, "pbx.example.com:5060".to_owned())));
        assert_eq!(read("SIP:PBX:5080;transport=TCP"), Ok((false, "pbx:5080".to_owned())));
        assert_eq!(read("sip:pbx;transport=tls"), Ok((true, "pbx:5061".to_owned())));
        assert_eq!(read("sips:[2001:db8::1]"), Ok((true, "[2001:db8::1]:5061".to_owned())));
        assert_eq!(read("sips:pbx;transport=tcp"), Ok((true, "pbx:5061".to_owned())));
    }

    #[test]
    fn an_upstream_that_cannot_be_is_refused_with_the_mend() {
        let why = |text: &str| text.parse::<UpstreamUri>().expect_err(text);
        assert!(why("pbx.example.com").contains("sip:pbx.example.com"));
        assert!(why("tel:+1").contains("SIP URI"));
        assert!(why("sip:alice@pbx").contains("no user part"));
        assert!(why("sip:pbx?x=y").contains("no headers"));
        assert!(why("sip:pbx;transport=udp").contains("only tcp and tls"));
        assert!(why("sip:pbx;transport=ws").contains("only tcp and tls"));
        assert!(why("sip:pbx;lr").contains("unknown parameter lr"));
        assert!(why("sip:abc.invalid").contains("RFC 2606"));
        assert!(why("sip:pbx:0").contains("port 0"));
        assert!(why("sip:").contains("host is missing"));
    }
}
