//! The library's own threads: named, counted, and gone within a bound.

use std::cell::Cell;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Kind};

thread_local! {
    /// Keeps a host's log in force on one of our threads, and there alone.
    static LOG: Cell<Option<tracing::dispatcher::DefaultGuard>> = const { Cell::new(None) };
}

/// A tokio runtime whose drop never blocks: a host may drop it anywhere, even in a callback on one of its threads.
pub(crate) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    /// With that many worker threads, 0 meaning one for each core, that log to `log`.
    pub(crate) fn new(threads: usize, log: Option<tracing::Dispatch>) -> Result<Runtime, Error> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if threads > 0 {
            builder.worker_threads(threads);
        }
        if let Some(log) = log {
            builder.on_thread_start(move || LOG.set(Some(tracing::dispatcher::set_default(&log))));
            builder.on_thread_stop(|| drop(LOG.take()));
        }
        let started = AtomicUsize::new(0);
        builder
            .enable_all()
            .thread_name_fn(move || format!("sipws-{}", started.fetch_add(1, Ordering::Relaxed)))
            .build()
            .map(|r| Runtime(Some(r)))
            .map_err(|e| Error::new(Kind::System, format!("cannot start threads: {e}")).because(e))
    }

    fn get(&self) -> &tokio::runtime::Runtime {
        match &self.0 {
            Some(runtime) => runtime,
            None => unreachable!("taken only by drop"),
        }
    }

    /// Ends it, and waits for its threads for up to `most`. Not on one of them.
    #[cfg(feature = "ffi")]
    pub(crate) fn finish(mut self, most: std::time::Duration) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(most);
        }
    }

    pub(crate) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.get().enter()
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.get().spawn(future);
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.get().block_on(future)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
