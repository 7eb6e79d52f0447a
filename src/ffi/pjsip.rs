//! The functions of `include/sipws_pjsip.h`: PJSIP's numbers instead of ours, and threads that PJLIB knows.

use std::ffi::{c_char, c_int};
use std::time::Duration;

use pjsip_sys as pj;

use super::boundary::{Failure, remember, value};
use super::config::{sipws_config_free, sipws_config_from_file};
use super::embedded::{Embedding, Lent};
use super::types::{sipws_config, sipws_server};
use crate::pjsip::{Kind, Link, transport_type};

/// The transport, started on one endpoint.
pub struct sipws_pjsip {
    link: Link,
    lent: Lent,
}

/// Runs a body whose failure has a number of PJSIP's.
fn numbered(body: impl FnOnce() -> Result<(), (pj::pj_status_t, String)>) -> pj::pj_status_t {
    let outcome = value(Err((pj::PJ_EBUG, String::new())), || Ok(body()));
    match outcome {
        Ok(()) => pj::PJ_SUCCESS as pj::pj_status_t,
        Err((status, words)) => {
            // A panic has left its own.
            if !words.is_empty() {
                remember(words);
            }
            status
        }
    }
}

fn unknown(failure: Failure) -> (pj::pj_status_t, String) {
    (pj::PJ_EUNKNOWN, failure.text)
}

fn null(argument: &str) -> (pj::pj_status_t, String) {
    (pj::PJ_EINVAL, format!("{argument} is NULL"))
}

/// # Safety
///
/// As [`sipws_pjsip_start_with`], whose layout has been compared.
unsafe fn start(
    endpt: *mut pj::pjsip_endpoint,
    config: *const sipws_config,
) -> Result<sipws_pjsip, (pj::pj_status_t, String)> {
    if endpt.is_null() {
        return Err(null("endpt"));
    }
    if let Some(differs) = pj::version_mismatch() {
        return Err((pj::PJSIP_ETPNOTSUITABLE, differs));
    }
    // SAFETY: the host's promise.
    let embedding = unsafe { Embedding::new(config) }.map_err(unknown)?;
    // SAFETY: the host's promise: an endpoint that lives, and a thread that PJLIB knows.
    let link = unsafe { Link::start(endpt, embedding.setup()) }.map_err(|e| (e.status, e.text))?;
    let Some(server) = link.server() else {
        return Err((pj::PJ_EGONE, "the endpoint is being destroyed".to_owned()));
    };
    Ok(sipws_pjsip { link, lent: embedding.lend(server) })
}

/// See `sipws_pjsip.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_pjsip_start_with(
    endpt: *mut pj::pjsip_endpoint,
    config: *const sipws_config,
    layout: *const pj::Layout,
    out: *mut *mut sipws_pjsip,
) -> pj::pj_status_t {
    numbered(|| {
        if out.is_null() {
            return Err(null("out"));
        }
        if layout.is_null() {
            return Err(null("layout"));
        }
        // SAFETY: the host's promise: a layout, whose size stands first.
        let host = unsafe {
            if *layout.cast::<u32>() != pj::LAYOUT.size {
                let words = "the program was compiled with another version of sipws_pjsip.h";
                return Err((pj::PJSIP_ETPNOTSUITABLE, words.to_owned()));
            }
            &*layout
        };
        if let Some(differs) = pj::LAYOUT.mismatch(host) {
            let words = format!("{differs} (build sipws with PJPROJECT_DIR set to the program's PJSIP)");
            return Err((pj::PJSIP_ETPNOTSUITABLE, words));
        }
        // SAFETY: the host's promises.
        unsafe { out.write(Box::into_raw(Box::new(start(endpt, config)?))) };
        Ok(())
    })
}

/// See `sipws_pjsip.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_pjsip_load(
    endpt: *mut pj::pjsip_endpoint,
    config_path: *const c_char,
    out: *mut *mut sipws_pjsip,
) -> pj::pj_status_t {
    numbered(|| {
        let mut config = std::ptr::null_mut();
        if !config_path.is_null() {
            // SAFETY: the host's promise: a C string.
            let status = unsafe { sipws_config_from_file(config_path, &raw mut config) };
            if status != super::types::SIPWS_OK {
                // Its words are there already.
                return Err((pj::PJ_EUNKNOWN, String::new()));
            }
        }
        // SAFETY: the host's promises.
        let started = unsafe { start(endpt, config) };
        // SAFETY: ours, or NULL; copied by the start.
        unsafe { sipws_config_free(config) };
        let started = Box::into_raw(Box::new(started?));
        if !out.is_null() {
            // SAFETY: the host's promise. Without `out` the transport lives as long as the endpoint.
            unsafe { out.write(started) };
        }
        Ok(())
    })
}

/// See `sipws_pjsip.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_pjsip_stop(handle: *mut sipws_pjsip, grace_ms: u32) -> pj::pj_status_t {
    numbered(|| {
        if handle.is_null() {
            return Ok(());
        }
        // SAFETY: the host's promise: from a start, and stopped once.
        let started = unsafe { Box::from_raw(handle) };
        if let Err(forked) = started.lent.check_process() {
            // Its locks may be held by threads that are not here.
            std::mem::forget(started);
            return Err(unknown(forked));
        }
        let sipws_pjsip { link, lent } = *started;
        // SAFETY: the host's promise: a thread that PJLIB knows, and no callback of PJSIP's.
        unsafe { link.stop(Duration::from_millis(grace_ms.into())) };
        lent.stop().map_err(unknown)
    })
}

/// See `sipws_pjsip.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_pjsip_server(handle: *const sipws_pjsip) -> *mut sipws_server {
    // SAFETY: the host's promise: NULL, or from a start and not stopped.
    unsafe { handle.as_ref() }.map_or(std::ptr::null_mut(), |started| started.lent.as_ptr())
}

/// See `sipws_pjsip.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_pjsip_transport_type(secure: c_int, ipv6: c_int) -> pj::pjsip_transport_type_e {
    value(0, || Ok(transport_type(Kind { secure: secure != 0, ipv6: ipv6 != 0 }).unwrap_or(0)))
}

/// See `sipws_pjsip.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_pjsip_transports(handle: *const sipws_pjsip) -> u32 {
    // SAFETY: the host's promise: NULL, or from a start and not stopped.
    unsafe { handle.as_ref() }.map_or(0, |started| started.link.transports() as u32)
}
