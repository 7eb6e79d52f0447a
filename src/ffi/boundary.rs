//! What every exported function's body runs inside: no panic leaves it, what goes wrong becomes a status and the
//! thread's last error, and a child of a fork is told so.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::handle::{self, Handle, Shell};
use super::types::*;
use crate::error::{Error, Kind};

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A status other than SIPWS_OK, and the words for sipws_last_error().
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: sipws_status,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(status: sipws_status, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into() }
    }

    pub(crate) fn null(argument: &str) -> Failure {
        Failure::new(SIPWS_E_NULL, format!("{argument} is NULL"))
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Failure {
        Failure::new(SIPWS_E_INVALID, text)
    }

    pub(crate) fn state(text: impl Into<String>) -> Failure {
        Failure::new(SIPWS_E_STATE, text)
    }

    fn panicked(payload: &(dyn Any + Send)) -> Failure {
        let words = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no words");
        Failure::new(SIPWS_E_PANIC, format!("a defect of sipws, please report it: panicked: {words}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match error.kind() {
            Kind::Config => SIPWS_E_CONFIG,
            Kind::Bind => SIPWS_E_BIND,
            Kind::Tls => SIPWS_E_TLS,
            Kind::System => SIPWS_E_SYSTEM,
        };
        Failure::new(status, error.to_string())
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Runs a function's body and returns its status.
pub(crate) fn status(body: impl FnOnce() -> Outcome) -> sipws_status {
    match caught(body) {
        Ok(()) => SIPWS_OK,
        Err(failure) => {
            let status = failure.status;
            remember(failure.text);
            status
        }
    }
}

/// The same for a function that returns no status: `instead` is what it returns where there is nothing to return.
pub(crate) fn value<T>(instead: T, body: impl FnOnce() -> Outcome<T>) -> T {
    caught(body).unwrap_or_else(|failure| {
        remember(failure.text);
        instead
    })
}

/// The body of a function whose first argument is `pointer`: a handle of the right kind, not poisoned, and its server
/// not of another process.
///
/// # Safety
///
/// `pointer` is NULL or has once been given out as a handle, whose kind may be another one.
pub(crate) unsafe fn on<'a, T: Handle, R>(
    pointer: *const T::Opaque,
    body: impl FnOnce(&'a T) -> Outcome<R>,
) -> Outcome<R> {
    // SAFETY: as promised by the caller.
    let shell: &'a Shell<T> = unsafe { handle::look(pointer)? };
    let value = shell.value()?;
    value.check_process()?;
    if shell.is_poisoned() {
        return Err(Failure::new(SIPWS_E_POISONED, "an earlier call on this handle panicked; it can only be freed"));
    }
    let outcome = caught(|| body(value));
    if matches!(&outcome, Err(failure) if failure.status == SIPWS_E_PANIC) {
        shell.poison();
    }
    outcome
}

fn caught<T>(body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    // What a panic leaves behind half done is either poisoned (`on`) or was never given out.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(Failure::panicked(&*payload)))
}

pub(super) fn remember(text: String) {
    // A thread that is ending has no last error any more.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = text);
}

/// The words of this thread's last failure.
pub(crate) fn last_error() -> String {
    LAST_ERROR.try_with(|last| last.borrow().clone()).unwrap_or_default()
}

/// A C string argument.
///
/// # Safety
///
/// `text` is NULL or NUL-terminated, and not written to while the result is in use.
pub(crate) unsafe fn text<'a>(text: *const c_char, argument: &str) -> Outcome<&'a str> {
    if text.is_null() {
        return Err(Failure::null(argument));
    }
    // SAFETY: as promised by the caller.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map_err(|_| Failure::invalid(format!("{argument} is not UTF-8")))
}

/// A C string argument that may be NULL.
///
/// # Safety
///
/// As for [`text`].
pub(crate) unsafe fn optional_text<'a>(pointer: *const c_char, argument: &str) -> Outcome<Option<&'a str>> {
    // SAFETY: as promised by the caller.
    if pointer.is_null() { Ok(None) } else { unsafe { text(pointer, argument) }.map(Some) }
}

/// A slice argument. A pointer that comes with length 0 is not looked at.
///
/// # Safety
///
/// `data` has `len` bytes, which are not written to while the result is in use.
pub(crate) unsafe fn slice<'a>(data: *const c_char, len: usize, argument: &str) -> Outcome<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Failure::null(argument));
    }
    if len > isize::MAX as usize {
        return Err(Failure::invalid(format!("{argument} is longer than memory")));
    }
    // SAFETY: not NULL, not too long, and otherwise as promised by the caller.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// An output argument, to be written on success.
///
/// # Safety
///
/// `out` is NULL, or may be written.
pub(crate) unsafe fn output<'a, T>(out: *mut T, argument: &str) -> Outcome<&'a mut std::mem::MaybeUninit<T>> {
    // SAFETY: as promised by the caller; what is in it is never read.
    unsafe { out.cast::<std::mem::MaybeUninit<T>>().as_mut() }.ok_or_else(|| Failure::null(argument))
}

/// Copies a structure of `ours` to the caller, whose version of it may be shorter or longer: it begins with its size.
/// Returns how much was written.
///
/// # Safety
///
/// `theirs` has as many bytes as its first field says. `T` is `repr(C)`, begins with a `u32`, and is only ever appended
/// to.
pub(crate) unsafe fn write_sized<T>(ours: &T, theirs: *mut T) -> Outcome {
    // SAFETY: by the caller's promise there are at least the bytes of the size.
    let size = unsafe { theirs.cast::<u32>().read() } as usize;
    if size < size_of::<u32>() {
        return Err(Failure::invalid("the structure does not say its size: start it with its _INIT"));
    }
    let written = size.min(size_of::<T>());
    // SAFETY: both have `written` bytes; ours is a value of our own, so the two do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(ours).cast::<u8>(), theirs.cast::<u8>(), written);
        theirs.cast::<u32>().write(written as u32);
    }
    Ok(())
}

/// Reads a structure of the caller's, whose version of it may be shorter or longer: what it does not have stays as in
/// `default`. Fields that we don't know yet must be zero: silently ignored, they would be believed to work.
///
/// # Safety
///
/// As for [`write_sized`], and each value of its fields' bytes is a value of the field's type.
pub(crate) unsafe fn read_sized<T: Copy>(theirs: *const T, default: T, name: &str) -> Outcome<T> {
    // SAFETY: by the caller's promise there are at least the bytes of the size.
    let size = unsafe { theirs.cast::<u32>().read() } as usize;
    if size < size_of::<u32>() || size > 4096 {
        return Err(Failure::invalid(format!("{name} does not say its size: start it with its _INIT")));
    }
    let mut ours = default;
    // SAFETY: both have that many bytes; `ours` is a value of our own, so the two do not overlap.
    let unknown = unsafe {
        let known = size.min(size_of::<T>());
        std::ptr::copy_nonoverlapping(theirs.cast::<u8>(), std::ptr::from_mut(&mut ours).cast::<u8>(), known);
        std::slice::from_raw_parts(theirs.cast::<u8>().add(known), size - known)
    };
    if unknown.iter().any(|&byte| byte != 0) {
        return Err(Failure::invalid(format!(
            "{name} has fields that sipws {} does not know",
            env!("CARGO_PKG_VERSION")
        )));
    }
    Ok(ours)
}

/// Copies `value` and a NUL into a caller's buffer as far as it fits.
///
/// # Safety
///
/// `buf` has `len` bytes that may be written, or `len` is 0.
pub(crate) unsafe fn copy_text(value: &str, buf: *mut c_char, len: usize) {
    if len == 0 || buf.is_null() {
        return;
    }
    let fits = value.len().min(len - 1);
    // SAFETY: `fits` and the NUL are within `len`, and nobody's buffer is inside our string.
    unsafe {
        std::ptr::copy_nonoverlapping(value.as_ptr().cast::<c_char>(), buf, fits);
        buf.add(fits).write(0);
    }
}

/// `text` without what a C string can't hold.
pub(crate) fn c_string(text: &str) -> std::ffi::CString {
    let bytes: Vec<u8> = text.bytes().filter(|&b| b != 0).collect();
    std::ffi::CString::new(bytes).unwrap_or_default()
}

impl sipws_bytes {
    pub(crate) const NONE: sipws_bytes = sipws_bytes { data: std::ptr::null(), len: 0 };

    /// Lends `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> sipws_bytes {
        sipws_bytes { data: bytes.as_ptr().cast(), len: bytes.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status_and_its_words_the_last_error() {
        assert_eq!(status(|| panic!("that was {}", "unexpected")), SIPWS_E_PANIC);
        assert!(last_error().ends_with("panicked: that was unexpected"), "{}", last_error());
    }

    #[test]
    fn a_handle_on_which_something_panicked_is_poisoned_and_can_be_freed() {
        struct Thing;
        impl Handle for Thing {
            type Opaque = u8;
            const TAG: u32 = 0x1234_5800;
            const NAME: &'static str = "thing";
        }
        let thing = handle::give(Thing);
        // SAFETY: a handle, freed at the end.
        unsafe {
            assert_eq!(status(|| on(thing, |_: &Thing| -> Outcome { panic!("half done") })), SIPWS_E_PANIC);
            assert_eq!(status(|| on(thing, |_: &Thing| Ok(()))), SIPWS_E_POISONED);
            assert_eq!(status(|| handle::take::<Thing>(thing).map(drop)), SIPWS_OK);
        }
    }

    #[test]
    fn a_shorter_structure_of_an_older_host_is_written_no_further_than_it_goes() {
        let ours = sipws_stats { size: 0, ready: 1, uptime_ms: 7, ..zero() };
        let mut theirs = sipws_stats { size: 8, uptime_ms: 99, ..zero() };
        // SAFETY: `theirs` is longer than it says.
        unsafe { write_sized(&ours, &mut theirs).expect("has a size") };
        assert_eq!((theirs.size, theirs.ready, theirs.uptime_ms), (8, 1, 99));
    }

    #[test]
    fn a_longer_structure_of_a_newer_host_is_read_if_what_we_do_not_know_is_zero() {
        #[repr(C)]
        #[derive(Clone, Copy)]
        struct Old {
            size: u32,
            a: u32,
        }
        #[repr(C)]
        struct New {
            old: Old,
            b: u64,
        }
        let read = |b| {
            let new = New { old: Old { size: 16, a: 5 }, b };
            // SAFETY: `new` has the 16 bytes that it says.
            unsafe { read_sized(std::ptr::from_ref(&new).cast::<Old>(), Old { size: 0, a: 0 }, "it") }
        };
        assert_eq!(read(0).map(|old| old.a).map_err(|e| e.status), Ok(5));
        assert_eq!(read(1).map(|old| old.a).map_err(|e| e.status), Err(SIPWS_E_INVALID));
    }

    fn zero() -> sipws_stats {
        // SAFETY: all its fields are integers.
        unsafe { std::mem::zeroed() }
    }
}
