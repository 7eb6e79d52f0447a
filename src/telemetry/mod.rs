//! What can be seen from outside: counters and gauges in Prometheus form. Log lines are written where things happen,
//! through `tracing`; who subscribes is the host's business.

pub mod masked;
pub mod metrics;

pub use masked::Masked;
pub use metrics::{Direction, Metrics};
