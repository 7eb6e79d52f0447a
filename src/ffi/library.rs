//! The library itself: version, words for numbers, the last error, the log.

use std::ffi::{c_char, c_void};

use super::boundary::{self, Failure};
use super::callback::UserData;
use super::log;
use super::types::*;

/// The version of the library that runs: major << 16 | minor << 8 | patch. Any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn sipws_version_number() -> u32 {
    SIPWS_VERSION_NUMBER
}

/// The version of the library that runs, "0.1.0". Static. Any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn sipws_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// What a status means, in a few words. Static, never NULL. Any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn sipws_status_str(status: sipws_status) -> *const c_char {
    let words = match status {
        SIPWS_OK => c"ok",
        SIPWS_E_NULL => c"an argument is NULL",
        SIPWS_E_INVALID => c"an argument is invalid",
        SIPWS_E_HANDLE => c"not a handle of that kind, or freed",
        SIPWS_E_CONFIG => c"the configuration cannot be used",
        SIPWS_E_BIND => c"an address cannot be listened on",
        SIPWS_E_TLS => c"certificate, key or TLS",
        SIPWS_E_SYSTEM => c"refused by the system",
        SIPWS_E_STATE => c"not in this state",
        SIPWS_E_AGAIN => c"the outbox is full",
        SIPWS_E_GONE => c"no such flow",
        SIPWS_E_LATE => c"too late",
        SIPWS_E_TIMEOUT => c"the time is up",
        SIPWS_E_WOULD_DEADLOCK => c"not inside a callback",
        SIPWS_E_FORKED => c"the server was started in another process",
        SIPWS_E_PANIC => c"a defect of the library",
        SIPWS_E_POISONED => c"an earlier call on the handle met a defect",
        SIPWS_E_NOT_FOUND => c"no such thing",
        SIPWS_E_BUFFER => c"the buffer is too small",
        _ => c"unknown status",
    };
    words.as_ptr()
}

/// What this thread's last failed call has to say: it names the thing, and the mend. Copied to `buf`, cut to `len` with
/// its NUL; returns how long it is in full, without the NUL, so that 0 means nothing has failed. `buf` may be NULL
/// where `len` is 0. A call that succeeds leaves it as it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_last_error(buf: *mut c_char, len: usize) -> usize {
    boundary::value(0, || {
        let text = boundary::last_error();
        // SAFETY: the host's promise.
        unsafe { boundary::copy_text(&text, buf, len) };
        Ok(text.len())
    })
}

/// Has the log go to `log`: lines up to `level` (SIPWS_LOG_*) of servers that are started from here on, and of the
/// calls that are made on them. NULL or SIPWS_LOG_OFF: no log, which is so from the beginning. Servers that run keep
/// what they have. The library has no other log, and touches no log of the process.
///
/// `log` is called on the library's threads and on those that call it, several at once; it must not block, nor call a
/// function of sipws. `drop` (may be NULL) is called once with `user_data` when the log has been replaced and the last
/// server that used it is freed.
///
/// Any thread, any time. Errors: SIPWS_E_INVALID for a level that there is not; `user_data` then stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_set_log_callback(
    log: sipws_log_fn,
    user_data: *mut c_void,
    drop: sipws_drop_fn,
    level: i32,
) -> sipws_status {
    boundary::status(|| {
        if !(SIPWS_LOG_OFF..=SIPWS_LOG_TRACE).contains(&level) {
            return Err(Failure::invalid(format!("{level} is no level of the log: 0 (off) to 5 (trace)")));
        }
        log::set(log, UserData::new(user_data, drop), level);
        Ok(())
    })
}

/// Frees text that the library gave, and sets it to NULL and 0. NULL, and text that has been freed like this, are
/// allowed. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_str_free(text: *mut sipws_str) {
    boundary::value((), || {
        // SAFETY: the host's promise.
        if let Some(text) = unsafe { text.as_mut() }
            && !text.data.is_null()
        {
            // SAFETY: `sipws_str::of` made it of a C string of that length, whose NUL the host has left where it was.
            std::mem::drop(unsafe {
                Box::from_raw(std::ptr::slice_from_raw_parts_mut(text.data.cast::<u8>(), text.len + 1))
            });
            *text = sipws_str { data: std::ptr::null_mut(), len: 0 };
        }
        Ok(())
    });
}

impl sipws_str {
    pub(crate) fn of(text: &str) -> sipws_str {
        let bytes = boundary::c_string(text).into_bytes_with_nul().into_boxed_slice();
        let len = bytes.len() - 1;
        sipws_str { data: Box::into_raw(bytes).cast(), len }
    }
}
