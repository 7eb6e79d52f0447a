//! How a handle becomes a pointer and back. A handle is a small shell with a tag in front: a pointer of the wrong kind,
//! or one that has been freed, is told by the tag. Freed shells stay around for a while, empty, so that their tag can
//! still be read; with one that is long gone, or that never was a handle, the host is on its own.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;

use super::boundary::{Failure, Outcome};
use super::types::*;

/// A value that hosts hold by pointer.
pub(crate) trait Handle: Send + Sync + 'static {
    /// What C knows it as.
    type Opaque;
    /// What stands in front of it in memory; unlike anything that is there by chance.
    const TAG: u32;
    /// Its name in the header.
    const NAME: &'static str;

    /// Whether it may be used in this process.
    fn check_process(&self) -> Outcome {
        Ok(())
    }
}

/// Added to the tag of what is lent, and not to be freed.
const LENT: u32 = 1;
/// Instead of the tag of what is freed.
const FREED: u32 = 0x6665_6400;
/// Freed shells that are kept.
const KEPT: usize = 256;

/// What a handle points to.
#[repr(C)]
pub(crate) struct Shell<T> {
    /// First, whatever the kind.
    tag: AtomicU32,
    poisoned: AtomicBool,
    /// Taken out, once, by whoever turns the tag to FREED.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: shared, it gives out `&T` only; the one who takes `T` out has exclusive use by the tag's exchange, and by the
// rule that nothing runs beside a free.
unsafe impl<T: Send + Sync> Sync for Shell<T> {}

impl<T> Shell<T> {
    fn new(tag: u32, value: T) -> Shell<T> {
        Shell { tag: AtomicU32::new(tag), poisoned: AtomicBool::new(false), value: UnsafeCell::new(Some(value)) }
    }

    /// What is in it.
    pub(crate) fn value(&self) -> Outcome<&T> {
        // SAFETY: it is taken out only by a free, which the host does not run beside another call on the handle.
        unsafe { &*self.value.get() }.as_ref().ok_or_else(|| Failure::new(SIPWS_E_HANDLE, "freed"))
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }
}

/// A handle that the host is to free.
pub(crate) fn give<T: Handle>(value: T) -> *mut T::Opaque {
    Box::into_raw(Box::new(Shell::new(T::TAG, value))).cast()
}

/// What `pointer` is a handle of.
///
/// # Safety
///
/// `pointer` is NULL or has once been given out as a handle of some kind, and was not freed longer than [`KEPT`] frees
/// ago.
pub(crate) unsafe fn look<'a, T: Handle>(pointer: *const T::Opaque) -> Outcome<&'a Shell<T>> {
    let shell = pointer.cast::<Shell<T>>();
    // SAFETY: as promised by the caller, there is a tag.
    match unsafe { tag(shell)? } {
        // SAFETY: the tag says that it is a shell of a `T`, and that it has not been freed.
        right if right == T::TAG || right == T::TAG | LENT => Ok(unsafe { &*shell }),
        FREED => Err(Failure::new(SIPWS_E_HANDLE, format!("the {} has been freed", T::NAME))),
        _ => Err(wrong::<T>()),
    }
}

/// Takes a handle's value back from the host; the pointer is dead from here on.
///
/// # Safety
///
/// As for [`look`]; and nothing else runs on the handle.
pub(crate) unsafe fn take<T: Handle>(pointer: *mut T::Opaque) -> Outcome<T> {
    let shell = pointer.cast::<Shell<T>>();
    // SAFETY: as promised by the caller, there is a tag.
    unsafe { tag(shell)? };
    // SAFETY: the same. Only the tag is touched before it has said what this is; all kinds begin with one.
    let tag = unsafe { &*shell.cast::<AtomicU32>() };
    match tag.compare_exchange(T::TAG, FREED, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(FREED) => return Err(Failure::new(SIPWS_E_HANDLE, format!("the {} is freed twice", T::NAME))),
        Err(lent) if lent == T::TAG | LENT => {
            return Err(Failure::new(SIPWS_E_HANDLE, format!("this {} is lent, and not to be freed", T::NAME)));
        }
        Err(_) => return Err(wrong::<T>()),
    }
    // SAFETY: `give` made it of a box, and the exchange above succeeds once.
    let shell = unsafe { Box::from_raw(shell) };
    // SAFETY: nobody else gets past the tag any more.
    let value = unsafe { &mut *shell.value.get() }.take();
    bury(shell);
    value.ok_or_else(|| Failure::new(SIPWS_E_HANDLE, "freed"))
}

/// # Safety
///
/// `shell` is NULL, or there is a tag that may be read.
unsafe fn tag<T: Handle>(shell: *const Shell<T>) -> Outcome<u32> {
    if shell.is_null() {
        return Err(Failure::null(T::NAME));
    }
    if !shell.is_aligned() {
        return Err(wrong::<T>());
    }
    // SAFETY: not NULL, aligned, and as promised by the caller.
    Ok(unsafe { &*shell.cast::<AtomicU32>() }.load(Ordering::Acquire))
}

fn wrong<T: Handle>() -> Failure {
    Failure::new(SIPWS_E_HANDLE, format!("this is no {}", T::NAME))
}

/// A shell whose value is gone.
trait Empty: Send {}
impl<T: Send> Empty for Shell<T> {}

static FREED_SHELLS: Mutex<VecDeque<Box<dyn Empty>>> = Mutex::new(VecDeque::new());

fn bury<T: Handle>(shell: Box<Shell<T>>) {
    // In a fork's child the lock may be held for ever, by a thread that is not there: then the shell is leaked.
    let oldest = match FREED_SHELLS.try_lock() {
        Some(mut kept) => {
            kept.push_back(shell);
            if kept.len() > KEPT { kept.pop_front() } else { None }
        }
        None => {
            std::mem::forget(shell);
            None
        }
    };
    drop(oldest);
}

/// A handle on the stack, for the time of a callback.
pub(crate) struct Loan<T>(Shell<T>);

impl<T: Handle> Loan<T> {
    pub(crate) fn new(value: T) -> Loan<T> {
        Loan(Shell::new(T::TAG | LENT, value))
    }

    pub(crate) fn as_ptr(&self) -> *mut T::Opaque {
        std::ptr::from_ref(&self.0).cast_mut().cast()
    }
}

impl<T> Drop for Loan<T> {
    fn drop(&mut self) {
        self.0.tag.store(FREED, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Number(u32);
    impl Handle for Number {
        type Opaque = u8;
        const TAG: u32 = 0x1234_5600;
        const NAME: &'static str = "number";
    }

    struct Other;
    impl Handle for Other {
        type Opaque = u8;
        const TAG: u32 = 0x1234_5700;
        const NAME: &'static str = "other";
    }

    fn status<T>(outcome: Outcome<T>) -> sipws_status {
        outcome.map_or_else(|f| f.status, |_| SIPWS_OK)
    }

    #[test]
    fn what_was_given_comes_back_once_and_for_its_own_kind_only() {
        let pointer = give(Number(7));
        // SAFETY: it is a handle that was freed, if at all, just now.
        unsafe {
            assert_eq!(look::<Number>(pointer).and_then(|s| s.value().map(|n| n.0)).map_err(|f| f.status), Ok(7));
            assert_eq!(status(look::<Other>(pointer)), SIPWS_E_HANDLE);
            assert_eq!(status(take::<Other>(pointer)), SIPWS_E_HANDLE);
            assert_eq!(take::<Number>(pointer).map(|n| n.0).map_err(|f| f.status), Ok(7));
            assert_eq!(status(take::<Number>(pointer)), SIPWS_E_HANDLE);
            assert_eq!(status(look::<Number>(pointer)), SIPWS_E_HANDLE);
            assert_eq!(status(look::<Number>(std::ptr::null())), SIPWS_E_NULL);
        }
    }

    #[test]
    fn what_is_lent_can_be_looked_at_but_not_freed() {
        let loan = Loan::new(Number(7));
        // SAFETY: it is a handle, and lives.
        unsafe {
            assert_eq!(status(look::<Number>(loan.as_ptr())), SIPWS_OK);
            assert_eq!(status(take::<Number>(loan.as_ptr())), SIPWS_E_HANDLE);
        }
    }

    #[test]
    fn freed_handles_are_told_after_many_more_have_been_freed() {
        let first = give(Number(1));
        // SAFETY: handles, freed once, and `first` fewer than KEPT frees ago.
        unsafe {
            let _ = take::<Number>(first);
            for _ in 0..100 {
                let _ = take::<Number>(give(Number(2)));
            }
            assert_eq!(status(take::<Number>(first)), SIPWS_E_HANDLE);
        }
    }
}
