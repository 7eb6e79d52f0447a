//! What PJSIP asks for a connection: one factory for each of the four transport types.

use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

use pjsip_sys as pj;

use super::link::Inner;
use super::peer::Peer;
use super::status::{self, SUCCESS};
use super::types::{Kind, transport_type};
use super::{names, transport};

/// A `pjsip_tpfactory`. Its memory is the link's: transports name their factory to the end, and the link is there longer.
#[repr(C)]
pub(super) struct Factory {
    /// First, so that a pointer to the one is a pointer to the other.
    base: pj::pjsip_tpfactory,
    inner: Weak<Inner>,
    kind: Kind,
    /// What `addr_name` points to.
    host: String,
    /// In PJSIP's list.
    listed: AtomicBool,
}

impl Factory {
    pub(super) fn new(
        inner: Weak<Inner>,
        kind: Kind,
        addr: pj::pj_sockaddr,
        host: String,
        port: u16,
    ) -> Result<Box<Factory>, pj::pj_status_t> {
        // SAFETY: numbers, pointers, and functions that may be absent: all zeros is a value.
        let base: pj::pjsip_tpfactory = unsafe { std::mem::zeroed() };
        let mut made = Box::new(Factory { base, inner, kind, host, listed: AtomicBool::new(false) });
        let text = pj::pj_str_t { ptr: made.host.as_ptr().cast_mut().cast(), slen: made.host.len() as pj::pj_ssize_t };
        let f = &mut made.base;
        names::write_name(&mut f.obj_name, if kind.secure { "wsslis" } else { "wslis" });
        f.type_ = transport_type(kind)?;
        f.type_name = kind.name().as_ptr().cast_mut();
        f.flag = kind.flags();
        f.info = kind.name().as_ptr().cast_mut();
        f.local_addr = addr;
        f.has_addr_name = 1;
        f.addr_name = pj::pjsip_host_port { host: text, port: c_int::from(port) };
        f.create_transport = Some(create_transport);
        f.create_transport2 = Some(create_transport2);
        f.destroy = Some(destroy);
        Ok(made)
    }

    /// PJSIP has it in its list now.
    pub(super) fn listed(&self) {
        self.listed.store(true, Ordering::Release);
    }

    /// True the first time: then it is to be taken out of PJSIP's list.
    pub(super) fn unlisted(&self) -> bool {
        self.listed.swap(false, Ordering::AcqRel)
    }

    pub(super) fn as_ptr(&self) -> *mut pj::pjsip_tpfactory {
        (&raw const self.base).cast_mut()
    }
}

unsafe extern "C" fn create_transport(
    factory: *mut pj::pjsip_tpfactory,
    mgr: *mut pj::pjsip_tpmgr,
    endpt: *mut pj::pjsip_endpoint,
    addr: *const pj::pj_sockaddr,
    len: c_int,
    out: *mut *mut pj::pjsip_transport,
) -> pj::pj_status_t {
    // SAFETY: PJSIP's arguments, passed on.
    unsafe { create_transport2(factory, mgr, endpt, addr, len, null_mut(), out) }
}

/// Returns at once; the connection is made in the background, and what is sent meanwhile waits. What comes of it PJSIP
/// learns by the state callback.
unsafe extern "C" fn create_transport2(
    factory: *mut pj::pjsip_tpfactory,
    _: *mut pj::pjsip_tpmgr,
    _: *mut pj::pjsip_endpoint,
    addr: *const pj::pj_sockaddr,
    _: c_int,
    tdata: *mut pj::pjsip_tx_data,
    out: *mut *mut pj::pjsip_transport,
) -> pj::pj_status_t {
    super::guarded(status::EINVAL, || {
        // SAFETY: PJSIP calls with a factory of ours, an address, and a message or null.
        let (factory, addr, name) = unsafe {
            let name = if tdata.is_null() { "" } else { names::text(&(*tdata).dest_info.name) };
            (&*factory.cast::<Factory>(), names::socket_addr(addr), name)
        };
        let (Some(inner), Some(addr)) = (factory.inner.upgrade(), addr) else {
            return status::EINVAL;
        };
        let host = if name.is_empty() { addr.ip().to_string() } else { name.to_owned() };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let Some(server) = inner.server() else {
            return status::ECANCELLED;
        };
        let to = match inner.connect_to(factory.kind, host, addr) {
            Ok(to) => to,
            Err(error) => {
                tracing::error!(%error, "no TLS for connections of ours");
                return status::TLS_ECACERT;
            }
        };
        let peer = Peer::connecting(inner.clone(), factory.kind, addr);
        // SAFETY: on a thread of PJSIP's, which calls us.
        match unsafe { transport::create(&peer, Some(host)) } {
            Ok(made) => {
                let failed = {
                    let peer = peer.clone();
                    move |error| {
                        tracing::info!(peer = %peer.addr, %error, "no WebSocket connection");
                        peer.not_connected(&error);
                    }
                };
                server.connect(to, Some(Box::new(peer)), failed);
                // SAFETY: PJSIP's own variable.
                unsafe { *out = made.cast() };
                SUCCESS
            }
            Err(status) => {
                peer.end(status, "PJSIP takes no new transport");
                status
            }
        }
    })
}

/// The endpoint is being destroyed: its transports are gone already, its ioqueue is not.
unsafe extern "C" fn destroy(factory: *mut pj::pjsip_tpfactory) -> pj::pj_status_t {
    super::guarded((), || {
        // SAFETY: PJSIP calls with a factory of ours that is in its list.
        let inner = unsafe {
            let factory = &*factory.cast::<Factory>();
            if factory.unlisted() {
                pj::pj_list_erase(factory.as_ptr().cast());
            }
            factory.inner.upgrade()
        };
        if let Some(inner) = inner {
            inner.endpoint_destroyed();
        }
    });
    SUCCESS
}
