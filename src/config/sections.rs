//! The sections of the configuration: each key, its unit, its default.
//!
//! Ranges and what keys demand of each other are checked in `check.rs`, so that a `Config` made by code is held to the
//! same rules as one read from a file.

use super::address::{ListenUrl, SipListen, UpstreamUri};
use super::cidr::Cidr;
use super::origin::OriginPattern;
use super::secret::Secret;
use super::text::words;
use super::units;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// `[[listen]]`: an address where WebSocket clients connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// `ws://host:port/path` or `wss://host:port/path`. The one key that must be given.
    pub url: ListenUrl,
    /// Which web pages may connect, by their Origin header. Empty: pages from the host that the Host header names, and
    /// clients that send no Origin (which browsers always do).
    #[serde(default)]
    pub origins: Vec<OriginPattern>,
}

impl Listen {
    /// `ws://127.0.0.1:8080/` and `wss://127.0.0.1:8443/`.
    pub(super) fn defaults() -> Vec<Self> {
        let loopback = |secure, port| Self {
            url: ListenUrl { secure, host: "127.0.0.1".to_owned(), port, path: "/".to_owned() },
            origins: Vec::new(),
        };
        vec![loopback(false, 8080), loopback(true, 8443)]
    }
}

/// `[tls]`: the certificate that `wss://` listeners show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate chain, the server's own first. With `key`, or neither: then a self-signed
    /// certificate is made at start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key (PKCS #8, PKCS #1 or SEC 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The oldest TLS version that is spoken.
    pub min_version: TlsVersion,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[default]
    V1_3,
}

words!(TlsVersion, "\"1.2\" or \"1.3\", in quotes", { "1.2" => V1_2, "1.3" => V1_3 });

/// `[sip]`: the side that faces SIP servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sip {
    /// Where SIP servers connect to us: `tcp://address:port`, `tls://address:port`.
    pub listen: Vec<SipListen>,
    /// `host[:port]` that stands in our Via, Path and Record-Route, an IPv6 address in brackets. `None`: the first of
    /// `listen`, which must then not be a wildcard address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Source addresses whose requests on our SIP listeners are accepted. Those of the upstreams always are.
    pub trusted: Vec<Cidr>,
    /// How a registrar learns the way back to a client.
    pub registration: Registration,
    /// PEM file with further trust anchors for TLS upstreams, beside the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// PEM file: the client certificate shown to TLS upstreams, and the server certificate of `tls://` listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file: its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            listen: vec![SipListen { tls: false, addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 5062)) }],
            advertise: None,
            trusted: vec![Cidr::loopback_v4(), Cidr::from(IpAddr::V6(Ipv6Addr::LOCALHOST))],
            registration: Registration::default(),
            ca: None,
            certificate: None,
            key: None,
        }
    }
}

/// How a registrar learns the way back to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registration {
    /// By a Path header (RFC 3327).
    #[default]
    Path,
    /// By a rewritten Contact, for registrars without Path.
    Rewrite,
}

words!(Registration, "\"path\" or \"rewrite\"", { "path" => Path, "rewrite" => Rewrite });

/// `[[upstream]]`: a SIP server that clients' requests go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `sip:host[:port];transport=tcp|tls` or `sips:host[:port]`. The one key that must be given.
    pub uri: UpstreamUri,
    /// Its share of the load, relative to the other upstreams' weights: 1 to 1000.
    #[serde(default = "one")]
    pub weight: u32,
    /// How many connections are held to it: 1 to 64.
    #[serde(default = "one")]
    pub connections: u32,
}

fn one() -> u32 {
    1
}

/// `[routing]`: which upstream a request goes to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Routing {
    /// What is hashed to choose the upstream of a request outside a dialog.
    pub hash: HashKey,
}

/// What is hashed to choose an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashKey {
    /// The Call-ID: calls are spread evenly.
    #[default]
    CallId,
    /// The AOR in From: all of a client's requests go to one upstream.
    From,
    /// The AOR in To: all requests for one callee go to one upstream.
    To,
}

words!(HashKey, "\"call-id\", \"from\" or \"to\"", { "call-id" => CallId, "from" => From, "to" => To });

/// `[limits]`: how much a client, an address, the node may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// SIP requests a second from one address (IPv6: from one /64); 0: no limit.
    pub requests_per_second: u32,
    /// Requests that may come at once after a pause. `None`: `requests_per_second`; read it with [`Limits::burst`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// WebSocket connections from one address.
    pub connections_per_address: usize,
    /// WebSocket connections in all.
    pub connections: usize,
    /// TLS and WebSocket handshakes that may be under way at once.
    pub handshakes: usize,
    /// The largest SIP message, bytes: 1024 to 65536.
    #[serde(with = "units::bytes")]
    pub message_bytes: usize,
    /// What may wait to be written to one client, bytes; at least `message_bytes`. A client that lets it fill is closed.
    #[serde(with = "units::bytes")]
    pub outbox_bytes: usize,
    /// What may wait to be written to one upstream connection, bytes; at least `message_bytes`.
    #[serde(with = "units::bytes")]
    pub upstream_bytes: usize,
    /// Requests in flight (forwarded and not yet finally answered) in all.
    pub in_flight: usize,
    /// Refused messages after which a connection is closed with 1008 (RFC 6455 §7.4.1).
    pub strikes: u32,
}

impl Limits {
    /// Requests that may come at once after a pause.
    pub fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.requests_per_second)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: 100,
            burst: None,
            connections_per_address: 1000,
            connections: 100_000,
            handshakes: 1000,
            message_bytes: 64 << 10,
            outbox_bytes: 256 << 10,
            upstream_bytes: 8 << 20,
            in_flight: 500_000,
            strikes: 100,
        }
    }
}

/// `[timeouts]`: how long to wait; each more than 0 and at most 24 hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From accept to the end of the WebSocket handshake, TLS included.
    #[serde(with = "units::duration")]
    pub handshake: Duration,
    /// Between two WebSocket pings to a client that is otherwise silent.
    #[serde(with = "units::duration")]
    pub ping: Duration,
    /// From a ping to its pong.
    #[serde(with = "units::duration")]
    pub pong: Duration,
    /// From a request other than INVITE to its final response (RFC 3261 Timer F).
    #[serde(with = "units::duration")]
    pub request: Duration,
    /// From an INVITE, or its last provisional response, to its final one: Timer C, more than 3 minutes (RFC 3261 §16.6
    /// step 11).
    #[serde(with = "units::duration")]
    pub invite: Duration,
    /// To connect to an upstream, TLS included; or to a WebSocket server, with the handshake.
    #[serde(with = "units::duration")]
    pub connect: Duration,
    /// For one write, to a client or an upstream, to make progress.
    #[serde(with = "units::duration")]
    pub write: Duration,
    /// For an embedding host to decide on a handshake or a request that it is asked about.
    #[serde(with = "units::duration")]
    pub policy: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            ping: Duration::from_secs(30),
            pong: Duration::from_secs(10),
            request: Duration::from_secs(32),
            invite: Duration::from_secs(181),
            connect: Duration::from_secs(4),
            write: Duration::from_secs(10),
            policy: Duration::from_secs(5),
        }
    }
}

/// `[cluster]`: who we are among other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// The node's name, its own in the cluster: 1 to 64 letters, digits, dots, `_` and `-`.
    pub node: String,
    /// Key of the flow tokens, the same on every node, 16 bytes or more. `None`: random at start, so that tokens end with
    /// the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Former keys whose tokens are still accepted.
    pub previous_secrets: Vec<Secret>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { node: "sipws".to_owned(), secret: None, previous_secrets: Vec::new() }
    }
}

/// `[admin]`: the daemon's own HTTP server, for metrics and health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port; port 0: the system chooses.
    pub listen: SocketAddr,
    /// A directory of static files to serve at `/`. `None`: a small status page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)), pages: None }
    }
}

/// `[log]`: what the daemon writes to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or directives such as `info,sipws::bridge=debug`.
    pub level: String,
    /// One line of text, or one JSON object, an event.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::default() }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

words!(LogFormat, "\"text\" or \"json\"", { "text" => Text, "json" => Json });

/// `[runtime]`: threads and the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Worker threads, at most 1024; 0: one a core.
    pub threads: usize,
    /// The grace on SIGTERM: how long clients have to go elsewhere. At most 24 hours; 0: none.
    #[serde(with = "units::duration")]
    pub drain: Duration,
    /// Whether each message is sent on at once (TCP_NODELAY). `false`: a small one waits until the one before is
    /// acknowledged, some 40 ms at most, and travels with those behind it, which costs less CPU under load (RFC 896).
    /// `None`: `true`; within PJSIP `false`, as PJSIP's own TCP transport has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodelay: Option<bool>,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { threads: 0, drain: Duration::from_secs(10), nodelay: None }
    }
}
