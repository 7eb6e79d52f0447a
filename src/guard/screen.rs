//! The screen between the edge and whoever handles its messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::rate::Address;
use super::tag::LocalTag;
use crate::sip::response::{self, Reply};
use crate::sip::validate::{self, Transport};
use crate::sip::{Message, Method};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Direction, Kind};

/// What did not pass.
#[derive(Debug)]
pub struct Refusal {
    /// The response to send, if one can be formed.
    pub answer: Option<Vec<u8>>,
    /// Whether it has gone on for so long that the connection is to be closed with 1008.
    pub close: bool,
}

/// How often a flow was refused of late: each refusal adds one, each message that passes takes one away. So a client
/// with an occasional broken message stays, and one that sends nothing else, or much too much, does not.
#[derive(Debug, Default)]
pub struct Strikes(AtomicU32);

impl Strikes {
    fn add(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    fn forgive(&self) {
        // One thread reads a flow at a time: nothing comes between.
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }
}

/// Screens the messages of all flows of a server.
#[derive(Debug)]
pub struct Guard {
    tags: LocalTag,
    most_strikes: u32,
    metrics: Arc<Metrics>,
}

impl Guard {
    /// A screen that has a flow closed at `most_strikes`.
    pub fn new(most_strikes: u32, tags: LocalTag, metrics: Arc<Metrics>) -> Guard {
        Guard { tags, most_strikes, metrics }
    }

    /// Decides on the bytes of one WebSocket message, which counts for the account of its sender's `address`, if any.
    pub fn screen(&self, address: Option<&Address>, strikes: &Strikes, bytes: Bytes) -> Result<Message, Refusal> {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "dropped what is no SIP message");
                self.metrics.refused("garbage");
                return Err(Refusal { answer: None, close: strikes.add() >= self.most_strikes });
            }
        };
        let method = message.method();
        self.metrics.message(Direction::FromClient, Kind::of(&message));
        if method.is_some() && !address.is_none_or(Address::admits) {
            return Err(self.refuse(strikes, &message, 503, "", "rate"));
        }
        if let Err(fault) = validate::check(&message, Transport::WebSocket) {
            tracing::debug!(?message, fault.reason, "refused a message");
            return Err(self.refuse(strikes, &message, fault.status, fault.reason, "invalid"));
        }
        if method == Some(Method::Ack) && self.tags.absorbs(&message) {
            return Err(Refusal { answer: None, close: false });
        }
        strikes.forgive();
        Ok(message)
    }

    /// The answer to a request that is refused with this status and reason (empty: the standard one), without a strike.
    /// Counts it as `label`. None where no response can be formed.
    pub fn answer(&self, request: &Message, status: u16, reason: &str, label: &'static str) -> Option<Vec<u8>> {
        self.metrics.refused(label);
        response::can_answer(request).then(|| {
            self.metrics.message(Direction::ToClient, Kind::response(request.transaction_method(), status));
            let mut out = Vec::with_capacity(512);
            let tag = self.tags.of(request);
            let reply = Reply {
                reason,
                headers: if status == 503 { b"Retry-After: 1\r\n" } else { b"" },
                ..Reply::new(status, &tag)
            };
            response::write(request, reply, &mut out);
            out
        })
    }

    fn refuse(&self, strikes: &Strikes, request: &Message, status: u16, reason: &str, label: &'static str) -> Refusal {
        let answer = self.answer(request, status, reason, label);
        Refusal { answer, close: strikes.add() >= self.most_strikes }
    }
}
