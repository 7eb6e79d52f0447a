//! SIP messages as a host reads them: lent for the time of a callback, nothing copied.

use super::boundary::{self, Failure, Outcome};
use super::handle::Handle;
use super::types::*;
use crate::sip::Message;
use crate::sip::message::{Field, Start};

/// A message that is lent to a callback.
pub(crate) struct Borrowed(*const Message);

// SAFETY: a message is not changed by reading it.
unsafe impl Send for Borrowed {}
// SAFETY: the same.
unsafe impl Sync for Borrowed {}

impl Handle for Borrowed {
    type Opaque = sipws_message;
    const TAG: u32 = 0x6d73_6700;
    const NAME: &'static str = "sipws_message";
}

impl Borrowed {
    /// The caller sees to it that the loan ends before `message` does.
    pub(crate) fn new(message: &Message) -> Borrowed {
        Borrowed(message)
    }
}

/// # Safety
///
/// `message` is NULL, or valid as the header says: only inside the callback that it was lent to.
unsafe fn on<'a, T>(message: *const sipws_message, body: impl FnOnce(&'a Message) -> Outcome<T>) -> Outcome<T> {
    // SAFETY: as promised by the caller; the loan's tag is cleared before the message goes.
    unsafe { boundary::on(message, |borrowed: &Borrowed| body(&*borrowed.0)) }
}

/// The whole message as it came. Empty for NULL.
///
/// All sipws_message_* functions: only inside the callback that the message was lent to, on its thread; what they give
/// points into the message, is not NUL-terminated, and is valid as long as that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_message_bytes(message: *const sipws_message) -> sipws_bytes {
    // SAFETY: the host's promise.
    boundary::value(sipws_bytes::NONE, || unsafe { on(message, |m| Ok(sipws_bytes::of(m.bytes()))) })
}

/// A request's method; of a response, the method in CSeq.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_message_method(message: *const sipws_message) -> sipws_bytes {
    // SAFETY: the host's promise.
    boundary::value(sipws_bytes::NONE, || unsafe { on(message, |m| Ok(sipws_bytes::of(m.method_token()))) })
}

/// A response's status code; 0: it is a request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_message_status(message: *const sipws_message) -> u32 {
    // SAFETY: the host's promise.
    boundary::value(0, || unsafe { on(message, |m| Ok(m.status().map_or(0, u32::from))) })
}

/// A request's Request-URI; empty for a response.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_message_request_uri(message: *const sipws_message) -> sipws_bytes {
    let uri = |m: &Message| match m.start() {
        Start::Request { uri, .. } => sipws_bytes::of(m.slice(uri.start as usize..uri.end as usize)),
        Start::Response { .. } => sipws_bytes::NONE,
    };
    // SAFETY: the host's promise.
    boundary::value(sipws_bytes::NONE, || unsafe { on(message, |m| Ok(uri(m))) })
}

/// The body; empty where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_message_body(message: *const sipws_message) -> sipws_bytes {
    // SAFETY: the host's promise.
    boundary::value(sipws_bytes::NONE, || unsafe { on(message, |m| Ok(sipws_bytes::of(m.body()))) })
}

/// The value of the header field of that name (long or compact, in any case), the index-th from the top, 0 being the
/// first. Without the white space around it; several values in one field are not taken apart, and folds are left as
/// they are.
///
/// Errors: SIPWS_E_NOT_FOUND where there are not so many; SIPWS_E_NULL, SIPWS_E_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_message_header(
    message: *const sipws_message,
    name: *const std::ffi::c_char,
    index: usize,
    out: *mut sipws_bytes,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, a C string, an output.
        unsafe {
            on(message, |m| {
                let name = boundary::text(name, "name")?;
                let out = boundary::output(out, "out")?;
                let wanted = long_name(name.as_bytes());
                let mut found = m.fields().iter().filter(|f| long_name(field_name(m, f)).eq_ignore_ascii_case(wanted));
                let field = found.nth(index).ok_or_else(|| {
                    Failure::new(SIPWS_E_NOT_FOUND, format!("the message has no field {name} number {index}"))
                })?;
                out.write(sipws_bytes::of(m.slice(field.value())));
                Ok(())
            })
        }
    })
}

/// Name (as it stands there) and value of the index-th header field, whatever its name, 0 being the first. `name` and
/// `value` may each be NULL.
///
/// Errors: SIPWS_E_NOT_FOUND behind the last; SIPWS_E_NULL, SIPWS_E_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_message_header_at(
    message: *const sipws_message,
    index: usize,
    name: *mut sipws_bytes,
    value: *mut sipws_bytes,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and outputs.
        unsafe {
            on(message, |m| {
                let field = m.fields().get(index).ok_or_else(|| {
                    Failure::new(SIPWS_E_NOT_FOUND, format!("the message has {} header fields", m.fields().len()))
                })?;
                if !name.is_null() {
                    name.write(sipws_bytes::of(field_name(m, field)));
                }
                if !value.is_null() {
                    value.write(sipws_bytes::of(m.slice(field.value())));
                }
                Ok(())
            })
        }
    })
}

/// A field's name as it stands in the message; empty for a line that is no field.
fn field_name<'m>(message: &'m Message, field: &Field) -> &'m [u8] {
    let line = message.slice(field.span());
    let end = memchr::memchr(b':', line).unwrap_or(0);
    line[..end].trim_ascii_end()
}

/// The long form of a compact name (RFC 3261 §20 and the registry of SIP header fields); any other as it is.
fn long_name(name: &[u8]) -> &[u8] {
    let [letter] = name else {
        return name;
    };
    match letter.to_ascii_lowercase() {
        b'a' => b"Accept-Contact",
        b'b' => b"Referred-By",
        b'c' => b"Content-Type",
        b'd' => b"Request-Disposition",
        b'e' => b"Content-Encoding",
        b'f' => b"From",
        b'i' => b"Call-ID",
        b'j' => b"Reject-Contact",
        b'k' => b"Supported",
        b'l' => b"Content-Length",
        b'm' => b"Contact",
        b'n' => b"Identity-Info",
        b'o' => b"Event",
        b'r' => b"Refer-To",
        b's' => b"Subject",
        b't' => b"To",
        b'u' => b"Allow-Events",
        b'v' => b"Via",
        b'x' => b"Session-Expires",
        b'y' => b"Identity",
        _ => name,
    }
}
