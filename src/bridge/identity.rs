//! Who we are in SIP: the addresses we go by, the URIs we put into messages, and how we know them again.

use std::ops::Range;

use super::flow_token::{self, Claim, TokenKeys};
use crate::config::Config;
use crate::sip::address::Address;
use crate::sip::uri::{Uri, same_host};
use crate::sip::{Edits, Message, Name};

/// The parameter of our Record-Route URI that names the dialog's target.
const TARGET: &[u8] = b"target";

/// The edge's own names.
#[derive(Debug)]
pub(crate) struct Identity {
    /// `host:port` of the TCP listener as servers reach it.
    tcp: Option<String>,
    /// The same of the TLS listener.
    tls: Option<String>,
    /// Where WebSocket clients reach us, over TCP and over TLS; empty where they don't.
    websocket: [String; 2],
    /// Host and port of everything that is us.
    own: Vec<(String, u16)>,
    pub(super) keys: TokenKeys,
}

/// The Routes at the top of a request that are ours.
#[derive(Debug, Default)]
pub(super) struct OwnRoutes {
    /// What to take out.
    remove: Vec<Range<usize>>,
    /// Where the first Route stands that stays.
    pub(super) rest: Option<usize>,
    /// The token in them.
    pub(super) claim: Option<Claim>,
    /// The target in them.
    pub(super) target: Option<u32>,
    /// Whether there is a token in them that none of our keys has signed.
    pub(super) stale: bool,
}

impl OwnRoutes {
    pub(super) fn remove(&self, edits: &mut Edits) {
        for range in &self.remove {
            edits.remove(range.clone());
        }
    }
}

impl Identity {
    /// From the configuration, with the ports that the listeners really got.
    pub(crate) fn new(
        config: &Config,
        sip: &[(bool, std::net::SocketAddr)],
        ws: &[std::net::SocketAddr],
        keys: TokenKeys,
    ) -> Identity {
        let advertised = config.sip.advertise.as_deref().map(split_authority);
        let mut own = Vec::new();
        let mut name = |tls: bool| {
            let first = sip.iter().position(|(t, _)| *t == tls)?;
            let address = sip[first].1;
            let (host, port) = match &advertised {
                // The advertised port belongs to the first listener; another has its own.
                Some((host, port)) => {
                    ((*host).to_owned(), if first == 0 { port.unwrap_or(address.port()) } else { address.port() })
                }
                None if address.is_ipv6() => (format!("[{}]", address.ip()), address.port()),
                None => (address.ip().to_string(), address.port()),
            };
            own.push((host.clone(), port));
            Some(format!("{host}:{port}"))
        };
        let (tcp, tls) = (name(false), name(true));
        let websocket = [false, true].map(|secure| {
            let listens = config.listen.iter().zip(ws).find(|(listen, _)| listen.url.secure == secure);
            let Some((_, address)) = listens else { return String::new() };
            let sip_host = tcp.as_deref().or(tls.as_deref()).map(|name| split_authority(name).0);
            let host = match (&advertised, sip_host) {
                (Some((host, _)), _) => *host,
                (None, Some(host)) if address.ip().is_unspecified() => host,
                _ => return address.to_string(),
            };
            own.push((host.to_owned(), address.port()));
            format!("{host}:{}", address.port())
        });
        for address in sip.iter().map(|(_, a)| a).chain(ws) {
            let host = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
            own.push((host, address.port()));
            if let Some((host, _)) = &advertised {
                own.push(((*host).to_owned(), address.port()));
            }
        }
        Identity { tcp, tls, websocket, own, keys }
    }

    /// Our `host:port` for a connection over TLS or not, and the transport that reaches it.
    pub(super) fn authority(&self, tls: bool) -> (&str, &'static str) {
        match (&self.tcp, &self.tls) {
            (_, Some(tls_name)) if tls => (tls_name, "tls"),
            (Some(tcp), _) => (tcp, "tcp"),
            (None, Some(tls_name)) => (tls_name, "tls"),
            (None, None) => ("localhost.invalid", "tcp"),
        }
    }

    /// Whether `uri` leads to us.
    pub(super) fn is_own(&self, uri: &Uri<'_>) -> bool {
        let default = if uri.secure || uri.param(b"transport").is_some_and(|t| t.eq_ignore_ascii_case(b"tls")) {
            5061
        } else {
            5060
        };
        let port = uri.port.unwrap_or(default);
        self.own.iter().any(|(host, p)| *p == port && same_host(uri.host, host.as_bytes()))
    }

    /// Whether a Via's sent-by is ours.
    pub(super) fn is_own_via(&self, host: &[u8], port: Option<u16>) -> bool {
        let port = port.unwrap_or(5060);
        self.own.iter().any(|(h, p)| *p == port && same_host(host, h.as_bytes()))
    }

    /// Finds our Routes at the top of `request`: both of a double Record-Route, with or without its token.
    pub(super) fn own_routes(&self, request: &Message) -> OwnRoutes {
        let mut found = OwnRoutes::default();
        for field in request.fields().iter().filter(|f| f.name == Name::Route) {
            let at = field.value().start;
            for part in crate::sip::message::split_values(request.slice(field.value())) {
                let value = request.slice(at + part.start..at + part.end);
                let uri = Address::parse(value).and_then(|a| Uri::parse(&value[a.uri]));
                let uri = uri.filter(|uri| self.is_own(uri));
                let claim = uri.as_ref().and_then(|uri| self.keys.verify(uri.user?));
                // A second token is the next flow's: the way between them leads through the server.
                let Some(uri) = uri.filter(|_| claim.is_none() || found.claim.is_none()) else {
                    found.rest = Some(at + part.start);
                    break;
                };
                found.claim = found.claim.or(claim);
                found.stale |= claim.is_none() && uri.user.is_some_and(flow_token::looks_like_one);
                if let Some(id) = uri.param(TARGET).and_then(hex) {
                    found.target = Some(id);
                }
            }
            match found.rest {
                Some(rest) if rest > at => found.remove.push(at..rest),
                Some(_) => {}
                None => found.remove.push(field.span()),
            }
            if found.rest.is_some() {
                break;
            }
        }
        found
    }

    /// Writes the two Record-Routes of RFC 5658 §3.3 in the order for a request to a server, or to a client: `tls` and
    /// `target` are the server's side, `secure` is the client's.
    pub(super) fn record_route(
        &self,
        out: &mut Vec<u8>,
        token: &str,
        (tls, target): (bool, Option<u32>),
        secure: bool,
        to_server: bool,
    ) {
        let (authority, transport) = self.authority(tls);
        let server_side = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"Record-Route: <sip:");
            out.extend_from_slice(token.as_bytes());
            out.push(b'@');
            out.extend_from_slice(authority.as_bytes());
            out.extend_from_slice(b";transport=");
            out.extend_from_slice(transport.as_bytes());
            out.extend_from_slice(b";lr");
            if let Some(id) = target {
                out.extend_from_slice(b";target=");
                write_hex(out, id);
            }
            out.extend_from_slice(b">\r\n");
        };
        if to_server {
            server_side(out);
        }
        // A browser looks at its connection alone; others connect to what stands here (RFC 3261 §12.2.1.1).
        let client_side = &self.websocket[usize::from(secure)];
        out.extend_from_slice(b"Record-Route: <sip:");
        out.extend_from_slice(client_side.as_bytes());
        out.extend_from_slice(b";transport=ws;lr>\r\n");
        if !to_server {
            server_side(out);
        }
    }

    /// Writes the Path of a registration (RFC 3327, RFC 5626 §5.1).
    pub(super) fn path(&self, out: &mut Vec<u8>, token: &str, tls: bool) {
        let (authority, transport) = self.authority(tls);
        for part in ["Path: <sip:", token, "@", authority, ";transport=", transport, ";lr;ob>\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// Writes the contact URI that stands for a client's own, with its number on the flow.
    pub(super) fn contact(&self, out: &mut Vec<u8>, token: &str, tls: bool, number: usize) {
        let (authority, transport) = self.authority(tls);
        for part in ["sip:", token, "@", authority, ";transport=", transport, ";c="] {
            out.extend_from_slice(part.as_bytes());
        }
        crate::sip::edit::decimal(out, number);
    }
}

fn split_authority(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !port.contains(']') => (host, port.parse().ok()),
        _ => (text, None),
    }
}

fn write_hex(out: &mut Vec<u8>, n: u32) {
    for shift in (0..8).rev() {
        out.push(b"0123456789abcdef"[(n >> (shift * 4)) as usize & 15]);
    }
}

fn hex(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}
