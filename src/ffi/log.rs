//! The log of a server, to a C function: one line an event, on the server's own threads and on those that call it.
//! Never a process's default.

use std::fmt::{self, Write};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use super::adaptors::Link;
use super::boundary::c_string;
use super::callback::UserData;
use super::types::*;

/// Where lines go.
pub(crate) struct Sink {
    function: unsafe extern "C" fn(*mut std::ffi::c_void, i32, *const std::ffi::c_char, *const std::ffi::c_char),
    user_data: UserData,
    level: i32,
}

static SINK: ArcSwapOption<Sink> = ArcSwapOption::const_empty();

/// Sets what servers that start from here on use.
pub(crate) fn set(function: sipws_log_fn, user_data: UserData, level: i32) {
    let sink = match function {
        Some(function) if level > SIPWS_LOG_OFF => Some(Arc::new(Sink { function, user_data, level })),
        _ => None,
    };
    SINK.store(sink);
}

/// What a server that starts now uses.
pub(crate) fn current() -> Option<Arc<Sink>> {
    SINK.load_full()
}

/// A subscriber that writes to the sink of `link`, as long as that has one.
pub(crate) fn dispatch(sink: &Sink, link: Arc<Link>) -> Dispatch {
    let most = match sink.level {
        SIPWS_LOG_ERROR => LevelFilter::ERROR,
        SIPWS_LOG_WARN => LevelFilter::WARN,
        SIPWS_LOG_INFO => LevelFilter::INFO,
        SIPWS_LOG_DEBUG => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Dispatch::new(Lines { most, link })
}

struct Lines {
    most: LevelFilter,
    link: Arc<Link>,
}

impl Lines {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        // What other crates have to say at a finer level is about them.
        let finer = *metadata.level() > Level::WARN && !metadata.target().starts_with("sipws");
        metadata.is_event() && *metadata.level() <= self.most && !finer
    }
}

impl Subscriber for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.most)
    }

    // Spans are not used in the library, and of no interest in those it is made of.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if !self.wants(event.metadata()) {
            return;
        }
        let Some(sink) = self.link.log() else {
            return;
        };
        let mut line = Line::default();
        event.record(&mut line);
        let level = match *event.metadata().level() {
            Level::ERROR => SIPWS_LOG_ERROR,
            Level::WARN => SIPWS_LOG_WARN,
            Level::INFO => SIPWS_LOG_INFO,
            Level::DEBUG => SIPWS_LOG_DEBUG,
            Level::TRACE => SIPWS_LOG_TRACE,
        };
        let (target, text) = (c_string(event.metadata().target()), c_string(&line.finish()));
        let Some(_entered) = self.link.gate.enter() else {
            return;
        };
        // SAFETY: the host promised that it may be called with its pointer, on any thread; both strings outlive the
        // call.
        unsafe { (sink.function)(sink.user_data.pointer(), level, target.as_ptr(), text.as_ptr()) };
    }
}

/// `message key=value key=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn finish(self) -> String {
        // One line, whatever a peer has sent.
        (self.message + &self.fields).replace(['\n', '\r'], " ")
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}
