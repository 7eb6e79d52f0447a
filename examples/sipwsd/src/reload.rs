//! SIGHUP: the configuration, certificates and pages are read again. All of it takes effect or, if anything is wrong,
//! nothing; the log says which keys changed and which of them wait for a restart.

use crate::admin::SharedPages;
use crate::logging::{self, Level};
use crate::pages::Pages;
use crate::{Failure, run};
use sipws::Server;
use sipws::config::Config;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::{error, info, warn};

/// Keys of the daemon itself that only a restart changes; the server tells its own.
const NEED_A_RESTART: [&str; 2] = ["admin.listen", "log.format"];

pub(crate) struct Reloader {
    pub(crate) file: Option<PathBuf>,
    pub(crate) server: Arc<Server>,
    pub(crate) level: Level,
    pub(crate) pages: SharedPages,
    /// What the daemon was started with.
    pub(crate) started: Config,
    /// What was last read without an error.
    pub(crate) latest: Config,
}

impl Reloader {
    /// Reads files; blocking.
    pub(crate) fn reload(&mut self) {
        if let Err(Failure::Configuration(why) | Failure::Start(why)) = self.try_reload() {
            for line in why.lines() {
                error!("not reloaded, going on as before: {line}");
            }
        }
    }

    fn try_reload(&mut self) -> Result<(), Failure> {
        let config = run::read_configuration(self.file.as_deref())?;
        let filter = logging::filter(&config.log)?;
        let pages = Pages::load(config.admin.pages.as_deref())?;
        let of_server = self.server.reload(config.clone()).map_err(|error| Failure::Start(error.to_string()))?;

        self.level.set(filter);
        self.pages.set(pages);
        let since_start = self.started.changes(&config);
        let of_daemon = since_start.into_iter().filter(|key| NEED_A_RESTART.contains(&key.as_str()));
        let waiting: BTreeSet<String> = of_server.into_iter().chain(of_daemon).collect();
        let changed = self.latest.changes(&config);
        let effective: Vec<&str> = changed.iter().filter(|key| !waiting.contains(*key)).map(String::as_str).collect();

        match effective.as_slice() {
            [] => info!("reloaded: certificates and pages; no key took effect"),
            keys => info!("reloaded: {}", keys.join(", ")),
        }
        if !waiting.is_empty() {
            let keys: Vec<&str> = waiting.iter().map(String::as_str).collect();
            warn!("changed, but only a restart makes it effective: {}", keys.join(", "));
        }
        for warning in config.warnings() {
            warn!("{warning}");
        }
        self.latest = config;
        Ok(())
    }
}
