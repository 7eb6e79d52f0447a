//! A flow's task: reads, has messages screened and handled, and looks after pings and deadlines.
//!
//! It is one future without any await inside: what it knows is all in [`Driver`], and one poll handles whatever has come.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Sleep;

use super::flow::{CLOSING, Screened};
use super::policy::{self, Decision, Policy, Verdict};
use super::wire::{Event, Wire};
use super::{CloseReason, Edge, Flow};
use crate::sip::Message;

/// Messages that one flow may have handled in a row before others get their turn.
pub(super) const TURN: usize = 32;

/// What the flow's task knows.
pub(super) struct Driver<'a> {
    flow: &'a Flow,
    edge: &'a Arc<Edge>,
    timer: Pin<Box<Sleep>>,
    /// When the other side was last heard of.
    heard: Instant,
    /// When it was pinged, if it has not been heard of since.
    pinged: Option<Instant>,
    closing_since: Option<Instant>,
    /// Since when the socket has taken nothing.
    blocked_since: Option<Instant>,
    /// What of the outbox is in the gauge.
    accounted: i64,
    /// A request that the host has to decide on before anything else is handled.
    owed: Option<Box<Owed>>,
}

impl<'a> Driver<'a> {
    pub(super) fn new(edge: &'a Arc<Edge>, flow: &'a Flow) -> Driver<'a> {
        Driver {
            heard: Instant::now(),
            pinged: None,
            closing_since: None,
            blocked_since: None,
            accounted: 0,
            owed: None,
            timer: Box::pin(tokio::time::sleep(edge.timeouts.ping)),
            flow,
            edge,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if let Some(why) = self.look_at_host() {
            return Poll::Ready(why);
        }
        for turn in 0..TURN {
            if self.owed.is_some() {
                self.decide(cx);
                if self.owed.as_ref().is_some_and(|owed| owed.is_full(self.edge)) {
                    self.flow.with_wire((), |wire| wire.attend(cx.waker()));
                    return self.settle(cx);
                }
            }
            let event = self.flow.with_wire(Poll::Ready(Event::Ended(CloseReason::Lost)), |wire| {
                if turn == 0 {
                    wire.attend(cx.waker());
                }
                wire.poll_event(cx)
            });
            match event {
                Poll::Pending => return self.settle(cx),
                Poll::Ready(Event::Ended(why)) => return Poll::Ready(why),
                Poll::Ready(event) => {
                    self.heard = Instant::now();
                    self.pinged = None;
                    if let Event::Message(bytes) = event {
                        // What comes behind our own close frame is not heard any more.
                        if self.closing_since.is_some() {
                            return self.settle(cx);
                        }
                        if let Some(owed) = &mut self.owed {
                            owed.keep(bytes);
                        } else if !self.message(bytes) {
                            return self.settle(cx);
                        }
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        self.settle(cx)
    }

    /// What a host that reads has seen since the last look: that the other side lives, or the end.
    fn look_at_host(&mut self) -> Option<CloseReason> {
        let (heard, ended) = self.flow.with_wire((None, None), Wire::seen);
        if let Some(heard) = heard {
            self.heard = heard;
            self.pinged = None;
        }
        ended
    }

    /// Has one message handled. False when the flow is to be closed for what it sent.
    fn message(&mut self, bytes: Bytes) -> bool {
        match self.flow.screen(bytes, self.heard) {
            Screened::Passed(message) => match &self.edge.host.policy {
                Some(policy) if !self.flow.outgoing() && policy::concerns(&message) => {
                    self.ask(&**policy, message);
                }
                _ => self.edge.host.handler.message(self.flow, message),
            },
            Screened::Done => {}
            Screened::Closed => return false,
        }
        true
    }

    /// Has the host decide on a request: now, or else later.
    fn ask(&mut self, policy: &dyn Policy, request: Message) {
        let (decision, mut verdict) = Decision::new();
        policy.request(self.flow, &request, decision);
        match verdict.try_recv() {
            Err(TryRecvError::Empty) => {
                let deadline = Instant::now() + self.edge.timeouts.policy;
                self.owed = Some(Box::new(Owed { request, verdict, deadline, behind: VecDeque::new(), bytes: 0 }));
                self.look_by(deadline);
            }
            decided => self.act(request, decided.ok()),
        }
    }

    /// If the decision that is owed has fallen by now, or is overdue, acts on it, and has handled what came behind.
    fn decide(&mut self, cx: &mut Context<'_>) {
        while let Some(mut owed) = self.owed.take() {
            let verdict = match Pin::new(&mut owed.verdict).poll(cx) {
                Poll::Ready(verdict) => verdict.ok(),
                Poll::Pending if Instant::now() >= owed.deadline => {
                    // Whoever decides from now on hears that it is too late.
                    owed.verdict.close();
                    owed.verdict.try_recv().ok()
                }
                Poll::Pending => {
                    self.owed = Some(owed);
                    return;
                }
            };
            let Owed { request, mut behind, .. } = *owed;
            self.act(request, verdict);
            while let Some(bytes) = behind.pop_front() {
                if !self.message(bytes) {
                    return;
                }
                if let Some(next) = &mut self.owed {
                    behind.into_iter().for_each(|bytes| next.keep(bytes));
                    break;
                }
            }
        }
    }

    /// Passes a request on, or answers it: 503 if there is no verdict.
    fn act(&self, request: Message, verdict: Option<Verdict>) {
        let (status, reason, label) = match verdict {
            Some(Verdict::Accept) => return self.edge.host.handler.message(self.flow, request),
            Some(Verdict::Refuse { status, reason }) => (policy::in_range(status, 300..=699), reason, "policy"),
            None => (503, String::new(), "policy_timeout"),
        };
        if let Some(answer) = self.edge.guard.answer(&request, status, &policy::one_line(&reason), label) {
            self.flow.queue(answer.len(), self.heard, |out| out.extend_from_slice(&answer));
        }
    }

    /// Writes what this turn has queued, and sees to the deadlines.
    fn settle(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let (flushed, moved, closing, waiting) = self.flow.with_wire((Poll::Ready(Ok(None)), false, None, 0), |w| {
            (w.poll_flush(cx), w.moved(), w.closing(), w.waiting() as i64)
        });
        if waiting != self.accounted {
            self.edge.metrics.outbox_bytes.inc_by(waiting - self.accounted);
            self.accounted = waiting;
        }
        let now = Instant::now();
        match flushed {
            Poll::Ready(Ok(oldest)) => {
                self.blocked_since = None;
                self.flow.relayed(oldest);
            }
            Poll::Ready(Err(_)) => return Poll::Ready(closing.unwrap_or(CloseReason::Lost)),
            // Whoever takes a little at a time is slow, not stuck: for that there is the outbox's bound.
            Poll::Pending if moved || self.blocked_since.is_none() => {
                self.blocked_since = Some(now);
                self.look_by(now + self.edge.timeouts.write);
            }
            Poll::Pending => {}
        }
        if let Some(why) = closing {
            if why == CloseReason::SlowReader || why == CloseReason::Lost {
                return Poll::Ready(why);
            }
            if self.closing_since.is_none() {
                self.closing_since = Some(now);
                // The closing handshake is ours, whoever has read up to here.
                self.flow.with_wire((), Wire::reclaim);
                cx.waker().wake_by_ref();
                self.owed = None;
                self.look_by(now + CLOSING);
            }
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            match self.due() {
                Ok(next) => self.timer.as_mut().reset(next.into()),
                Err(why) => return Poll::Ready(why),
            }
        }
        if self.owed.as_ref().is_some_and(|owed| now >= owed.deadline) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Has the timer end by then, if it would not anyway.
    fn look_by(&mut self, then: Instant) {
        if self.timer.deadline() > then.into() {
            self.timer.as_mut().reset(then.into());
        }
    }

    /// What the timer's end means: something is over, or the time of the next look.
    fn due(&mut self) -> Result<Instant, CloseReason> {
        let now = Instant::now();
        let t = &self.edge.timeouts;
        let mut next = now + t.ping;
        if let Some(why) = self.look_at_host() {
            return Err(why);
        }
        if let Some(since) = self.closing_since {
            if now >= since + CLOSING {
                return Err(self.flow.with_wire(None, |w| w.closing()).unwrap_or(CloseReason::Server));
            }
            next = next.min(since + CLOSING);
        }
        if let Some(since) = self.blocked_since {
            if now >= since + t.write {
                self.edge.metrics.refused("write_deadline");
                return Err(CloseReason::SlowReader);
            }
            next = next.min(since + t.write);
        }
        if let Some(owed) = &self.owed {
            if owed.deadline > now {
                next = next.min(owed.deadline);
            }
            if owed.is_full(self.edge) {
                // Nothing is read: a pong could not be seen.
                self.heard = now;
                self.pinged = None;
            }
        }
        match self.pinged {
            Some(at) if now >= at + t.pong => return Err(CloseReason::Silent),
            Some(at) => next = next.min(at + t.pong),
            None if now >= self.heard + t.ping => {
                self.pinged = Some(now);
                self.flow.with_wire((), Wire::ping);
                self.flow.flush();
                next = next.min(now + t.pong);
            }
            None => next = next.min(self.heard + t.ping),
        }
        Ok(next)
    }
}

/// A request whose decision is owed, and what came behind it.
struct Owed {
    request: Message,
    verdict: oneshot::Receiver<Verdict>,
    deadline: Instant,
    /// Messages that wait for their turn.
    behind: VecDeque<Bytes>,
    /// What they take.
    bytes: usize,
}

impl Owed {
    fn keep(&mut self, bytes: Bytes) {
        self.bytes += bytes.len() + size_of::<Bytes>();
        self.behind.push_back(bytes);
    }

    /// Whether nothing more is to be read: there waits as much as one message may have.
    fn is_full(&self, edge: &Edge) -> bool {
        self.bytes >= edge.limits.message_bytes
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        self.edge.metrics.outbox_bytes.inc_by(-self.accounted);
    }
}
