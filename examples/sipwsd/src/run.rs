//! The daemon's life: configuration, log, limits, sockets; then signals, until one asks for the end.

use crate::admin::{self, SharedPages};
use crate::pages::Pages;
use crate::reload::Reloader;
use crate::signals::{Request, Signals, StopSignal};
use crate::{Failure, logging, open_files};
use sipws::config::Config;
use sipws::{Kind, Server};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// What admin requests that are under way at the end may still take.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// Runs until a signal ends it.
pub(crate) fn run(file: Option<PathBuf>) -> Result<(), Failure> {
    let config = read_configuration(file.as_deref())?;
    let read_pages = Pages::load(config.admin.pages.as_deref())?;
    let level = logging::start(&config.log)?;
    info!(version = env!("CARGO_PKG_VERSION"), node = config.cluster.node, "starting");
    for warning in config.warnings() {
        warn!("{warning}");
    }
    open_files::raise(config.limits.connections);

    // The daemon's own: signals and the admin server. The proxy has threads of its own, which this must not slow down.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Start(format!("runtime: {error}")))?;
    // Before anything is open: a SIGTERM from here on drains.
    let signals = runtime.block_on(async { Signals::listen() });
    let signals = signals.map_err(|error| Failure::Start(format!("signals: {error}")))?;

    let admin_listen = config.admin.listen;
    let listener = runtime.block_on(TcpListener::bind(admin_listen));
    let listener = listener.map_err(|error| Failure::Start(format!("admin.listen {admin_listen}: {error}")))?;
    let admin_address = listener.local_addr().unwrap_or(admin_listen);

    let server = Server::start(config.clone()).map_err(|error| match error.kind() {
        Kind::Config => Failure::Configuration(error.to_string()),
        _ => Failure::Start(error.to_string()),
    })?;
    let server = Arc::new(server);
    let pages = SharedPages::default();
    pages.set(read_pages);

    let (stop_admin, stopped) = oneshot::channel();
    let router = admin::router(Arc::clone(&server), pages.clone());
    let admin = runtime.spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(async {
            // Either way it is time: told, or nobody is left to tell.
            let _ = stopped.await;
        });
        if let Err(error) = served.await {
            error!("admin: {error}");
        }
    });

    print_addresses(&server, admin_address);
    let reloader = Reloader { file, server, level, pages, started: config.clone(), latest: config };
    runtime.block_on(until_stopped(signals, reloader, admin, stop_admin));
    Ok(())
}

/// File and environment, and the files that they name.
pub(crate) fn read_configuration(file: Option<&Path>) -> Result<Config, Failure> {
    let wrong = |errors: sipws::config::ConfigErrors| Failure::Configuration(errors.to_string());
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    let config = Config::load(file, environment).map_err(wrong)?;
    config.check_files().map_err(wrong)?;
    Ok(config)
}

/// For whoever started us: now everything is open, and these are the real ports.
fn print_addresses(server: &Server, admin: SocketAddr) {
    let websocket = server.websocket_urls().into_iter().map(|url| format!("websocket {url}\n"));
    let sip = server.sip_urls().into_iter().map(|url| format!("sip {url}\n"));
    let lines: String = websocket.chain(sip).chain([format!("admin http://{admin}/\n")]).collect();
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        warn!("standard output: {error}; the addresses are\n{lines}");
    }
}

async fn until_stopped(
    mut signals: Signals,
    mut reloader: Reloader,
    admin: JoinHandle<()>,
    stop_admin: oneshot::Sender<()>,
) {
    let stop = loop {
        match signals.next().await {
            Request::Stop(stop) => break stop,
            Request::Reload => {
                info!("SIGHUP: reloading");
                let reload = tokio::task::spawn_blocking(move || {
                    reloader.reload();
                    reloader
                });
                match reload.await {
                    Ok(back) => reloader = back,
                    // A panic, which the panic hook has printed: what is left of the configuration is unknown.
                    Err(_) => std::process::exit(101),
                }
            }
        }
    };
    drain(stop, &mut signals, &reloader).await;
    let _ = stop_admin.send(());
    if tokio::time::timeout(LAST_REQUESTS, admin).await.is_err() {
        info!("admin: requests still under way are dropped");
    }
    info!("stopped");
}

async fn drain(stop: StopSignal, signals: &mut Signals, reloader: &Reloader) {
    let grace = reloader.latest.runtime.drain;
    info!(?grace, "{}: draining", stop.name());
    let server = Arc::clone(&reloader.server);
    let drained = tokio::task::spawn_blocking(move || server.drain(grace));
    tokio::select! {
        _ = drained => {}
        stop = signals.next_stop() => {
            warn!("{}: not waiting any longer", stop.name());
            std::process::exit(stop.exit_code());
        }
    }
}
