//! The configuration: a TOML file, and environment variables above it, in; one typed [`Config`], or every error that
//! can be found in one go, out. An unknown key is an error, with its line and a guess at what was meant; secrets are
//! masked wherever a configuration is printed.
//!
//! ```
//! # use sipws::config::Config;
//! let errors = Config::from_toml("[limits]\nrequests_per_secnd = 50\n", "sipws.toml").unwrap_err();
//! assert_eq!(
//!     errors.to_string(),
//!     "sipws.toml:2: limits.requests_per_secnd: unknown key; did you mean requests_per_second?"
//! );
//! ```
//!
//! The way of a value: `draft` (TOML and `env`, each value with its place) → serde into the `sections`, whose own types
//! are in `address`, `origin`, `cidr`, `client`, `secret` and `units` → `check` (ranges, and keys that need each other). When asked
//! to, `files` looks at the files that a configuration names, and `changes` compares two for a reload.

mod address;
mod builder;
mod changes;
mod check;
mod cidr;
mod client;
mod draft;
mod env;
mod errors;
mod files;
mod key_path;
mod layer;
mod origin;
mod secret;
mod sections;
mod text;
mod units;

pub use address::{ListenUrl, SipListen, UpstreamUri};
pub use builder::Builder;
pub use cidr::Cidr;
pub use client::{Client, ClientHost, HostPort};
pub(crate) use client::{check_header, check_target, check_value};
pub use errors::{ConfigError, ConfigErrors, Place};
pub use origin::OriginPattern;
pub use secret::Secret;
pub use sections::{
    Admin, Cluster, HashKey, Limits, Listen, Log, LogFormat, Registration, Routing, Runtime, Sip, Timeouts, Tls,
    TlsVersion, Upstream,
};

use draft::Draft;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// Everything that can be set. Each field is a section of the TOML file; `Default` is what an empty file means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where WebSocket clients connect. One `[[listen]]` takes the place of all defaults.
    pub listen: Vec<Listen>,
    /// The certificate of `wss://` listeners.
    pub tls: Tls,
    /// The side that faces SIP servers.
    pub sip: Sip,
    /// The SIP servers.
    pub upstream: Vec<Upstream>,
    /// WebSocket connections that we open.
    pub client: Client,
    /// Which SIP server a request goes to.
    pub routing: Routing,
    /// How much anyone may take.
    pub limits: Limits,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Who we are among other nodes.
    pub cluster: Cluster,
    /// The daemon's HTTP server.
    pub admin: Admin,
    /// The daemon's log.
    pub log: Log,
    /// Threads, and the end.
    pub runtime: Runtime,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen::defaults(),
            tls: Tls::default(),
            sip: Sip::default(),
            upstream: Vec::new(),
            client: Client::default(),
            routing: Routing::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            cluster: Cluster::default(),
            admin: Admin::default(),
            log: Log::default(),
            runtime: Runtime::default(),
        }
    }
}

impl Config {
    /// Reads a TOML text and checks it. `file_name` stands in errors, and its folder is where relative paths start.
    ///
    /// The process's environment is looked at only where a secret says `{ env = "NAME" }`; secret files are read.
    pub fn from_toml(text: &str, file_name: &str) -> Result<Self, ConfigErrors> {
        Draft::from_toml(text, file_name)?.build(&process_environment().collect())
    }

    /// Reads a TOML file and checks it, without settings from the environment; see [`Config::from_toml`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        Draft::from_file(path.as_ref())?.build(&process_environment().collect())
    }

    /// Reads the file, if one is named, lays the `SIPWS_` variables of `environment` over it, and checks the whole.
    ///
    /// `SIPWS_LIMITS__BURST=20` is `limits.burst`, `SIPWS_LISTEN__0__URL=ws://…` the first listener's `url`. A value is read
    /// as TOML if that gives the right type, else as plain text. An unknown `SIPWS_` variable is an error, except one that
    /// a secret is looked up in, and those that Kubernetes makes for a Service named `sipws`. Relative paths in the
    /// environment start at the working directory.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let environment: HashMap<String, String> = environment.into_iter().collect();
        let mut draft = match path {
            Some(path) => Draft::from_file(path)?,
            None => Draft::default(),
        };
        draft.overlay(&environment);
        draft.build_with(&environment, |config| [check::check(config), check::proxy(config)].concat())
    }

    /// Is every value in its range, and do the keys that need each other go together? `load` has done
    /// it, `from_toml` and `from_file` as far as [`Config::check_edge`] goes. No file is looked at.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        self.check_edge()?;
        ConfigErrors::none_of(check::proxy(self))
    }

    /// As [`Config::check`], for an edge whose messages a host handles: it may do without any listener.
    pub fn check_edge(&self) -> Result<(), ConfigErrors> {
        ConfigErrors::none_of(check::check(self))
    }

    /// Are the files that are named (certificates, keys, `admin.pages`) there, readable, and what they should be?
    /// Reads them; blocking.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        files::check(self)
    }

    /// The dotted keys whose values differ in `new`, in alphabetical order; `listen` and `upstream` count as one key each.
    /// What stands in files (certificates, pages) is not compared.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        changes::changes(self, new)
    }

    /// What is allowed but should be said out loud at start, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }

    /// The whole configuration as TOML, defaults included, secrets as `***`.
    pub fn to_toml_masked(&self) -> String {
        // Nothing in the types can fail to serialize; if something ever does, say so instead of hiding it.
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be printed: {error}\n"))
    }
}

impl Draft {
    fn from_file(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.to_string_lossy();
        let unreadable = |message: String| {
            let place = Place::File { name: name.clone().into_owned(), line: None };
            ConfigErrors::from(ConfigError::new("", message).at(Some(place)))
        };
        let bytes = std::fs::read(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable("not UTF-8, which TOML is".to_owned()))?;
        Self::from_toml(&text, &name)
    }
}

/// The environment of the process; what is not UTF-8 with replacement characters, instead of the panic of `std::env::vars`.
fn process_environment() -> impl Iterator<Item = (String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
