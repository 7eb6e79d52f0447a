//! Metrics of one server, in a registry of its own: several servers in one process don't mix.
//!
//! What is counted per message is resolved to an atomic once and then only added to.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::sip::message::{Message, Method};

type Labels<const N: usize> = [(&'static str, &'static str); N];
type NamedGauge = Family<[(&'static str, String); 1], Gauge>;

/// Which way a message went, seen from the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// Arrived on a WebSocket flow.
    FromClient,
    /// Queued to a WebSocket flow.
    ToClient,
    /// Arrived on a connection with a SIP server.
    FromServer,
    /// Queued to a connection with a SIP server.
    ToServer,
}

impl Direction {
    const ALL: [&'static str; 4] = ["from_client", "to_client", "from_server", "to_server"];
}

const CLASSES: [&str; 7] = ["request", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];
const METHODS: usize = Method::ALL.len();

/// What kind of message was counted: its transaction's method and, for a response, its status class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    method: Method,
    class: u8,
}

impl Kind {
    /// A request.
    pub const fn request(method: Method) -> Kind {
        Kind { method, class: 0 }
    }

    /// A response of the transaction of `method`.
    pub const fn response(method: Method, status: u16) -> Kind {
        let class = status / 100;
        Kind { method, class: if class >= 1 && class <= 6 { class as u8 } else { 6 } }
    }

    /// What `message` is.
    pub fn of(message: &Message) -> Kind {
        match message.status() {
            Some(status) => Kind::response(message.transaction_method(), status),
            None => Kind::request(message.method().unwrap_or(Method::Other)),
        }
    }
}

/// Counted whatever the label, for hosts that read figures and no text.
#[derive(Debug, Default)]
struct Sums {
    handshakes: AtomicU64,
    refusals: AtomicU64,
    closed: AtomicU64,
}

/// Every figure of one server.
pub struct Metrics {
    registry: Registry,
    messages: Family<Labels<3>, Counter>,
    resolved: [OnceLock<Counter>; 4 * METHODS * CLASSES.len()],
    handshakes: Family<Labels<1>, Counter>,
    connects: Family<Labels<1>, Counter>,
    refusals: Family<Labels<1>, Counter>,
    closes: Family<Labels<1>, Counter>,
    sums: Sums,
    /// Open flows of clients over ws.
    pub connections_ws: Gauge,
    /// Open flows of clients over wss.
    pub connections_wss: Gauge,
    /// Open flows that we made, over ws and wss.
    outgoing: [Gauge; 2],
    /// Handshakes under way.
    pub handshaking: Gauge,
    /// Bytes that wait in outboxes because their readers are slow.
    pub outbox_bytes: Gauge,
    /// Requests without a final response yet, and ended INVITEs that still wait for their ACK.
    pub in_flight: Gauge,
    /// Requests that were sent to another target after the first one failed.
    pub failovers: Counter,
    /// REGISTERs answered 2xx without our Path.
    pub path_ignored: Counter,
    /// Seconds from a message's arrival until it was written to its next hop, the oldest of each write.
    pub relay_seconds: Histogram,
    /// Whether a target can be reached, by URI.
    pub upstream_up: NamedGauge,
    /// Open connections, by target.
    pub upstream_connections: NamedGauge,
    /// Bytes that wait to be written to a target.
    pub upstream_queue_bytes: NamedGauge,
    /// Failed connection attempts and lost connections, by target.
    pub upstream_failures: Family<[(&'static str, String); 1], Counter>,
}

impl Metrics {
    /// All figures at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("sipws");
        let messages = Family::default();
        registry.register(
            "messages",
            "SIP messages by direction, method of the transaction, and class (request, or status class)",
            messages.clone(),
        );
        let handshakes = Family::default();
        registry.register("handshakes", "WebSocket handshakes by outcome", handshakes.clone());
        let connects = Family::default();
        registry.register("connects", "WebSocket connections that we were to make, by outcome", connects.clone());
        let refusals = Family::default();
        registry.register(
            "refusals",
            "Requests and responses that were refused or dropped, by reason",
            refusals.clone(),
        );
        let closes = Family::default();
        registry.register("closed", "WebSocket connections that ended, by reason", closes.clone());
        let connections = Family::<Labels<1>, Gauge>::default();
        registry.register("connections", "Open WebSocket connections of clients", connections.clone());
        let outgoing = Family::<Labels<1>, Gauge>::default();
        registry.register("outgoing_connections", "Open WebSocket connections that we made", outgoing.clone());
        let outgoing = ["ws", "wss"].map(|transport| outgoing.get_or_create(&[("transport", transport)]).clone());
        let gauge = |labels: Labels<1>| connections.get_or_create(&labels).clone();
        let connections_ws = gauge([("transport", "ws")]);
        let connections_wss = gauge([("transport", "wss")]);
        let handshaking = Gauge::<i64, AtomicI64>::default();
        registry.register("handshaking", "Handshakes under way", handshaking.clone());
        let outbox_bytes = Gauge::<i64, AtomicI64>::default();
        registry.register_with_unit(
            "outbox",
            "What waits in outboxes because clients read slowly",
            Unit::Bytes,
            outbox_bytes.clone(),
        );
        let in_flight = Gauge::<i64, AtomicI64>::default();
        registry.register("requests_in_flight", "Requests that the proxy keeps state for", in_flight.clone());
        let failovers = Counter::<u64, AtomicU64>::default();
        registry.register("failovers", "Requests sent to another target after one failed", failovers.clone());
        let path_ignored = Counter::<u64, AtomicU64>::default();
        registry.register(
            "path_ignored",
            "REGISTERs answered 2xx without our Path: the registrar won't reach the client",
            path_ignored.clone(),
        );
        let relay_seconds = Histogram::new(exponential_buckets(0.000_02, 2.0, 16));
        registry.register_with_unit(
            "relay",
            "From a message's arrival to its being written to the next hop, the oldest message of each write",
            Unit::Seconds,
            relay_seconds.clone(),
        );
        let upstream_up = NamedGauge::default();
        registry.register("upstream_up", "1 where the target can be reached", upstream_up.clone());
        let upstream_connections = NamedGauge::default();
        registry.register("upstream_connections", "Open connections to the target", upstream_connections.clone());
        let upstream_queue_bytes = NamedGauge::default();
        registry.register_with_unit(
            "upstream_queue",
            "What waits to be written to the target",
            Unit::Bytes,
            upstream_queue_bytes.clone(),
        );
        let upstream_failures = Family::default();
        registry.register(
            "upstream_failures",
            "Failed connection attempts and lost connections",
            upstream_failures.clone(),
        );
        registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Metrics {
            registry,
            messages,
            resolved: std::array::from_fn(|_| OnceLock::new()),
            handshakes,
            connects,
            refusals,
            closes,
            sums: Sums::default(),
            connections_ws,
            connections_wss,
            outgoing,
            handshaking,
            outbox_bytes,
            in_flight,
            failovers,
            path_ignored,
            relay_seconds,
            upstream_up,
            upstream_connections,
            upstream_queue_bytes,
            upstream_failures,
        }
    }

    /// Counts one message.
    pub fn message(&self, direction: Direction, kind: Kind) {
        let i = (direction as usize * METHODS + kind.method as usize) * CLASSES.len() + kind.class as usize;
        self.resolved[i]
            .get_or_init(|| {
                self.messages
                    .get_or_create(&[
                        ("direction", Direction::ALL[direction as usize]),
                        ("method", kind.method.as_str()),
                        ("class", CLASSES[kind.class as usize]),
                    ])
                    .clone()
            })
            .inc();
    }

    /// Messages that went that way.
    pub fn messages(&self, direction: Direction) -> u64 {
        let all = METHODS * CLASSES.len();
        let counters = self.resolved.iter().skip(direction as usize * all).take(all);
        counters.filter_map(OnceLock::get).map(Counter::get).sum()
    }

    /// Handshakes that ended, refusals, and connections of clients and of our own that ended.
    pub fn sums(&self) -> [u64; 3] {
        let Sums { handshakes, refusals, closed } = &self.sums;
        [handshakes, refusals, closed].map(|sum| sum.load(Ordering::Relaxed))
    }

    /// Counts a handshake that ended so.
    pub fn handshake(&self, outcome: &'static str) {
        self.sums.handshakes.fetch_add(1, Ordering::Relaxed);
        self.handshakes.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts an attempt to make a connection that ended so.
    pub fn connect(&self, outcome: &'static str) {
        self.connects.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts something refused or dropped.
    pub fn refused(&self, reason: &'static str) {
        self.sums.refusals.fetch_add(1, Ordering::Relaxed);
        self.refusals.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a connection that ended so.
    pub fn closed(&self, reason: &'static str) {
        self.sums.closed.fetch_add(1, Ordering::Relaxed);
        self.closes.get_or_create(&[("reason", reason)]).inc();
    }

    /// The gauge of open connections, those that we made or those of clients.
    pub fn connections(&self, outgoing: bool, secure: bool) -> &Gauge {
        match (outgoing, secure) {
            (true, _) => &self.outgoing[usize::from(secure)],
            (false, true) => &self.connections_wss,
            (false, false) => &self.connections_ws,
        }
    }

    /// Records how long the oldest message of a write took.
    pub fn relayed(&self, took: Duration) {
        self.relay_seconds.observe(took.as_secs_f64());
    }

    /// Everything in OpenMetrics text, which Prometheus reads.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered_with_help_and_labels() {
        let m = Metrics::new();
        m.message(Direction::FromClient, Kind::request(Method::Invite));
        m.message(Direction::ToClient, Kind::response(Method::Invite, 486));
        m.refused("rate");
        let text = m.render();
        assert!(
            text.contains("sipws_messages_total{direction=\"from_client\",method=\"INVITE\",class=\"request\"} 1"),
            "{text}"
        );
        assert!(text.contains("sipws_messages_total{direction=\"to_client\",method=\"INVITE\",class=\"4xx\"} 1"));
        assert!(text.contains("sipws_refusals_total{reason=\"rate\"} 1"));
        assert!(text.contains("# UNIT sipws_outbox_bytes bytes"));
    }
}
