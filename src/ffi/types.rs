//! Constants, structures and function types of the header. Numbers are never used again for something else; fields are
//! only ever added at the end of a structure, which says its size.

use std::ffi::{c_char, c_void};

/// The version of this header: major << 16 | minor << 8 | patch. Compare it with sipws_version_number(), the library's.
pub const SIPWS_VERSION_NUMBER: u32 = 0x0000_0100;

/// What most functions return: SIPWS_OK, or one of SIPWS_E_*, all of which are negative.
pub type sipws_status = i32;

/// It is done.
pub const SIPWS_OK: i32 = 0;
/// An argument that must not be NULL is.
pub const SIPWS_E_NULL: i32 = -1;
/// An argument's value is no good: not UTF-8, out of range, an unknown key, a malformed URL.
pub const SIPWS_E_INVALID: i32 = -2;
/// The pointer is no such handle: of another kind, or freed.
pub const SIPWS_E_HANDLE: i32 = -3;
/// The configuration can't be used; sipws_last_error() names the key and the mend.
pub const SIPWS_E_CONFIG: i32 = -4;
/// An address can't be listened on.
pub const SIPWS_E_BIND: i32 = -5;
/// A certificate, a key, or TLS itself.
pub const SIPWS_E_TLS: i32 = -6;
/// The system refused threads, descriptors or memory.
pub const SIPWS_E_SYSTEM: i32 = -7;
/// Not now: the server is not running, runs already, has been stopped, or is not set up for this.
pub const SIPWS_E_STATE: i32 = -8;
/// The flow's outbox is full: its peer reads slowly. Nothing was queued; try again later.
pub const SIPWS_E_AGAIN: i32 = -9;
/// No open flow has that id: it is closed, or never was.
pub const SIPWS_E_GONE: i32 = -10;
/// The decision comes too late: the time is up, or the flow is gone.
pub const SIPWS_E_LATE: i32 = -11;
/// The time is up.
pub const SIPWS_E_TIMEOUT: i32 = -12;
/// The call waits for callbacks to end, and was made from inside one.
pub const SIPWS_E_WOULD_DEADLOCK: i32 = -13;
/// The process was forked off one in which the server was started: its threads are not here.
pub const SIPWS_E_FORKED: i32 = -14;
/// The library has a defect: something panicked inside. The handle is poisoned; free it.
pub const SIPWS_E_PANIC: i32 = -15;
/// An earlier call on this handle returned SIPWS_E_PANIC; it can only be freed.
pub const SIPWS_E_POISONED: i32 = -16;
/// There is no such thing: no header of that name, no address of that number.
pub const SIPWS_E_NOT_FOUND: i32 = -17;
/// The buffer is too small; the length that is needed was written.
pub const SIPWS_E_BUFFER: i32 = -18;

/// Bytes that belong to somebody else. `data` is not NUL-terminated unless said so. Where `len` is 0, `data` is
/// ignored.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sipws_bytes {
    /// The first byte.
    pub data: *const c_char,
    /// How many.
    pub len: usize,
}

/// Text that the library allocated: sipws_str_free() it. `data` is NUL-terminated, which `len` does not count.
#[repr(C)]
pub struct sipws_str {
    /// The first byte.
    pub data: *mut c_char,
    /// How many.
    pub len: usize,
}

/// A flow: one WebSocket connection, accepted or made. Never 0, never used again, not even after a restart.
pub type sipws_flow_id = u64;

/// A configuration. One owner, who uses it from one thread at a time.
pub struct sipws_config(());

/// A server. Thread-safe, but for sipws_server_free(), which nothing may run beside or come after.
pub struct sipws_server(());

/// A SIP message, lent to a callback: valid until that returns.
pub struct sipws_message(());

/// What a policy is asked about, lent to it: valid until it returns.
pub struct sipws_policy_request(());

/// A decision that the host owes. Thread-safe.
pub struct sipws_decision(());

/// Something that happened.
pub struct sipws_event(());

/// Called once, when the library lets go of a `user_data`, after its last use, on any thread, perhaps inside the call
/// that ended its use. Counts as a callback.
pub type sipws_drop_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Nothing is logged.
pub const SIPWS_LOG_OFF: i32 = 0;
/// What needs somebody to look at it.
pub const SIPWS_LOG_ERROR: i32 = 1;
/// What works, but perhaps not as meant.
pub const SIPWS_LOG_WARN: i32 = 2;
/// Connections that come and go.
pub const SIPWS_LOG_INFO: i32 = 3;
/// Each refusal.
pub const SIPWS_LOG_DEBUG: i32 = 4;
/// Each message, with its secrets masked.
pub const SIPWS_LOG_TRACE: i32 = 5;

/// Gets one line of the log: its level (SIPWS_LOG_ERROR to SIPWS_LOG_TRACE), the part of the library that it comes
/// from, and the text, without a line feed. Both strings are valid until it returns.
pub type sipws_log_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, level: i32, target: *const c_char, text: *const c_char)>;

/// Why a flow was closed: by the other side, with a close frame.
pub const SIPWS_CLOSED_PEER: u32 = 1;
/// The connection ended without a close frame.
pub const SIPWS_CLOSED_LOST: u32 = 2;
/// No pong, nor anything else, in time.
pub const SIPWS_CLOSED_SILENT: u32 = 3;
/// The peer did not read what was sent to it.
pub const SIPWS_CLOSED_SLOW_READER: u32 = 4;
/// A frame that RFC 6455 does not allow: 1002.
pub const SIPWS_CLOSED_PROTOCOL: u32 = 5;
/// A text frame that is not UTF-8: 1007.
pub const SIPWS_CLOSED_NOT_UTF8: u32 = 6;
/// It was refused too often: 1008.
pub const SIPWS_CLOSED_POLICY: u32 = 7;
/// A message over the limit: 1009.
pub const SIPWS_CLOSED_TOO_LONG: u32 = 8;
/// By us: sipws_flow_close(), or the server stops.
pub const SIPWS_CLOSED_HERE: u32 = 9;

/// Why a connection was not made: the host has no address.
pub const SIPWS_CONNECT_RESOLVE: u32 = 1;
/// No TCP connection: refused, unreachable, reset.
pub const SIPWS_CONNECT_TCP: u32 = 2;
/// TLS failed, for another reason than the certificate.
pub const SIPWS_CONNECT_TLS: u32 = 3;
/// The server's certificate is not for that host, not trusted, or expired.
pub const SIPWS_CONNECT_CERTIFICATE: u32 = 4;
/// The server answered the upgrade with another HTTP status than 101.
pub const SIPWS_CONNECT_REFUSED: u32 = 5;
/// The server does not speak the subprotocol "sip".
pub const SIPWS_CONNECT_SUBPROTOCOL: u32 = 6;
/// What came back is no WebSocket handshake.
pub const SIPWS_CONNECT_PROTOCOL: u32 = 7;
/// No answer in time.
pub const SIPWS_CONNECT_TIMEOUT: u32 = 8;
/// The server is stopping, or has as many connections as it may.
pub const SIPWS_CONNECT_FULL: u32 = 9;

/// A flow is there, accepted or made: sipws_flow_send() works from here on. Its messages come later.
pub type sipws_opened_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, server: *mut sipws_server, flow: sipws_flow_id)>;

/// A SIP message that passed the guard: it has the mandatory headers, and its sender is within its limits. `message` is
/// valid until this returns.
pub type sipws_message_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        server: *mut sipws_server,
        flow: sipws_flow_id,
        message: *const sipws_message,
    ),
>;

/// A flow that was opened is gone: exactly one for each, after its last message. `reason` is one of SIPWS_CLOSED_*. Its
/// user data is there until this returns.
pub type sipws_closed_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, server: *mut sipws_server, flow: sipws_flow_id, reason: u32)>;

/// The connection that sipws_connect() promised under this id was not made; it may come before that has returned.
/// `error` is one of SIPWS_CONNECT_*, `http_status` the server's with SIPWS_CONNECT_REFUSED, else 0; `text` says it in
/// words, and is NUL-terminated.
pub type sipws_connect_failed_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        server: *mut sipws_server,
        flow: sipws_flow_id,
        error: u32,
        http_status: u32,
        text: *const c_char,
    ),
>;

/// Where a host's messages go: see sipws_config_set_message_handler(). Start it with SIPWS_MESSAGE_HANDLER_INIT. Each
/// function may be NULL. They are called on the library's threads, for different flows at once, for one flow in order;
/// they must not block.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sipws_message_handler {
    /// sizeof(sipws_message_handler).
    pub size: u32,
    /// A flow is there.
    pub opened: sipws_opened_fn,
    /// A message came.
    pub message: sipws_message_fn,
    /// A flow is gone.
    pub closed: sipws_closed_fn,
    /// A connection was not made.
    pub connect_failed: sipws_connect_failed_fn,
}

/// What a policy says: it may pass.
pub const SIPWS_ACCEPT: i32 = 1;
/// It is refused.
pub const SIPWS_REFUSE: i32 = 2;
/// The decision is the host's: it has called sipws_decision_complete(), or will.
pub const SIPWS_DEFER: i32 = 3;

/// What a policy is asked about: a WebSocket handshake that passed the library's own checks.
pub const SIPWS_POLICY_HANDSHAKE: u32 = 1;
/// A request outside a dialog (no tag in To), other than ACK and CANCEL, that passed the guard.
pub const SIPWS_POLICY_REQUEST: u32 = 2;

/// Decides who may connect and what may pass. Called on the library's threads, several at once; must not block.
///
/// Returns SIPWS_ACCEPT, SIPWS_REFUSE (403), or SIPWS_DEFER: then `decision` is the host's, which calls
/// sipws_decision_complete() exactly once, from any thread, now (for another status) or later. What is not completed
/// within timeouts.policy is refused with 503. Any other value: 503. `what` is valid until it returns; without
/// SIPWS_DEFER, `decision` too.
pub type sipws_policy_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        what: *const sipws_policy_request,
        decision: *mut sipws_decision,
    ) -> i32,
>;

/// A flow is there.
pub const SIPWS_EVENT_OPENED: u32 = 1;
/// A flow is gone.
pub const SIPWS_EVENT_CLOSED: u32 = 2;
/// A connection that sipws_connect() was to make was not made.
pub const SIPWS_EVENT_CONNECT_FAILED: u32 = 3;
/// The bridge saw a client's REGISTER answered 2xx with a binding for it.
pub const SIPWS_EVENT_REGISTERED: u32 = 4;
/// The bridge saw a client's REGISTER answered 2xx without a binding for it any more.
pub const SIPWS_EVENT_UNREGISTERED: u32 = 5;
/// The bridge can reach an upstream.
pub const SIPWS_EVENT_UPSTREAM_UP: u32 = 6;
/// The bridge can't reach an upstream any more.
pub const SIPWS_EVENT_UPSTREAM_DOWN: u32 = 7;
/// The queue was full and events are missing here: look at what you have with sipws_flow_info().
pub const SIPWS_EVENT_OVERFLOW: u32 = 8;

/// Gets the events: see sipws_config_set_events(). Called on the library's threads, several at once; for one flow in
/// order; must not block. `event` is valid until it returns; it is not to be freed.
pub type sipws_event_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, server: *mut sipws_server, event: *const sipws_event)>;

/// One HTTP header of a handshake.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sipws_header {
    /// Its name.
    pub name: *const c_char,
    /// Its value.
    pub value: *const c_char,
}

/// Whether a wss server has to prove who it is: as client.verify says, which is yes unless it is set to false.
pub const SIPWS_VERIFY_DEFAULT: u32 = 0;
/// It has to.
pub const SIPWS_VERIFY_PEER: u32 = 1;
/// Any certificate will do: for tests.
pub const SIPWS_VERIFY_NONE: u32 = 2;

/// How to connect: see sipws_connect(). Start it with SIPWS_CONNECT_OPTIONS_INIT. NULL and 0 mean what the
/// configuration's [client] says.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sipws_connect_options {
    /// sizeof(sipws_connect_options).
    pub size: u32,
    /// For all of it, to the end of the upgrade; milliseconds.
    pub deadline_ms: u32,
    /// The Origin to say.
    pub origin: *const c_char,
    /// Further headers of the handshake: Authorization, Cookie.
    pub headers: *const sipws_header,
    /// How many.
    pub header_count: usize,
    /// wss: a PEM file of further certificates to trust, beside the system's.
    pub ca_file: *const c_char,
    /// The name of the server, for Host, SNI, and the certificate's check; the URL's host is then an IP address.
    pub server_name: *const c_char,
    /// wss: one of SIPWS_VERIFY_*.
    pub verify: u32,
    /// 0.
    pub reserved: u32,
}

/// What a flow is; see sipws_flow_info(). Start it with SIPWS_FLOW_INFO_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sipws_flow_info_t {
    /// sizeof(sipws_flow_info_t).
    pub size: u32,
    /// 1 where it runs over TLS (wss), else 0.
    pub secure: u32,
    /// 1 where sipws_connect() made it, 0 where it was accepted.
    pub outgoing: u32,
    /// How many bytes of `peer` are used, without the NUL.
    pub peer_len: u32,
    /// How long it has been open, in milliseconds.
    pub age_ms: u64,
    /// Bytes that wait in its outbox because its peer reads slowly.
    pub waiting_bytes: u64,
    /// The peer's address and port, "192.0.2.1:40000" or "[2001:db8::1]:40000", NUL-terminated.
    pub peer: [c_char; 64],
}

/// The figures of a server; see sipws_server_stats(). Start it with SIPWS_STATS_INIT. Gauges say what is now, the
/// others count from the start.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct sipws_stats {
    /// sizeof(sipws_stats); afterwards, how much of it was written.
    pub size: u32,
    /// 1 where sipws_server_ready() would say SIPWS_OK.
    pub ready: u32,
    /// How long the server has been running, in milliseconds.
    pub uptime_ms: u64,
    /// Gauge: open flows over ws.
    pub connections_ws: u64,
    /// Gauge: open flows over wss.
    pub connections_wss: u64,
    /// Gauge: of both, those that sipws_connect() made.
    pub connections_outgoing: u64,
    /// Gauge: handshakes under way.
    pub handshaking: u64,
    /// Handshakes that ended, however.
    pub handshakes: u64,
    /// Flows that ended.
    pub closed: u64,
    /// SIP messages that arrived on flows.
    pub messages_from_flows: u64,
    /// SIP messages queued to flows.
    pub messages_to_flows: u64,
    /// SIP messages that arrived from SIP servers (bridge).
    pub messages_from_servers: u64,
    /// SIP messages queued to SIP servers (bridge).
    pub messages_to_servers: u64,
    /// Messages refused or dropped.
    pub refusals: u64,
    /// Gauge: bytes that wait in outboxes because peers read slowly.
    pub outbox_bytes: u64,
    /// Gauge: requests that the bridge keeps state for.
    pub requests_in_flight: u64,
    /// Events that were dropped because the queue was full.
    pub events_lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_version_of_the_crate() {
        let part = |text: &str| text.parse::<u32>().expect("a number");
        let version = part(env!("CARGO_PKG_VERSION_MAJOR")) << 16
            | part(env!("CARGO_PKG_VERSION_MINOR")) << 8
            | part(env!("CARGO_PKG_VERSION_PATCH"));
        assert_eq!(SIPWS_VERSION_NUMBER, version);
    }
}
