//! SIP messages as the tests see them: read without the library's help, built from text.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A word that nobody else uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{prefix}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A message that was received.
#[derive(Clone)]
pub struct Sip {
    /// The bytes as they came.
    pub raw: Vec<u8>,
    /// The first line.
    pub start: String,
    /// Names as they came, values unfolded and trimmed.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl fmt::Debug for Sip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.raw))
    }
}

const COMPACT: [(&str, &str); 9] = [
    ("v", "via"),
    ("f", "from"),
    ("t", "to"),
    ("i", "call-id"),
    ("m", "contact"),
    ("l", "content-length"),
    ("c", "content-type"),
    ("k", "supported"),
    ("s", "subject"),
];

fn same_name(a: &str, b: &str) -> bool {
    fn long(name: &str) -> String {
        let name = name.to_ascii_lowercase();
        COMPACT.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| (*long).to_owned())
    }
    long(a) == long(b)
}

/// Splits at commas outside quotes and angle brackets.
fn values(text: &str) -> Vec<String> {
    let (mut quoted, mut bracket, mut out, mut start) = (false, false, Vec::new(), 0);
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '<' if !quoted => bracket = true,
            '>' if !quoted => bracket = false,
            ',' if !quoted && !bracket => {
                out.push(text[start..i].trim().to_owned());
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(text[start..].trim().to_owned());
    out
}

impl Sip {
    /// Reads a whole message: what is behind the empty line is its body.
    pub fn parse(raw: &[u8]) -> Sip {
        let at = raw.windows(4).position(|w| w == b"\r\n\r\n");
        let at = at.unwrap_or_else(|| panic!("no SIP message: {}", String::from_utf8_lossy(raw)));
        let head = String::from_utf8(raw[..at].to_vec()).expect("headers are UTF-8");
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            match (line.starts_with([' ', '\t']), headers.last_mut()) {
                (true, Some((_, value))) => *value = format!("{value} {}", line.trim()),
                _ => {
                    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line}"));
                    headers.push((name.trim().to_owned(), value.trim().to_owned()));
                }
            }
        }
        Sip { raw: raw.to_vec(), start, headers, body: raw[at + 4..].to_vec() }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Itself, which must be a request of that method.
    #[track_caller]
    pub fn must_ask(self, method: &str) -> Sip {
        assert!(self.start.starts_with(&format!("{method} ")), "wanted {method}, got\n{self:?}");
        self
    }

    /// Itself, which must be a response of that status.
    #[track_caller]
    pub fn must_answer(self, status: u16) -> Sip {
        assert!(self.start.starts_with(&format!("SIP/2.0 {status} ")), "wanted {status}, got\n{self:?}");
        self
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        assert!(!self.start.starts_with("SIP/2.0 "), "a response: {self:?}");
        self.start.split(' ').next().unwrap()
    }

    /// The Request-URI.
    pub fn uri(&self) -> &str {
        self.method();
        self.start.split(' ').nth(1).unwrap()
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        let rest = self.start.strip_prefix("SIP/2.0 ").unwrap_or_else(|| panic!("a request: {self:?}"));
        rest[..3].parse().unwrap()
    }

    pub fn reason(&self) -> &str {
        self.status();
        self.start.splitn(3, ' ').nth(2).unwrap()
    }

    /// The first field of that name, whole, by its long name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| same_name(n, name)).map(|(_, v)| v.as_str())
    }

    /// The first field of that name.
    #[track_caller]
    pub fn get(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name} in\n{self:?}"))
    }

    /// All fields of that name, whole.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| same_name(n, name)).map(|(_, v)| v.as_str()).collect()
    }

    /// All values of that name, fields split at their commas.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.fields(name).into_iter().flat_map(values).collect()
    }

    /// The tag in From or To.
    pub fn tag(&self, name: &str) -> Option<String> {
        parameter(self.get(name), "tag")
    }

    /// The branch of the top Via.
    pub fn branch(&self) -> String {
        parameter(&self.all("Via")[0], "branch").unwrap_or_else(|| panic!("no branch in\n{self:?}"))
    }

    /// A response to this request, with its Vias, Record-Routes, From, To (and a tag of ours), Call-ID, and CSeq.
    pub fn respond(&self, status: u16, reason: &str) -> Builder {
        self.method();
        let mut to = self.get("To").to_owned();
        if status > 100 && parameter(&to, "tag").is_none() {
            // The same for every response to this request, as one server would have it.
            to = format!("{to};tag=uas-{}", self.get("Call-ID").replace('@', "-"));
        }
        let mut response = Builder::new(format!("SIP/2.0 {status} {reason}"));
        for name in ["Via", "Record-Route"] {
            for value in self.fields(name) {
                response = response.with(name, value);
            }
        }
        response
            .with("From", self.get("From"))
            .with("To", &to)
            .with("Call-ID", self.get("Call-ID"))
            .with("CSeq", self.get("CSeq"))
    }
}

/// A parameter behind the URI of an address, or of a Via.
pub fn parameter(value: &str, name: &str) -> Option<String> {
    let outside = value.rfind('>').map_or(value, |i| &value[i + 1..]);
    outside.split(';').skip(1).find_map(|p| {
        let (n, v) = p.split_once('=').unwrap_or((p, ""));
        n.trim().eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
    })
}

/// The URI in an address: what stands in angle brackets, or else all before the parameters.
pub fn uri_of(address: &str) -> &str {
    match (address.find('<'), address.find('>')) {
        (Some(a), Some(b)) => &address[a + 1..b],
        _ => address.split(';').next().unwrap().trim(),
    }
}

/// A message under construction: header order is kept.
#[derive(Clone, Debug)]
pub struct Builder {
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Builder {
    pub fn new(start: String) -> Builder {
        Builder { start, headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a field behind the others.
    pub fn with(mut self, name: &str, value: &str) -> Builder {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts a field above the others.
    pub fn on_top(mut self, name: &str, value: &str) -> Builder {
        self.headers.insert(0, (name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the field of that name, or adds it.
    pub fn set(mut self, name: &str, value: &str) -> Builder {
        match self.headers.iter_mut().find(|(n, _)| same_name(n, name)) {
            Some((_, v)) => *v = value.to_owned(),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Takes out all fields of that name.
    pub fn without(mut self, name: &str) -> Builder {
        self.headers.retain(|(n, _)| !same_name(n, name));
        self
    }

    /// Content-Type, Content-Length, and the body.
    pub fn body(self, content_type: &str, body: &[u8]) -> Builder {
        let mut message = self.set("Content-Type", content_type).set("Content-Length", &body.len().to_string());
        message.body = body.to_vec();
        message
    }

    pub fn get(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| same_name(n, name));
        found.map(|(_, v)| v.as_str()).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn branch(&self) -> String {
        parameter(self.get("Via"), "branch").unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{}\r\n", self.start).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }

    /// The bytes of a message that is UTF-8, with a Content-Length.
    pub fn text(&self) -> String {
        String::from_utf8(self.clone().framed().bytes()).unwrap()
    }

    /// With a Content-Length, which a stream needs.
    pub fn framed(self) -> Builder {
        if self.headers.iter().any(|(n, _)| same_name(n, "Content-Length")) {
            return self;
        }
        let length = self.body.len().to_string();
        self.with("Content-Length", &length)
    }

    /// As one who receives it would see it.
    pub fn sip(&self) -> Sip {
        Sip::parse(&self.bytes())
    }

    /// The CANCEL of this INVITE.
    pub fn cancel(&self) -> Builder {
        self.same_transaction("CANCEL", self.get("To"))
    }

    /// The ACK of this INVITE's failure.
    pub fn ack_of(&self, response: &Sip) -> Builder {
        self.same_transaction("ACK", response.get("To"))
    }

    fn same_transaction(&self, method: &str, to: &str) -> Builder {
        let uri = self.start.split(' ').nth(1).unwrap();
        let number = self.get("CSeq").split(' ').next().unwrap();
        let mut out = Builder::new(format!("{method} {uri} SIP/2.0")).with("Via", self.get("Via"));
        for (name, value) in self.headers.iter().filter(|(n, _)| same_name(n, "Route")) {
            out = out.with(name, value);
        }
        out.with("Max-Forwards", "70")
            .with("From", self.get("From"))
            .with("To", to)
            .with("Call-ID", self.get("Call-ID"))
            .with("CSeq", &format!("{number} {method}"))
            .with("Content-Length", "0")
    }
}

/// A request outside a dialog as a browser's SIP stack writes it: a `.invalid` host in Via and Contact, a Via branch, tag,
/// and Call-ID of its own, CSeq 1; no Content-Length, which WebSocket does not need.
pub fn request(method: &str, uri: &str) -> Builder {
    let host = unique("client") + ".invalid";
    Builder::new(format!("{method} {uri} SIP/2.0"))
        .with("Via", &format!("SIP/2.0/WS {host};branch=z9hG4bK{}", unique("b")))
        .with("Max-Forwards", "70")
        .with("From", &format!("<sip:alice@example.com>;tag={}", unique("from")))
        .with("To", &format!("<{uri}>"))
        .with("Call-ID", &unique("call"))
        .with("CSeq", &format!("1 {method}"))
        .with("Contact", &format!("<sip:alice@{host};transport=ws>"))
}

/// One side's view of a dialog (RFC 3261 §12).
#[derive(Clone, Debug)]
pub struct Dialog {
    pub call_id: String,
    /// Our address, tag included.
    pub local: String,
    /// The peer's.
    pub remote: String,
    /// The peer's contact.
    pub target: String,
    /// The route set, nearest first.
    pub routes: Vec<String>,
    pub cseq: u32,
    /// What our Via says before the branch.
    pub via: String,
}

impl Dialog {
    /// The caller's side: it sent `request` and received `response`.
    pub fn of_caller(request: &Builder, response: &Sip) -> Dialog {
        let mut routes = response.all("Record-Route");
        routes.reverse();
        Dialog {
            call_id: response.get("Call-ID").to_owned(),
            local: response.get("From").to_owned(),
            remote: response.get("To").to_owned(),
            target: uri_of(response.get("Contact")).to_owned(),
            routes,
            cseq: request.get("CSeq").split(' ').next().unwrap().parse().unwrap(),
            via: request.get("Via").split(';').next().unwrap().to_owned(),
        }
    }

    /// The callee's side: it received `request` and sent `response`. `via` is what its own requests' Vias begin with:
    /// `SIP/2.0/TCP 127.0.0.1:5060`.
    pub fn of_callee(request: &Sip, response: &Builder, via: &str) -> Dialog {
        Dialog {
            call_id: request.get("Call-ID").to_owned(),
            local: response.get("To").to_owned(),
            remote: request.get("From").to_owned(),
            target: uri_of(request.get("Contact")).to_owned(),
            routes: request.all("Record-Route"),
            cseq: 100,
            via: via.to_owned(),
        }
    }

    /// A request in the dialog, with the next CSeq (an ACK: the last one).
    pub fn request(&mut self, method: &str) -> Builder {
        if method != "ACK" {
            self.cseq += 1;
        }
        let mut out = Builder::new(format!("{method} {} SIP/2.0", self.target))
            .with("Via", &format!("{};branch=z9hG4bK{}", self.via, unique("b")))
            .with("Max-Forwards", "70");
        for route in &self.routes {
            out = out.with("Route", route);
        }
        out.with("From", &self.local)
            .with("To", &self.remote)
            .with("Call-ID", &self.call_id)
            .with("CSeq", &format!("{} {method}", self.cseq))
            .with("Content-Length", "0")
    }
}
