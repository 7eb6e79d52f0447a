//! The flow (RFC 5626): one WebSocket connection, accepted from a client or made by us, the core object of the edge.
//!
//! A flow has one task (`driver`), which reads, and which looks after pings and deadlines. Writing is done by whoever has
//! something to say: [`Flow::queue`] puts it into the outbox, [`Flow::flush`] writes from the calling thread, and
//! only what the socket does not take at once is left to the task. So a response costs no wake-up.

use std::any::Any;
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::client::Attachment;
use super::driver::{Driver, TURN};
use super::event::Event;
use super::wire::{Event as Read, Role, Stream, Wire};
use super::{CloseReason, Edge};
use crate::guard::rate::{Address, Share};
use crate::guard::screen::Strikes;
use crate::sip::Message;

/// How long a closing flow waits for the other side's half of the closing handshake.
pub(super) const CLOSING: Duration = Duration::from_secs(2);

/// Messages of a flow that was lent whose answers are written together, if they have come together.
const TOGETHER: usize = 8;

/// A flow's name: 64 bits, never used again, not even after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

impl std::fmt::Display for FlowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// One WebSocket connection. Cloning is cheap and gives another handle to the same flow. A handle that
/// outlives the connection is harmless: what is sent on it goes nowhere.
#[derive(Clone)]
pub struct Flow(Arc<Inner>);

struct Inner {
    id: FlowId,
    peer: SocketAddr,
    secure: bool,
    outgoing: bool,
    opened: Instant,
    open: AtomicBool,
    /// Gone when the connection is: a handle that outlives it holds no descriptor.
    wire: Mutex<Option<Wire>>,
    attachment: OnceLock<Attachment>,
    /// The account of the client's address.
    address: Option<Arc<Address>>,
    strikes: Strikes,
    /// Whether the host was told that it is closed; held while the host is told anything of it, so that this comes last.
    told_closed: Mutex<bool>,
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

    /// The other side's address: where a client's packets come from, or where we have connected to.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Whether it runs over TLS (wss).
    pub fn secure(&self) -> bool {
        self.0.secure
    }

    /// Whether it is one that we made: then we are the client, and the other side a server.
    pub fn outgoing(&self) -> bool {
        self.0.outgoing
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

    /// Queues one SIP message that `write` appends, of `len` bytes as far as is known (if not, it costs a little more);
    /// `arrived` is when it came to the proxy. Nothing is sent before [`Flow::flush`], or the end of the flow's own turn
    /// where this is called from its handler.
    ///
    /// A flow whose outbox has no room is closed, and false returned: its client does not read.
    pub fn queue(&self, len: usize, arrived: Instant, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut wire = self.0.wire.lock();
        let Some(wire) = &mut *wire else {
            return true;
        };
        self.make_room(wire, len);
        if wire.queue(len, arrived, write).is_ok() {
            return true;
        }
        self.0.edge.metrics.refused("outbox_full");
        wire.abandon(CloseReason::SlowReader);
        false
    }

    /// Writes what was queued, as far as the socket takes it; the flow's task writes the rest.
    pub fn flush(&self) {
        if let Some(wire) = &mut *self.0.wire.lock() {
            self.flush_wire(wire);
        }
    }

    /// Queues and flushes one message.
    pub fn send(&self, message: &[u8]) -> bool {
        let fits = self.queue(message.len(), Instant::now(), |out| out.extend_from_slice(message));
        self.flush();
        fits
    }

    /// Queues and flushes one message, unless the outbox has no room for it: then nothing is queued, and the flow stays
    /// as it is. For callers who can wait, or send elsewhere.
    pub fn try_send(&self, message: &[u8]) -> Result<(), SendError> {
        let mut wire = self.0.wire.lock();
        let wire = wire.as_mut().filter(|wire| self.is_open() && wire.can_write()).ok_or(SendError::Gone)?;
        self.make_room(wire, message.len());
        wire.queue(message.len(), Instant::now(), |out| out.extend_from_slice(message)).map_err(|_| SendError::Full)?;
        self.flush_wire(wire);
        Ok(())
    }

    /// Has nothing more read from the other side, which then waits too (TCP's own back-pressure), or has it read again.
    /// For a handler that can't keep up. Not for longer than `timeouts.ping`: pongs are not read either.
    pub fn hold(&self, held: bool) {
        self.with_wire((), |wire| wire.hold(held));
    }

    /// Lends the reading of this flow to the caller, a handler that [`reads`](super::SipHandler::reads): a descriptor that
    /// can be read when [`Flow::read`] is to be called. It is to be waited on, not read from. `None` where there is none, or
    /// where there is a policy, or where the flow has ended: then [`Flow::unlend`] has the flow's task read.
    pub fn lend(&self) -> Option<OwnedFd> {
        if !self.0.edge.host.lends() {
            return None;
        }
        let _inside = self.0.edge.runtime.as_ref()?.enter();
        self.with_wire(None, Wire::lend)
    }

    /// Gives back what [`Flow::lend`] lent, if it did: the flow's task reads.
    pub fn unlend(&self) {
        if let Some(runtime) = &self.0.edge.runtime {
            let _inside = runtime.enter();
            self.with_wire((), Wire::reclaim);
        }
        self.hold(false);
    }

    /// Reads what is there of a flow that was lent, and has its messages handled, on the calling thread; by one thread at
    /// a time.
    pub fn read(&self) -> Reading {
        let now = Instant::now();
        let mut next = self.next(now, true);
        let mut turn = 0;
        let reading = loop {
            match next {
                Next::Message(bytes) => {
                    turn += 1;
                    next = if turn < TURN { self.next(now, false) } else { Next::Later };
                    // The first answer at once, so that the other side has something to do; those to what came along with
                    // it together.
                    let more = matches!(next, Next::Message(_)) && turn % TOGETHER != 1;
                    self.with_wire((), |wire| wire.cork(more));
                    if let Screened::Passed(message) = self.screen(bytes, now) {
                        self.0.edge.host.handler.message(self, message);
                    }
                }
                Next::Nothing if turn == 0 => break Reading::Empty,
                Next::Nothing => break Reading::Drained,
                Next::Later => break Reading::More,
                Next::End => break Reading::Over,
            }
        };
        // What was answered by the way: pongs, refusals.
        self.flush();
        reading
    }

    /// What comes next on a flow that was lent.
    fn next(&self, now: Instant, first: bool) -> Next {
        let mut cx = Context::from_waker(Waker::noop());
        self.with_wire(Next::End, |wire| {
            // What comes behind our own close frame is not heard any more.
            if !wire.is_lent() || wire.closing().is_some() {
                return Next::End;
            }
            if first {
                wire.readable();
            }
            loop {
                match wire.poll_read(&mut cx) {
                    Poll::Pending => return Next::Nothing,
                    Poll::Ready(Read::Ended(why)) => {
                        wire.end(why);
                        return Next::End;
                    }
                    Poll::Ready(event) => {
                        wire.heard(now);
                        if let Read::Message(bytes) = event {
                            return Next::Message(bytes);
                        }
                    }
                }
            }
        })
    }

    /// Looks at what came in one WebSocket message, and answers what is not to be handled.
    pub(super) fn screen(&self, bytes: Bytes, arrived: Instant) -> Screened {
        match &bytes[..] {
            // RFC 7118 §6: the keep-alive of RFC 5626 §3.5.1 as a message of its own.
            b"\r\n\r\n" => {
                self.queue(2, arrived, |out| out.extend_from_slice(b"\r\n"));
                return Screened::Done;
            }
            b"\r\n" | b"" => return Screened::Done,
            _ => {}
        }
        match self.0.edge.guard.screen(self.0.address.as_deref(), &self.0.strikes, bytes) {
            Ok(message) => {
                tracing::trace!(flow = %self.id(), message = %crate::telemetry::Masked(&message), "from client");
                Screened::Passed(message)
            }
            Err(refusal) => {
                if let Some(answer) = refusal.answer {
                    self.queue(answer.len(), arrived, |out| out.extend_from_slice(&answer));
                }
                if refusal.close {
                    self.close(1008, "refused too often", CloseReason::Policy);
                    return Screened::Closed;
                }
                Screened::Done
            }
        }
    }

    /// Bytes that wait to be taken by the socket.
    pub fn waiting(&self) -> usize {
        self.with_wire(0, |wire| wire.waiting())
    }

    /// Closes it with that close code and reason (RFC 6455 §7.4), of which 123 bytes fit. A code that may not be sent
    /// becomes 1000.
    pub fn close(&self, code: u16, reason: &str, why: CloseReason) {
        if let Some(wire) = &mut *self.0.wire.lock() {
            wire.close(code, reason, why);
            self.flush_wire(wire);
        }
    }

    /// Tells the host what happened to it, unless it was told already that it is closed.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        let told_closed = self.0.told_closed.lock();
        if !*told_closed {
            self.0.edge.host.tell(event);
        }
    }

    /// The outbox may be full only of what this turn has queued, when the socket has not been asked yet.
    fn make_room(&self, wire: &mut Wire, len: usize) {
        if !wire.has_room(len)
            && let Poll::Ready(Ok(oldest)) = wire.flush()
        {
            self.relayed(oldest);
        }
    }

    fn flush_wire(&self, wire: &mut Wire) {
        match wire.flush() {
            Poll::Ready(Ok(oldest)) => self.relayed(oldest),
            // The task meets the same error when it reads.
            Poll::Ready(Err(_)) => wire.abandon(CloseReason::Lost),
            Poll::Pending => {}
        }
    }

    /// Does something to the connection, on behalf of its task: which is there as long as the connection is.
    pub(super) fn with_wire<R>(&self, gone: R, f: impl FnOnce(&mut Wire) -> R) -> R {
        self.0.wire.lock().as_mut().map_or(gone, f)
    }

    pub(super) fn relayed(&self, oldest: Option<Instant>) {
        if let Some(oldest) = oldest {
            self.0.edge.metrics.relayed(oldest.elapsed());
        }
    }
}

/// What [`Flow::read`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// No message came: wait for the descriptor.
    Empty,
    /// Messages came, and no more are there; by now, perhaps.
    Drained,
    /// There may be more, but others want their turn.
    More,
    /// It is not the caller's to read any more.
    Over,
}

/// What came next.
enum Next {
    Message(Bytes),
    Nothing,
    /// Perhaps something; others come first.
    Later,
    /// Of the flow, or of its being lent.
    End,
}

/// What became of a message in the guard's screen.
pub(super) enum Screened {
    Passed(Message),
    /// Answered, or nothing to be done.
    Done,
    /// The flow is being closed for it.
    Closed,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The outbox has no room for it: the other side reads more slowly than we write, or the message is larger than
    /// `limits.outbox_bytes`.
    Full,
    /// The flow has ended, or is being closed.
    Gone,
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SendError::Full => "the outbox has no room for it",
            SendError::Gone => "the flow has ended",
        })
    }
}

impl std::error::Error for SendError {}

/// A connection whose handshake is done, and what is known of it.
pub(super) struct Upgraded {
    pub(super) stream: Stream,
    /// What came behind the handshake.
    pub(super) early: Vec<u8>,
    pub(super) peer: SocketAddr,
    pub(super) secure: bool,
    /// Whether we made it.
    pub(super) outgoing: bool,
    /// Its place among all connections, given back when it is gone.
    pub(super) share: Share,
}

/// Makes a flow of an upgraded connection. The future runs it to its end.
// No async fn: its arguments would stay in the future, in every idle flow's memory.
pub(super) fn run(
    edge: Arc<Edge>,
    id: FlowId,
    upgraded: Upgraded,
    attachment: Option<Attachment>,
) -> impl Future<Output = ()> + Send + 'static {
    let Upgraded { stream, early, peer, secure, outgoing, share } = upgraded;
    let role = if outgoing { Role::Client } else { Role::Server };
    let wire = Wire::new(stream, early, role, edge.limits.message_bytes, edge.limits.outbox_bytes);
    let flow = Flow(Arc::new(Inner {
        id,
        peer,
        secure,
        outgoing,
        opened: Instant::now(),
        open: AtomicBool::new(true),
        wire: Mutex::new(Some(wire)),
        attachment: attachment.map_or_else(OnceLock::new, OnceLock::from),
        address: share.address().cloned(),
        strikes: Strikes::default(),
        told_closed: Mutex::new(false),
        edge,
    }));
    live(flow, share)
}

async fn live(flow: Flow, share: Share) {
    let Inner { edge, outgoing, secure, .. } = &*flow.0;
    // Whoever hears of it finds it by its id.
    edge.registry.insert(flow.clone());
    edge.metrics.connections(*outgoing, *secure).inc();
    // From here on the flow is taken out again however this ends: return, panic, or the runtime's shutdown.
    let mut end = End { flow: flow.clone(), why: CloseReason::Server };
    if edge.host.lends() {
        flow.hold(true);
    }
    edge.host.handler.opened(&flow);
    edge.host.tell(&Event::Opened { flow: &flow });
    if edge.is_draining() {
        // It was admitted before the drain began and came in behind its look at the registry.
        flow.close(1001, "going away", CloseReason::Server);
    }
    // Given back when the connection is gone.
    let _share = share;
    let mut driver = Driver::new(edge, &flow);
    end.why = poll_fn(|cx| driver.poll(cx)).await;
    drop(driver);
    drop(end);
    // State is gone; the socket may take its time. Closing it with unread input would reset the connection, and the
    // close frame might never be read.
    let finish = async {
        let gone = || Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        poll_fn(|cx| flow.with_wire(gone(), |w| w.poll_flush(cx))).await?;
        // The server ends the connection first (RFC 6455 §7.1.1).
        if !*outgoing {
            poll_fn(|cx| flow.with_wire(Poll::Ready(Ok(())), |w| w.poll_shutdown(cx))).await?;
        }
        poll_fn(|cx| flow.with_wire(Poll::Ready(()), |w| w.poll_discard(cx))).await;
        if *outgoing {
            poll_fn(|cx| flow.with_wire(Poll::Ready(Ok(())), |w| w.poll_shutdown(cx))).await?;
        }
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
        let Inner { id, peer, secure, outgoing, opened, edge, .. } = &*self.flow.0;
        self.flow.0.open.store(false, Ordering::Release);
        edge.registry.remove(*id);
        edge.metrics.connections(*outgoing, *secure).dec();
        edge.metrics.closed(self.why.as_str());
        edge.host.handler.closed(&self.flow, self.why);
        let mut told = self.flow.0.told_closed.lock();
        edge.host.tell(&Event::Closed { flow: &self.flow, why: self.why });
        *told = true;
        drop(told);
        let transport = if *secure { "wss" } else { "ws" };
        tracing::info!(flow = %id, %peer, transport, outgoing, seconds = opened.elapsed().as_secs(), why = %self.why, "connection closed");
    }
}
