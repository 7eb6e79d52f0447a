//! From our threads to PJSIP's: a queue of peers that have something in their inbox, and a socket in the endpoint's
//! ioqueue that tells a thread of PJSIP's to look.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::thread::ThreadId;

use parking_lot::Mutex;
use pjsip_sys as pj;

use super::link::Inner;
use super::peer::Peer;
use super::status;

/// Peers that are looked after before PJSIP's thread gets back to its other sockets and its timers.
const TURN: usize = 64;

/// Who has something for PJSIP.
pub(super) struct Dispatch {
    /// None once the link is stopped.
    ready: Mutex<Option<VecDeque<Arc<Peer>>>>,
    /// A byte is on its way to PJSIP's thread.
    signaled: AtomicBool,
    wake: UnixStream,
    key: AtomicPtr<pj::pj_ioqueue_key_t>,
    reading: Box<Reading>,
    /// The thread that came last, and whether there were others: then one may help the other.
    thread: Mutex<Option<ThreadId>>,
    several: AtomicBool,
}

/// What the ioqueue writes to while a read is pending.
struct Reading {
    op: std::cell::UnsafeCell<pj::pj_ioqueue_op_key_t>,
    bytes: std::cell::UnsafeCell<[u8; 16]>,
}

// SAFETY: the cells are written by the ioqueue alone, under its key's lock, and read by nobody.
unsafe impl Sync for Reading {}
// SAFETY: plain memory that belongs to no thread.
unsafe impl Send for Reading {}

impl Dispatch {
    /// A queue whose other end of the socket is to be given to [`attach`].
    pub(super) fn new() -> std::io::Result<(Dispatch, UnixStream)> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        // SAFETY: a structure of numbers and pointers that PJSIP initialises.
        let op = unsafe { std::mem::zeroed() };
        let dispatch = Dispatch {
            ready: Mutex::new(Some(VecDeque::new())),
            signaled: AtomicBool::new(false),
            wake,
            key: AtomicPtr::new(null_mut()),
            reading: Box::new(Reading {
                op: std::cell::UnsafeCell::new(op),
                bytes: std::cell::UnsafeCell::new([0; 16]),
            }),
            thread: Mutex::new(None),
            several: AtomicBool::new(false),
        };
        Ok((dispatch, woken))
    }

    /// Has a thread of PJSIP's look into the peer's inbox. From any thread.
    pub(super) fn ready(&self, peer: Arc<Peer>) {
        if let Some(ready) = &mut *self.ready.lock() {
            ready.push_back(peer);
        }
        self.signal();
    }

    fn signal(&self) {
        if !self.signaled.swap(true, Ordering::AcqRel) {
            // A full socket is one that wakes; a closed one belongs to an endpoint that is gone. A socket of this kind
            // raises no SIGPIPE: std sends with MSG_NOSIGNAL.
            let _ = (&self.wake).write(&[1]);
        }
    }

    /// Takes note of the thread that came; true when several come.
    fn several(&self) -> bool {
        if self.several.load(Ordering::Relaxed) {
            return true;
        }
        let me = std::thread::current().id();
        let several = self.thread.lock().replace(me).is_some_and(|last| last != me);
        if several {
            self.several.store(true, Ordering::Relaxed);
        }
        several
    }

    /// Looks after those that are ready. On a thread of PJSIP's.
    fn attend(&self) {
        self.signaled.store(false, Ordering::Release);
        let several = self.several();
        for _ in 0..TURN {
            let next = self.ready.lock().as_mut().and_then(|ready| Some((ready.pop_front()?, !ready.is_empty())));
            let Some((peer, more)) = next else { return };
            if more && several {
                self.signal();
            }
            if peer.attend() {
                self.ready(peer);
            }
        }
        if self.ready.lock().as_ref().is_some_and(|ready| !ready.is_empty()) {
            self.signal();
        }
    }

    /// Starts the next read.
    fn read(&self, key: *mut pj::pj_ioqueue_key_t) -> pj::pj_status_t {
        let mut len = 16;
        // SAFETY: operation and buffer live as long as `self`, which the key's group lock keeps until the key is gone,
        // and no read is pending.
        unsafe {
            pj::pj_ioqueue_recv(
                key,
                self.reading.op.get(),
                self.reading.bytes.get().cast(),
                &raw mut len,
                // Always by a callback, never by returning at once: one way to be told.
                pj::PJ_IOQUEUE_ALWAYS_ASYNC,
            )
        }
    }

    /// No thread of PJSIP's comes again, but one that is here already.
    pub(super) fn detach(&self) {
        let key = self.key.swap(null_mut(), Ordering::AcqRel);
        if !key.is_null() {
            // SAFETY: the key was registered by `attach` and is unregistered once. It closes its end of the socket.
            unsafe { pj::pj_ioqueue_unregister(key) };
        }
        // Outside the lock: the last of a peer is dropped here, perhaps.
        let ready = self.ready.lock().take();
        drop(ready);
    }
}

/// Registers the socket. `group` keeps `inner` until the ioqueue has done with the key.
///
/// # Safety
///
/// On a thread of PJSIP's; `pool` and `group` live, and `group`'s handler gives back one count of `inner`'s.
pub(super) unsafe fn attach(
    inner: &Arc<Inner>,
    woken: UnixStream,
    pool: *mut pj::pj_pool_t,
    ioqueue: *mut pj::pj_ioqueue_t,
    group: *mut pj::pj_grp_lock_t,
) -> Result<(), pj::pj_status_t> {
    let callbacks = pj::pj_ioqueue_callback {
        on_read_complete: Some(on_read),
        on_write_complete: None,
        on_accept_complete: None,
        on_connect_complete: None,
    };
    let mut key = null_mut();
    let socket = woken.into_raw_fd();
    // SAFETY: the arguments are the caller's and ours; the socket now is the key's.
    let status = unsafe {
        pj::pj_ioqueue_register_sock2(
            pool,
            ioqueue,
            pj::pj_sock_t::from(socket),
            group,
            Arc::as_ptr(inner).cast::<c_void>().cast_mut(),
            &raw const callbacks,
            &raw mut key,
        )
    };
    if status != status::SUCCESS {
        // SAFETY: nobody took the socket.
        unsafe { pj::pj_sock_close(pj::pj_sock_t::from(socket)) };
        return Err(status);
    }
    inner.dispatch.key.store(key, Ordering::Release);
    match inner.dispatch.read(key) {
        status::SUCCESS | status::PENDING => Ok(()),
        failed => {
            inner.dispatch.detach();
            Err(failed)
        }
    }
}

/// The ioqueue has read what woke it.
unsafe extern "C" fn on_read(key: *mut pj::pj_ioqueue_key_t, _: *mut pj::pj_ioqueue_op_key_t, read: pj::pj_ssize_t) {
    // SAFETY: set at registration; the key's group lock, which the ioqueue holds during its callbacks, keeps it.
    let Some(inner) = (unsafe { pj::pj_ioqueue_get_user_data(key).cast::<Inner>().cast_const().as_ref() }) else {
        return;
    };
    // Two threads that wait for one socket both see it readable, and one of them finds nothing.
    let missed = [status::EAGAIN, status::EINTR].map(|s| -pj::pj_ssize_t::from(s)).contains(&read);
    if read <= 0 && !missed {
        // The key is being closed, or its other end is gone.
        return;
    }
    // First the next read, so that another thread can be woken while this one works.
    let next = inner.dispatch.read(key);
    super::guarded((), || inner.dispatch.attend());
    if next != status::SUCCESS && next != status::PENDING {
        tracing::error!(status = next, "PJSIP's ioqueue takes no more reads: nothing more arrives");
    }
}
