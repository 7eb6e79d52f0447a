//! Whether the PJSIP that runs is the one that this was built for. Sizes of PJSIP's types depend on its `config_site.h`;
//! a library of PJSIP's can't tell them, but the compiler of a program that was built with its headers can: such a
//! program fills a [`Layout`] in and passes it on.

use std::ffi::CStr;

use crate::{PJ_MAX_OBJ_NAME, PJ_VERSION_NUM, PJPROJECT_VERSION, PJSIP_MAX_PKT_LEN};
use crate::{pj_get_version, pj_sockaddr, pjsip_rx_data, pjsip_tpfactory, pjsip_transport, pjsip_tx_data};

/// What both sides of a `pjsip_transport` must see alike. Bytes, where nothing else is said.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of this structure, which may grow.
    pub size: u32,
    /// `sizeof(pjsip_transport)`.
    pub transport: u32,
    /// `sizeof(pjsip_tpfactory)`.
    pub tpfactory: u32,
    /// `sizeof(pjsip_tx_data)`.
    pub tx_data: u32,
    /// `sizeof(pjsip_rx_data)`, which has a packet inside.
    pub rx_data: u32,
    /// `sizeof(pj_sockaddr)`.
    pub sockaddr: u32,
    /// `PJSIP_MAX_PKT_LEN`.
    pub max_pkt_len: u32,
    /// `PJ_MAX_OBJ_NAME`.
    pub max_obj_name: u32,
    /// `PJ_VERSION_NUM`: major « 24 | minor « 16 | revision « 8.
    pub version: u32,
}

/// That of the headers that this was built with.
pub const LAYOUT: Layout = Layout {
    size: size_of::<Layout>() as u32,
    transport: size_of::<pjsip_transport>() as u32,
    tpfactory: size_of::<pjsip_tpfactory>() as u32,
    tx_data: size_of::<pjsip_tx_data>() as u32,
    rx_data: size_of::<pjsip_rx_data>() as u32,
    sockaddr: size_of::<pj_sockaddr>() as u32,
    max_pkt_len: PJSIP_MAX_PKT_LEN,
    max_obj_name: PJ_MAX_OBJ_NAME,
    version: PJ_VERSION_NUM,
};

impl Layout {
    /// What a host built with `host` differs in, in words for its log; `None`: nothing.
    pub fn mismatch(&self, host: &Layout) -> Option<String> {
        let version = |number: u32| format!("{}.{}.{}", number >> 24, number >> 16 & 0xff, number >> 8 & 0xff);
        if self.version != host.version {
            return Some(format!("built for PJSIP {}, loaded by {}", version(self.version), version(host.version)));
        }
        let pairs = [
            ("the size of the layout itself", self.size, host.size),
            ("PJSIP_MAX_PKT_LEN", self.max_pkt_len, host.max_pkt_len),
            ("PJ_MAX_OBJ_NAME", self.max_obj_name, host.max_obj_name),
            ("sizeof(pj_sockaddr)", self.sockaddr, host.sockaddr),
            ("sizeof(pjsip_transport)", self.transport, host.transport),
            ("sizeof(pjsip_tpfactory)", self.tpfactory, host.tpfactory),
            ("sizeof(pjsip_tx_data)", self.tx_data, host.tx_data),
            ("sizeof(pjsip_rx_data)", self.rx_data, host.rx_data),
        ];
        let (what, ours, theirs) = pairs.into_iter().find(|(_, ours, theirs)| ours != theirs)?;
        Some(format!(
            "{what} is {ours} here and {theirs} in the host: build both with the same headers and config_site.h of PJSIP"
        ))
    }
}

/// What the PJSIP in this process calls itself: `2.17`, `2.16.1-dev`. To be compared with [`PJPROJECT_VERSION`]. On any
/// thread, also before `pj_init`.
#[allow(unsafe_code)]
pub fn runtime_version() -> &'static str {
    // SAFETY: the function returns a string constant of PJLIB's, and touches nothing else.
    let version = unsafe { CStr::from_ptr(pj_get_version()) };
    version.to_str().unwrap_or("of an unreadable version")
}

/// What is wrong with the PJSIP in this process, as far as it can tell by itself; `None`: nothing.
pub fn version_mismatch() -> Option<String> {
    let running = runtime_version();
    (running != PJPROJECT_VERSION).then(|| format!("built for PJSIP {PJPROJECT_VERSION}, loaded by {running}"))
}
