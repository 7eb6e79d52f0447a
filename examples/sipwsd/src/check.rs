//! `sipwsd check FILE`: what a start with this configuration would do.

use crate::{Failure, logging, pages, run};
use sipws::config::{Config, Registration};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// Prints the errors' absence: a summary in comments, then the whole configuration, so that the output is TOML itself.
pub(crate) fn check(file: Option<&Path>) -> Result<(), Failure> {
    let config = run::read_configuration(file)?;
    logging::filter(&config.log)?;
    pages::Pages::load(config.admin.pages.as_deref())?;

    let name = file.map_or("the environment".into(), Path::to_string_lossy);
    let text = format!("# {name}: right. sipwsd would\n{}\n{}", summary(&config), config.to_toml_masked());
    // A reader that has seen enough (`| head`) is no error of the configuration.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn summary(config: &Config) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "#   {line}");
    };
    for listen in &config.listen {
        let pages = match listen.origins.as_slice() {
            [] => "pages of the same host".to_owned(),
            origins => origins.iter().map(|origin| format!("pages of {origin}")).collect::<Vec<_>>().join(", "),
        };
        say(format!("accept WebSocket clients on {}, from {pages}", listen.url));
    }
    if config.listen.iter().any(|listen| listen.url.secure) {
        match &config.tls.certificate {
            Some(file) => say(format!("show them the certificate in {}", file.display())),
            None => say("show them a self-signed certificate, made at start".to_owned()),
        }
    }
    for upstream in &config.upstream {
        let (connections, weight) = (upstream.connections, upstream.weight);
        say(format!("send their requests to {} (weight {weight}, connections: {connections})", upstream.uri));
    }
    for listen in &config.sip.listen {
        let ranges = config.sip.trusted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let trusted = if ranges.is_empty() { String::new() } else { format!(" and {ranges}") };
        say(format!("accept SIP servers on {listen}, from the upstreams{trusted}"));
    }
    let advertised = config.sip.advertise.clone().or_else(|| Some(config.sip.listen.first()?.addr.to_string()));
    let how = match config.sip.registration {
        Registration::Path => "in a Path header",
        Registration::Rewrite => "in a rewritten Contact",
    };
    say(format!("tell them its address as {}, registrars {how}", advertised.unwrap_or_default()));
    say(format!("answer http://{}: /metrics /healthz /readyz and pages", config.admin.listen));
    for warning in config.warnings() {
        say(format!("and warn: {warning}"));
    }
    text
}
