//! What happens to flows, registrations and upstreams, told to whoever embeds the library.

use super::client::ConnectError;
use super::{CloseReason, Flow, FlowId};

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A flow is there, accepted or made by us.
    Opened {
        /// The flow.
        flow: &'a Flow,
    },
    /// A flow is gone.
    Closed {
        /// The flow.
        flow: &'a Flow,
        /// Why.
        why: CloseReason,
    },
    /// A connection that we were to make did not come about.
    ConnectFailed {
        /// The id that it would have had.
        flow: FlowId,
        /// Why.
        error: &'a ConnectError,
    },
    /// The bridge saw a client's REGISTER answered 2xx with a binding for it.
    Registered {
        /// The client's flow.
        flow: &'a Flow,
        /// The address of record: the URI in To.
        aor: &'a str,
        /// Seconds until the binding ends, as the registrar says.
        expires: u32,
    },
    /// The bridge saw a client's REGISTER answered 2xx without a binding for it any more.
    Unregistered {
        /// The client's flow.
        flow: &'a Flow,
        /// The address of record: the URI in To.
        aor: &'a str,
    },
    /// The bridge can reach an upstream.
    UpstreamUp {
        /// The upstream's URI, as configured.
        target: &'a str,
    },
    /// The bridge can't reach an upstream any more.
    UpstreamDown {
        /// The upstream's URI, as configured.
        target: &'a str,
    },
}

/// Whoever wants to know. Called on the runtime's threads, several at once; of one flow, in order. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn event(&self, event: &Event<'_>);
}
