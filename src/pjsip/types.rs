//! The transport types in PJSIP's table: WS and WSS, for IPv4 and IPv6.

use std::ffi::{CStr, c_int, c_uint};
use std::sync::OnceLock;

use pjsip_sys as pj;

/// One of the four transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Over TLS.
    pub secure: bool,
    /// To an IPv6 address.
    pub ipv6: bool,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [
        Kind { secure: false, ipv6: false },
        Kind { secure: true, ipv6: false },
        Kind { secure: false, ipv6: true },
        Kind { secure: true, ipv6: true },
    ];

    /// The name in Via (RFC 7118 §5.1), and in PJSIP's `;transport=`.
    pub(super) const fn name(self) -> &'static CStr {
        if self.secure { c"WSS" } else { c"WS" }
    }

    /// Where an URI without a port leads (RFC 6455 §3).
    pub(super) const fn default_port(self) -> u16 {
        if self.secure { 443 } else { 80 }
    }

    /// Never DATAGRAM: PJSIP would ignore the peer's address when it looks for a connection. Plain ws is not SECURE.
    pub(super) const fn flags(self) -> c_uint {
        let mut flags = pj::pjsip_transport_flags_e_PJSIP_TRANSPORT_RELIABLE;
        if self.secure {
            flags |= pj::pjsip_transport_flags_e_PJSIP_TRANSPORT_SECURE;
        }
        if self.ipv6 {
            flags |= pj::pjsip_transport_type_e_PJSIP_TRANSPORT_IPV6;
        }
        flags
    }

    const fn index(self) -> usize {
        self.secure as usize + 2 * self.ipv6 as usize
    }
}

/// PJSIP's table has 16 entries, of which 12 are taken, and none is ever given back: so once a process.
static TYPES: OnceLock<Result<[c_int; 4], pj::pj_status_t>> = OnceLock::new();

/// The number that PJSIP knows `kind` by; registers the types at first. To be called on a thread of PJSIP's.
///
/// Fails with `PJ_EEXISTS` where somebody else has registered a transport called WS or WSS, with `PJ_ETOOMANY` where
/// the table is full.
pub fn transport_type(kind: Kind) -> Result<pj::pjsip_transport_type_e, pj::pj_status_t> {
    let types = TYPES.get_or_init(register);
    types.map(|types| types[kind.index()] as pj::pjsip_transport_type_e)
}

fn register() -> Result<[c_int; 4], pj::pj_status_t> {
    for kind in Kind::ALL {
        let name = kind.name();
        let name = pj::pj_str_t { ptr: name.as_ptr().cast_mut(), slen: name.count_bytes() as pj::pj_ssize_t };
        // SAFETY: the function reads the name, which is static, and a static table.
        let taken = unsafe { pj::pjsip_transport_get_type_from_name(&raw const name) };
        if taken != 0 {
            return Err(super::status::EEXISTS);
        }
    }
    let mut types = [0; 4];
    // IPv4 before IPv6, which finds its parent by the name.
    for kind in Kind::ALL {
        // SAFETY: the name is static and shorter than the table's 16 bytes; the id is written to memory of ours.
        let status = unsafe {
            pj::pjsip_transport_register_type(
                kind.flags(),
                kind.name().as_ptr(),
                c_int::from(kind.default_port()),
                &raw mut types[kind.index()],
            )
        };
        if status != 0 {
            return Err(status);
        }
    }
    Ok(types)
}
