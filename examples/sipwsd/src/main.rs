//! sipwsd: the sipws edge proxy as a daemon. Lets browsers and other WebSocket SIP clients talk to SIP servers.
//!
//! What happens, in order: `cli` (arguments) → `run` (configuration, log, limits, sockets, then waiting for signals) →
//! `reload` on SIGHUP, drain on SIGTERM. Beside it: `admin` (HTTP: metrics, health, `pages`). `check` only looks at a
//! configuration. The proxy itself is the library `sipws`.

mod admin;
mod check;
mod cli;
mod logging;
mod open_files;
mod pages;
mod reload;
mod run;
mod signals;
mod status;

use clap::Parser;
use std::process::ExitCode;

// Many small, short-lived buffers from many threads. Chosen here: a library must leave this to its host.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why the daemon ends otherwise than by a signal; the numbers are in `sipwsd --help`.
enum Failure {
    /// The configuration is wrong: one line an error, each with its place.
    Configuration(String),
    /// Something that has to be there at start is not: an address is taken, a thread cannot be made.
    Start(String),
}

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let outcome = match cli.command {
        Some(cli::Command::Check { file }) => check::check(file.as_deref()),
        None => run::run(cli.config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(errors)) => {
            eprintln!("{errors}");
            ExitCode::from(1)
        }
        Err(Failure::Start(why)) => {
            eprintln!("sipwsd: cannot start: {why}");
            ExitCode::from(3)
        }
    }
}
