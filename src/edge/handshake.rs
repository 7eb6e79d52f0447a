//! The opening handshake of the server (RFC 6455 §4.2, RFC 7118 §4): from the first byte of HTTP to the 101.

use std::io;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::derive_accept_key;

use crate::config::{Listen, OriginPattern};

/// The longest header section that is read, in bytes. Browsers send cookies along.
pub(super) const MAX_HEAD: usize = 16 * 1024;
pub(super) const MAX_HEADERS: usize = 100;

/// Why a client gets no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong and how to mend it, in the body of the answer.
    pub text: &'static str,
    /// The label that metrics carry.
    pub label: &'static str,
}

const fn refuse(status: u16, label: &'static str, text: &'static str) -> Refusal {
    Refusal { status, text, label }
}

/// The server, or the client's address, has as many connections as it may.
pub(super) const FULL: Refusal = refuse(503, "connections", "Too many connections; try again later.");
/// The server is about to stop.
pub(super) const DRAINING: Refusal = refuse(503, "draining", "This server is being stopped; connect to another.");

/// Reads a header section, of which `read` is there already. Returns it with what came behind it. An error of the kind
/// `UnexpectedEof`: the other side went away; `FileTooLarge`: it sent too much.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin), read: Vec<u8>) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut buffer = read;
    buffer.reserve(1024);
    let mut searched = 0;
    loop {
        if let Some(end) = memchr::memmem::find(&buffer[searched..], b"\r\n\r\n") {
            let early = buffer.split_off(searched + end + 4);
            return Ok((buffer, early));
        }
        searched = buffer.len().saturating_sub(3);
        if buffer.len() >= MAX_HEAD {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Judges the request. `Ok` is the Sec-WebSocket-Accept of the answer.
pub fn judge(request: &[u8], listen: &Listen) -> Result<String, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(refuse(400, "bad_request", "This is no HTTP/1.1 request.")),
    }
    let all = |name: &'static str| {
        parsed.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.trim_ascii())
    };
    let lists = |name: &'static str, word: &str| {
        all(name).flat_map(|v| v.split(|&b| b == b',')).any(|v| v.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    if parsed.method != Some("GET") {
        return Err(refuse(405, "bad_request", "A WebSocket begins with a GET."));
    }
    if parsed.version != Some(1) {
        return Err(refuse(505, "bad_request", "A WebSocket begins with HTTP/1.1."));
    }
    let target = parsed.path.unwrap_or("");
    let path = target.split(['?', '#']).next().unwrap_or("");
    if path != listen.url.path {
        return Err(refuse(404, "path", "No WebSocket is served at this path."));
    }
    if !lists("upgrade", "websocket") || !lists("connection", "upgrade") {
        return Err(refuse(426, "no_upgrade", "This is a SIP WebSocket server (RFC 7118): upgrade to websocket."));
    }
    if all("sec-websocket-version").next() != Some(b"13") {
        return Err(refuse(426, "version", "Sec-WebSocket-Version must be 13."));
    }
    let mut keys = all("sec-websocket-key");
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if STANDARD.decode(key).is_ok_and(|k| k.len() == 16) => key,
        _ => return Err(refuse(400, "key", "Sec-WebSocket-Key must be one value of 16 bytes in base64.")),
    };
    // RFC 7118 §4.1: the value is exactly `sip`.
    let sip = all("sec-websocket-protocol").flat_map(|v| v.split(|&b| b == b',')).any(|p| p.trim_ascii() == b"sip");
    if !sip {
        return Err(refuse(400, "subprotocol", "Sec-WebSocket-Protocol must offer sip."));
    }
    let mut hosts = all("host");
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(refuse(400, "bad_request", "Exactly one Host is required."));
    };
    let mut origins = all("origin");
    let origin = origins.next();
    if origins.next().is_some() || !origin_allowed(origin, host, &listen.origins) {
        return Err(refuse(
            403,
            "origin",
            "This Origin is not allowed here; the server's configuration lists those that are.",
        ));
    }
    Ok(derive_accept_key(key))
}

/// Whether a page of `origin` may connect. Without a list: pages of the same host, whatever the port, and clients that
/// are no browsers and say no Origin.
fn origin_allowed(origin: Option<&[u8]>, host: &[u8], allowed: &[OriginPattern]) -> bool {
    let Some(origin) = origin else {
        // Only a browser is forced to say it, and only in a browser does it protect anybody.
        return true;
    };
    let (Ok(origin), Ok(host)) = (std::str::from_utf8(origin), std::str::from_utf8(host)) else {
        return false;
    };
    if allowed.is_empty() {
        return origin.split_once("://").is_some_and(|(_, o)| without_port(o).eq_ignore_ascii_case(without_port(host)));
    }
    allowed.iter().any(|pattern| pattern.matches(origin))
}

fn without_port(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.find(']').map_or(authority, |end| &authority[..=end]);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// Writes the 101.
pub(super) async fn accept(stream: &mut (impl AsyncWrite + Unpin), key: &str) -> std::io::Result<()> {
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await
}

/// Writes a refusal with this status, and this text (empty: the status's phrase) as its body; ends our direction, and
/// reads what may still come, so that the answer is not lost to a reset.
pub(super) async fn reject(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    status: u16,
    text: &str,
) -> io::Result<()> {
    let (phrase, headers) = match status {
        400 => ("Bad Request", ""),
        401 => ("Unauthorized", "WWW-Authenticate: Bearer\r\n"),
        402 => ("Payment Required", ""),
        403 => ("Forbidden", ""),
        404 => ("Not Found", ""),
        405 => ("Method Not Allowed", "Allow: GET\r\n"),
        410 => ("Gone", ""),
        426 => {
            ("Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n")
        }
        429 => ("Too Many Requests", "Retry-After: 5\r\n"),
        500 => ("Internal Server Error", ""),
        503 => ("Service Unavailable", "Retry-After: 5\r\n"),
        505 => ("HTTP Version Not Supported", ""),
        // A host's own; the phrase may be missing (RFC 9112 §4).
        _ => ("", ""),
    };
    let connection = if status == 426 { "close, Upgrade" } else { "close" };
    let text = if text.is_empty() { phrase } else { text };
    let answer = format!(
        "HTTP/1.1 {status} {phrase}\r\n{headers}Connection: {connection}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{text}\n",
        text.len() + 1,
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut scratch = [0; 1024];
    let begun = Instant::now();
    while stream.read(&mut scratch).await? > 0 {
        if begun.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /ws?x=1 HTTP/1.1\r\nHost: edge.example.com\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: msrp, sip\r\n";

    fn listen(origins: &[&str]) -> Listen {
        Listen {
            url: "ws://127.0.0.1:0/ws".parse().expect("url"),
            origins: origins.iter().map(|o| o.parse().expect("pattern")).collect(),
        }
    }

    fn verdict(request: &str, origins: &[&str]) -> Result<String, u16> {
        judge(format!("{request}\r\n").as_bytes(), &listen(origins)).map_err(|r| r.status)
    }

    #[test]
    fn the_key_of_the_rfc_is_answered_as_the_rfc_does() {
        assert_eq!(verdict(GOOD, &[]).as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn what_is_missing_or_wrong_is_refused_with_its_status() {
        for (from, to, status) in [
            ("GET", "POST", 405),
            ("/ws", "/other", 404),
            ("Upgrade: WebSocket\r\n", "", 426),
            ("keep-alive, Upgrade", "keep-alive", 426),
            ("Version: 13", "Version: 8", 426),
            ("msrp, sip", "msrp, SIP", 400),
            ("msrp, sip", "sipx", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "short", 400),
            ("Host: edge.example.com\r\n", "", 400),
        ] {
            assert_eq!(verdict(&GOOD.replace(from, to), &[]), Err(status), "{from} -> {to}");
        }
    }

    #[test]
    fn an_origin_has_to_be_on_the_list_or_of_the_same_host() {
        let with = |origin: &str| format!("{GOOD}Origin: {origin}\r\n");
        assert!(verdict(&with("https://edge.example.com:8443"), &[]).is_ok());
        assert_eq!(verdict(&with("https://evil.example.com"), &[]), Err(403));
        assert_eq!(verdict(&with("null"), &[]), Err(403));
        assert!(verdict(&with("https://app.example.com"), &["https://app.example.com"]).is_ok());
        assert_eq!(verdict(&with("https://edge.example.com"), &["https://app.example.com"]), Err(403));
        assert!(verdict(&with("https://a.example.org"), &["https://*.example.org"]).is_ok());
        assert!(verdict(&with("https://any.thing"), &["*"]).is_ok());
        assert!(verdict(GOOD, &["https://app.example.com"]).is_ok());
    }
}
