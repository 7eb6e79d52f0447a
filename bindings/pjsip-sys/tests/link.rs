//! With PJSIP linked in: its libraries are all there, in an order that the linker takes, and they are those of the headers.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Mutex;

use pjsip_sys as pj;

static LOGGED: Mutex<Vec<(c_int, String)>> = Mutex::new(Vec::new());

unsafe extern "C" fn keep(level: c_int, data: *const c_char, _length: c_int) {
    // SAFETY: PJLIB hands its log function a text that ends in NUL and lives until it returns.
    let line = unsafe { CStr::from_ptr(data) }.to_string_lossy().into_owned();
    LOGGED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((level, line));
}

#[test]
fn an_endpoint_is_made_and_destroyed_and_the_library_is_the_one_of_the_headers() {
    // SAFETY: pj_init() comes first, this is the only test and so the only thread that calls PJSIP, and what is made last
    // is destroyed first. PJLIB fills the caching pool in before anyone reads it.
    unsafe {
        assert_eq!(pj::pj_init(), pj::PJ_SUCCESS);
        assert_eq!(pj::runtime_version(), pj::PJPROJECT_VERSION);
        assert_eq!(pj::version_mismatch(), None);

        let mut pools = MaybeUninit::<pj::pj_caching_pool>::uninit();
        pj::pj_caching_pool_init(pools.as_mut_ptr(), &raw const pj::pj_pool_factory_default_policy, 0);
        let factory = &raw mut (*pools.as_mut_ptr()).factory;
        let mut endpoint = ptr::null_mut();
        assert_eq!(pj::pjsip_endpt_create(factory, c"link".as_ptr(), &raw mut endpoint), pj::PJ_SUCCESS);
        assert!(!pj::pjsip_endpt_get_ioqueue(endpoint).is_null());
        pj::pjsip_endpt_destroy(endpoint);

        a_log_line_has_its_level_and_sender();
        an_inline_function_can_be_called();
        a_status_code_has_pjsips_words();

        pj::pj_caching_pool_destroy(pools.as_mut_ptr());
        pj::pj_shutdown();
    }
}

unsafe fn a_log_line_has_its_level_and_sender() {
    // SAFETY: as the caller says; all texts end in NUL.
    unsafe {
        pj::pj_log_set_log_func(Some(keep));
        pj::pj_log_set_level(4);
        pj::sipws_pj_log(3, c"flow 7".as_ptr(), c"50 %s of it".as_ptr());
        pj::sipws_pj_log(5, c"flow 7".as_ptr(), c"too much detail".as_ptr());
        pj::sipws_pj_log(-1, c"flow 7".as_ptr(), c"out of range".as_ptr());
    }
    let logged = LOGGED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let lines: Vec<_> = logged.iter().filter(|(_, line)| line.contains("flow 7")).collect();
    assert_eq!(lines.iter().map(|(level, _)| *level).collect::<Vec<_>>(), [3, 1], "{lines:?}");
    assert!(lines[0].1.contains("50 %s of it"), "{lines:?}");
}

unsafe fn an_inline_function_can_be_called() {
    let mut head = MaybeUninit::<pj::pj_list>::uninit();
    // SAFETY: pj_list_init writes both links before pj_list_empty reads them.
    unsafe {
        pj::pj_list_init(head.as_mut_ptr().cast());
        assert_ne!(pj::pj_list_empty(head.as_ptr().cast()), pj::PJ_FALSE);
    }
}

unsafe fn a_status_code_has_pjsips_words() {
    let mut text = [0; pj::PJ_ERR_MSG_SIZE as usize];
    // SAFETY: the buffer is as long as it says.
    let said = unsafe { pj::pj_strerror(pj::PJ_EPENDING, text.as_mut_ptr(), text.len() as pj::pj_size_t) };
    // SAFETY: PJLIB says how much of the buffer it wrote.
    let said = unsafe { std::slice::from_raw_parts(said.ptr.cast::<u8>(), said.slen as usize) };
    assert!(String::from_utf8_lossy(said).contains("PJ_EPENDING"), "{:?}", String::from_utf8_lossy(said));
}
