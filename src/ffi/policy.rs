//! What a policy is asked, and how a host that has deferred decides.

use std::ffi::c_char;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::adaptors::Link;
use super::boundary::{self, Failure, Outcome};
use super::handle::{self, Handle};
use super::message::sipws_message_header;
use super::types::*;
use crate::edge::{Decision, Verdict};

/// What a policy is asked about. The pointers are valid as long as it is lent.
pub(crate) struct Question {
    pub(crate) kind: u32,
    pub(crate) flow: sipws_flow_id,
    pub(crate) peer: SocketAddr,
    pub(crate) secure: bool,
    /// The header section of a handshake.
    pub(crate) handshake: sipws_bytes,
    /// A request.
    pub(crate) message: *const sipws_message,
    /// The peer in words, once somebody wants them.
    pub(crate) peer_text: std::sync::OnceLock<String>,
}

// SAFETY: it is read, and by one callback only.
unsafe impl Send for Question {}
// SAFETY: the same.
unsafe impl Sync for Question {}

impl Handle for Question {
    type Opaque = sipws_policy_request;
    const TAG: u32 = 0x706f_6c00;
    const NAME: &'static str = "sipws_policy_request";
}

impl Question {
    fn handshake(&self) -> crate::edge::Handshake<'_> {
        // SAFETY: it is of a slice that lives as long as this is lent.
        let request = unsafe { boundary::slice(self.handshake.data, self.handshake.len, "handshake") }.unwrap_or(b"");
        crate::edge::Handshake { peer: self.peer, secure: self.secure, request }
    }
}

/// A decision that is still to be made, shared with the policy's caller until the host has said whose it is.
#[derive(Clone)]
pub(crate) struct Owed {
    pub(crate) decision: Arc<Mutex<Option<Decision>>>,
    /// Whose server's it is.
    pub(crate) link: Arc<Link>,
}

impl Handle for Owed {
    type Opaque = sipws_decision;
    const TAG: u32 = 0x6465_6300;
    const NAME: &'static str = "sipws_decision";
}

/// # Safety
///
/// `what` is NULL, or valid as the header says.
unsafe fn read<T>(what: *const sipws_policy_request, instead: T, of: impl FnOnce(&Question) -> T) -> T {
    boundary::value(instead, || -> Outcome<T> {
        // SAFETY: as promised by the caller.
        unsafe { boundary::on(what, |question: &Question| Ok(of(question))) }
    })
}

/// SIPWS_POLICY_HANDSHAKE or SIPWS_POLICY_REQUEST. A newer library may ask about more: answer SIPWS_ACCEPT or
/// SIPWS_REFUSE, as is your way with what you don't know. 0 for NULL.
///
/// All sipws_policy_request_* functions: only inside the policy's callback, on its thread; what they give is valid as
/// long as that, and not NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_policy_request_kind(what: *const sipws_policy_request) -> u32 {
    // SAFETY: the host's promise.
    unsafe { read(what, 0, |q| q.kind) }
}

/// The flow that the request came on; 0 for a handshake, which has none yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_policy_request_flow(what: *const sipws_policy_request) -> sipws_flow_id {
    // SAFETY: the host's promise.
    unsafe { read(what, 0, |q| q.flow) }
}

/// The client's address and port.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_policy_request_peer(what: *const sipws_policy_request) -> sipws_bytes {
    let peer = |q: &Question| sipws_bytes::of(q.peer_text.get_or_init(|| q.peer.to_string()).as_bytes());
    // SAFETY: the host's promise.
    unsafe { read(what, sipws_bytes::NONE, peer) }
}

/// 1 where it came over TLS (wss), else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_policy_request_secure(what: *const sipws_policy_request) -> u32 {
    // SAFETY: the host's promise.
    unsafe { read(what, 0, |q| q.secure.into()) }
}

/// A handshake's request target, path and query: "/ws?token=..."; empty for a SIP request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_policy_request_target(what: *const sipws_policy_request) -> sipws_bytes {
    // SAFETY: the host's promise.
    unsafe { read(what, sipws_bytes::NONE, |q| sipws_bytes::of(q.handshake().target().as_bytes())) }
}

/// The value of the HTTP header (handshake) or SIP header field (request) of that name, the index-th, 0 being the
/// first; see sipws_message_header().
///
/// Errors: SIPWS_E_NOT_FOUND where there are not so many; SIPWS_E_NULL, SIPWS_E_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_policy_request_header(
    what: *const sipws_policy_request,
    name: *const c_char,
    index: usize,
    out: *mut sipws_bytes,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, a C string, an output.
        unsafe {
            boundary::on(what, |question: &Question| {
                let wanted = boundary::text(name, "name")?;
                let place = boundary::output(out, "out")?;
                let missing = || Failure::new(SIPWS_E_NOT_FOUND, format!("there is no header {wanted} number {index}"));
                if question.kind == SIPWS_POLICY_REQUEST {
                    return match sipws_message_header(question.message, name, index, out) {
                        SIPWS_OK => Ok(()),
                        _ => Err(missing()),
                    };
                }
                let value = question.handshake().headers(wanted).nth(index).ok_or_else(missing)?;
                place.write(sipws_bytes::of(value));
                Ok(())
            })
        }
    })
}

/// The SIP request; NULL for a handshake.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_policy_request_message(what: *const sipws_policy_request) -> *const sipws_message {
    // SAFETY: the host's promise.
    unsafe { read(what, std::ptr::null(), |q| q.message) }
}

/// Makes a decision that was deferred, and frees it, whatever it returns: exactly once for each. `verdict` is
/// SIPWS_ACCEPT or SIPWS_REFUSE; with the latter `code` is the status, HTTP (400 to 599) for a handshake, SIP (300 to
/// 699) for a request (0: 403), and `reason` its phrase (NULL: the usual one). Both are ignored with SIPWS_ACCEPT.
///
/// Any thread; allowed in callbacks, even in the one that is asked: it then returns SIPWS_DEFER.
///
/// Errors: SIPWS_E_LATE where the time is up, the flow gone, or the server stopped; SIPWS_E_INVALID for another verdict
/// or code (it is then refused with 503); SIPWS_E_NULL; SIPWS_E_HANDLE, among others when it was completed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_decision_complete(
    decision: *mut sipws_decision,
    verdict: i32,
    code: u16,
    reason: *const c_char,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise.
        let owed = unsafe { handle::take::<Owed>(decision)? };
        // Dropped without a word below, it is refused with 503.
        let decision = owed.decision.lock().take();
        // SAFETY: the host's promise.
        let reason = unsafe { boundary::optional_text(reason, "reason")? }.unwrap_or("");
        let verdict = match (verdict, code) {
            (SIPWS_ACCEPT, _) => Verdict::Accept,
            (SIPWS_REFUSE, 0) => Verdict::Refuse { status: 403, reason: reason.to_owned() },
            (SIPWS_REFUSE, 300..=699) if reason.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f)) => {
                Verdict::Refuse { status: code, reason: reason.to_owned() }
            }
            (SIPWS_REFUSE, 300..=699) => return Err(Failure::invalid("reason has control characters")),
            (SIPWS_REFUSE, _) => return Err(Failure::invalid(format!("{code} is no status of a refusal"))),
            _ => return Err(Failure::invalid(format!("{verdict} is neither SIPWS_ACCEPT nor SIPWS_REFUSE"))),
        };
        // What waits for it goes a moment after its server.
        let decision = decision.filter(|_| !owed.link.gate.is_closed());
        match decision.map(|decision| decision.complete(verdict)) {
            Some(true) => Ok(()),
            _ => Err(Failure::new(SIPWS_E_LATE, "the time is up, or the flow is gone")),
        }
    })
}
