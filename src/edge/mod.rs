//! The WebSocket side: connections come in, or are made, are upgraded (RFC 6455, RFC 7118), and become flows (RFC 5626).
//!
//! The way of a message: [`listener`] → [`handshake`] (or [`client`], where we connect) → [`flow`] → the guard's screen → the [`SipHandler`]. The way
//! back: [`Flow::queue`] → `outbox` → the socket. The edge knows nothing of who handles its messages.

pub mod client;
mod driver;
pub mod event;
pub mod flow;
pub mod handshake;
pub mod listener;
mod mask;
mod outbox;
pub mod policy;
pub mod registry;
pub(crate) mod socket;
pub mod tls;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::{Limits, Timeouts};
use crate::guard::{Addresses, Guard};
use crate::sip::Message;
use crate::telemetry::Metrics;

pub use client::{Connect, ConnectError};
pub use event::{Event, Observer};
pub use flow::{Flow, FlowId, SendError};
pub use listener::WebSocketListener;
pub use policy::{Decision, Handshake, Policy, Verdict};
pub use registry::Registry;

/// Where SIP messages that arrive on WebSocket flows go. Three of them: the bridge, a PJSIP endpoint, a C callback.
///
/// Called on the runtime's threads, for different flows at once, for one flow in order. Must not block.
pub trait SipHandler: Send + Sync + 'static {
    /// A flow is there. Called before its first message.
    fn opened(&self, flow: &Flow);
    /// A message that passed the guard.
    fn message(&self, flow: &Flow, message: Message);
    /// Whether it reads its flows by itself, on threads of its own ([`Flow::lend`]). Then a flow is not read until it is
    /// lent, or [`Flow::unlend`] says that the flow's task is to read. Without effect where there is a [`Policy`], which
    /// may want to wait.
    fn reads(&self) -> bool {
        false
    }
    /// The flow is gone; nothing sent on it from now on arrives. Called exactly once, after its last message.
    fn closed(&self, flow: &Flow, why: CloseReason);
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The other side closed it, by a close frame.
    Client,
    /// The connection ended without a close frame.
    Lost,
    /// No pong, nor anything else, in time.
    Silent,
    /// The other side did not read what was sent to it.
    SlowReader,
    /// A frame that RFC 6455 does not allow: 1002.
    Protocol,
    /// A text frame that is not UTF-8: 1007.
    NotUtf8,
    /// It was refused too often: 1008.
    Policy,
    /// A message over the limit: 1009.
    TooLong,
    /// The server stops, or the host asked for it.
    Server,
}

impl CloseReason {
    /// The label that metrics carry.
    pub const fn as_str(self) -> &'static str {
        match self {
            CloseReason::Client => "client",
            CloseReason::Lost => "lost",
            CloseReason::Silent => "silent",
            CloseReason::SlowReader => "slow_reader",
            CloseReason::Protocol => "protocol",
            CloseReason::NotUtf8 => "not_utf8",
            CloseReason::Policy => "policy",
            CloseReason::TooLong => "too_long",
            CloseReason::Server => "server",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whoever an edge works for.
#[derive(Clone)]
pub struct Host {
    /// Gets the messages.
    pub handler: Arc<dyn SipHandler>,
    /// Is asked who may connect and what may pass; `None`: all that our own checks let through.
    pub policy: Option<Arc<dyn Policy>>,
    /// Is told what happens.
    pub observer: Option<Arc<dyn Observer>>,
    /// Whether each message is sent on at once (TCP_NODELAY).
    pub nodelay: bool,
}

impl Host {
    /// A handler, and nobody else.
    pub fn new(handler: Arc<dyn SipHandler>) -> Host {
        Host { handler, policy: None, observer: None, nodelay: true }
    }

    /// Whether flows may be lent.
    pub(crate) fn lends(&self) -> bool {
        self.policy.is_none() && self.handler.reads()
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            observer.event(event);
        }
    }
}

/// What all listeners and flows of one server share.
pub struct Edge {
    /// The open flows.
    pub registry: Registry,
    /// Accounts by address.
    pub addresses: Addresses,
    /// The figures.
    pub metrics: Arc<Metrics>,
    pub(crate) guard: Guard,
    pub(crate) host: Host,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    draining: AtomicBool,
    /// The runtime that it was made in.
    pub(crate) runtime: Option<tokio::runtime::Handle>,
}

impl Edge {
    /// An edge that works for `host`.
    pub fn new(limits: &Limits, timeouts: &Timeouts, guard: Guard, metrics: Arc<Metrics>, host: Host) -> Arc<Edge> {
        Arc::new(Edge {
            registry: Registry::new(),
            addresses: Addresses::new(
                limits.requests_per_second,
                limits.burst(),
                u32::try_from(limits.connections_per_address).unwrap_or(u32::MAX),
                limits.connections,
            ),
            metrics,
            guard,
            host,
            limits: limits.clone(),
            timeouts: timeouts.clone(),
            draining: AtomicBool::new(false),
            runtime: tokio::runtime::Handle::try_current().ok(),
        })
    }

    /// Whether no new flows are taken any more.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Takes no new flows, and closes the open ones with 1001, each at a moment of its own within three quarters of
    /// `grace`, so that clients don't all come back elsewhere at once. Returns when all are gone or `grace` is over.
    pub async fn drain(&self, grace: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        let begun = tokio::time::Instant::now();
        let deadline = begun + grace;
        let flows = self.registry.all();
        let step = grace.as_secs_f64() * 0.75 / flows.len().max(1) as f64;
        // The registry's order is that of a keyed hash: as good as random.
        for (i, flow) in flows.into_iter().enumerate() {
            // Sleeps are whole milliseconds: of many flows, several are due at once.
            let due = begun + Duration::from_secs_f64(step * i as f64);
            if due > tokio::time::Instant::now() + Duration::from_millis(1) {
                tokio::time::sleep_until(due).await;
            }
            flow.close(1001, "going away", CloseReason::Server);
        }
        let _ = tokio::time::timeout_at(deadline, self.registry.emptied()).await;
    }
}
