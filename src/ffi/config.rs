//! A configuration while a host puts it together: keys, certificates, and whom to call.

use std::ffi::{CStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::adaptors::{Callback, Callbacks};
use super::boundary::{self, Failure, Outcome};
use super::callback::UserData;
use super::handle::{self, Handle};
use super::types::*;
use crate::config::{Builder, Config, ConfigErrors};
use crate::edge::tls::Identity;

/// Events that wait for sipws_server_next_event(), unless a host says otherwise.
const QUEUE: u32 = 1024;

/// What a server is made of.
pub(crate) struct Draft {
    builder: Builder,
    pub(crate) identity: Option<Identity>,
    pub(crate) callbacks: Callbacks,
    /// Events that may wait; 0: there is no queue.
    pub(crate) queue: u32,
}

/// A host's configuration. Behind a lock, so that the mistake of using it from two threads is told, and not undefined.
pub(crate) struct ConfigHandle(Mutex<Draft>);

impl Handle for ConfigHandle {
    type Opaque = sipws_config;
    const TAG: u32 = 0x6366_6700;
    const NAME: &'static str = "sipws_config";
}

impl Draft {
    fn new(builder: Builder) -> Draft {
        Draft { builder, identity: None, callbacks: Callbacks::default(), queue: QUEUE }
    }

    /// All by default, but nothing listens.
    #[cfg(feature = "pjsip")]
    pub(crate) fn without_listeners() -> Outcome<Draft> {
        let mut builder = Builder::new();
        builder.set("listen", "[]")?;
        Ok(Draft::new(builder))
    }

    /// The typed configuration, checked; a message handler makes upstreams and the SIP side superfluous.
    pub(crate) fn typed(&self) -> Outcome<Config> {
        let config = self.edge()?;
        if self.callbacks.handler.is_none() {
            config.check()?;
        }
        Ok(config)
    }

    /// The typed configuration, checked as one whose messages a host handles.
    pub(crate) fn edge(&self) -> Outcome<Config> {
        Ok(self.builder.build()?)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Failure {
        Failure::new(SIPWS_E_CONFIG, errors.to_string())
    }
}

impl ConfigHandle {
    pub(crate) fn with<T>(&self, body: impl FnOnce(&mut Draft) -> Outcome<T>) -> Outcome<T> {
        let mut draft = self.0.try_lock().ok_or_else(|| {
            Failure::state("the configuration is in use by another thread, or by a call that called this")
        })?;
        body(&mut draft)
    }
}

/// # Safety
///
/// `config` is NULL or a handle.
unsafe fn change<T>(config: *const sipws_config, body: impl FnOnce(&mut Draft) -> Outcome<T>) -> Outcome<T> {
    // SAFETY: as promised by the caller.
    unsafe { boundary::on(config, |handle: &ConfigHandle| handle.with(body)) }
}

/// Makes a configuration of defaults: ws://127.0.0.1:8080, wss://127.0.0.1:8443 with a self-signed certificate, no
/// upstream. Free it with sipws_config_free(). Starts no thread, opens nothing.
///
/// All sipws_config_* functions: a configuration has one owner, who uses it from one thread at a time; any thread will
/// do, and different configurations know nothing of each other. Allowed in callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_new(out: *mut *mut sipws_config) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise.
        let out = unsafe { boundary::output(out, "out")? };
        out.write(handle::give(ConfigHandle(Mutex::new(Draft::new(Builder::new())))));
        Ok(())
    })
}

/// Makes a configuration of a TOML text of `len` bytes, with the keys of the configuration file. Relative paths in it
/// start at the working directory. The environment is looked at only where a secret says { env = "NAME" }.
///
/// Errors: SIPWS_E_CONFIG, and sipws_last_error() has all that is wrong, a line each; SIPWS_E_INVALID where it is not
/// UTF-8; SIPWS_E_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_from_toml(
    text: *const c_char,
    len: usize,
    out: *mut *mut sipws_config,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a slice, and an output.
        let (text, out) = unsafe { (boundary::slice(text, len, "text")?, boundary::output(out, "out")?) };
        let text = std::str::from_utf8(text).map_err(|_| Failure::invalid("text is not UTF-8, which TOML is"))?;
        let builder = Builder::from_toml(text, "configuration")?;
        out.write(handle::give(ConfigHandle(Mutex::new(Draft::new(builder)))));
        Ok(())
    })
}

/// Makes a configuration of a TOML file. Relative paths in it start at the file's folder.
///
/// Errors: as for sipws_config_from_toml().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_from_file(path: *const c_char, out: *mut *mut sipws_config) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a C string, and an output.
        let (path, out) = unsafe {
            if path.is_null() {
                return Err(Failure::null("path"));
            }
            (CStr::from_ptr(path), boundary::output(out, "out")?)
        };
        let builder = Builder::from_file(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())))?;
        out.write(handle::give(ConfigHandle(Mutex::new(Draft::new(builder)))));
        Ok(())
    })
}

/// Sets one key: "limits.requests_per_second" to "50", "listen[0].url" to "ws://127.0.0.1:0/", "upstream[0].uri" to
/// "sip:pbx.example.com;transport=tcp". The value is read as TOML if that gives the right type, else as plain text. The
/// next free number of a list adds to it; the first element that is set takes the place of the list's defaults.
///
/// Errors: SIPWS_E_CONFIG for an unknown key, or a value of the wrong type; nothing is changed then. What keys demand
/// of each other is checked by sipws_config_validate(). SIPWS_E_NULL, SIPWS_E_INVALID (not UTF-8), SIPWS_E_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_set(
    config: *mut sipws_config,
    key: *const c_char,
    value: *const c_char,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and C strings.
        unsafe {
            change(config, |draft| {
                let (key, value) = (boundary::text(key, "key")?, boundary::text(value, "value")?);
                Ok(draft.builder.set(key, value)?)
            })
        }
    })
}

/// Sets the certificate of wss:// listeners from memory, instead of tls.certificate and tls.key: PEM, the server's own
/// certificate first, and its key. Both are copied.
///
/// Errors: SIPWS_E_TLS where they can't be read or don't belong together; SIPWS_E_NULL, SIPWS_E_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_set_tls_pem(
    config: *mut sipws_config,
    chain: sipws_bytes,
    key: sipws_bytes,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and slices.
        unsafe {
            change(config, |draft| {
                let (chain, key) =
                    (boundary::slice(chain.data, chain.len, "chain")?, boundary::slice(key.data, key.len, "key")?);
                let identity = Identity::pem(chain.to_vec(), key.to_vec());
                identity.check()?;
                draft.identity = Some(identity);
                Ok(())
            })
        }
    })
}

/// Has `policy` decide who may connect and what may pass, after the library's own checks; NULL: nobody any more. `drop`
/// (may be NULL) is called once with `user_data`, after the last use: when it has been replaced or the configuration
/// freed, and every server that was made with it.
///
/// Errors: SIPWS_E_NULL, SIPWS_E_HANDLE; `user_data` then stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_set_policy(
    config: *mut sipws_config,
    policy: sipws_policy_fn,
    user_data: *mut c_void,
    drop: sipws_drop_fn,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise.
        let old = unsafe {
            change(config, |draft| {
                let new = callback(policy, user_data, drop);
                Ok((std::mem::replace(&mut draft.callbacks.policy, new.0), new.1))
            })?
        };
        // Drop functions are called here, where the host may use the configuration again.
        std::mem::drop(old);
        Ok(())
    })
}

/// Has all SIP messages go to the host, and none through the bridge: no upstreams, no SIP listeners. `handler` is
/// copied; NULL: the bridge again. `drop` as for sipws_config_set_policy().
///
/// Errors: SIPWS_E_INVALID for a size that is none, or functions of a newer library; SIPWS_E_NULL (config),
/// SIPWS_E_HANDLE; `user_data` then stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_set_message_handler(
    config: *mut sipws_config,
    handler: *const sipws_message_handler,
    user_data: *mut c_void,
    drop: sipws_drop_fn,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise: a handle, and a structure of the size that it says.
        let old = unsafe {
            change(config, |draft| {
                const NOTHING: sipws_message_handler =
                    sipws_message_handler { size: 0, opened: None, message: None, closed: None, connect_failed: None };
                let function = match handler.is_null() {
                    true => None,
                    false => Some(boundary::read_sized(handler, NOTHING, "handler")?),
                };
                let new = callback(function, user_data, drop);
                Ok((std::mem::replace(&mut draft.callbacks.handler, new.0), new.1))
            })?
        };
        std::mem::drop(old);
        Ok(())
    })
}

/// Has `events` told what happens; NULL: nobody, events are queued for sipws_server_next_event() again. `drop` as for
/// sipws_config_set_policy().
///
/// Errors: SIPWS_E_NULL (config), SIPWS_E_HANDLE; `user_data` then stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_set_events(
    config: *mut sipws_config,
    events: sipws_event_fn,
    user_data: *mut c_void,
    drop: sipws_drop_fn,
) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise.
        let old = unsafe {
            change(config, |draft| {
                let new = callback(events, user_data, drop);
                Ok((std::mem::replace(&mut draft.callbacks.events, new.0), new.1))
            })?
        };
        std::mem::drop(old);
        Ok(())
    })
}

/// How many events may wait for sipws_server_next_event(): 1024, unless this says otherwise. The oldest are kept; a gap
/// is marked by an event SIPWS_EVENT_OVERFLOW. 0: events are not kept at all.
///
/// Errors: SIPWS_E_NULL, SIPWS_E_HANDLE, SIPWS_E_INVALID for more than 1048576.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_set_event_queue(config: *mut sipws_config, capacity: u32) -> sipws_status {
    boundary::status(|| {
        // SAFETY: the host's promise.
        unsafe {
            change(config, |draft| {
                if capacity > 1 << 20 {
                    return Err(Failure::invalid(format!("{capacity} events are too many to wait: at most 1048576")));
                }
                draft.queue = capacity;
                Ok(())
            })
        }
    })
}

/// Checks it as sipws_server_new() does: ranges, and keys that need each other. Opens nothing.
///
/// Errors: SIPWS_E_CONFIG, and sipws_last_error() has all that is wrong, a line each; SIPWS_E_NULL, SIPWS_E_HANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_validate(config: *const sipws_config) -> sipws_status {
    // SAFETY: the host's promise.
    boundary::status(|| unsafe { change(config, |draft| draft.typed().map(drop)) })
}

/// Frees it. Servers that were made of it keep what they need. NULL is allowed. Drop functions are called here, unless
/// a server still uses what they belong to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sipws_config_free(config: *mut sipws_config) {
    boundary::value((), || {
        if config.is_null() {
            return Ok(());
        }
        // SAFETY: the host's promise.
        unsafe { handle::take::<ConfigHandle>(config) }.map(drop)
    });
}

/// A callback; without a function there is none, and the user data is let go of at once, by whoever gets it.
fn callback<F>(
    function: Option<F>,
    user_data: *mut c_void,
    drop: sipws_drop_fn,
) -> (Option<Arc<Callback<F>>>, Option<UserData>) {
    let user_data = UserData::new(user_data, drop);
    match function {
        Some(function) => (Some(Arc::new(Callback { function, user_data })), None),
        None => (None, Some(user_data)),
    }
}
