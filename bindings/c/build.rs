//! How the shared library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // The number changes when a program that was linked to an older one would not run any more.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libsipws.so.0");
        // Its threads may be about to end, and have destructors in it, when a host unloads it (rust-lang/rust 59629).
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
        // A symbol that nobody has is to be found here, and not when a host starts.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,defs");
    }
}
