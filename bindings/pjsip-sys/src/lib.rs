//! PJSIP's C interface, made by bindgen from the headers of the PJSIP that the host program was built with.
//!
//! PJSIP's types have other sizes under another `config_site.h`, so no bindings are kept: they are made anew in each build,
//! and each size and offset is checked by the compiler. `build/find.rs` says where PJSIP is looked for.
//!
//! All names are PJSIP's. Beside its functions there are
//! - its inline functions, as ordinary ones,
//! - its status codes (`PJ_E…`, `PJSIP_E…`, …) as `pj_status_t`, `PJ_TRUE` and `PJ_FALSE` as `pj_bool_t`,
//! - `sipws_pj…`: what in C is a macro with arguments, such as [`sipws_pj_log`] for `PJ_LOG`; likewise [`status_from_os`] and
//!   [`status_from_sip`],
//! - [`PJPROJECT_VERSION`] and [`LAYOUT`], to refuse a host with another PJSIP.
//!
//! Without the feature `link` nothing is linked: PJSIP's functions are the host program's. There may be only one PJSIP in
//! a process, since it keeps its transports in static tables.
//!
//! PJSIP is under the GPL (version 2 or later) or a commercial licence; a program with both is under PJSIP's terms.

mod layout;
mod status;

pub use layout::{LAYOUT, Layout, runtime_version, version_mismatch};
pub use raw::*;
pub use status::{status_from_os, status_from_sip};

// What a generator writes is judged by its tests: those of sizes and offsets are among it.
#[allow(
    clippy::all,
    clippy::unwrap_used,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    rustdoc::all,
    unnecessary_transmutes,
    unsafe_code,
    unsafe_op_in_unsafe_fn
)]
mod raw {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

include!(concat!(env!("OUT_DIR"), "/version.rs"));
