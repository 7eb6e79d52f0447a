//! A host's say in who may connect and what may pass: asked after our own checks, before anybody else sees it.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use tokio::sync::oneshot;

use super::Flow;
use crate::sip::{Message, Method};

/// What a host decides on. Called on the runtime's threads, for different flows at once, for one flow in order. Must not
/// block: whoever has to ask somebody else keeps the [`Decision`], returns, and decides later, from any thread. What is
/// not decided within `timeouts.policy` is refused with 503.
///
/// Until a decision falls, later messages of the flow in question wait, in their order; those of all others don't. What
/// comes on connections that we made is not asked about.
pub trait Policy: Send + Sync + 'static {
    /// A handshake that passed our own checks. Refusals carry an HTTP status, 400 to 599.
    fn handshake(&self, handshake: &Handshake<'_>, decision: Decision);
    /// A client's request outside a dialog (no tag in To), other than ACK and CANCEL, that passed the guard. Refusals
    /// carry a SIP status, 300 to 699.
    fn request(&self, flow: &Flow, request: &Message, decision: Decision);
}

/// A client's opening handshake (RFC 6455 §4.1).
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// Where the client's packets come from.
    pub peer: SocketAddr,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The request's header section, from `GET` to the empty line.
    pub request: &'a [u8],
}

impl<'a> Handshake<'a> {
    /// The request target: path and query.
    pub fn target(&self) -> &'a str {
        let mut words = self.request.split(|&b| b == b' ');
        words.nth(1).and_then(|t| std::str::from_utf8(t).ok()).unwrap_or("")
    }

    /// The values of the headers of that name, whatever its case.
    pub fn headers<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.request.split(|&b| b == b'\n').skip(1).filter_map(move |line| {
            let colon = line.iter().position(|&b| b == b':')?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        })
    }
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass.
    Accept,
    /// It gets this status (HTTP for a handshake, SIP for a request) with these words.
    Refuse {
        /// The status; one out of range becomes 403.
        status: u16,
        /// The reason phrase; empty: the standard one.
        reason: String,
    },
}

/// A decision that somebody owes us. Dropped without one: refused with 503.
#[derive(Debug)]
pub struct Decision(oneshot::Sender<Verdict>);

impl Decision {
    pub(super) fn new() -> (Decision, oneshot::Receiver<Verdict>) {
        let (owed, awaited) = oneshot::channel();
        (Decision(owed), awaited)
    }

    /// Decides. False when it comes too late: the flow is gone or the time is up.
    pub fn complete(self, verdict: Verdict) -> bool {
        self.0.send(verdict).is_ok()
    }

    /// Lets it pass.
    pub fn accept(self) -> bool {
        self.complete(Verdict::Accept)
    }

    /// Refuses it.
    pub fn refuse(self, status: u16, reason: impl Into<String>) -> bool {
        self.complete(Verdict::Refuse { status, reason: reason.into() })
    }
}

/// Whether a host has a say in this message.
pub(super) fn concerns(message: &Message) -> bool {
    !matches!(message.method(), None | Some(Method::Ack | Method::Cancel)) && !message.in_dialog()
}

/// The status that a refusal gets.
pub(super) fn in_range(status: u16, allowed: RangeInclusive<u16>) -> u16 {
    if allowed.contains(&status) { status } else { 403 }
}

/// A reason as it may stand in a line: without what would end that.
pub(super) fn one_line(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
