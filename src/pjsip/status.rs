//! Our reasons in PJSIP's numbers (pj/errno.h, pjsip/sip_errno.h), so that a state callback can tell what went wrong.

use std::io::ErrorKind;

use pjsip_sys as pj;

use crate::edge::{CloseReason, ConnectError};

pub(super) use pj::{
    PJ_ECANCELLED as ECANCELLED, PJ_EEOF as EEOF, PJ_EEXISTS as EEXISTS, PJ_EINVAL as EINVAL,
    PJ_EINVALIDOP as EINVALIDOP, PJ_ENOMEM as ENOMEM, PJ_ENOTSUP as ENOTSUP, PJ_EPENDING as PENDING,
    PJ_ERESOLVE as ERESOLVE, PJ_ETIMEDOUT as ETIMEDOUT, PJ_ETOOMANY as ETOOMANY, PJ_ETOOMANYCONN as ETOOMANYCONN,
    PJ_EUNKNOWN as EUNKNOWN, PJSIP_EINVALIDMSG as EINVALIDMSG, PJSIP_TLS_ECACERT as TLS_ECACERT,
};

pub(super) const SUCCESS: pj::pj_status_t = 0;

/// `PJ_STATUS_FROM_OS`.
const fn os(errno: i32) -> pj::pj_status_t {
    errno + pj::PJ_ERRNO_START_SYS as pj::pj_status_t
}
pub(super) const EINTR: pj::pj_status_t = os(4);
pub(super) const EAGAIN: pj::pj_status_t = os(11);
pub(super) const ENOBUFS: pj::pj_status_t = os(105);
pub(super) const ENOTCONN: pj::pj_status_t = os(107);
const ECONNRESET: pj::pj_status_t = os(104);

/// Why an open connection ended.
pub(super) const fn closed(why: CloseReason) -> pj::pj_status_t {
    match why {
        CloseReason::Client => EEOF,
        CloseReason::Lost => ECONNRESET,
        CloseReason::Silent | CloseReason::SlowReader => ETIMEDOUT,
        CloseReason::Protocol | CloseReason::NotUtf8 | CloseReason::Policy | CloseReason::TooLong => EINVALIDMSG,
        CloseReason::Server => ECANCELLED,
    }
}

/// Why a connection did not come about. An HTTP status is the SIP status of the same number (`PJSIP_ERRNO_FROM_SIP_STATUS`).
pub(super) fn refused(error: &ConnectError) -> pj::pj_status_t {
    match error {
        ConnectError::Resolve(_) => ERESOLVE,
        ConnectError::Connect(kind, _) => os(match kind {
            ErrorKind::ConnectionRefused => 111,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => 104,
            ErrorKind::HostUnreachable => 113,
            ErrorKind::NetworkUnreachable => 101,
            ErrorKind::PermissionDenied => 13,
            ErrorKind::AddrNotAvailable => 99,
            ErrorKind::TimedOut => 110,
            _ => 103,
        }),
        ConnectError::Tls(_) => pj::PJSIP_TLS_ECONNECT,
        ConnectError::Certificate(_) => pj::PJSIP_TLS_ECERTVERIF,
        ConnectError::Refused(status) => pj::PJSIP_ERRNO_START as pj::pj_status_t + pj::pj_status_t::from(*status),
        ConnectError::Subprotocol => ENOTSUP,
        ConnectError::Timeout => ETIMEDOUT,
        ConnectError::Full => ETOOMANYCONN,
        ConnectError::Protocol(_) => EINVALIDMSG,
    }
}
