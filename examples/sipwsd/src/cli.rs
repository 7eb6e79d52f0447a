//! The command line, and the help that stands in for a manual page.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

const MANUAL: &str = "\
Examples:
  sipwsd                                    ws://127.0.0.1:8080 and wss://127.0.0.1:8443, no SIP server
  SIPWS_UPSTREAM__0__URI=sip:pbx.example.com sipwsd
                                            the same, in front of a SIP server
  sipwsd --config /etc/sipws/sipwsd.toml    as the file says
  sipwsd check /etc/sipws/sipwsd.toml       what is wrong with the file, or what it would do
  kill -HUP $(pidof sipwsd)                 read the file again

Configuration:
  A TOML file; examples/sipwsd/sipwsd.toml has every key, its default and its meaning. A key that is not given
  has its default; one that does not exist is an error.

Environment:
  SIPWS_SECTION__KEY   sets one key and wins over the file: SIPWS_LIMITS__REQUESTS_PER_SECOND=50,
                       SIPWS_LISTEN__0__URL=ws://0.0.0.0:80/, SIPWS_SIP__TRUSTED='[\"10.0.0.0/8\"]'.
                       Between section and key stand two underscores; elements of lists are numbered from 0.

Output:
  Standard output: one line for each address, once all are open:
  `websocket ws://…`, `sip tcp://…`, `admin http://…`.
  Standard error: the log, as log.level and log.format say.
  http://127.0.0.1:9464/ (admin.listen): /metrics for Prometheus, /healthz (200 while the process runs),
  /readyz (200, or 503 and the reason), / (admin.pages, or a status page).

Signals:
  SIGTERM, SIGINT   drain: accept no more, ask clients to go elsewhere, wait up to runtime.drain, exit 0.
                    A second one: exit at once
  SIGHUP            read the configuration, certificates and pages again. The log says what took effect and
                    what waits for a restart; a wrong configuration changes nothing

Exit codes:
  0          stopped by a signal, after draining; `check`: the configuration is right
  1          the configuration is wrong; standard error says where and what is allowed
  2          wrong arguments
  3          could not start: an address is taken, a port needs privileges
  130, 143   ended at once by a second SIGINT, SIGTERM";

/// A SIP over WebSocket (RFC 7118) edge proxy: browsers on one side, SIP servers over TCP or TLS on the other.
#[derive(Debug, Parser)]
#[command(
    name = "sipwsd",
    version,
    after_help = "See --help for examples, the environment, signals and exit codes.",
    after_long_help = MANUAL,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    /// The configuration, TOML; without it: the defaults, and what the environment says
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Says what is wrong with a configuration, or what it would do; opens no sockets
    ///
    /// Reads FILE and the SIPWS_ variables of the environment, as a start would, and the certificate files that they name.
    /// Prints the whole configuration as TOML, defaults included and secrets masked, and exits with 0; or the errors, one
    /// a line, and exits with 1.
    Check {
        /// The configuration, TOML; without it: the defaults, and what the environment says
        file: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_manual_fits_a_wide_terminal() {
        for line in MANUAL.lines() {
            assert!(line.chars().count() <= 112, "{line}");
        }
    }
}
