//! Calls into the host: what it gave us to pass along, let go of once; how many of a server's are under way; and
//! whether this thread is inside one.

use std::cell::Cell;
use std::ffi::c_void;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::boundary::{Failure, Outcome};
use super::types::*;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Held while the host's code runs on this thread on our behalf.
pub(crate) struct Inside(());

impl Inside {
    pub(crate) fn enter() -> Inside {
        let _ = DEPTH.try_with(|depth| depth.set(depth.get() + 1));
        Inside(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = DEPTH.try_with(|depth| depth.set(depth.get() - 1));
    }
}

/// Whether this thread is inside a callback of ours, of whatever server.
pub(crate) fn is_inside() -> bool {
    DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false)
}

/// For calls that wait for callbacks to end, or for what only happens when they have.
pub(crate) fn outside(function: &str) -> Outcome {
    // A host may have an async runtime of the same crate: blocking in it would panic.
    if is_inside() || tokio::runtime::Handle::try_current().is_ok() {
        return Err(Failure::new(
            SIPWS_E_WOULD_DEADLOCK,
            format!("{function} waits for callbacks to end, and was called from inside one"),
        ));
    }
    Ok(())
}

/// A host's `user_data`. Its drop function is called when the last of those who use it is gone.
pub(crate) struct UserData {
    pointer: *mut c_void,
    drop: sipws_drop_fn,
}

// SAFETY: the header tells the host that callbacks and drop functions run on any thread, several at once.
unsafe impl Send for UserData {}
// SAFETY: the same; we only pass the pointer along.
unsafe impl Sync for UserData {}

impl UserData {
    pub(crate) fn new(pointer: *mut c_void, drop: sipws_drop_fn) -> UserData {
        UserData { pointer, drop }
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    /// Gives it back to the host, whose it stays.
    pub(crate) fn give_back(mut self) {
        self.drop = None;
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(drop) = self.drop.take() {
            let _inside = Inside::enter();
            // SAFETY: the host promised that it may be called with its own pointer, on any thread; this is the only
            // time.
            unsafe { drop(self.pointer) };
        }
    }
}

/// Counts a server's callbacks, so that its stop can say that none is running, and none will.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<Callbacks>,
    changed: Condvar,
}

#[derive(Default)]
struct Callbacks {
    closed: bool,
    running: usize,
    /// Flows that were opened and connections that are being made: each will have one last callback.
    owed: usize,
    /// No more of those.
    full: bool,
}

/// One callback that runs.
pub(crate) struct Entered<'a> {
    gate: &'a Gate,
    _inside: Inside,
}

impl Gate {
    /// Before a callback; `None`: it must not be made any more.
    pub(crate) fn enter(&self) -> Option<Entered<'_>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.running += 1;
        Some(Entered { gate: self, _inside: Inside::enter() })
    }

    /// Before the first callback for something that will have a last one. False: not any more, nobody shall hear of it.
    pub(crate) fn owe(&self) -> bool {
        let mut state = self.state.lock();
        if state.full {
            return false;
        }
        state.owed += 1;
        true
    }

    /// After the last callback for it.
    pub(crate) fn settle(&self) {
        let mut state = self.state.lock();
        state.owed -= 1;
        if state.owed == 0 {
            self.changed.notify_all();
        }
    }

    /// From here on nothing new is told of.
    pub(crate) fn fill(&self) {
        self.state.lock().full = true;
    }

    /// Whether no callback is let in any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits until what is owed has been paid, then lets no callback in any more, and waits for those that run. False:
    /// the time is up, and a callback still runs.
    pub(crate) fn close(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        state.full = true;
        while state.owed > 0 && !self.changed.wait_until(&mut state, deadline).timed_out() {}
        state.closed = true;
        while state.running > 0 && !self.changed.wait_until(&mut state, deadline).timed_out() {}
        state.running == 0
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.running -= 1;
        if state.running == 0 && state.closed {
            self.gate.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    unsafe extern "C" fn count(user_data: *mut c_void) {
        // SAFETY: the tests pass a counter that outlives it.
        unsafe { &*user_data.cast::<AtomicU32>() }.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn user_data_is_dropped_once_unless_it_is_given_back() {
        let drops = AtomicU32::new(0);
        let pointer = std::ptr::from_ref(&drops).cast_mut().cast();
        drop(UserData::new(pointer, Some(count)));
        UserData::new(pointer, Some(count)).give_back();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_closing_gate_waits_for_the_callback_that_runs_and_lets_no_other_in() {
        let gate = Arc::new(Gate::default());
        let running = gate.enter().expect("open");
        assert!(is_inside());
        assert!(!gate.close(Instant::now()), "one is running");
        assert!(gate.enter().is_none());
        let waiting = std::thread::spawn({
            let gate = gate.clone();
            move || gate.close(Instant::now() + Duration::from_secs(60))
        });
        drop(running);
        assert!(waiting.join().expect("no panic"));
        assert!(!is_inside());
    }

    #[test]
    fn a_closing_gate_lets_the_last_callbacks_in_that_are_owed() {
        let gate = Arc::new(Gate::default());
        assert!(gate.owe());
        gate.fill();
        assert!(!gate.owe(), "nothing new");
        let last = std::thread::spawn({
            let gate = gate.clone();
            move || {
                let entered = gate.enter().is_some();
                gate.settle();
                entered
            }
        });
        assert!(gate.close(Instant::now() + Duration::from_secs(60)));
        assert!(last.join().expect("no panic"));
    }
}
