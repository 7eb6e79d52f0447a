//! What every test through the public door needs: a running edge, a WebSocket client, a SIP server, and the messages
//! that they exchange. All of it blocks, each wait with [`DEADLINE`]: a test reads from top to bottom.

// No test crate uses all of it.
#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used)]

mod call;
mod certificates;
mod host;
mod message;
mod sip_server;
mod stream;
mod websocket;
mod websocket_server;

pub use call::{Call, Registered, call_down, call_up, register};
pub use certificates::{Authority, Issued, Scratch, client_config, unchecked_client_config};
pub use host::{Host, Told, to, to_secure, within};
pub use message::{Builder, Dialog, Sip, parameter, request, unique, uri_of};
pub use sip_server::{SipConnection, SipServer};
pub use stream::Stream;
pub use websocket::{Answer, BINARY, CLOSE, CONTINUATION, Frame, Handshake, PING, PONG, TEXT, Trust, WsClient, frame};
pub use websocket_server::{ClientFrame, WsPeer, WsServer, server_frame};

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::{Duration, Instant};

use sipws::config::Config;
use sipws::{Server, Setup};

/// How long anything may take that happens at once on an idle machine. Never the length of a successful test.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A configuration for tests: `toml`, and for what it does not say, listeners on ports that the system chooses, two
/// threads, and no limit of requests a second.
pub fn config(toml: &str) -> Config {
    let mut table: toml::Table = toml.parse().unwrap_or_else(|e| panic!("{e}\n{toml}"));
    let defaults: toml::Table = r#"
        listen = [{ url = "ws://127.0.0.1:0/" }]
        sip.listen = ["tcp://127.0.0.1:0"]
        limits.requests_per_second = 0
        runtime.threads = 2
    "#
    .parse()
    .unwrap();
    for (section, value) in defaults {
        match (table.get_mut(&section), value) {
            (None, value) => {
                table.insert(section, value);
            }
            (Some(toml::Value::Table(set)), toml::Value::Table(keys)) => {
                for (key, value) in keys {
                    set.entry(key).or_insert(value);
                }
            }
            _ => {}
        }
    }
    let text = toml::to_string(&table).unwrap();
    Config::from_toml(&text, "test.toml").unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// A running edge; dropped, it stops.
pub struct Edge(pub Server);

impl Deref for Edge {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

/// Starts an edge with [`config`] of `toml`.
pub fn start(toml: &str) -> Edge {
    start_with(toml, |setup| setup)
}

/// The same, with what a host brings along.
pub fn start_with(toml: &str, further: impl FnOnce(Setup) -> Setup) -> Edge {
    Edge(further(Setup::new(config(toml))).start().unwrap_or_else(|e| panic!("{e}\n{toml}")))
}

/// `[[upstream]]` tables, to be put at the end of a configuration.
pub fn upstreams(servers: &[&SipServer]) -> String {
    servers.iter().map(|s| format!("[[upstream]]\nuri = \"{}\"\n", s.uri())).collect()
}

/// An edge in front of one SIP server: the edge, the server, the connection that the edge opened to it, and a client.
pub struct Bridged {
    pub edge: Edge,
    pub server: SipServer,
    pub pbx: SipConnection,
    pub client: WsClient,
}

/// Starts a [`Bridged`] with `toml`, which must not name upstreams.
pub fn bridged(toml: &str) -> Bridged {
    let server = SipServer::start();
    let edge = start(&format!("{toml}\n{}", upstreams(&[&server])));
    let pbx = server.accept();
    wait_until("the upstream is up", || edge.ready().is_ok());
    let client = WsClient::open(&edge);
    Bridged { edge, server, pbx, client }
}

impl Edge {
    /// Where SIP servers connect to us, `host:port`.
    pub fn sip_authority(&self) -> String {
        authority(&self.sip_urls()[0]).to_owned()
    }

    /// The address of the `n`-th SIP listener.
    pub fn sip_address(&self, n: usize) -> SocketAddr {
        authority(&self.sip_urls()[n]).parse().unwrap()
    }

    /// The address of the `n`-th WebSocket listener.
    pub fn websocket_address(&self, n: usize) -> SocketAddr {
        authority(&self.websocket_urls()[n]).parse().unwrap()
    }

    /// The value of one sample, 0 if there is no such sample: `metric("sipws_connections{transport=\"ws\"}")`.
    pub fn metric(&self, sample: &str) -> i64 {
        metric(self, sample)
    }

    /// How much was refused or dropped for `reason`.
    pub fn refused(&self, reason: &str) -> i64 {
        metric(self, &format!("sipws_refusals_total{{reason=\"{reason}\"}}"))
    }

    /// Waits until `sample` is `value`.
    pub fn wait_metric(&self, sample: &str, value: i64) {
        wait_until(&format!("{sample} is {value}"), || self.metric(sample) == value);
    }

    /// Waits until as much was refused for `reason`.
    pub fn wait_refused(&self, reason: &str, value: i64) {
        self.wait_metric(&format!("sipws_refusals_total{{reason=\"{reason}\"}}"), value);
    }
}

/// The value of one sample of `server`'s metrics, 0 if there is no such sample.
pub fn metric(server: &Server, sample: &str) -> i64 {
    let text = server.metrics();
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.map_or(0, |v| v.trim().parse::<f64>().unwrap_or_else(|e| panic!("{sample} {v}: {e}")) as i64)
}

/// Waits for `condition`; panics with `what` when it is not true in time.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `host:port` of a URL.
pub fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
