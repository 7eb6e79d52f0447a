//! The limit on open files: every connection is one. Systems start processes with a low soft limit for the sake of old
//! programs that use select(); we do not, so we take what the hard limit gives.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Beside connections: listeners, upstreams, the log, epoll.
const OTHER_FILES: u64 = 256;

/// Raises the soft limit to the hard limit, and says whether `connections` fit below it.
pub(crate) fn raise(connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let now = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            warn!("the limit on open files cannot be raised: {error}");
            current
        }
    };
    let name = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    info!(was = %name(current), now = %name(now), "open files");
    if now.is_some_and(|now| now < connections as u64 + OTHER_FILES) {
        warn!(
            "limits.connections = {connections}, but only {} files can be open; raise the hard limit (ulimit -Hn, systemd's \
             LimitNOFILE), or lower limits.connections",
            name(now)
        );
    }
}
