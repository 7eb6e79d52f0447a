//! One edge on one `pjsip_endpoint`: what is started together, and stopped together.

use std::collections::HashMap;
use std::ffi::c_void;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pjsip_sys as pj;

use super::dispatch::{self, Dispatch};
use super::factory::Factory;
use super::names;
use super::peer::{Peer, Room};
use super::status::{self, SUCCESS};
use super::types::{Kind, transport_type};
use crate::config::Config;
use crate::edge::tls::ClientTls;
use crate::edge::{CloseReason, Connect, Flow, SipHandler};
use crate::sip::Message;
use crate::{Error, Server, Setup};

/// Why the transport can't be started.
#[derive(Debug)]
pub struct StartError {
    /// PJSIP's number for it.
    pub status: pj::pj_status_t,
    /// What is wrong, and the mend.
    pub text: String,
}

impl StartError {
    fn new(status: pj::pj_status_t, text: impl Into<String>) -> StartError {
        StartError { status, text: text.into() }
    }

    fn of(error: &Error) -> StartError {
        StartError::new(status::EUNKNOWN, error.to_string())
    }
}

/// The transport, started. To be stopped by [`Link::stop`]; dropped otherwise it goes on until its endpoint ends.
pub struct Link {
    inner: Arc<Inner>,
}

/// How PJSIP calls our end of a transport in Via and Contact.
pub(super) struct OwnName {
    pub(super) addr: pj::pj_sockaddr,
    pub(super) host: String,
    pub(super) port: u16,
}

/// What all peers of a link share.
pub(super) struct Inner {
    pub(super) endpt: *mut pj::pjsip_endpoint,
    pub(super) tpmgr: *mut pj::pjsip_tpmgr,
    pub(super) dispatch: Dispatch,
    config: Config,
    tls: ClientTls,
    client_name: String,
    server: Mutex<Option<Arc<Server>>>,
    /// In the order of [`Kind::ALL`].
    factories: OnceLock<[(Box<Factory>, OwnName); 4]>,
    /// None once the link is stopped.
    peers: Mutex<Option<HashMap<usize, Arc<Peer>>>>,
    rooms: Mutex<Vec<Room>>,
    /// Transports whose memory PJSIP still holds.
    transports: AtomicUsize,
    stopped: AtomicBool,
    /// The endpoint is gone, or going: nothing of it is to be touched any more.
    endpoint_gone: AtomicBool,
}

// SAFETY: endpoint and transport manager may be used from any thread that PJLIB knows, and are used from such alone.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Link {
    /// Starts an edge whose messages go to `endpt`: its listeners, if the configuration has any, and factories for
    /// connections that the endpoint wants made.
    ///
    /// # Safety
    ///
    /// `endpt` is an endpoint that lives until it is destroyed by `pjsip_endpt_destroy` or the link is stopped, and the
    /// calling thread is one that PJLIB knows.
    pub unsafe fn start(endpt: *mut pj::pjsip_endpoint, setup: Setup) -> Result<Link, StartError> {
        // SAFETY: asks about the calling thread.
        if unsafe { pj::pj_thread_is_registered() } == 0 {
            let text = "this thread is not known to PJLIB: call pj_thread_register first";
            return Err(StartError::new(status::EINVALIDOP, text));
        }
        for kind in Kind::ALL {
            transport_type(kind).map_err(|status| {
                let text = if status == status::EEXISTS {
                    "somebody else has registered a transport WS or WSS in this process: only one can"
                } else {
                    "PJSIP's table of transports is full: it has room for four of a program's own, which are needed"
                };
                StartError::new(status, text)
            })?;
        }
        let config = setup.config().clone();
        let socket = |e: std::io::Error| StartError::new(status::EUNKNOWN, format!("no socket pair: {e}"));
        let (dispatch, woken) = Dispatch::new().map_err(socket)?;
        // SAFETY: the endpoint is the caller's.
        let tpmgr = unsafe { pj::pjsip_endpt_get_tpmgr(endpt) };
        let inner = Arc::new(Inner {
            endpt,
            tpmgr,
            dispatch,
            tls: ClientTls::new(&config.client),
            client_name: names::invalid_host(),
            config,
            server: Mutex::default(),
            factories: OnceLock::new(),
            peers: Mutex::new(Some(HashMap::new())),
            rooms: Mutex::default(),
            transports: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            endpoint_gone: AtomicBool::new(false),
        });
        let link = Link { inner };
        // SAFETY: the caller's.
        match unsafe { link.open(setup, woken) } {
            Ok(()) => Ok(link),
            Err(error) => {
                // SAFETY: as above.
                unsafe { link.stop(Duration::ZERO) };
                Err(error)
            }
        }
    }

    /// # Safety
    ///
    /// As [`Link::start`].
    unsafe fn open(&self, setup: Setup, woken: std::os::unix::net::UnixStream) -> Result<(), StartError> {
        let inner = &self.inner;
        let server = setup.handler(Arc::new(Handler(Arc::downgrade(inner)))).start();
        let server = Arc::new(server.map_err(|e| StartError::of(&e))?);
        let urls = server.websocket_urls();
        *inner.server.lock() = Some(server);
        let mut factories = Vec::with_capacity(4);
        for kind in Kind::ALL {
            let own = inner.own_name(kind, &urls);
            let factory = Factory::new(Arc::downgrade(inner), kind, own.addr, own.host.clone(), own.port)
                .map_err(|status| StartError::new(status, "no transport factory"))?;
            factories.push((factory, own));
        }
        if let Ok(factories) = factories.try_into() {
            let _ = inner.factories.set(factories);
        }
        // SAFETY: the endpoint is there, and the group lock counts the link for as long as the ioqueue may call.
        unsafe {
            let failed =
                |status| StartError::new(status, "PJSIP's ioqueue takes no more sockets (PJ_IOQUEUE_MAX_HANDLES)");
            let pool = pj::pjsip_endpt_create_pool(inner.endpt, c"wslnk%p".as_ptr(), 512, 512);
            if pool.is_null() {
                return Err(failed(status::ENOMEM));
            }
            let counted = Box::into_raw(Box::new(Counted { inner: inner.clone(), pool }));
            let mut group = null_mut();
            let made =
                pj::pj_grp_lock_create_w_handler(pool, null_mut(), counted.cast(), Some(uncounted), &raw mut group);
            if made != SUCCESS {
                drop(Box::from_raw(counted));
                pj::pj_pool_release(pool);
                return Err(failed(made));
            }
            pj::pj_grp_lock_add_ref(group);
            let ioqueue = pj::pjsip_endpt_get_ioqueue(inner.endpt);
            let attached = dispatch::attach(inner, woken, pool, ioqueue, group);
            pj::pj_grp_lock_dec_ref(group);
            attached.map_err(failed)?;
            for (factory, _) in inner.factories.get().into_iter().flatten() {
                let status = pj::pjsip_tpmgr_register_tpfactory(inner.tpmgr, factory.as_ptr());
                if status != SUCCESS {
                    return Err(StartError::new(status, "PJSIP takes no transport factory"));
                }
                factory.listed();
            }
        }
        Ok(())
    }

    /// The edge, while the link runs.
    pub fn server(&self) -> Option<Arc<Server>> {
        self.inner.server()
    }

    /// Transports of ours that PJSIP has not let go of yet, open or closed.
    pub fn transports(&self) -> usize {
        self.inner.transports.load(Ordering::Acquire)
    }

    /// Stops: no new connections, the open ones closed with 1001, their transports shut down. Polls the endpoint until
    /// PJSIP has destroyed them all, for `grace` at most; those that somebody still holds go when they are let go.
    ///
    /// # Safety
    ///
    /// On a thread that PJLIB knows, not inside a callback of PJSIP's.
    pub unsafe fn stop(self, grace: Duration) {
        let inner = &self.inner;
        let until = Instant::now() + grace;
        if let Some(server) = inner.server() {
            server.drain(grace / 2);
        }
        // SAFETY: the caller's.
        unsafe {
            inner.detach();
            if inner.endpoint_gone.load(Ordering::Acquire) {
                return;
            }
            for (factory, _) in inner.factories.get().into_iter().flatten() {
                if factory.unlisted() {
                    pj::pjsip_tpmgr_unregister_tpfactory(inner.tpmgr, factory.as_ptr());
                }
            }
            while inner.transports.load(Ordering::Acquire) > 0 && Instant::now() < until {
                let turn = pj::pj_time_val { sec: 0, msec: 10 };
                pj::pjsip_endpt_handle_events(inner.endpt, &raw const turn);
            }
        }
    }
}

/// What the group lock of the ioqueue's key keeps.
struct Counted {
    inner: Arc<Inner>,
    pool: *mut pj::pj_pool_t,
}

unsafe extern "C" fn uncounted(counted: *mut c_void) {
    // SAFETY: made by `open`; the last count is gone, and with it everybody who could use it.
    unsafe {
        let counted = Box::from_raw(counted.cast::<Counted>());
        pj::pj_pool_release(counted.pool);
        drop(counted.inner);
    }
}

impl Inner {
    pub(super) fn server(&self) -> Option<Arc<Server>> {
        self.server.lock().clone()
    }

    pub(super) fn client_name(&self) -> &str {
        &self.client_name
    }

    fn factory_of(&self, kind: Kind) -> Option<&(Box<Factory>, OwnName)> {
        self.factories.get()?.iter().zip(Kind::ALL).find(|(_, k)| *k == kind).map(|(f, _)| f)
    }

    pub(super) fn factory(&self, kind: Kind) -> *mut pj::pjsip_tpfactory {
        self.factory_of(kind).map_or(null_mut(), |(factory, _)| factory.as_ptr())
    }

    pub(super) fn name(&self, kind: Kind) -> Option<&OwnName> {
        self.factory_of(kind).map(|(_, own)| own)
    }

    /// How to connect there, as the configuration says.
    pub(super) fn connect_to(&self, kind: Kind, host: &str, addr: SocketAddr) -> Result<Connect, Error> {
        let tls = kind.secure.then(|| self.tls.get()).transpose()?;
        Ok(Connect::new(&self.config, kind.secure, host, addr.port(), Some(addr), tls))
    }

    /// Our name for connections of that kind: `sip.advertise`, or the listener's address, or this machine's.
    fn own_name(&self, kind: Kind, urls: &[String]) -> OwnName {
        let scheme = if kind.secure { "wss://" } else { "ws://" };
        let bound = urls.iter().filter_map(|url| {
            let rest = url.strip_prefix(scheme)?;
            rest.split('/').next()?.parse::<SocketAddr>().ok()
        });
        // A wildcard IPv6 listener takes IPv4 clients too, but an own one for IPv4 is better.
        let bound = bound.filter(|a| a.is_ipv6() == kind.ipv6).min_by_key(|a| a.ip().is_unspecified());
        let port = bound.map_or(kind.default_port(), |a| a.port());
        let ip = match bound {
            Some(bound) if !bound.ip().is_unspecified() => bound.ip(),
            _ => machine_address(kind.ipv6),
        };
        let host = match &self.config.sip.advertise {
            Some(advertised) => match advertised.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host.to_owned(),
                _ => advertised.clone(),
            },
            None => ip.to_string(),
        };
        OwnName { addr: names::sockaddr(SocketAddr::new(ip, port)).0, host, port }
    }

    // Peers.

    pub(super) fn admit(&self, peer: &Arc<Peer>) {
        if let Some(peers) = &mut *self.peers.lock() {
            peers.insert(Arc::as_ptr(peer) as usize, peer.clone());
        }
    }

    pub(super) fn peer(&self, peer: *const Peer) -> Option<Arc<Peer>> {
        self.peers.lock().as_ref()?.get(&(peer as usize)).cloned()
    }

    pub(super) fn dismiss(&self, peer: *const Peer) {
        let gone = self.peers.lock().as_mut().and_then(|peers| peers.remove(&(peer as usize)));
        drop(gone);
    }

    pub(super) fn too_long(&self, flow: &Flow, len: usize) {
        tracing::warn!(
            flow = %flow.id(),
            bytes = len,
            "a message is longer than this PJSIP was built for; define PJSIP_MAX_PKT_LEN as 65535 in its config_site.h"
        );
        if let Some(server) = self.server() {
            server.refused("pjsip_too_long");
        }
        flow.close(1009, "message too long for PJSIP_MAX_PKT_LEN", CloseReason::TooLong);
    }

    pub(super) fn transport_made(&self) {
        self.transports.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn transport_freed(&self) {
        self.transports.fetch_sub(1, Ordering::AcqRel);
    }

    // Room to receive in.

    pub(super) fn room(&self) -> Option<Room> {
        let spare = self.rooms.lock().pop();
        // SAFETY: on a thread of PJSIP's, which calls us.
        spare.or_else(|| unsafe { Room::new(self.endpt) })
    }

    pub(super) fn give_back(&self, room: Room) {
        let mut rooms = self.rooms.lock();
        if self.stopped.load(Ordering::Acquire) {
            // SAFETY: as in `room`; what a thread had in use while the link was stopped.
            unsafe { room.release() };
        } else {
            rooms.push(room);
        }
    }

    // The end.

    /// Ends everything but PJSIP's factories. Once.
    ///
    /// # Safety
    ///
    /// On a thread that PJLIB knows, while endpoint and ioqueue are there.
    unsafe fn detach(&self) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        let server = self.server.lock().take();
        // Its threads stop in their own time; what they still say is not listened to.
        drop(server);
        self.dispatch.detach();
        let peers = self.peers.lock().take();
        for peer in peers.into_iter().flatten() {
            peer.1.end(status::ECANCELLED, "stopped");
        }
        for room in self.rooms.lock().drain(..) {
            // SAFETY: the caller's.
            unsafe { room.release() };
        }
    }

    /// PJSIP destroys our factories with the endpoint: nobody has stopped the link before.
    pub(super) fn endpoint_destroyed(&self) {
        self.endpoint_gone.store(true, Ordering::Release);
        if let Some(server) = self.server() {
            server.drain(Duration::ZERO);
        }
        // SAFETY: PJSIP calls on a thread of its own, and destroys the ioqueue after its transports.
        unsafe { self.detach() };
    }
}

/// An address of this machine's, as PJSIP itself would find one.
fn machine_address(ipv6: bool) -> IpAddr {
    // SAFETY: writes to memory of ours.
    let found = unsafe {
        let mut addr: pj::pj_sockaddr = std::mem::zeroed();
        let family = if ipv6 { 10 } else { 2 };
        (pj::pj_gethostip(family, &raw mut addr) == SUCCESS).then(|| names::socket_addr(&raw const addr)).flatten()
    };
    let loopback = if ipv6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    found.map_or(loopback, |addr| addr.ip())
}

/// What the edge tells.
struct Handler(Weak<Inner>);

impl SipHandler for Handler {
    fn reads(&self) -> bool {
        true
    }

    fn opened(&self, flow: &Flow) {
        if flow.outgoing() {
            // Its peer was there before it.
            if let Some(peer) = flow.attached::<Arc<Peer>>() {
                peer.flow_opened(flow);
            }
            return;
        }
        let Some(inner) = self.0.upgrade() else {
            return flow.close(1001, "going away", CloseReason::Server);
        };
        let peer = Peer::accepted(inner, flow);
        flow.attach(peer.clone());
        peer.flow_opened(flow);
    }

    fn message(&self, flow: &Flow, message: Message) {
        if let Some(peer) = flow.attached::<Arc<Peer>>() {
            peer.flow_message(flow, message);
        }
    }

    fn closed(&self, flow: &Flow, why: CloseReason) {
        if let Some(peer) = flow.attached::<Arc<Peer>>() {
            peer.flow_closed(why);
        }
    }
}
