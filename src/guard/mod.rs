//! What may pass: the rate of an address, the shape of a message, and the SIP answer for what may not.
//!
//! In: the bytes of one WebSocket message and who sent them. Out: a [`Message`](crate::sip::Message) that is fit to be handled, or a
//! [`Refusal`]. Everything refused is counted.

pub mod rate;
pub mod screen;
pub mod tag;

pub use rate::{Address, Addresses};
pub use screen::{Guard, Refusal};
pub use tag::LocalTag;
