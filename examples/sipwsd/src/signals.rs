//! What signals ask for: SIGTERM and SIGINT to stop, SIGHUP to read the configuration again.

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) enum Request {
    Reload,
    Stop(StopSignal),
}

/// A signal that asks for the end.
#[derive(Clone, Copy)]
pub(crate) struct StopSignal(SignalKind);

impl StopSignal {
    pub(crate) fn name(self) -> &'static str {
        if self.0 == SignalKind::interrupt() { "SIGINT" } else { "SIGTERM" }
    }

    /// As a shell shows a process that a signal ended.
    pub(crate) fn exit_code(self) -> i32 {
        128 + self.0.as_raw_value()
    }
}

pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on these signals no longer end the process by themselves. Inside a tokio runtime.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            stop = Self::stop(&mut self.terminate, &mut self.interrupt) => Request::Stop(stop),
            _ = self.hangup.recv() => Request::Reload,
        }
    }

    /// The next one that asks for the end.
    pub(crate) async fn next_stop(&mut self) -> StopSignal {
        Self::stop(&mut self.terminate, &mut self.interrupt).await
    }

    async fn stop(terminate: &mut Signal, interrupt: &mut Signal) -> StopSignal {
        tokio::select! {
            _ = terminate.recv() => StopSignal(SignalKind::terminate()),
            _ = interrupt.recv() => StopSignal(SignalKind::interrupt()),
        }
    }
}
