//! placeholder
pub mod guard;
pub mod sip;
pub mod telemetry;
