//! The client's side of digest authentication (RFC 2617, as SIP has it: RFC 3261 §22.4).

use md5::{Digest, Md5};

/// The value of Authorization or Proxy-Authorization that answers `challenge`.
pub(crate) fn answer(challenge: &str, user: &str, password: &str, method: &str, uri: &str) -> String {
    let realm = parameter(challenge, "realm");
    let nonce = parameter(challenge, "nonce");
    let cnonce = format!("{:08x}", u32::from_str_radix(&hash(nonce)[..8], 16).expect("hex"));
    let secret = hash(&format!("{user}:{realm}:{password}"));
    let request = hash(&format!("{method}:{uri}"));
    let response = hash(&format!("{secret}:{nonce}:00000001:{cnonce}:auth:{request}"));
    format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", \
         algorithm=MD5, qop=auth, nc=00000001, cnonce=\"{cnonce}\""
    )
}

fn parameter<'a>(challenge: &'a str, name: &str) -> &'a str {
    let begin = format!("{name}=\"");
    let at = challenge.find(&begin).unwrap_or_else(|| panic!("no {name} in {challenge}")) + begin.len();
    &challenge[at..at + challenge[at..].find('"').expect("a closing quote")]
}

fn hash(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
