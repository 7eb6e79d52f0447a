//! Events that wait for a host to fetch them, with a descriptor that can be polled. Bounded: what does not fit is
//! counted, and the count is told where the gap is.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::boundary::{Failure, Outcome};
use super::event::Record;
use super::types::*;

/// The queue of one server.
pub(crate) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Record>,
    /// Events that did not fit behind the last one in `waiting`.
    dropped: u64,
    /// All that ever did not fit.
    lost: u64,
    /// No more will come.
    ended: bool,
    /// Readable while something waits, or has ended. Made by the first who asks.
    descriptor: Option<OwnedFd>,
    signalled: bool,
}

impl Queue {
    /// For at most `capacity` events.
    pub(crate) fn new(capacity: usize) -> Queue {
        Queue { capacity, state: Mutex::default(), arrived: Condvar::new() }
    }

    pub(crate) fn push(&self, record: Record) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        let needed = if state.dropped > 0 { 2 } else { 1 };
        if state.waiting.len() + needed > self.capacity {
            state.dropped += 1;
            state.lost += 1;
        } else {
            if state.dropped > 0 {
                let gap = Record::overflow(std::mem::take(&mut state.dropped));
                state.waiting.push_back(gap);
            }
            state.waiting.push_back(record);
        }
        state.signal();
        self.arrived.notify_one();
    }

    /// The oldest event, waited for until `deadline`.
    pub(crate) fn next(&self, deadline: Instant) -> Outcome<Record> {
        let mut state = self.state.lock();
        loop {
            if let Some(record) = state.take() {
                state.signal();
                return Ok(record);
            }
            if state.ended {
                return Err(Failure::state("the server has stopped, and there are no more events"));
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(SIPWS_E_TIMEOUT, "no event came in time"));
            }
            self.arrived.wait_until(&mut state, deadline);
        }
    }

    /// A descriptor that is readable while `next` would not wait.
    pub(crate) fn descriptor(&self) -> Outcome<RawFd> {
        let mut state = self.state.lock();
        if state.descriptor.is_none() {
            // SAFETY: no pointers; the descriptor it returns is nobody else's.
            let made = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
            if made < 0 {
                let error = std::io::Error::last_os_error();
                return Err(Failure::new(SIPWS_E_SYSTEM, format!("no descriptor for events: {error}")));
            }
            // SAFETY: just made, and open.
            state.descriptor = Some(unsafe { OwnedFd::from_raw_fd(made) });
            state.signal();
        }
        Ok(state.descriptor.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }

    /// No more will come: whoever waits is told, and the descriptor stays readable.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.signal();
        self.arrived.notify_all();
    }

    /// How many events did not fit.
    pub(crate) fn lost(&self) -> u64 {
        self.state.lock().lost
    }
}

impl State {
    fn take(&mut self) -> Option<Record> {
        self.waiting
            .pop_front()
            .or_else(|| (self.dropped > 0).then(|| Record::overflow(std::mem::take(&mut self.dropped))))
    }

    /// Has the descriptor say whether something waits.
    fn signal(&mut self) {
        let ready = !self.waiting.is_empty() || self.dropped > 0 || self.ended;
        let Some(descriptor) = &self.descriptor else {
            return;
        };
        if ready == self.signalled {
            return;
        }
        self.signalled = ready;
        let mut count: u64 = 1;
        // SAFETY: an eventfd takes and gives eight bytes, which `count` has. Neither blocks: it is nonblocking, and
        // goes between 0 and 1 only.
        unsafe {
            if ready {
                libc::write(descriptor.as_raw_fd(), std::ptr::from_ref(&count).cast(), 8);
            } else {
                libc::read(descriptor.as_raw_fd(), std::ptr::from_mut(&mut count).cast(), 8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Record {
        Record { kind: SIPWS_EVENT_OPENED, flow: number, ..Record::default() }
    }

    fn all(queue: &Queue) -> Vec<(u32, u64)> {
        std::iter::from_fn(|| queue.next(Instant::now()).ok())
            .map(|r| (r.kind, if r.kind == SIPWS_EVENT_OVERFLOW { r.number } else { r.flow }))
            .collect()
    }

    fn readable(descriptor: RawFd) -> bool {
        let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, and no wait.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }

    #[test]
    fn what_does_not_fit_is_counted_where_the_gap_is() {
        let queue = Queue::new(3);
        for number in 1..=5 {
            queue.push(record(number));
        }
        assert!(queue.next(Instant::now()).is_ok_and(|r| r.flow == 1));
        // There is room for one, but the gap has to be told first.
        queue.push(record(6));
        assert!(queue.next(Instant::now()).is_ok_and(|r| r.flow == 2));
        queue.push(record(7));
        let (opened, overflow) = (SIPWS_EVENT_OPENED, SIPWS_EVENT_OVERFLOW);
        assert_eq!(all(&queue), [(opened, 3), (overflow, 3), (opened, 7)]);
        queue.push(record(8));
        assert_eq!(all(&queue), [(opened, 8)]);
        assert_eq!(queue.lost(), 3);
    }

    #[test]
    fn the_descriptor_is_readable_while_something_waits() {
        let queue = Queue::new(4);
        queue.push(record(1));
        let descriptor = queue.descriptor().expect("made");
        assert!(readable(descriptor), "what came before it was asked for counts");
        queue.push(record(2));
        assert!(queue.next(Instant::now()).is_ok());
        assert!(readable(descriptor), "one is left");
        assert!(queue.next(Instant::now()).is_ok());
        assert!(!readable(descriptor));
        queue.end();
        assert!(readable(descriptor), "there is something to say: that it has ended");
        assert_eq!(queue.next(Instant::now()).map_err(|f| f.status).err(), Some(SIPWS_E_STATE));
    }
}
