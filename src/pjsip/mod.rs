//! WebSocket as a transport of PJSIP's: any `pjsip_endpoint` gains `;transport=ws` and `;transport=wss`, as a server and
//! as a client.
//!
//! ```text
//!   browser ══▶ the endpoint's ioqueue ─▶ a thread of PJSIP's: Flow::read ─▶ Peer ─▶ pjsip_tpmgr_receive_packet
//!   browser ◀══ outbox ◀── Flow::try_send ◀── send_msg ◀── a thread of PJSIP's
//! ```
//!
//! No thread of ours ever enters PJSIP: its own read the flows, as they read a TCP transport's socket (`reading`), and write
//! to them. What else happens on a connection, that it is there and that it is gone, is put into its `Peer`'s
//! inbox, and one more socket in the ioqueue has a thread of PJSIP's take it out (`dispatch`); so do the messages of
//! flows for which the ioqueue has no place. It works with many worker threads, and with a single one that polls.
//!
//! - `types`: the four entries in PJSIP's table of transports, made once a process.
//! - `factory`: what PJSIP asks for connections that it wants made.
//! - `peer`: one connection between PJSIP and the edge, from its first moment to its last.
//! - `reading`: how PJSIP's threads come to read a flow; `dispatch`: how they come to hear of the rest.
//! - `transport`: the `pjsip_transport` that PJSIP sees of it.
//! - `rewrite`: how a message on the wire differs from one in PJSIP.
//! - `status`: our reasons in PJSIP's numbers.

#![allow(unsafe_code)]

mod dispatch;
mod factory;
mod link;
mod names;
mod peer;
mod reading;
mod rewrite;
mod status;
mod transport;
mod types;

pub use link::{Link, StartError};
pub use pjsip_sys as sys;
pub use types::{Kind, transport_type};

/// Runs what PJSIP called. A panic ends here, in the log, and not in PJSIP's frames.
fn guarded<R>(otherwise: R, f: impl FnOnce() -> R) -> R {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or_else(|_| {
        tracing::error!("a panic in a callback of PJSIP's: please report it");
        otherwise
    })
}

/// Writes into PJSIP's own log, as its transports do. On a thread of PJSIP's only.
fn log(level: i32, sender: *const std::ffi::c_char, text: &str) {
    let Ok(text) = std::ffi::CString::new(text) else { return };
    // SAFETY: both are C strings; the thread is known to PJLIB.
    unsafe { pjsip_sys::sipws_pj_log(level, sender, text.as_ptr()) };
}
