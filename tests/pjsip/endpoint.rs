//! A `pjsip_endpoint` for tests, with our transport on it, threads that poll it, and an ear on everything that PJSIP tells.

use std::ffi::{CString, c_long, c_void};
use std::net::SocketAddr;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sipws::edge::{Decision, Flow, Handshake, Policy};
use sipws::pjsip::{Link, sys as pj};
use sipws::sip::Message;
use sipws::{Server, Setup};

use crate::common::{DEADLINE, Sip, authority, config, wait_until};

/// What PJSIP told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Request(String),
    State(pj::pjsip_transport_state, pj::pj_status_t, String),
    /// What became of a message: its length, or minus the status.
    Sent(i64),
    /// A transaction of ours ended so.
    Final(i32),
}

/// PJSIP has one transaction layer in a process, and much else that is static.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static EAR: Mutex<Option<Sender<Told>>> = Mutex::new(None);
static NEXT: Mutex<pj::pjsip_tp_state_callback> = Mutex::new(None);

fn tell(told: Told) {
    if let Some(ear) = &*EAR.lock().unwrap_or_else(PoisonError::into_inner) {
        let _ = ear.send(told);
    }
}

unsafe extern "C" fn on_state(
    tp: *mut pj::pjsip_transport,
    state: pj::pjsip_transport_state,
    info: *const pj::pjsip_transport_state_info,
) {
    unsafe {
        let name = std::ffi::CStr::from_ptr((*tp).info).to_string_lossy().into_owned();
        tell(Told::State(state, (*info).status, name));
        let next = *NEXT.lock().unwrap();
        if let Some(next) = next {
            next(tp, state, info);
        }
    }
}

unsafe extern "C" fn on_request(rdata: *mut pj::pjsip_rx_data) -> pj::pj_bool_t {
    unsafe {
        let info = &(*rdata).msg_info;
        let bytes = std::slice::from_raw_parts(info.msg_buf.cast::<u8>(), info.len as usize);
        tell(Told::Request(String::from_utf8_lossy(bytes).into_owned()));
        let endpt = (*(*rdata).tp_info.transport).endpt;
        pj::pjsip_endpt_respond_stateless(endpt, rdata, 200, null(), null(), null());
    }
    1
}

unsafe extern "C" fn on_final(token: *mut c_void, event: *mut pj::pjsip_event) {
    let _ = token;
    unsafe {
        let tsx = (*event).body.tsx_state.tsx;
        tell(Told::Final((*tsx).status_code));
    }
}

unsafe extern "C" fn on_sent(_: *mut pj::pjsip_send_state, sent: pj::pj_ssize_t, cont: *mut pj::pj_bool_t) {
    unsafe { *cont = 0 };
    tell(Told::Sent(sent));
}

thread_local! {
    static DESC: std::cell::RefCell<Option<Box<[c_long; 64]>>> = const { std::cell::RefCell::new(None) };
}

/// Makes the calling thread known to PJLIB, once.
pub fn enter() {
    static INIT: Once = Once::new();
    INIT.call_once(|| unsafe {
        assert_eq!(pj::pj_init(), 0);
        assert_eq!(pj::pjlib_util_init(), 0);
        pj::pj_log_set_level(std::env::var("PJ_LOG").map_or(0, |l| l.parse().unwrap()));
    });
    unsafe {
        if pj::pj_thread_is_registered() == 0 {
            let mut desc = Box::new([0; 64]);
            let mut thread = null_mut();
            assert_eq!(pj::pj_thread_register(c"test".as_ptr(), desc.as_mut_ptr(), &raw mut thread), 0);
            DESC.with_borrow_mut(|d| *d = Some(desc));
        }
    }
}

struct Everything;

impl Policy for Everything {
    fn handshake(&self, _: &Handshake<'_>, decision: Decision) {
        decision.accept();
    }

    fn request(&self, _: &Flow, _: &Message, decision: Decision) {
        decision.accept();
    }
}

/// An endpoint with our transport.
pub struct Endpoint {
    pub endpt: *mut pj::pjsip_endpoint,
    pub link: Option<Link>,
    told: Receiver<Told>,
    module: Box<pj::pjsip_module>,
    pools: Box<pj::pj_caching_pool>,
    running: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    _alone: MutexGuard<'static, ()>,
}

struct Shared<T>(T);
unsafe impl<T> Send for Shared<T> {}

impl Endpoint {
    /// With `workers` threads of PJSIP's, and the edge of `toml`.
    pub fn start(toml: &str, workers: usize) -> Endpoint {
        let mut endpoint = Endpoint::bare(workers);
        endpoint.link = Some(endpoint.try_link(toml).unwrap_or_else(|e| panic!("{}", e.text)));
        endpoint
    }

    pub fn try_link(&self, toml: &str) -> Result<Link, sipws::pjsip::StartError> {
        unsafe { Link::start(self.endpt, Setup::new(config(toml))) }
    }

    /// The same, with a policy that lets everything pass: then threads of the edge's read, not PJSIP's.
    pub fn start_with_policy(toml: &str, workers: usize) -> Endpoint {
        let mut endpoint = Endpoint::bare(workers);
        let setup = Setup::new(config(toml)).policy(Arc::new(Everything));
        endpoint.link = Some(unsafe { Link::start(endpoint.endpt, setup) }.unwrap_or_else(|e| panic!("{}", e.text)));
        endpoint
    }

    /// Without our transport.
    pub fn bare(workers: usize) -> Endpoint {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        enter();
        let (ear, told) = channel();
        *EAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(ear);
        unsafe {
            let mut pools: Box<pj::pj_caching_pool> = Box::new(std::mem::zeroed());
            pj::pj_caching_pool_init(&raw mut *pools, &raw const pj::pj_pool_factory_default_policy, 0);
            let mut endpt = null_mut();
            assert_eq!(pj::pjsip_endpt_create(&raw mut pools.factory, c"test".as_ptr(), &raw mut endpt), 0);
            assert_eq!(pj::pjsip_tsx_layer_init_module(endpt), 0);
            let mut module: Box<pj::pjsip_module> = Box::new(std::mem::zeroed());
            module.name = pj::pj_str_t { ptr: c"mod-test".as_ptr().cast_mut(), slen: 8 };
            module.id = -1;
            module.priority = pj::pjsip_module_priority_PJSIP_MOD_PRIORITY_APPLICATION as i32;
            module.on_rx_request = Some(on_request);
            assert_eq!(pj::pjsip_endpt_register_module(endpt, &raw mut *module), 0);
            let mgr = pj::pjsip_endpt_get_tpmgr(endpt);
            *NEXT.lock().unwrap() = pj::pjsip_tpmgr_get_state_cb(mgr);
            pj::pjsip_tpmgr_set_state_cb(mgr, Some(on_state));
            let running = Arc::new(AtomicBool::new(true));
            let mut endpoint =
                Endpoint { endpt, link: None, told, module, pools, running, workers: Vec::new(), _alone: alone };
            for _ in 0..workers {
                let running = endpoint.running.clone();
                let endpt = Shared(endpt);
                endpoint.workers.push(std::thread::spawn(move || {
                    let endpt = endpt;
                    enter();
                    while running.load(Ordering::Acquire) {
                        let turn = pj::pj_time_val { sec: 0, msec: 10 };
                        pj::pjsip_endpt_handle_events(endpt.0, &raw const turn);
                    }
                    pj::pj_thread_unregister();
                }));
            }
            endpoint
        }
    }

    pub fn server(&self) -> Arc<Server> {
        self.link.as_ref().and_then(Link::server).expect("it runs")
    }

    /// The address of the `n`-th listener.
    pub fn address(&self, n: usize) -> SocketAddr {
        authority(&self.server().websocket_urls()[n]).parse().unwrap()
    }

    pub fn url(&self, n: usize) -> String {
        self.server().websocket_urls()[n].clone()
    }

    fn request(&self, method: &str, target: &str) -> *mut pj::pjsip_tx_data {
        self.request_of(method, target, 0)
    }

    fn request_of(&self, method: &str, target: &str, body: usize) -> *mut pj::pjsip_tx_data {
        let str_of = |s: &CString| pj::pj_str_t { ptr: s.as_ptr().cast_mut(), slen: s.as_bytes().len() as i64 };
        let (target, from) = (CString::new(target).unwrap(), CString::new("<sip:test@example.com>").unwrap());
        let text = CString::new("x".repeat(body)).unwrap();
        let method = CString::new(method).unwrap();
        unsafe {
            let mut m: pj::pjsip_method = std::mem::zeroed();
            let name = str_of(&method);
            pj::pjsip_method_init_np(&raw mut m, (&raw const name).cast_mut());
            let (t, f, x) = (str_of(&target), str_of(&from), str_of(&text));
            let mut tdata = null_mut();
            let status = pj::pjsip_endpt_create_request(
                self.endpt,
                &raw const m,
                &raw const t,
                &raw const f,
                &raw const t,
                null(),
                null(),
                -1,
                if body > 0 { &raw const x } else { null() },
                &raw mut tdata,
            );
            assert_eq!(status, 0, "{target:?}");
            tdata
        }
    }

    /// Sends a request by a transaction; its end is told as [`Told::Final`].
    pub fn send(&self, method: &str, target: &str) -> pj::pj_status_t {
        let tdata = self.request(method, target);
        unsafe { pj::pjsip_endpt_send_request(self.endpt, tdata, -1, null_mut(), Some(on_final)) }
    }

    /// Sends a request without a transaction, with a body of that size; what becomes of it is told as [`Told::Sent`].
    pub fn send_stateless(&self, method: &str, target: &str, body: usize) -> pj::pj_status_t {
        let tdata = self.request_of(method, target, body);
        unsafe { pj::pjsip_endpt_send_request_stateless(self.endpt, tdata, null_mut(), Some(on_sent)) }
    }

    /// The next thing told that `wanted` makes something of; all before it is passed over.
    #[track_caller]
    pub fn next<T>(&self, what: &str, mut wanted: impl FnMut(Told) -> Option<T>) -> T {
        let end = std::time::Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            match self.told.recv_timeout(left) {
                Ok(told) => {
                    if let Some(got) = wanted(told) {
                        return got;
                    }
                }
                Err(_) => panic!("PJSIP did not tell: {what}"),
            }
        }
    }

    #[track_caller]
    pub fn next_request(&self) -> Sip {
        Sip::parse(self.next("a request", |t| if let Told::Request(text) = t { Some(text) } else { None }).as_bytes())
    }

    #[track_caller]
    pub fn next_final(&self) -> i32 {
        self.next("a final response", |t| if let Told::Final(status) = t { Some(status) } else { None })
    }

    #[track_caller]
    pub fn next_sent(&self) -> i64 {
        self.next("what became of a message", |t| if let Told::Sent(sent) = t { Some(sent) } else { None })
    }

    /// The next DISCONNECTED's status.
    #[track_caller]
    pub fn next_disconnected(&self) -> pj::pj_status_t {
        self.next("a transport's end", |t| match t {
            Told::State(pj::pjsip_transport_state_PJSIP_TP_STATE_DISCONNECTED, status, _) => Some(status),
            _ => None,
        })
    }

    /// Everything told so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.try_iter().collect()
    }

    /// Transports that PJSIP holds.
    pub fn transports(&self) -> usize {
        self.link.as_ref().map_or(0, Link::transports)
    }

    pub fn wait_transports(&self, count: usize) {
        wait_until(&format!("{count} transports, not {}", self.transports()), || self.transports() == count);
    }

    /// Memory that pools have taken from PJSIP's factory: bytes in use, and pools.
    pub fn memory(&self) -> (usize, usize) {
        (self.pools.used_size, self.pools.used_count)
    }

    pub fn stop(&mut self) {
        if let Some(link) = self.link.take() {
            unsafe { link.stop(Duration::from_secs(2)) };
        }
    }
}

impl Drop for Endpoint {
    /// Stops, and looks that nothing is left.
    fn drop(&mut self) {
        self.stop();
        self.running.store(false, Ordering::Release);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        unsafe {
            pj::pjsip_endpt_destroy(self.endpt);
            if !std::thread::panicking() {
                assert_eq!(self.memory().1, 0, "pools are left: {:?}", self.memory());
            }
            pj::pj_caching_pool_destroy(&raw mut *self.pools);
        }
        *EAR.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = &self.module;
    }
}
