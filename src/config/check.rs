//! What the types alone cannot say: ranges, and what keys demand of each other. And what is allowed but worth a word.

use super::address::split_host_port;
use super::client::{check_header, check_target};
use super::errors::ConfigError;
use super::origin::OriginPattern;
use super::text::not_one_of;
use super::units::duration::display;
use super::{Config, Listen, SipListen};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// RFC 3261 §16.6 step 11: Timer C "MUST be larger than 3 minutes".
const TIMER_C: Duration = Duration::from_secs(180);
/// Below this an HMAC-SHA256 key can be guessed.
const SHORTEST_SECRET: usize = 16;

/// An error's key may count list elements otherwise than the file does (`Draft` takes wrong ones out, and mends the key);
/// messages therefore name an element by its value.
pub(super) fn check(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut wrong = |key: &str, message: String| errors.push(ConfigError::new(key, message));
    listeners(config, &mut wrong);
    sip(config, &mut wrong);
    upstreams(config, &mut wrong);
    client(config, &mut wrong);
    files(config, &mut wrong);
    limits(config, &mut wrong);
    timeouts(config, &mut wrong);
    cluster(config, &mut wrong);
    log_level(&config.log.level, &mut wrong);
    if config.runtime.threads > 1024 {
        wrong("runtime.threads", format!("{} threads; at most 1024", config.runtime.threads));
    }
    errors
}

/// What a proxy needs, and an edge whose messages a host handles does not.
pub(super) fn proxy(config: &Config) -> Vec<ConfigError> {
    let needed = |key: &str, there: bool| (!there).then(|| ConfigError::new(key, "at least one address is needed"));
    let lists = [("listen", !config.listen.is_empty()), ("sip.listen", !config.sip.listen.is_empty())];
    lists.into_iter().filter_map(|(key, there)| needed(key, there)).collect()
}

type Wrong<'a> = dyn FnMut(&str, String) + 'a;

fn listeners(config: &Config, wrong: &mut Wrong<'_>) {
    let mut taken: Vec<(String, String, u16)> = Vec::new();
    let websocket = config.listen.iter().enumerate().map(|(index, Listen { url, .. })| {
        (format!("listen[{index}].url"), url.to_string(), url.host.clone(), url.port)
    });
    let sip = config.sip.listen.iter().enumerate().map(|(index, listen)| {
        (format!("sip.listen[{index}]"), listen.to_string(), listen.addr.ip().to_string(), listen.addr.port())
    });
    let admin = config.admin.listen;
    let admin = ("admin.listen".to_owned(), format!("http://{admin}"), admin.ip().to_string(), admin.port());
    for (key, url, host, port) in websocket.chain(sip).chain([admin]) {
        if let Some((other, ..)) = taken.iter().find(|(_, at, on)| *on == port && port != 0 && same_host(at, &host)) {
            wrong(&key, format!("{url}: the address is taken by {other}; each listener needs its own"));
        }
        taken.push((url, host, port));
    }
}

/// Would a socket on `a` be in the way of one on `b`?
fn same_host(a: &str, b: &str) -> bool {
    let address = |host: &str| match host {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.parse().ok(),
    };
    match (address(a), address(b)) {
        (Some(a), Some(b)) => a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())),
        _ => a == b,
    }
}

fn sip(config: &Config, wrong: &mut Wrong<'_>) {
    let sip = &config.sip;
    if let Some(advertise) = &sip.advertise {
        match split_host_port(advertise) {
            Err(why) => wrong("sip.advertise", format!("\"{advertise}\": {why}; expected host or host:port")),
            Ok((_, Some(0))) => wrong("sip.advertise", "port 0 cannot be connected to".to_owned()),
            Ok((host, _)) if host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()) => {
                wrong(
                    "sip.advertise",
                    format!("{host} is every address of this machine; name one that SIP servers reach"),
                );
            }
            Ok(_) => {}
        }
    } else if let Some(SipListen { addr: listen, .. }) = sip.listen.first().filter(|l| l.addr.ip().is_unspecified()) {
        wrong(
            "sip.advertise",
            format!(
                "needed, because sip.listen is the wildcard address {listen}: host or host:port that SIP servers reach us by"
            ),
        );
    }
    if sip.listen.iter().any(|listen| listen.tls) && sip.certificate.is_none() {
        wrong("sip.certificate", "needed, with sip.key, for a tls:// address in sip.listen".to_owned());
    }
}

fn upstreams(config: &Config, wrong: &mut Wrong<'_>) {
    let mut seen: HashMap<(bool, String), &str> = HashMap::new();
    for (index, upstream) in config.upstream.iter().enumerate() {
        let key = |name: &str| format!("upstream[{index}].{name}");
        let uri = &upstream.uri;
        if uri.host.is_empty() || uri.port == 0 {
            wrong(&key("uri"), "a host and a port other than 0 are needed".to_owned());
        }
        if let Some(first) = seen.insert((uri.tls, uri.authority()), &uri.text) {
            wrong(&key("uri"), format!("the same SIP server as {first}; give one of them more weight or connections"));
        }
        let own = config.sip.listen.iter().any(|listen| {
            uri.host.parse::<IpAddr>().is_ok_and(|host| host == listen.addr.ip()) && uri.port == listen.addr.port()
        });
        if own {
            wrong(&key("uri"), "our own address in sip.listen; requests would go in a circle".to_owned());
        }
        if !(1..=1000).contains(&upstream.weight) {
            wrong(&key("weight"), format!("{}; allowed: 1 to 1000", upstream.weight));
        }
        if !(1..=64).contains(&upstream.connections) {
            wrong(&key("connections"), format!("{}; allowed: 1 to 64", upstream.connections));
        }
    }
}

fn client(config: &Config, wrong: &mut Wrong<'_>) {
    let origin = |key: &str, given: &Option<String>, wrong: &mut Wrong<'_>| {
        let Some(given) = given else { return };
        match given.parse() {
            Err(why) => wrong(key, format!("\"{given}\": {why}")),
            Ok(OriginPattern::Any | OriginPattern::Subdomains { .. }) => {
                wrong(key, format!("\"{given}\": one origin is said, not a pattern, as in https://app.example.com"));
            }
            Ok(OriginPattern::Exact(_)) => {}
        }
    };
    origin("client.origin", &config.client.origin, wrong);
    for (index, entry) in config.client.host.iter().enumerate() {
        let key = |name: &str| format!("client.host[{index}].{name}");
        if config.client.host[..index].iter().any(|other| other.host == entry.host) {
            wrong(&key("host"), format!("{} is listed already; put it all into one entry", entry.host));
        }
        if let Err(why) = check_target(&entry.target) {
            wrong(&key("target"), format!("\"{}\": {why}", entry.target));
        }
        origin(&key("origin"), &entry.origin, wrong);
        for (position, (name, value)) in entry.headers.iter().enumerate() {
            // The value is secret.
            if let Err(why) = check_header(name, value.expose()) {
                wrong(&key(&format!("headers.{name}")), why.to_owned());
            }
            if entry.headers.keys().take(position).any(|other| other.eq_ignore_ascii_case(name)) {
                wrong(&key(&format!("headers.{name}")), "given twice; case makes no difference".to_owned());
            }
        }
    }
}

fn files(config: &Config, wrong: &mut Wrong<'_>) {
    let named = [
        ("tls.certificate", &config.tls.certificate),
        ("tls.key", &config.tls.key),
        ("sip.certificate", &config.sip.certificate),
        ("sip.key", &config.sip.key),
        ("sip.ca", &config.sip.ca),
        ("client.ca", &config.client.ca),
        ("admin.pages", &config.admin.pages),
    ];
    let is_empty = |path: &PathBuf| path.as_os_str().is_empty();
    for (key, path) in named {
        if path.as_ref().is_some_and(is_empty) {
            wrong(key, "an empty path; leave the key out for its default".to_owned());
        }
    }
    for pair in [&named[0..2], &named[2..4]] {
        match pair {
            [(key, Some(_)), (missing, None)] | [(missing, None), (key, Some(_))] => {
                wrong(missing, format!("missing, and {key} is set; give both or neither"));
            }
            _ => {}
        }
    }
}

fn limits(config: &Config, wrong: &mut Wrong<'_>) {
    let limits = &config.limits;
    if limits.burst == Some(0) && limits.requests_per_second > 0 {
        wrong("limits.burst", "0 would refuse every request; 1 or more".to_owned());
    }
    let at_least_one = [
        ("limits.connections_per_address", limits.connections_per_address),
        ("limits.connections", limits.connections),
        ("limits.handshakes", limits.handshakes),
        ("limits.in_flight", limits.in_flight),
        ("limits.strikes", limits.strikes as usize),
    ];
    for (key, value) in at_least_one {
        if value == 0 {
            wrong(key, "0; must be 1 or more".to_owned());
        }
    }
    if !(1024..=65_536).contains(&limits.message_bytes) {
        wrong(
            "limits.message_bytes",
            format!("{}; allowed: 1024 (\"1KiB\") to 65536 (\"64KiB\")", limits.message_bytes),
        );
    }
    for (key, value) in [("limits.outbox_bytes", limits.outbox_bytes), ("limits.upstream_bytes", limits.upstream_bytes)]
    {
        if value < limits.message_bytes {
            wrong(key, format!("{value}; must hold one message, limits.message_bytes = {}", limits.message_bytes));
        }
    }
}

fn timeouts(config: &Config, wrong: &mut Wrong<'_>) {
    let timeouts = &config.timeouts;
    let all = [
        ("timeouts.handshake", timeouts.handshake),
        ("timeouts.ping", timeouts.ping),
        ("timeouts.pong", timeouts.pong),
        ("timeouts.request", timeouts.request),
        ("timeouts.connect", timeouts.connect),
        ("timeouts.write", timeouts.write),
        ("timeouts.policy", timeouts.policy),
    ];
    for (key, value) in all {
        if value.is_zero() || value > DAY {
            wrong(key, format!("{}; allowed: more than 0, at most 24h", display(value)));
        }
    }
    if timeouts.invite <= TIMER_C || timeouts.invite > DAY {
        let value = display(timeouts.invite);
        wrong("timeouts.invite", format!("{value}; Timer C is more than 180s (RFC 3261 §16.6), and at most 24h"));
    }
    if config.runtime.drain > DAY {
        wrong("runtime.drain", format!("{}; at most 24h", display(config.runtime.drain)));
    }
}

fn cluster(config: &Config, wrong: &mut Wrong<'_>) {
    let node = &config.cluster.node;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !(1..=64).contains(&node.len()) || !node.bytes().all(plain) {
        wrong("cluster.node", format!("\"{node}\"; allowed: 1 to 64 letters, digits, dots, _ and -"));
    }
    let first = config.cluster.secret.iter().map(|secret| ("cluster.secret".to_owned(), secret));
    let previous = config.cluster.previous_secrets.iter().enumerate();
    let previous = previous.map(|(index, secret)| (format!("cluster.previous_secrets[{index}]"), secret));
    for (key, secret) in first.chain(previous) {
        let length = secret.expose().len();
        if length < SHORTEST_SECRET {
            wrong(&key, format!("{length} bytes; at least {SHORTEST_SECRET}, as from `openssl rand -base64 32`"));
        }
    }
}

/// The full syntax is the log library's, and the daemon's to check. Here: a mistyped level, which there would pass as
/// the name of a module.
fn log_level(level: &str, wrong: &mut Wrong<'_>) {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in level.split(',').map(str::trim) {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) && !directive.contains('[') {
            let list = not_one_of(level, &LEVELS);
            wrong("log.level", format!("\"{level}\": {list} (or directives, as in info,sipws::bridge=debug)"));
        }
    }
}

/// See [`Config::warnings`].
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, listen) in config.listen.iter().enumerate() {
        let url = &listen.url;
        if listen.origins.contains(&OriginPattern::Any) {
            warnings.push(format!("listen[{index}].origins: \"*\" lets every web page in the world connect to {url}"));
        }
        let local = url.host == "localhost" || url.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !url.secure && !local {
            warnings.push(format!("listen[{index}].url: {url} is open to other machines without TLS"));
        }
    }
    for (index, range) in config.sip.trusted.iter().enumerate() {
        if range.is_everything() {
            warnings.push(format!(
                "sip.trusted[{index}]: {range} lets everyone who reaches sip.listen send requests to clients"
            ));
        }
    }
    if config.upstream.is_empty() {
        warnings.push("upstream: none; clients can connect, but their requests lead nowhere".to_owned());
    }
    if !config.client.verify {
        warnings.push(
            "client.verify: false: whoever answers in a wss server's place is believed, and reads and changes every message"
                .to_owned(),
        );
    }
    if !config.admin.listen.ip().is_loopback() {
        let listen = config.admin.listen;
        warnings.push(format!("admin.listen: {listen} shows metrics and pages to other machines, without a password"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn errors(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config).iter().map(ToString::to_string).collect()
    }

    fn only_error(change: impl FnOnce(&mut Config)) -> String {
        let errors = errors(change);
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.into_iter().next().unwrap_or_default()
    }

    fn listen(url: &str) -> Listen {
        Listen { url: url.parse().expect(url), origins: Vec::new() }
    }

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(errors(|_| {}), [""; 0]);
    }

    #[test]
    fn two_listeners_on_one_address_are_refused_but_not_two_on_port_zero() {
        let taken = |urls: [&str; 2]| errors(|config| config.listen = urls.map(listen).to_vec());
        assert_eq!(taken(["ws://127.0.0.1:80/a", "wss://127.0.0.1:80/b"]).len(), 1);
        assert_eq!(taken(["ws://0.0.0.0:80", "ws://127.0.0.1:80"]).len(), 1);
        assert_eq!(taken(["ws://localhost:80", "ws://127.0.0.1:80"]).len(), 1);
        assert_eq!(taken(["ws://127.0.0.1:5062", "ws://127.0.0.1:9464"]).len(), 2, "sip and admin count");
        assert_eq!(taken(["ws://127.0.0.1:0", "ws://127.0.0.1:0"]).len(), 0);
        assert_eq!(taken(["ws://127.0.0.2:80", "ws://127.0.0.1:80"]).len(), 0);
        assert_eq!(taken(["ws://[::1]:80", "ws://127.0.0.1:80"]).len(), 0);
    }

    #[test]
    fn a_wildcard_address_needs_an_advertised_one() {
        let wildcard = |config: &mut Config| config.sip.listen = vec!["tcp://[::]:5060".parse().expect("address")];
        assert!(only_error(wildcard).starts_with("sip.advertise: needed"));
        let advertised = |advertise: &str| {
            errors(|config| {
                wildcard(config);
                config.sip.advertise = Some(advertise.to_owned());
            })
        };
        for right in ["edge.example.com", "edge.example.com:5060", "[2001:db8::1]:5060", "192.0.2.1"] {
            assert!(advertised(right).is_empty(), "{right}");
        }
        for wrong in ["", "edge:0", "2001:db8::1", "sip:edge", "0.0.0.0", "edge:5060:1", "a b"] {
            assert_eq!(advertised(wrong).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn certificate_and_key_go_together() {
        assert_eq!(
            only_error(|config| config.tls.key = Some("k.pem".into())),
            "tls.certificate: missing, and tls.key is set; give both or neither"
        );
        assert_eq!(
            only_error(|config| config.sip.certificate = Some("c.pem".into())),
            "sip.key: missing, and sip.certificate is set; give both or neither"
        );
        assert!(
            only_error(|config| config.sip.listen = vec!["tls://127.0.0.1".parse().expect("address")])
                .starts_with("sip.certificate: needed, with sip.key")
        );
        assert!(only_error(|config| config.admin.pages = Some("".into())).contains("an empty path"));
    }

    #[test]
    fn an_upstream_is_listed_once_and_is_not_us() {
        let listed = |uris: &[&str]| {
            let text: String = uris.iter().map(|uri| format!("[[upstream]]\nuri = \"{uri}\"\n")).collect();
            Config::from_toml(&text, "f").map_err(|errors| errors.to_string())
        };
        assert!(listed(&["sip:a", "sip:b", "sips:a"]).is_ok());
        let same = listed(&["sip:a", "sip:A:5060"]).expect_err("twice");
        assert!(same.starts_with("f:4: upstream[1].uri: the same SIP server as sip:a;"), "{same}");
        let own = listed(&["sip:127.0.0.1:5062"]).expect_err("a circle");
        assert!(own.contains("our own address"), "{own}");
    }

    #[test]
    fn ranges_are_kept() {
        assert!(only_error(|c| c.limits.message_bytes = 1023).contains("1024"));
        let too_large = errors(|c| c.limits.message_bytes = 65_537);
        assert!(too_large[0].contains("to 65536"), "{too_large:?}");
        assert!(only_error(|c| c.limits.outbox_bytes = 1000).contains("must hold one message"));
        assert!(only_error(|c| c.limits.burst = Some(0)).contains("1 or more"));
        assert!(errors(|c| (c.limits.burst, c.limits.requests_per_second) = (Some(0), 0)).is_empty());
        assert!(only_error(|c| c.limits.connections = 0).contains("1 or more"));
        assert!(only_error(|c| c.timeouts.ping = Duration::ZERO).contains("more than 0"));
        assert!(only_error(|c| c.timeouts.write = DAY * 2).contains("48h; allowed: more than 0, at most 24h"));
        assert!(only_error(|c| c.timeouts.invite = TIMER_C).contains("3m; Timer C is more than 180s"));
        assert!(only_error(|c| c.runtime.threads = 5000).contains("at most 1024"));
    }

    #[test]
    fn names_and_secrets_are_checked_without_showing_the_secret() {
        assert!(only_error(|c| c.cluster.node = "a b".to_owned()).contains("letters"));
        let short = only_error(|c| c.cluster.previous_secrets = vec![Secret::new("hush")]);
        assert!(short.starts_with("cluster.previous_secrets[0]: 4 bytes; at least 16") && !short.contains("hush"));
    }

    #[test]
    fn a_mistyped_level_is_no_module() {
        assert!(only_error(|c| c.log.level = "inof".to_owned()).contains("did you mean \"info\"?"));
        assert!(only_error(|c| c.log.level = "info,sipws=loud".to_owned()).contains("\"loud\""));
        assert!(errors(|c| c.log.level = "warn,sipws::bridge=TRACE,sipws[flow{id=3}]=debug".to_owned()).is_empty());
    }

    #[test]
    fn what_is_allowed_but_risky_is_said() {
        let text = "listen = [{ url = \"ws://0.0.0.0:80\", origins = [\"*\"] }]\nadmin.listen = \"0.0.0.0:9464\"\nsip.trusted = [\"0.0.0.0/0\"]\nclient.verify = false\n";
        let warnings = Config::from_toml(text, "f").expect("allowed").warnings();
        for key in ["listen[0].origins", "listen[0].url", "sip.trusted[0]", "upstream", "client.verify", "admin.listen"]
        {
            assert!(warnings.iter().any(|warning| warning.starts_with(&format!("{key}:"))), "{key}: {warnings:?}");
        }
        assert_eq!(Config::default().warnings().len(), 1, "no upstream");
    }
}
