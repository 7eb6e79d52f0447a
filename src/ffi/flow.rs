//! Flows by their id: send, close, look at, and connections of our own.

use std::ffi::{c_char, c_void};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::adaptors::{Broken, Promise};
use super::boundary::{self, Failure, Outcome};
use super::callback::UserData;
use super::embedded::Embedded;
use super::types::*;
use crate::config::{ListenUrl, check_header, check_target, check_value};
use crate::edge::tls::ClientTls;
use crate::edge::{CloseReason, Connect, ConnectError, SendError};

/// Sends one SIP message, or a keep-alive (CRLF CRLF), as one WebSocket message. It is copied, and written at once as
/// far as the socket takes it. Messages of one thread on one flow leave in order.
///
/// Thread-safe; allowed in callbacks; does not block. Errors: SIPWS_E_AGAIN where the outbox is full
/// (limits.outbox_bytes), nothing is queued then; SIPWS_E_GONE where the flow is closed; SIPWS_E_INVALID for an empty
/// message, or one longer than the outbox ever is; SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_flow_send(
    server: *mut sipws_server,
    flow: sipws_flow_id,
    message: sipws_bytes,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and a slice.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                let bytes = boundary::slice(message.data, message.len, "message")?;
                if bytes.is_empty() {
                    return Err(Failure::invalid("the message is empty"));
                }
                embedded.fits_outbox(bytes.len())?;
                let flow = embedded.link.flows.get(flow)?;
                embedded.logging(|| flow.try_send(bytes)).map_err(|e| match e {
                    SendError::Full => Failure::new(SIPWS_E_AGAIN, format!("the outbox of flow {} is full", flow.id())),
                    SendError::Gone => Failure::new(SIPWS_E_GONE, format!("flow {} is being closed", flow.id())),
                })?;
                embedded.sent(bytes);
                Ok(())
            })
        }
    })
}

/// Closes a flow with a WebSocket close code (RFC 6455 section 7.4: 1000 is a normal end, 1008 a policy, 4000 to 4999
/// one's own) and a reason of up to 123 bytes (NULL: none). What was sent before still leaves. The callbacks of its end
/// follow.
///
/// Thread-safe; allowed in callbacks; does not block. Errors: SIPWS_E_GONE where it is closed already; SIPWS_E_INVALID
/// for a code that may not be sent or a reason that is too long; SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_flow_close(
    server: *mut sipws_server,
    flow: sipws_flow_id,
    code: u16,
    reason: *const c_char,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and a C string.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                let reason = boundary::optional_text(reason, "reason")?.unwrap_or("");
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(Failure::invalid(format!(
                        "{code} is no close code that may be sent: 1000 to 1003, 1007 to 1014, 3000 to 4999"
                    )));
                }
                if reason.len() > 123 {
                    return Err(Failure::invalid("reason is longer than 123 bytes"));
                }
                let flow = embedded.link.flows.get(flow)?;
                embedded.logging(|| flow.close(code, reason, CloseReason::Server));
                Ok(())
            })
        }
    })
}

/// Fills in what a flow is. `info->size` says how much of it the caller knows; only that is written.
///
/// Thread-safe; allowed in callbacks. Errors: SIPWS_E_GONE where the flow is closed; SIPWS_E_NULL, SIPWS_E_INVALID
/// (size), SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_flow_info(
    server: *const sipws_server,
    flow: sipws_flow_id,
    info: *mut sipws_flow_info_t,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and a structure of the size that it says.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                boundary::output(info, "info")?;
                let flow = embedded.link.flows.get(flow)?;
                let peer = flow.peer().to_string();
                let mut ours = sipws_flow_info_t {
                    size: 0,
                    secure: flow.secure().into(),
                    outgoing: flow.outgoing().into(),
                    peer_len: peer.len() as u32,
                    age_ms: flow.opened().elapsed().as_millis() as u64,
                    waiting_bytes: flow.waiting() as u64,
                    peer: [0; 64],
                };
                boundary::copy_text(&peer, ours.peer.as_mut_ptr(), ours.peer.len());
                boundary::write_sized(&ours, info)
            })
        }
    })
}

/// Attaches something of the host's to a flow, in place of what was there, whose drop function is called. `drop` (may
/// be NULL) is called once with `user_data`: when it is replaced, or after the flow's last callback, or when the server
/// is freed.
///
/// Thread-safe; allowed in callbacks. Errors: SIPWS_E_GONE where the flow is closed; SIPWS_E_NULL (server),
/// SIPWS_E_HANDLE, SIPWS_E_FORKED; `user_data` then stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_flow_set_user_data(
    server: *mut sipws_server,
    flow: sipws_flow_id,
    user_data: *mut c_void,
    drop: sipws_drop_fn,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                match embedded.link.flows.set_user_data(flow, UserData::new(user_data, drop)) {
                    Ok(old) => {
                        // Its drop function is called here, without a lock held.
                        std::mem::drop(old);
                        Ok(())
                    }
                    Err((new, failure)) => {
                        new.give_back();
                        Err(failure)
                    }
                }
            })
        }
    })
}

/// What sipws_flow_set_user_data() has attached; NULL where there is nothing. Valid until the flow's last callback has
/// returned, or it is replaced.
///
/// Thread-safe; allowed in callbacks. Errors: SIPWS_E_GONE where the flow is closed; SIPWS_E_NULL, SIPWS_E_HANDLE,
/// SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_flow_user_data(
    server: *const sipws_server,
    flow: sipws_flow_id,
    out: *mut *mut c_void,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and an output.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                let out = boundary::output(out, "out")?;
                let data = embedded.link.flows.user_data(flow)?;
                out.write(data.map_or(std::ptr::null_mut(), |data| data.pointer()));
                Ok(())
            })
        }
    })
}

/// Makes a WebSocket connection of our own: "ws://host:port/path?query" or "wss://...", subprotocol "sip". Returns at
/// once; `out` is the id that its flow will have. Then comes exactly one of: `opened` with that id, and it is a flow
/// like any other; or `connect_failed` and the event of that name. Either may come before this returns.
///
/// `options` may be NULL. What neither says (path, Origin, headers, trust, deadline) is as in the configuration's
/// [client] and timeouts.connect. For servers with a message handler; a bridge makes no connections: SIPWS_E_STATE.
///
/// Thread-safe; allowed in callbacks; does not block, but for reading the certificates to trust. Errors:
/// SIPWS_E_INVALID for the URL or an option; SIPWS_E_TLS for `ca_file`; SIPWS_E_STATE where the server does not run;
/// SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_connect(
    server: *mut sipws_server,
    url: *const c_char,
    options: *const sipws_connect_options,
    out: *mut sipws_flow_id,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, C strings, a structure of the size that it says, an output.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                let url = boundary::text(url, "url")?;
                let out = boundary::output(out, "out")?;
                let to = target(embedded, url, options)?;
                let running = embedded.running_with_handler()?;
                let promise = Promise::new(&embedded.link).ok_or_else(|| Failure::state("the server is stopping"))?;
                let broken = Broken(promise.clone());
                let id = embedded.logging(|| {
                    promise
                        .named(|| running.connect(to, Some(promise.attachment()), move |error| broken.0.fail(&error)))
                });
                out.write(id.0);
                Ok(())
            })
        }
    })
}

const NO_OPTIONS: sipws_connect_options = sipws_connect_options {
    size: size_of::<sipws_connect_options>() as u32,
    deadline_ms: 0,
    origin: std::ptr::null(),
    headers: std::ptr::null(),
    header_count: 0,
    ca_file: std::ptr::null(),
    server_name: std::ptr::null(),
    verify: SIPWS_VERIFY_DEFAULT,
    reserved: 0,
};

/// Where to connect, and how: what `url` and the options say, and for the rest the configuration.
///
/// # Safety
///
/// `options` is NULL or a structure of the size that it says, with C strings.
unsafe fn target(embedded: &Embedded, url: &str, options: *const sipws_connect_options) -> Outcome<Connect> {
    let invalid = |why: &str| Failure::invalid(format!("{url}: {why}"));
    let options = match options.is_null() {
        true => NO_OPTIONS,
        // SAFETY: as promised by the caller.
        false => unsafe { boundary::read_sized(options, NO_OPTIONS, "options")? },
    };
    // SAFETY: as promised by the caller.
    let (origin, ca, server_name) = unsafe {
        (
            boundary::optional_text(options.origin, "origin")?,
            boundary::optional_text(options.ca_file, "ca_file")?,
            boundary::optional_text(options.server_name, "server_name")?,
        )
    };
    let (place, target) = split_target(url);
    let place: ListenUrl = place.parse().map_err(|why: String| invalid(&why))?;
    if place.port == 0 {
        return Err(invalid("port 0 cannot be connected to"));
    }
    let config = embedded.config();
    let tls = match (place.secure, ca, options.verify) {
        (false, ..) => None,
        (true, None, SIPWS_VERIFY_DEFAULT) => Some(embedded.client_tls().get()?),
        (true, ca, SIPWS_VERIFY_DEFAULT | SIPWS_VERIFY_PEER | SIPWS_VERIFY_NONE) => {
            let mut client = config.client.clone();
            client.ca = ca.map(Into::into).or(client.ca);
            client.verify = match options.verify {
                SIPWS_VERIFY_DEFAULT => client.verify,
                verify => verify == SIPWS_VERIFY_PEER,
            };
            Some(ClientTls::new(&client).get()?)
        }
        (true, ..) => return Err(Failure::invalid(format!("{} is none of SIPWS_VERIFY_*", options.verify))),
    };
    let mut to = match server_name {
        None => Connect::new(config, place.secure, &place.host, place.port, None, tls),
        Some(name) => {
            let address: IpAddr = place
                .host
                .parse()
                .map_err(|_| invalid("with server_name the host is an address, such as 192.0.2.1 or [2001:db8::1]"))?;
            let address = SocketAddr::new(address, place.port);
            Connect::new(config, place.secure, name, place.port, Some(address), tls)
        }
    };
    if let Some(target) = target {
        check_target(&target).map_err(invalid)?;
        to.target = target;
    }
    if let Some(origin) = origin {
        check_value(origin).map_err(|why| Failure::invalid(format!("origin: {why}")))?;
        to.origin = Some(origin.to_owned());
    }
    if options.deadline_ms > 0 {
        to.deadline = Duration::from_millis(options.deadline_ms.into());
    }
    if options.header_count > 256 {
        return Err(Failure::invalid("more than 256 headers"));
    }
    if options.header_count > 0 && options.headers.is_null() {
        return Err(Failure::null("headers"));
    }
    for i in 0..options.header_count {
        // SAFETY: as promised by the caller there are that many, of C strings.
        let (name, value) = unsafe {
            let header = options.headers.add(i).read();
            (boundary::text(header.name, "a header's name")?, boundary::text(header.value, "a header's value")?)
        };
        check_header(name, value).map_err(|why| Failure::invalid(format!("{name}: {why}")))?;
        to.headers.retain(|(configured, _)| !configured.eq_ignore_ascii_case(name));
        to.headers.push((name.to_owned(), value.to_owned()));
    }
    Ok(to)
}

/// Scheme, host and port of a URL; and its path and query, if it has any.
fn split_target(url: &str) -> (&str, Option<String>) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    match url[authority..].find(['/', '?', '#']) {
        None => (url, None),
        Some(at) => {
            let (place, target) = url.split_at(authority + at);
            let slash = if target.starts_with('/') { "" } else { "/" };
            (place, Some(format!("{slash}{target}")))
        }
    }
}

pub(crate) fn close_reason(why: CloseReason) -> u32 {
    match why {
        CloseReason::Client => SIPWS_CLOSED_PEER,
        CloseReason::Lost => SIPWS_CLOSED_LOST,
        CloseReason::Silent => SIPWS_CLOSED_SILENT,
        CloseReason::SlowReader => SIPWS_CLOSED_SLOW_READER,
        CloseReason::Protocol => SIPWS_CLOSED_PROTOCOL,
        CloseReason::NotUtf8 => SIPWS_CLOSED_NOT_UTF8,
        CloseReason::Policy => SIPWS_CLOSED_POLICY,
        CloseReason::TooLong => SIPWS_CLOSED_TOO_LONG,
        CloseReason::Server => SIPWS_CLOSED_HERE,
    }
}

/// The number of an error, and the HTTP status that comes with it.
pub(crate) fn connect_error(error: &ConnectError) -> (u32, u16) {
    match error {
        ConnectError::Resolve(_) => (SIPWS_CONNECT_RESOLVE, 0),
        ConnectError::Connect(..) => (SIPWS_CONNECT_TCP, 0),
        ConnectError::Tls(_) => (SIPWS_CONNECT_TLS, 0),
        ConnectError::Certificate(_) => (SIPWS_CONNECT_CERTIFICATE, 0),
        ConnectError::Refused(status) => (SIPWS_CONNECT_REFUSED, *status),
        ConnectError::Subprotocol => (SIPWS_CONNECT_SUBPROTOCOL, 0),
        ConnectError::Protocol(_) => (SIPWS_CONNECT_PROTOCOL, 0),
        ConnectError::Timeout => (SIPWS_CONNECT_TIMEOUT, 0),
        ConnectError::Full => (SIPWS_CONNECT_FULL, 0),
    }
}
