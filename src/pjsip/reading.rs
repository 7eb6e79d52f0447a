//! How a flow is read by PJSIP's own threads: its socket in the endpoint's ioqueue, as that of a TCP transport.
//!
//! The ioqueue reads by itself and hands over bytes; what is read here goes through TLS and WebSocket first. So it is
//! asked for one byte that it only peeks at, and then the flow reads.
//!
//! Not every flow can be read so. An ioqueue has a number of places that was fixed when PJSIP was compiled
//! (`PJ_IOQUEUE_MAX_HANDLES`, 64 by default), and one over select(2) takes no descriptor beyond 1023: flows for which
//! there is no place are read by threads of ours, and their messages wait in the peer's inbox.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_void};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::ptr::null_mut;

use pjsip_sys as pj;

use super::peer::Peer;
use super::status;

/// `MSG_PEEK`.
const PEEK: pj::pj_uint32_t = 2;
/// `FD_SETSIZE`.
const SELECT: i32 = 1024;

/// A descriptor's place in the ioqueue.
pub(super) struct Place {
    key: *mut pj::pj_ioqueue_key_t,
    pending: Box<Pending>,
}

// SAFETY: the key is used under the peer's turn, by one thread at a time.
unsafe impl Send for Place {}

/// What the ioqueue writes to while a read is pending.
struct Pending {
    op: UnsafeCell<pj::pj_ioqueue_op_key_t>,
    byte: UnsafeCell<u8>,
}

impl Place {
    /// Has PJSIP's threads call [`Peer::readable`] whenever `fd` is. None where the ioqueue has no place for it.
    ///
    /// # Safety
    ///
    /// On a thread of PJSIP's; `group` keeps pool and `peer` for as long as the ioqueue counts it.
    pub(super) unsafe fn take(
        peer: &Peer,
        fd: OwnedFd,
        pool: *mut pj::pj_pool_t,
        group: *mut pj::pj_grp_lock_t,
    ) -> Option<Place> {
        // SAFETY: the endpoint is there: it calls us.
        let ioqueue = unsafe { pj::pjsip_endpt_get_ioqueue(peer.inner.endpt) };
        // SAFETY: a static string.
        let over_select = unsafe { CStr::from_ptr(pj::pj_ioqueue_name()) }.to_bytes().starts_with(b"select");
        if over_select && fd.as_raw_fd() >= SELECT {
            return None;
        }
        let callbacks = pj::pj_ioqueue_callback {
            on_read_complete: Some(on_readable),
            on_write_complete: None,
            on_accept_complete: None,
            on_connect_complete: None,
        };
        let mut key = null_mut();
        // SAFETY: the caller's; the descriptor is the key's if it is taken.
        let taken = unsafe {
            pj::pj_ioqueue_register_sock2(
                pool,
                ioqueue,
                pj::pj_sock_t::from(fd.as_raw_fd()),
                group,
                std::ptr::from_ref(peer).cast::<c_void>().cast_mut(),
                &raw const callbacks,
                &raw mut key,
            )
        };
        if taken != status::SUCCESS {
            return None;
        }
        let _ = fd.into_raw_fd();
        // SAFETY: a structure of numbers and pointers that PJSIP initialises.
        let op = unsafe { std::mem::zeroed() };
        Some(Place { key, pending: Box::new(Pending { op: UnsafeCell::new(op), byte: UnsafeCell::new(0) }) })
    }

    /// Waits for the descriptor, once. False where that can't be.
    pub(super) fn wait(&self) -> bool {
        let mut len = 1;
        // SAFETY: operation and byte live until the key is unregistered, and no read is pending.
        let status = unsafe {
            pj::pj_ioqueue_recv(
                self.key,
                self.pending.op.get(),
                self.pending.byte.get().cast(),
                &raw mut len,
                PEEK | pj::PJ_IOQUEUE_ALWAYS_ASYNC,
            )
        };
        status == status::SUCCESS || status == status::PENDING
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: registered by `take`, and given back once. The ioqueue closes the descriptor.
        unsafe { pj::pj_ioqueue_unregister(self.key) };
    }
}

unsafe extern "C" fn on_readable(key: *mut pj::pj_ioqueue_key_t, _: *mut pj::pj_ioqueue_op_key_t, _: pj::pj_ssize_t) {
    // SAFETY: set at registration; the transport's group lock, which the ioqueue holds during its callbacks, keeps it.
    let peer = unsafe { pj::pj_ioqueue_get_user_data(key).cast::<Peer>().cast_const().as_ref() };
    if let Some(peer) = peer {
        // Whatever it is, an end and an error included, the flow meets it when it reads.
        super::guarded((), || peer.readable());
    }
}
