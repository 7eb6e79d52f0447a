//! A server as a host sees it: made, started, looked at, stopped, freed.

use std::ffi::{c_char, c_int};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::boundary::{self, Failure};
use super::callback;
use super::config::ConfigHandle;
use super::embedded::Embedded;
use super::handle;
use super::types::*;
use crate::config::Config;

/// Makes a server of a configuration, which it copies. Starts no thread, opens nothing, touches no file. Free it with
/// sipws_server_free(). A daemon forks before sipws_server_start(), not after.
///
/// Any thread; allowed in callbacks. Errors: SIPWS_E_CONFIG as for sipws_config_validate(); SIPWS_E_NULL,
/// SIPWS_E_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_new(config: *const sipws_config, out: *mut *mut sipws_server) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and an output.
        unsafe {
            boundary::on(config, |config: &ConfigHandle| {
                let out = boundary::output(out, "out")?;
                let embedded = config.with(|draft| Embedded::new(draft))?;
                let handle = handle::give(embedded.clone());
                embedded.link.set_handle(handle);
                out.write(handle);
                Ok(())
            })
        }
    })
}

/// Binds every listener and starts the threads, which are named sipws-0 and so on (runtime.threads; 0: one a core), and
/// have the signal mask of the thread that calls this. Callbacks may begin before it returns.
///
/// Thread-safe; not in callbacks. Errors: SIPWS_E_BIND, SIPWS_E_TLS, SIPWS_E_CONFIG, SIPWS_E_SYSTEM: nothing runs then,
/// and it can be tried again; SIPWS_E_STATE where it runs or has been stopped: a server is started once;
/// SIPWS_E_WOULD_DEADLOCK, SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_start(server: *mut sipws_server) -> sipws_status {
    // SAFETY: the host's promise.
    boundary::status(|| unsafe { boundary::on(server, |embedded: &Arc<Embedded>| embedded.start()) })
}

/// Where the server listens, with the real ports: the index-th URL, WebSocket listeners first ("ws://127.0.0.1:8080/"),
/// then SIP ones ("tcp://127.0.0.1:5062"), each in the order of the configuration. Copied with a NUL to `buf` of `len`
/// bytes. `out_len` (may be NULL) is how long it is without the NUL, written on SIPWS_OK and SIPWS_E_BUFFER.
///
/// Thread-safe; allowed in callbacks. Errors: SIPWS_E_NOT_FOUND behind the last; SIPWS_E_BUFFER where it does not fit,
/// nothing is copied then; SIPWS_E_STATE where it does not run; SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_local_addr(
    server: *const sipws_server,
    index: usize,
    buf: *mut c_char,
    len: usize,
    out_len: *mut usize,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, a buffer of that length, and an output.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                if buf.is_null() && len > 0 {
                    return Err(Failure::null("buf"));
                }
                let running = embedded.running()?;
                let mut urls = running.websocket_urls();
                urls.extend(running.sip_urls());
                let url = urls.get(index).ok_or_else(|| {
                    Failure::new(SIPWS_E_NOT_FOUND, format!("the server has {} addresses", urls.len()))
                })?;
                if !out_len.is_null() {
                    out_len.write(url.len());
                }
                if url.len() >= len {
                    return Err(Failure::new(SIPWS_E_BUFFER, format!("{url} needs {} bytes", url.len() + 1)));
                }
                boundary::copy_text(url, buf, len);
                Ok(())
            })
        }
    })
}

/// Takes over what can be while running: upstreams, origins and paths of listeners; certificates' files are read again.
/// Callbacks stay those that the server was made with. `needs_restart` (may be NULL) gets the keys that differ but are
/// not taken over, a line each; sipws_str_free() it.
///
/// Thread-safe; not in callbacks. Errors: SIPWS_E_CONFIG, SIPWS_E_TLS: nothing is changed then; SIPWS_E_STATE where it
/// does not run; SIPWS_E_WOULD_DEADLOCK, SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_reload(
    server: *mut sipws_server,
    config: *const sipws_config,
    needs_restart: *mut sipws_str,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: handles, and an output.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                callback::outside("sipws_server_reload")?;
                let new: Config =
                    boundary::on(config, |config: &ConfigHandle| config.with(|draft| embedded.typed(draft)))?;
                let keys = embedded.reload(new)?;
                if !needs_restart.is_null() {
                    needs_restart.write(sipws_str::of(&keys.join("\n")));
                }
                Ok(())
            })
        }
    })
}

/// Stops: no new connections, the open ones closed with 1001 one after the other within three quarters of `grace_ms`,
/// and at its end those that are left. Blocks for up to that time, and up to five seconds more for callbacks to return.
/// After SIPWS_OK no callback runs, and none will. What has been queued can still be fetched by
/// sipws_server_next_event().
///
/// A server that was never started is left as it is; one that has been stopped is stopped: both SIPWS_OK. A stopped
/// server is not started again: make a new one.
///
/// Thread-safe; not in callbacks. Errors: SIPWS_E_TIMEOUT where a callback has not returned: everything is closed, but
/// call it again to wait on; SIPWS_E_STATE for a server that belongs to a sipws_pjsip; SIPWS_E_WOULD_DEADLOCK,
/// SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_stop(server: *mut sipws_server, grace_ms: u32) -> sipws_status {
    let grace = Duration::from_millis(grace_ms.into());
    // SAFETY: the host's promise.
    boundary::status(|| unsafe { boundary::on(server, |embedded: &Arc<Embedded>| embedded.stop(grace)) })
}

/// Stops it without grace, if it runs, and frees it. Drop functions are called that nobody else uses. NULL is allowed.
/// No other call on the server may be running, and none may come, but in its own last callbacks.
///
/// Inside a callback it returns at once, and the rest happens when that has returned, on a thread of its own. After a
/// fork it leaks what there is, on purpose: its threads are not in this process. It leaks, too, where a callback does
/// not return for five seconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_free(server: *mut sipws_server) {
    boundary::value((), || {
        if server.is_null() {
            return Ok(());
        }
        // SAFETY: the host's promise.
        unsafe { Embedded::free(server) }
    });
}

/// Whether new clients should be sent here: SIPWS_OK, or SIPWS_E_STATE and sipws_last_error() says why not (not
/// started, stopping, no upstream can be reached).
///
/// Thread-safe; allowed in callbacks. Errors: besides, SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_ready(server: *const sipws_server) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise.
        unsafe { boundary::on(server, |embedded: &Arc<Embedded>| embedded.running()?.ready().map_err(Failure::state)) }
    })
}

/// Fills in the figures. `stats->size` says how much of it the caller knows; only that is written, and `size` set to
/// how much that was.
///
/// Thread-safe; allowed in callbacks. Errors: SIPWS_E_STATE where it does not run; SIPWS_E_NULL, SIPWS_E_INVALID
/// (size), SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_stats(server: *const sipws_server, stats: *mut sipws_stats) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and a structure of the size that it says.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                boundary::output(stats, "stats")?;
                boundary::write_sized(&embedded.stats()?, stats)
            })
        }
    })
}

/// All figures as text for Prometheus (OpenMetrics). sipws_str_free() it.
///
/// Thread-safe; allowed in callbacks. Errors: SIPWS_E_STATE where it does not run; SIPWS_E_NULL, SIPWS_E_HANDLE,
/// SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_metrics(server: *const sipws_server, out: *mut sipws_str) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and an output.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                let out = boundary::output(out, "out")?;
                out.write(sipws_str::of(&embedded.running()?.metrics()));
                Ok(())
            })
        }
    })
}

/// Fetches the oldest event, and waits for one for up to `timeout_ms` (0: not at all). sipws_event_free() it.
///
/// Thread-safe; not in callbacks. Errors: SIPWS_E_TIMEOUT where none came; SIPWS_E_STATE where the server has stopped
/// and nothing is left, or events go to sipws_config_set_events(), or are not kept; SIPWS_E_WOULD_DEADLOCK,
/// SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_next_event(
    server: *mut sipws_server,
    timeout_ms: u32,
    out: *mut *mut sipws_event,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and an output.
        unsafe {
            boundary::on(server, |embedded: &Arc<Embedded>| {
                callback::outside("sipws_server_next_event")?;
                let out = boundary::output(out, "out")?;
                let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
                let record = embedded.queue()?.next(deadline)?;
                out.write(handle::give(record));
                Ok(())
            })
        }
    })
}

/// A descriptor for poll(), select() or epoll: readable as long as sipws_server_next_event() with timeout 0 would not
/// say SIPWS_E_TIMEOUT. Not to be read, written or closed; it is there until the server is freed. There from
/// sipws_server_new() on, the same at each call. Negative: a status, as for sipws_server_next_event().
///
/// Thread-safe; allowed in callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_server_event_fd(server: *const sipws_server) -> c_int {
    let mut descriptor = -1;
    let status = boundary::status(|| {
        // SAFETY: the host's promise.
        descriptor = unsafe { boundary::on(server, |embedded: &Arc<Embedded>| embedded.queue()?.descriptor()) }?;
        Ok(())
    });
    if status == SIPWS_OK { descriptor } else { status }
}
