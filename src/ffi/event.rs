//! Events, and the functions that read them.

use super::boundary::{self, Outcome};
use super::flow::{close_reason, connect_error};
use super::handle::{self, Handle};
use super::types::*;
use crate::edge::{ConnectError, Event};

/// What happened, with texts of its own.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) kind: u32,
    pub(crate) flow: sipws_flow_id,
    pub(crate) code: u32,
    pub(crate) number: u64,
    pub(crate) text: String,
}

impl Record {
    /// `None` for what this version has no number for.
    pub(crate) fn of(event: &Event<'_>) -> Option<Record> {
        let record = |kind, flow: sipws_flow_id, text: String| Record { kind, flow, text, ..Record::default() };
        Some(match event {
            Event::Opened { flow } => record(SIPWS_EVENT_OPENED, flow.id().0, flow.peer().to_string()),
            Event::Closed { flow, why } => {
                let code = close_reason(*why);
                Record { code, ..record(SIPWS_EVENT_CLOSED, flow.id().0, why.to_string()) }
            }
            Event::ConnectFailed { flow, error } => Record::connect_failed(flow.0, error),
            Event::Registered { flow, aor, expires } => {
                let number = u64::from(*expires);
                Record { number, ..record(SIPWS_EVENT_REGISTERED, flow.id().0, (*aor).to_owned()) }
            }
            Event::Unregistered { flow, aor } => record(SIPWS_EVENT_UNREGISTERED, flow.id().0, (*aor).to_owned()),
            Event::UpstreamUp { target } => record(SIPWS_EVENT_UPSTREAM_UP, 0, (*target).to_owned()),
            Event::UpstreamDown { target } => record(SIPWS_EVENT_UPSTREAM_DOWN, 0, (*target).to_owned()),
        })
    }

    pub(crate) fn connect_failed(flow: sipws_flow_id, error: &ConnectError) -> Record {
        let (code, http_status) = connect_error(error);
        let (number, text) = (u64::from(http_status), error.to_string());
        Record { kind: SIPWS_EVENT_CONNECT_FAILED, flow, code, number, text }
    }

    pub(crate) fn overflow(missing: u64) -> Record {
        let text = format!("{missing} events did not fit into the queue");
        Record { kind: SIPWS_EVENT_OVERFLOW, number: missing, text, ..Record::default() }
    }
}

impl Handle for Record {
    type Opaque = sipws_event;
    const TAG: u32 = 0x6576_6e00;
    const NAME: &'static str = "sipws_event";
}

/// # Safety
///
/// `event` is NULL or a handle.
unsafe fn read<T>(event: *const sipws_event, instead: T, what: impl FnOnce(&Record) -> T) -> T {
    boundary::value(instead, || -> Outcome<T> {
        // SAFETY: as promised by the caller.
        unsafe { boundary::on(event, |record: &Record| Ok(what(record))) }
    })
}

/// What happened: one of SIPWS_EVENT_*. A newer library may have kinds that a host does not know: ignore them. 0 for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_event_kind(event: *const sipws_event) -> u32 {
    // SAFETY: the host's promise.
    unsafe { read(event, 0, |e| e.kind) }
}

/// The flow that it happened to; 0 where it concerns none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_event_flow(event: *const sipws_event) -> sipws_flow_id {
    // SAFETY: the host's promise.
    unsafe { read(event, 0, |e| e.flow) }
}

/// CLOSED: one of SIPWS_CLOSED_*; CONNECT_FAILED: one of SIPWS_CONNECT_*; else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_event_code(event: *const sipws_event) -> u32 {
    // SAFETY: the host's promise.
    unsafe { read(event, 0, |e| e.code) }
}

/// REGISTERED: seconds until the binding ends; CONNECT_FAILED: the server's HTTP status, or 0; OVERFLOW: how many
/// events are missing; else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_event_number(event: *const sipws_event) -> u64 {
    // SAFETY: the host's promise.
    unsafe { read(event, 0, |e| e.number) }
}

/// OPENED: the peer's address and port; CLOSED and CONNECT_FAILED: why, in words; REGISTERED and UNREGISTERED: the
/// address of record; UPSTREAM_*: the upstream's URI. It belongs to the event, and is valid as long as that; not
/// NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_event_text(event: *const sipws_event) -> sipws_bytes {
    // SAFETY: the host's promise.
    unsafe { read(event, sipws_bytes::NONE, |e| sipws_bytes::of(e.text.as_bytes())) }
}

/// Frees an event that sipws_server_next_event() gave. NULL is allowed. Not for those that are lent to a
/// sipws_event_fn.
///
/// Any thread; allowed in callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_event_free(event: *mut sipws_event) {
    boundary::value((), || {
        if event.is_null() {
            return Ok(());
        }
        // SAFETY: the host's promise.
        unsafe { handle::take::<Record>(event) }.map(drop)
    });
}
