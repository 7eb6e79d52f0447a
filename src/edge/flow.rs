//! The flow (RFC 5626): one WebSocket connection with one client, the core object of the edge.
//!
//! A flow has one task, which reads, and which looks after pings and deadlines. Writing is done by whoever has
//! something to say: [`Flow::queue`] puts it into the outbox, [`Flow::flush`] writes from the calling thread, and
//! only what the socket does not take at once is left to the task. So a response costs no wake-up.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::hash::{Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::wire::{Event, Stream, Wire};
use super::{CloseReason, Edge};
use crate::guard::rate::Share;
use crate::guard::screen::Strikes;

/// Messages that one flow may have handled in a row before others get their turn.
const TURN: usize = 32;
/// How long a closing flow waits for the client's half of the closing handshake.
const CLOSING: Duration = Duration::from_secs(2);

/// A flow's name: 64 bits, never used again, not even after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

impl std::fmt::Display for FlowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// One WebSocket connection with one client. Cloning is cheap and gives another handle to the same flow. A handle that
/// outlives the connection is harmless: what is sent on it goes nowhere.
#[derive(Clone)]
pub struct Flow(Arc<Inner>);

struct Inner {
    id: FlowId,
    peer: SocketAddr,
    secure: bool,
    opened: Instant,
    open: AtomicBool,
    /// Gone when the connection is: a handle that outlives it holds no descriptor.
    wire: Mutex<Option<Wire>>,
    attachment: OnceLock<Box<dyn Any + Send + Sync>>,
    edge: Arc<Edge>,
}

impl PartialEq for Flow {
    fn eq(&self, other: &Flow) -> bool {
        self.0.id == other.0.id
    }
}
impl Eq for Flow {}
impl Hash for Flow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}
impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flow({} {})", self.0.id, self.0.peer)
    }
}

impl Flow {
    /// Its name.
    pub fn id(&self) -> FlowId {
        self.0.id
    }

    /// The client's address, as its packets come from.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Whether it runs over TLS (wss).
    pub fn secure(&self) -> bool {
        self.0.secure
    }

    /// When it was opened.
    pub fn opened(&self) -> Instant {
        self.0.opened
    }

    /// Whether it is still there.
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Attaches the handler's own state, once; a second call is ignored. Done in [`super::SipHandler::opened`].
    pub fn attach(&self, state: impl Any + Send + Sync) {
        let _ = self.0.attachment.set(Box::new(state));
    }

    /// The state that was attached, if it is of this type.
    pub fn attached<T: Any>(&self) -> Option<&T> {
        self.0.attachment.get()?.downcast_ref()
    }

    /// Queues one SIP message of `len` bytes that `write` writes; `arrived` is when it came to the proxy. Nothing is
    /// sent before [`Flow::flush`], or the end of the flow's own turn where this is called from its handler.
    ///
    /// A flow whose outbox has no room is closed, and false returned: its client does not read.
    pub fn queue(&self, len: usize, arrived: Instant, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut wire = self.0.wire.lock();
        let Some(wire) = &mut *wire else {
            return true;
        };
        if !wire.has_room(len) {
            // Full of what this turn has queued, perhaps, and the socket has not been asked yet.
            if let Poll::Ready(Ok(oldest)) = wire.flush() {
                self.relayed(oldest);
            }
        }
        if wire.queue(len, arrived, write).is_ok() {
            return true;
        }
        self.0.edge.metrics.refused("outbox_full");
        wire.abandon(CloseReason::SlowReader);
        false
    }

    /// Writes what was queued, as far as the socket takes it; the flow's task writes the rest.
    pub fn flush(&self) {
        let mut wire = self.0.wire.lock();
        let Some(wire) = &mut *wire else {
            return;
        };
        match wire.flush() {
            Poll::Ready(Ok(oldest)) => self.relayed(oldest),
            // The task meets the same error when it reads.
            Poll::Ready(Err(_)) => wire.abandon(CloseReason::Lost),
            Poll::Pending => {}
        }
    }

    /// Queues and flushes one message.
    pub fn send(&self, message: &[u8]) -> bool {
        let fits = self.queue(message.len(), Instant::now(), |out| out.extend_from_slice(message));
        self.flush();
        fits
    }

    /// Closes it with that close code (RFC 6455 §7.4) and reason.
    pub fn close(&self, code: u16, reason: &'static str, why: CloseReason) {
        if let Some(wire) = &mut *self.0.wire.lock() {
            wire.close(code, reason, why);
        }
        self.flush();
    }

    /// Does something to the connection, on behalf of its task: which is there as long as the connection is.
    fn with_wire<R>(&self, gone: R, f: impl FnOnce(&mut Wire) -> R) -> R {
        self.0.wire.lock().as_mut().map_or(gone, f)
    }

    fn relayed(&self, oldest: Option<Instant>) {
        if let Some(oldest) = oldest {
            self.0.edge.metrics.relayed(oldest.elapsed());
        }
    }
}

/// Makes a flow of an upgraded connection and runs it to its end.
pub(super) async fn run(edge: Arc<Edge>, stream: Stream, early: Vec<u8>, peer: SocketAddr, secure: bool, share: Share) {
    let limits = &edge.limits;
    let wire = Wire::new(stream, early, limits.message_bytes, limits.outbox_bytes);
    let flow = Flow(Arc::new(Inner {
        id: edge.registry.next_id(),
        peer,
        secure,
        opened: Instant::now(),
        open: AtomicBool::new(true),
        wire: Mutex::new(Some(wire)),
        attachment: OnceLock::new(),
        edge: edge.clone(),
    }));
    edge.handler.opened(&flow);
    edge.registry.insert(flow.clone());
    edge.metrics.connections(secure).inc();
    // From here on the flow is taken out again however this ends: return, panic, or the runtime's shutdown.
    let mut end = End { flow: flow.clone(), why: CloseReason::Server };
    if edge.is_draining() {
        // It was admitted before the drain began and came in behind its look at the registry.
        flow.close(1001, "going away", CloseReason::Server);
    }
    let mut driver = Driver {
        heard: Instant::now(),
        pinged: None,
        closing_since: None,
        blocked_since: None,
        accounted: 0,
        timer: Box::pin(tokio::time::sleep(edge.timeouts.ping)),
        flow: &flow,
        edge: &edge,
        share: &share,
        strikes: Strikes::default(),
    };
    end.why = poll_fn(|cx| driver.poll(cx)).await;
    drop(driver);
    drop(end);
    // State is gone; the socket may take its time. Closing it with unread input would reset the connection, and the
    // close frame might never be read.
    let finish = async {
        let gone = || Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        poll_fn(|cx| flow.with_wire(gone(), |w| w.poll_flush(cx))).await?;
        poll_fn(|cx| flow.with_wire(Poll::Ready(Ok(())), |w| w.poll_shutdown(cx))).await?;
        poll_fn(|cx| flow.with_wire(Poll::Ready(()), |w| w.poll_discard(cx))).await;
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(CLOSING, finish).await;
    *flow.0.wire.lock() = None;
}

/// Ends the flow for everybody who knows it.
struct End {
    flow: Flow,
    why: CloseReason,
}

impl Drop for End {
    fn drop(&mut self) {
        let Inner { id, peer, secure, opened, edge, .. } = &*self.flow.0;
        self.flow.0.open.store(false, Ordering::Release);
        edge.registry.remove(*id);
        edge.metrics.connections(*secure).dec();
        edge.metrics.closed(self.why.as_str());
        edge.handler.closed(&self.flow, self.why);
        let transport = if *secure { "wss" } else { "ws" };
        tracing::info!(flow = %id, %peer, transport, seconds = opened.elapsed().as_secs(), why = %self.why, "connection closed");
    }
}

/// What the flow's task knows.
struct Driver<'a> {
    flow: &'a Flow,
    edge: &'a Arc<Edge>,
    /// The connection's share in its address's account, given back when the connection is gone.
    share: &'a Share,
    strikes: Strikes,
    timer: Pin<Box<Sleep>>,
    /// When the client was last heard of.
    heard: Instant,
    /// When it was pinged, if it has not been heard of since.
    pinged: Option<Instant>,
    closing_since: Option<Instant>,
    /// Since when the socket has taken nothing.
    blocked_since: Option<Instant>,
    /// What of the outbox is in the gauge.
    accounted: i64,
}

impl Driver<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        for turn in 0..TURN {
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
                        if self.closing_since.is_some() || !self.message(bytes) {
                            return self.settle(cx);
                        }
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        self.settle(cx)
    }

    /// Has one message handled. False when the flow is to be closed for what it sent.
    fn message(&self, bytes: Bytes) -> bool {
        match &bytes[..] {
            // RFC 7118 §6: the keep-alive of RFC 5626 §3.5.1 as a message of its own.
            b"\r\n\r\n" => {
                self.flow.queue(2, self.heard, |out| out.extend_from_slice(b"\r\n"));
                return true;
            }
            b"\r\n" | b"" => return true,
            _ => {}
        }
        match self.edge.guard.screen(self.share.address(), &self.strikes, bytes) {
            Ok(message) => {
                tracing::trace!(flow = %self.flow.id(), message = %crate::telemetry::Masked(&message), "from client");
                self.edge.handler.message(self.flow, message);
                true
            }
            Err(refusal) => {
                if let Some(answer) = refusal.answer {
                    self.flow.queue(answer.len(), self.heard, |out| out.extend_from_slice(&answer));
                }
                if refusal.close {
                    self.flow.close(1008, "refused too often", CloseReason::Policy);
                }
                !refusal.close
            }
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
                self.look_by(now + CLOSING);
            }
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            match self.due() {
                Ok(next) => self.timer.as_mut().reset(next.into()),
                Err(why) => return Poll::Ready(why),
            }
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

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        self.edge.metrics.outbox_bytes.inc_by(-self.accounted);
    }
}
