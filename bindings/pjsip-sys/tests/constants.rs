//! What was made of PJSIP's headers: the numbers that callers rely on, and the comparison with a host's.

use pjsip_sys::{self as pj, LAYOUT, Layout};

#[test]
fn status_codes_have_the_numbers_and_the_type_that_c_sees() {
    let codes: [(pj::pj_status_t, i32); 9] = [
        (pj::PJ_SUCCESS, 0),
        (pj::PJ_EPENDING, 70_002),
        (pj::PJ_EINVAL, 70_004),
        (pj::PJ_ETOOMANY, 70_010),
        (pj::PJLIB_UTIL_EDNS_NXDOMAIN, 320_053),
        (pj::PJMEDIA_SDP_EINSDP, 220_020),
        (pj::PJNATH_ESTUNTIMEDOUT, 370_004),
        (pj::PJSIP_EINVALIDMSG, 171_020),
        (pj::PJSIP_TLS_ECERTVERIF, 171_173),
    ];
    for (ours, number) in codes {
        assert_eq!(ours, number);
    }
    assert_eq!(pj::PJSIP_EXPIRES_NOT_SPECIFIED, u32::MAX);
}

#[test]
fn an_errno_and_a_sip_response_have_a_status_code() {
    assert_eq!(pj::status_from_os(0), pj::PJ_SUCCESS);
    assert_eq!(pj::status_from_os(111), 120_111);
    assert_eq!(pj::status_from_sip(403), 170_403);
}

#[test]
fn a_host_with_the_same_headers_is_taken() {
    assert_eq!(LAYOUT.mismatch(&LAYOUT), None);
    let (major, minor) = (LAYOUT.version >> 24, LAYOUT.version >> 16 & 0xff);
    assert!(pj::PJPROJECT_VERSION.starts_with(&format!("{major}.{minor}")));
}

#[test]
fn a_host_with_other_headers_is_told_what_differs() {
    // As a smaller packet makes it.
    let less = LAYOUT.max_pkt_len - 4000;
    let host = Layout { max_pkt_len: less, rx_data: LAYOUT.rx_data - 4000, ..LAYOUT };
    let said = LAYOUT.mismatch(&host).unwrap_or_default();
    let expected = format!("PJSIP_MAX_PKT_LEN is {} here and {less} in the host: build both", LAYOUT.max_pkt_len);
    assert!(said.starts_with(&expected), "{said}");

    let host = Layout { version: 2 << 24 | 14 << 16 | 1 << 8, ..LAYOUT };
    let said = LAYOUT.mismatch(&host).unwrap_or_default();
    assert!(said.ends_with("loaded by 2.14.1"), "{said}");
}
