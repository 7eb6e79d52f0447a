//! The page that `/` shows where `admin.pages` has none: where the daemon listens, and whether it is ready.

use sipws::Server;
use std::fmt::Write;

/// Beside the page, because its Content-Security-Policy allows no inline style.
pub(crate) const STYLE: &str = include_str!("status.css");

pub(crate) fn page(server: &Server) -> String {
    let state = match server.ready() {
        Ok(()) => "<span class=\"ready\">ready</span>".to_owned(),
        Err(why) => format!("<span class=\"waiting\">not ready: {}</span>", escaped(&why)),
    };
    let list = |urls: Vec<String>| {
        urls.iter().fold(String::new(), |mut list, url| {
            // Writing to a String cannot fail.
            let _ = write!(list, "<dd><code>{}</code></dd>", escaped(url));
            list
        })
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>sipwsd</title>\
         <link rel=\"stylesheet\" href=\"/status.css\"></head><body>\n<h1>sipwsd {version}: {state}</h1>\n<dl>\n\
         <dt>WebSocket clients</dt>{websocket}\n<dt>SIP servers</dt>{sip}\n\
         <dt>Look inside</dt><dd><a href=\"/metrics\">/metrics</a> · <a href=\"/healthz\">/healthz</a> · \
         <a href=\"/readyz\">/readyz</a></dd>\n</dl>\n</body></html>\n",
        version = env!("CARGO_PKG_VERSION"),
        websocket = list(server.websocket_urls()),
        sip = list(server.sip_urls()),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
