//! The `pjsip_transport` of a peer: its life and death, in the order that PJSIP's transport manager expects.
//!
//! Its memory is kept by its group lock, which is counted three times: for PJSIP's table (by
//! `pjsip_transport_register`), for the transport itself until it is destroyed, and for the [`Peer`] until the flow has
//! ended. Whichever is last frees it, on a thread of PJSIP's.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::OwnedFd;
use std::ptr::null_mut;
use std::sync::Arc;

use pjsip_sys as pj;

use super::names;
use super::peer::{Peer, Room};
use super::reading::Place;
use super::status::{self, SUCCESS};
use super::types::transport_type;

/// What a transport's pool begins with: the structure, its names, its locks.
const POOL: pj::pj_size_t = 1800;
const POOL_STEP: pj::pj_size_t = 512;

/// PJSIP's side of a peer.
#[repr(C)]
pub(super) struct Transport {
    /// First, so that a pointer to the one is a pointer to the other.
    base: pj::pjsip_transport,
    /// From `Arc::into_raw`, given back by `freed`.
    peer: *const Peer,
    /// The peer's address as each received message says it.
    src_name: [c_char; 46],
}

/// Makes and registers the transport of `peer`; `name` is the host that a connection of ours is to.
///
/// # Safety
///
/// On a thread of PJSIP's, while the endpoint is there.
pub(super) unsafe fn create(peer: &Arc<Peer>, name: Option<&str>) -> Result<*mut Transport, pj::pj_status_t> {
    let inner = &peer.inner;
    let kind_of = transport_type(peer.kind)?;
    // SAFETY: the endpoint is there; every pointer given to PJSIP is into the pool, or static, or outlives the
    // transport because the transport holds its peer.
    unsafe {
        let pool = pj::pjsip_endpt_create_pool(inner.endpt, c"ws%p".as_ptr(), POOL, POOL_STEP);
        if pool.is_null() {
            return Err(status::ENOMEM);
        }
        let made = pj::pj_pool_calloc(pool, 1, size_of::<Transport>() as pj::pj_size_t).cast::<Transport>();
        if made.is_null() {
            pj::pj_pool_release(pool);
            return Err(status::ENOMEM);
        }
        let t = &mut (*made).base;
        let side = if peer.accepted { "s" } else { "c" };
        let secure = if peer.kind.secure { "wss" } else { "ws" };
        names::write_name(&mut t.obj_name, &format!("{secure}{side}{made:p}"));
        t.pool = pool;
        let made_up = (|| {
            checked(pj::pj_atomic_create(pool, 0, &raw mut t.ref_cnt))?;
            checked(pj::pj_lock_create_recursive_mutex(pool, c"ws".as_ptr(), &raw mut t.lock))?;
            checked(pj::pj_grp_lock_create_w_handler(pool, null_mut(), made.cast(), Some(freed), &raw mut t.grp_lock))
        })();
        if let Err(status) = made_up {
            undone(made);
            return Err(status);
        }
        let (rem_addr, len) = names::sockaddr(peer.addr);
        t.key.type_ = kind_of as _;
        t.key.rem_addr = rem_addr;
        t.addr_len = len;
        t.type_name = peer.kind.name().as_ptr().cast_mut();
        t.flag = peer.kind.flags();
        let host = peer.addr.ip().to_string();
        t.info = names::in_pool(pool, &format!("{} to {}", peer.kind.name().to_string_lossy(), peer.addr)).ptr;
        t.remote_name.host = names::in_pool(pool, name.unwrap_or(&host));
        t.remote_name.port = c_int::from(peer.addr.port());
        names::write_name(&mut (*made).src_name, &host);
        let t = &mut (*made).base;
        // It has a name of its own, whatever its address is: PJSIP must not put the address in its place.
        t.has_addr_name = 1;
        let own = inner.name(peer.kind);
        t.local_addr = own.map_or_else(|| std::mem::zeroed(), |own| own.addr);
        if let Some(own) = own.filter(|_| peer.accepted) {
            t.local_name.host = names::in_pool(pool, &own.host);
            t.local_name.port = c_int::from(own.port);
            t.dir = pj::pjsip_transport_dir_PJSIP_TP_DIR_INCOMING;
        } else {
            // The name of this client, the same on each of its connections (RFC 7118 §5.1 and appendix A).
            t.local_name.host = names::in_pool(pool, inner.client_name());
            t.local_name.port = c_int::from(peer.kind.default_port());
            t.dir = pj::pjsip_transport_dir_PJSIP_TP_DIR_OUTGOING;
        }
        t.endpt = inner.endpt;
        t.tpmgr = inner.tpmgr;
        t.factory = inner.factory(peer.kind);
        t.send_msg = Some(send_msg);
        t.do_shutdown = Some(do_shutdown);
        t.destroy = Some(destroy);
        (*made).peer = Arc::into_raw(peer.clone());
        let group = (*made).base.grp_lock;
        // The transport's own, and the peer's.
        pj::pj_grp_lock_add_ref(group);
        pj::pj_grp_lock_add_ref(group);
        inner.transport_made();
        let registered = pj::pjsip_transport_register(inner.tpmgr, &raw mut (*made).base);
        if registered != SUCCESS {
            pj::pj_grp_lock_dec_ref(group);
            pj::pj_grp_lock_dec_ref(group);
            return Err(registered);
        }
        peer.bind(made);
        log(made, 4, if peer.accepted { "server transport created" } else { "client transport created, connecting" });
        Ok(made)
    }
}

/// Writes into PJSIP's log, under the transport's name.
///
/// # Safety
///
/// On a thread of PJSIP's; `transport` is kept by a count of its group lock.
pub(super) unsafe fn log(transport: *mut Transport, level: i32, text: &str) {
    // SAFETY: the caller's; both are C strings.
    unsafe {
        let info = CStr::from_ptr((*transport).base.info).to_string_lossy();
        super::log(level, (*transport).base.obj_name.as_ptr(), &format!("{info}: {text}"));
    }
}

fn checked(status: pj::pj_status_t) -> Result<(), pj::pj_status_t> {
    if status == SUCCESS { Ok(()) } else { Err(status) }
}

/// # Safety
///
/// `transport` is kept by a count of its group lock.
pub(super) unsafe fn is_going(transport: *mut Transport) -> bool {
    // SAFETY: the caller's. PJSIP reads these flags without its lock too.
    unsafe { (*transport).base.is_shutdown != 0 || (*transport).base.is_destroying != 0 }
}

/// # Safety
///
/// As [`is_going`].
pub(super) unsafe fn is_destroyed(transport: *mut Transport) -> bool {
    // SAFETY: the caller's.
    unsafe { (*transport).base.is_destroying != 0 }
}

/// Tells whoever listens of the transport's new state.
///
/// # Safety
///
/// On a thread of PJSIP's, with no lock of ours held; `transport` is kept by a count of its group lock.
pub(super) unsafe fn tell(transport: *mut Transport, state: pj::pjsip_transport_state, why: pj::pj_status_t) {
    // SAFETY: the caller's.
    unsafe {
        if let Some(callback) = pj::pjsip_tpmgr_get_state_cb((*transport).base.tpmgr) {
            let info = pj::pjsip_transport_state_info { status: why, ext_info: null_mut(), user_data: null_mut() };
            callback(&raw mut (*transport).base, state, &raw const info);
        }
    }
}

/// Hands one message to PJSIP, which runs the application.
///
/// # Safety
///
/// As [`tell`]; `room` holds the message.
pub(super) unsafe fn receive(transport: *mut Transport, room: &mut Room) {
    let rdata = room.rdata();
    // SAFETY: the caller's; the buffer is ours until the call has returned, and nobody keeps it (PJSIP clones what it
    // wants to keep).
    unsafe {
        let t = &(*transport).base;
        let tp = &mut (*rdata).tp_info;
        tp.transport = transport.cast();
        tp.tp_data = transport.cast();
        tp.op_key.rdata = rdata;
        let packet = &mut (*rdata).pkt_info;
        packet.src_addr = t.key.rem_addr;
        packet.src_addr_len = t.addr_len;
        packet.src_name = (*transport).src_name;
        packet.src_port = t.remote_name.port;
        pj::pj_gettimeofday(&raw mut packet.timestamp);
        pj::pjsip_tpmgr_receive_packet(t.tpmgr, rdata);
        pj::pj_pool_reset((*rdata).tp_info.pool);
    }
}

/// The connection is gone: PJSIP shuts the transport down, and destroys it when nobody uses it any more.
///
/// # Safety
///
/// As [`tell`].
pub(super) unsafe fn disconnected(transport: *mut Transport, why: pj::pj_status_t) {
    // SAFETY: the caller's; the reference keeps the transport from being destroyed while it is talked about.
    unsafe {
        if is_going(transport) {
            return;
        }
        let base = &raw mut (*transport).base;
        pj::pjsip_transport_add_ref(base);
        tell(transport, pj::pjsip_transport_state_PJSIP_TP_STATE_DISCONNECTED, why);
        // Whoever was told may have shut it down.
        if !is_going(transport) {
            pj::pjsip_transport_shutdown(base);
        }
        pj::pjsip_transport_dec_ref(base);
    }
}

/// A place in the ioqueue for the flow's socket.
///
/// # Safety
///
/// On a thread of PJSIP's; `transport` is kept by a count of its group lock until the place is given back.
pub(super) unsafe fn place(transport: *mut Transport, peer: &Peer, fd: OwnedFd) -> Option<Place> {
    // SAFETY: the caller's; the transport's memory is the pool's, and holds the peer.
    unsafe { Place::take(peer, fd, (*transport).base.pool, (*transport).base.grp_lock) }
}

/// Gives back the count in the peer's name.
///
/// # Safety
///
/// Once, on a thread of PJSIP's; `transport` is not used afterwards.
pub(super) unsafe fn release(transport: *mut Transport) {
    // SAFETY: the caller's.
    unsafe { pj::pj_grp_lock_dec_ref((*transport).base.grp_lock) };
}

/// # Safety
///
/// `transport` is one of ours, and has not been freed.
unsafe fn peer<'a>(transport: *mut pj::pjsip_transport) -> &'a Peer {
    // SAFETY: the peer is held until `freed`.
    unsafe { &*(*transport.cast::<Transport>()).peer }
}

// What PJSIP calls.

unsafe extern "C" fn send_msg(
    transport: *mut pj::pjsip_transport,
    tdata: *mut pj::pjsip_tx_data,
    _: *const pj::pj_sockaddr_t,
    _: c_int,
    token: *mut c_void,
    callback: pj::pjsip_transport_callback,
) -> pj::pj_status_t {
    super::guarded(status::EINVAL, || {
        // SAFETY: PJSIP holds a reference to the transport, and the message is printed and not pending.
        match unsafe { peer(transport).send(tdata, token, callback) } {
            Ok(()) => SUCCESS,
            Err(status) => status,
        }
    })
}

/// Nothing to do yet: the connection stays until the last user has let go, as with TCP.
unsafe extern "C" fn do_shutdown(_: *mut pj::pjsip_transport) -> pj::pj_status_t {
    SUCCESS
}

/// PJSIP has taken it out of its table, once and for all.
unsafe extern "C" fn destroy(transport: *mut pj::pjsip_transport) -> pj::pj_status_t {
    super::guarded((), || {
        // SAFETY: the transport's own count of the group lock is given back below, here alone.
        unsafe { peer(transport).destroyed(transport.cast()) };
    });
    // SAFETY: as above.
    unsafe { pj::pj_grp_lock_dec_ref((*transport).grp_lock) };
    SUCCESS
}

/// The group lock's last count is gone.
unsafe extern "C" fn freed(transport: *mut c_void) {
    let transport = transport.cast::<Transport>();
    // SAFETY: nobody else has it any more.
    unsafe {
        let peer = Arc::from_raw((*transport).peer);
        undone(transport);
        peer.inner.transport_freed();
    }
}

/// Frees what there is of it.
///
/// # Safety
///
/// Nobody else has it.
unsafe fn undone(transport: *mut Transport) {
    // SAFETY: the caller's; the group lock frees itself.
    unsafe {
        let t = &mut (*transport).base;
        if !t.lock.is_null() {
            pj::pj_lock_destroy(std::mem::replace(&mut t.lock, null_mut()));
        }
        if !t.ref_cnt.is_null() {
            pj::pj_atomic_destroy(std::mem::replace(&mut t.ref_cnt, null_mut()));
        }
        pj::pj_pool_release(t.pool);
    }
}
