//! One connection between PJSIP and the edge.
//!
//! A [`Peer`] is there from the moment that a flow is opened, or that PJSIP asks for a connection, until both sides have
//! let go: the flow is closed, and PJSIP has destroyed its transport. What happens on the flow is put into the inbox by
//! our threads and taken out by PJSIP's, in order, by one at a time.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::net::SocketAddr;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use parking_lot::Mutex;
use pjsip_sys as pj;

use super::link::Inner;
use super::reading::Place;
use super::rewrite::{self, Arrival};
use super::status::{self, SUCCESS};
use super::transport::{self, Transport};
use super::types::Kind;
use crate::edge::flow::{Reading, SendError};
use crate::edge::{CloseReason, ConnectError, Flow};
use crate::sip::{Edits, Message};

/// What one peer's turn handles before others get theirs.
const TURN: usize = 16;
/// Bytes in an inbox at which the flow is not read any further, and at which it is read again.
const HIGH: usize = 256 * 1024;
const LOW: usize = 64 * 1024;
/// Messages that may wait for a connection to come about.
const WAITING: usize = 256;
/// The longest message that PJSIP takes: a zero goes behind it, and one as long as the buffer it holds for cut off.
const LONGEST: usize = pj::PJSIP_MAX_PKT_LEN as usize - 1;

/// What happened on the flow.
enum Item {
    Opened(Flow),
    Message(Message),
    /// There is more to read.
    Readable,
    /// It is gone, or did not come about.
    Ended(pj::pj_status_t, Cow<'static, str>),
}

#[derive(Default)]
struct Inbox {
    items: VecDeque<Item>,
    bytes: usize,
    /// In the queue of those that are ready, or being looked after.
    scheduled: bool,
    /// The flow is not being read.
    held: bool,
}

/// A message of PJSIP's that waits for the connection.
struct Waiting {
    tdata: *mut pj::pjsip_tx_data,
    token: *mut c_void,
    callback: pj::pjsip_transport_callback,
}

// SAFETY: PJSIP keeps the message until the callback has been called, on whichever thread of its own.
unsafe impl Send for Waiting {}

/// Where messages of PJSIP's go.
enum Line {
    /// The connection is being made.
    Connecting(Vec<Waiting>),
    Open(Flow),
    Gone(pj::pj_status_t),
}

/// One connection.
pub(super) struct Peer {
    pub(super) inner: Arc<Inner>,
    pub(super) kind: Kind,
    pub(super) addr: SocketAddr,
    /// Made by the peer, not by us.
    pub(super) accepted: bool,
    /// PJSIP's side, while it is there and its group lock is counted for us.
    transport: AtomicPtr<Transport>,
    line: Mutex<Line>,
    inbox: Mutex<Inbox>,
    /// Held by the thread of PJSIP's that looks after the peer; and where that one waits for the socket.
    turn: Mutex<Option<Place>>,
    /// PJSIP's threads read the flow: what comes is handled at once.
    direct: AtomicBool,
}

impl Peer {
    /// A connection that the edge has accepted.
    pub(super) fn accepted(inner: Arc<Inner>, flow: &Flow) -> Arc<Peer> {
        let kind = Kind { secure: flow.secure(), ipv6: flow.peer().is_ipv6() };
        Peer::new(inner, kind, flow.peer(), true, Line::Open(flow.clone()))
    }

    /// A connection that the edge is to make.
    pub(super) fn connecting(inner: Arc<Inner>, kind: Kind, addr: SocketAddr) -> Arc<Peer> {
        Peer::new(inner, kind, addr, false, Line::Connecting(Vec::new()))
    }

    fn new(inner: Arc<Inner>, kind: Kind, addr: SocketAddr, accepted: bool, line: Line) -> Arc<Peer> {
        let peer = Arc::new(Peer {
            inner,
            kind,
            addr,
            accepted,
            transport: AtomicPtr::new(null_mut()),
            line: Mutex::new(line),
            inbox: Mutex::default(),
            turn: Mutex::new(None),
            direct: AtomicBool::new(false),
        });
        peer.inner.admit(&peer);
        peer
    }

    /// PJSIP's side is there. Its group lock has been counted for us.
    pub(super) fn bind(&self, transport: *mut Transport) {
        self.transport.store(transport, Ordering::Release);
    }

    // What our threads put in.

    pub(super) fn flow_opened(self: &Arc<Peer>, flow: &Flow) {
        self.put(Item::Opened(flow.clone()), 0);
    }

    pub(super) fn flow_message(self: &Arc<Peer>, flow: &Flow, message: Message) {
        let len = message.bytes().len();
        if len > LONGEST {
            self.inner.too_long(flow, len);
            return;
        }
        if self.direct.load(Ordering::Acquire) {
            return self.received(&message);
        }
        if self.put(Item::Message(message), len) {
            flow.hold(true);
        }
    }

    pub(super) fn flow_closed(self: &Arc<Peer>, why: CloseReason) {
        self.put(Item::Ended(status::closed(why), why.as_str().into()), 0);
    }

    pub(super) fn not_connected(self: &Arc<Peer>, error: &ConnectError) {
        self.put(Item::Ended(status::refused(error), error.to_string().into()), 0);
    }

    /// True when the flow is to be held.
    fn put(self: &Arc<Peer>, item: Item, len: usize) -> bool {
        let mut inbox = self.inbox.lock();
        inbox.items.push_back(item);
        inbox.bytes += len;
        let hold = inbox.bytes > HIGH && !inbox.held;
        inbox.held |= hold;
        let schedule = !std::mem::replace(&mut inbox.scheduled, true);
        drop(inbox);
        if schedule {
            self.inner.dispatch.ready(self.clone());
        }
        hold
    }

    // What PJSIP's threads take out.

    /// Looks after what happened. True when there is more than one turn's worth.
    pub(super) fn attend(self: &Arc<Peer>) -> bool {
        let mut turn = self.turn.lock();
        for _ in 0..TURN {
            let (item, release) = {
                let mut inbox = self.inbox.lock();
                let Some(item) = inbox.items.pop_front() else {
                    inbox.scheduled = false;
                    return false;
                };
                if let Item::Message(message) = &item {
                    inbox.bytes -= message.bytes().len();
                }
                let release = inbox.held && inbox.bytes <= LOW;
                inbox.held &= !release;
                (item, release)
            };
            if release && let Line::Open(flow) = &*self.line.lock() {
                flow.hold(false);
            }
            match item {
                Item::Opened(flow) => {
                    self.opened(&flow);
                    self.begin_reading(&flow, &mut turn);
                }
                Item::Message(message) => self.received(&message),
                Item::Readable => self.read(&turn),
                Item::Ended(status, why) => {
                    *turn = None;
                    self.ended(status, &why);
                }
            }
        }
        true
    }

    /// Has PJSIP's threads read the flow, or else ours.
    fn begin_reading(self: &Arc<Peer>, flow: &Flow, turn: &mut Option<Place>) {
        let transport = self.transport.load(Ordering::Acquire);
        if transport.is_null() {
            return;
        }
        // SAFETY: kept by the count in our name; the place is given back before that is.
        let place = flow.lend().and_then(|fd| unsafe { transport::place(transport, self, fd) });
        match place {
            Some(place) => {
                *turn = Some(place);
                self.direct.store(true, Ordering::Release);
                // What came behind the handshake is there already, and no descriptor tells of it.
                self.read(turn);
            }
            None => flow.unlend(),
        }
    }

    /// The flow's socket can be read.
    pub(super) fn readable(&self) {
        let turn = self.turn.lock();
        self.read(&turn);
    }

    fn read(&self, turn: &Option<Place>) {
        let Some(place) = turn else { return };
        // Not under the lock: what is read is answered, and the answer sent.
        let flow = match &*self.line.lock() {
            Line::Open(flow) => flow.clone(),
            _ => return,
        };
        for _ in 0..TURN {
            match flow.read() {
                // Under load there is more by now, and to look costs less than to wait.
                Reading::Drained => {}
                Reading::Empty if place.wait() => return,
                Reading::Empty => {
                    self.direct.store(false, Ordering::Release);
                    return flow.unlend();
                }
                Reading::More => break,
                // Its end comes by the inbox.
                Reading::Over => return,
            }
        }
        if let Some(me) = self.inner.peer(self) {
            me.put(Item::Readable, 0);
        }
    }

    fn opened(self: &Arc<Peer>, flow: &Flow) {
        if !self.accepted {
            return self.connected(flow);
        }
        // SAFETY: on a thread of PJSIP's, with the endpoint there: it calls us.
        match unsafe { transport::create(self, None) } {
            // SAFETY: just made, and kept by the count in our name.
            Ok(made) => unsafe { transport::tell(made, pj::pjsip_transport_state_PJSIP_TP_STATE_CONNECTED, SUCCESS) },
            Err(status) => {
                tracing::warn!(flow = %flow.id(), status, "PJSIP takes no new transport; the connection is closed");
                *self.line.lock() = Line::Gone(status);
                flow.close(1011, "no transport", CloseReason::Server);
            }
        }
    }

    /// The connection that PJSIP asked for is there.
    fn connected(&self, flow: &Flow) {
        let transport = self.transport.load(Ordering::Acquire);
        let wanted = matches!(&*self.line.lock(), Line::Connecting(_));
        // SAFETY: PJSIP's side is kept by the count in our name, which `ended` alone gives back.
        if !wanted || transport.is_null() || unsafe { transport::is_going(transport) } {
            // What waits is told when the flow's end comes round.
            return flow.close(1000, "no longer wanted", CloseReason::Server);
        }
        // SAFETY: as above.
        unsafe { transport::tell(transport, pj::pjsip_transport_state_PJSIP_TP_STATE_CONNECTED, SUCCESS) };
        let sent: Vec<_> = {
            let mut line = self.line.lock();
            let Line::Connecting(waiting) = &mut *line else {
                return flow.close(1000, "no longer wanted", CloseReason::Server);
            };
            // Sent under the lock, so that nothing overtakes.
            let waiting = std::mem::take(waiting);
            // SAFETY: PJSIP keeps a message that is pending.
            let sent = waiting.into_iter().map(|w| unsafe { (send(flow, self.kind, w.tdata), w) }).collect();
            *line = Line::Open(flow.clone());
            sent
        };
        for (result, waiting) in sent {
            // SAFETY: as above; each is told once.
            unsafe { done(transport, &waiting, result) };
        }
    }

    fn received(&self, message: &Message) {
        let transport = self.transport.load(Ordering::Acquire);
        // SAFETY: as in `connected`.
        if transport.is_null() || unsafe { transport::is_destroyed(transport) } {
            return;
        }
        let arrival = Arrival { peer: self.addr, secure: self.kind.secure, accepted: self.accepted };
        let Some(mut room) = self.inner.room() else {
            tracing::error!("PJSIP has no memory for a message; it is lost");
            return;
        };
        let fits = EDITS.with_borrow_mut(|edits| {
            edits.clear();
            rewrite::inbound(message, arrival, edits);
            let len = edits.len_of(message.bytes());
            // SAFETY: the buffer is ours until `receive` has returned.
            len <= LONGEST && unsafe { room.fill(len, |out| edits.apply_to(message.bytes(), out)) }
        });
        if fits {
            // SAFETY: on a thread of PJSIP's; the transport is kept by the count in our name, whatever is called back.
            unsafe { transport::receive(transport, &mut room) };
        } else if let Line::Open(flow) = &*self.line.lock() {
            self.inner.too_long(flow, message.bytes().len());
        }
        self.inner.give_back(room);
    }

    /// The flow is gone, or never was: PJSIP's side has to go too. Idempotent; the last thing that a peer does.
    fn ended(&self, status: pj::pj_status_t, why: &str) {
        let transport = self.transport.swap(null_mut(), Ordering::AcqRel);
        self.give_up(transport, status);
        if !transport.is_null() {
            // SAFETY: the count in our name keeps it until `release`.
            unsafe {
                transport::log(transport, if self.accepted { 4 } else { 3 }, &format!("connection ended: {why}"));
                transport::disconnected(transport, status);
                transport::release(transport);
            }
        }
        self.inner.dismiss(std::ptr::from_ref(self));
    }

    /// From a thread of PJSIP's, when nobody looks into the inbox any more.
    pub(super) fn end(&self, status: pj::pj_status_t, why: &str) {
        let mut turn = self.turn.lock();
        *turn = None;
        self.ended(status, why);
    }

    /// Nothing is sent any more; what waits is told so.
    fn give_up(&self, transport: *mut Transport, status: pj::pj_status_t) -> Option<Flow> {
        let line = std::mem::replace(&mut *self.line.lock(), Line::Gone(status));
        match line {
            Line::Connecting(waiting) => {
                for waiting in waiting {
                    // SAFETY: PJSIP keeps a message that is pending, and its transport; each is told once.
                    unsafe { done(transport, &waiting, Err(status)) };
                }
                None
            }
            Line::Open(flow) => Some(flow),
            Line::Gone(first) => {
                *self.line.lock() = Line::Gone(first);
                None
            }
        }
    }

    // What PJSIP asks for.

    /// Sends, or keeps for later. `Err(PENDING)`: the callback will tell.
    ///
    /// # Safety
    ///
    /// As PJSIP calls `send_msg`.
    pub(super) unsafe fn send(
        &self,
        tdata: *mut pj::pjsip_tx_data,
        token: *mut c_void,
        callback: pj::pjsip_transport_callback,
    ) -> Result<(), pj::pj_status_t> {
        let mut line = self.line.lock();
        match &mut *line {
            // SAFETY: PJSIP has printed the message.
            Line::Open(flow) => unsafe { send(flow, self.kind, tdata) }.map(|_| ()),
            Line::Connecting(waiting) if waiting.len() < WAITING => {
                // SAFETY: the message is ours to mark while it is pending.
                unsafe { (*tdata).op_key.tdata = tdata };
                waiting.push(Waiting { tdata, token, callback });
                Err(status::PENDING)
            }
            Line::Connecting(_) => Err(status::ETOOMANY),
            Line::Gone(status) => Err(*status),
        }
    }

    /// PJSIP is about to forget the transport.
    pub(super) fn destroyed(&self, transport: *mut Transport) {
        if let Some(flow) = self.give_up(transport, status::ECANCELLED) {
            flow.close(1000, "transport closed", CloseReason::Server);
        }
    }
}

thread_local! {
    /// One list of edits for each thread, used again for every message.
    static EDITS: std::cell::RefCell<Edits> = const { std::cell::RefCell::new(Edits::new()) };
    static SCRATCH: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Sends one printed message; how long it was.
///
/// # Safety
///
/// `tdata` has been printed.
unsafe fn send(flow: &Flow, kind: Kind, tdata: *mut pj::pjsip_tx_data) -> Result<usize, pj::pj_status_t> {
    // SAFETY: a printed message stands between `start` and `cur`.
    let bytes = unsafe {
        let buf = &(*tdata).buf;
        std::slice::from_raw_parts(buf.start.cast::<u8>(), buf.cur.offset_from(buf.start) as usize)
    };
    let sent = if kind.secure {
        EDITS.with_borrow_mut(|edits| {
            edits.clear();
            rewrite::outbound(bytes, edits);
            if edits.is_empty() {
                return flow.try_send(bytes);
            }
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.clear();
                edits.apply(bytes, scratch);
                flow.try_send(scratch)
            })
        })
    } else {
        flow.try_send(bytes)
    };
    match sent {
        Ok(()) => Ok(bytes.len()),
        Err(SendError::Full) => Err(status::ENOBUFS),
        Err(SendError::Gone) => Err(status::ENOTCONN),
    }
}

/// Tells PJSIP what became of a message that was pending.
///
/// # Safety
///
/// The message is pending, and told once.
unsafe fn done(transport: *mut Transport, waiting: &Waiting, result: Result<usize, pj::pj_status_t>) {
    let sent = match result {
        Ok(len) => len as pj::pj_ssize_t,
        Err(status) => -pj::pj_ssize_t::from(status),
    };
    // SAFETY: the caller's.
    unsafe {
        (*waiting.tdata).op_key.tdata = null_mut();
        if let Some(callback) = waiting.callback {
            callback(transport.cast(), waiting.token, sent);
        }
    }
}

/// What PJSIP reads a message from: some 64 KiB, so there is one for each thread at work, not one for each connection.
pub(super) struct Room(Box<pj::pjsip_rx_data>);

// SAFETY: memory that belongs to no thread.
unsafe impl Send for Room {}

impl Room {
    /// # Safety
    ///
    /// On a thread of PJSIP's, while the endpoint is there.
    pub(super) unsafe fn new(endpt: *mut pj::pjsip_endpoint) -> Option<Room> {
        let layout = std::alloc::Layout::new::<pj::pjsip_rx_data>();
        // SAFETY: the layout is not of size zero, and what was allocated with it may be a box; numbers and pointers, for which
        // all zeros is a value. Made in place: it is too large for a stack.
        let mut rdata = unsafe {
            let zeroed = std::alloc::alloc_zeroed(layout).cast::<pj::pjsip_rx_data>();
            if zeroed.is_null() {
                return None;
            }
            Box::from_raw(zeroed)
        };
        // SAFETY: the caller's.
        let pool = unsafe {
            pj::pjsip_endpt_create_pool(
                endpt,
                c"rtd%p".as_ptr(),
                pj::PJSIP_POOL_RDATA_LEN as pj::pj_size_t,
                pj::PJSIP_POOL_RDATA_INC as pj::pj_size_t,
            )
        };
        if pool.is_null() {
            return None;
        }
        rdata.tp_info.pool = pool;
        Some(Room(rdata))
    }

    pub(super) fn rdata(&mut self) -> *mut pj::pjsip_rx_data {
        &raw mut *self.0
    }

    /// Has `write` write `len` bytes of message; false if it wrote another number.
    ///
    /// # Safety
    ///
    /// Nobody reads the buffer now, and `len` is at most [`LONGEST`].
    unsafe fn fill(&mut self, len: usize, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let packet = (&raw mut self.0.pkt_info.packet).cast::<c_char>().cast::<u8>();
        // SAFETY: the buffer is PJSIP_MAX_PKT_LEN bytes of initialised memory.
        let packet = unsafe { std::slice::from_raw_parts_mut(packet, len) };
        self.0.pkt_info.len = len as pj::pj_ssize_t;
        self.0.pkt_info.zero = 0;
        write(packet) == len
    }

    /// # Safety
    ///
    /// On a thread of PJSIP's, while the endpoint is there.
    pub(super) unsafe fn release(self) {
        // SAFETY: the pool is ours.
        unsafe { pj::pj_pool_release(self.0.tp_info.pool) };
    }
}
