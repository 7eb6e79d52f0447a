//! Nothing of its own: it makes libsipws.so and libsipws.a of the crate `sipws` with its feature `ffi`.

// Without a mention the crate would not be linked, and nothing be exported (rust-lang/rust 82922).
use edge as _;
