//! `pj_status_t` of other numbers: what in PJSIP's headers is macros with arguments.

use crate::{PJ_ERRNO_START_SYS, PJ_SUCCESS, PJSIP_ERRNO_START, pj_status_t};

/// `PJ_STATUS_FROM_OS`: of an `errno`.
pub const fn status_from_os(errno: i32) -> pj_status_t {
    match errno {
        0 => PJ_SUCCESS,
        _ => PJ_ERRNO_START_SYS as pj_status_t + errno,
    }
}

/// `PJSIP_ERRNO_FROM_SIP_STATUS`: of the code of a SIP response.
pub const fn status_from_sip(code: u16) -> pj_status_t {
    PJSIP_ERRNO_START as pj_status_t + code as pj_status_t
}
