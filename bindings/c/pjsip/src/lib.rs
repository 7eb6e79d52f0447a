//! Nothing of its own: it makes libsipws_pjsip.so and libsipws_pjsip.a of the crate `sipws` with its features `ffi` and
//! `pjsip`.

// Without a mention the crate would not be linked, and nothing be exported (rust-lang/rust 82922).
use edge as _;
