//! One SIP message: its bytes, and an index of its header fields (RFC 3261 §7).
//!
//! [`Message::parse`] finds the start line, the fields and the body and looks no further; values are parsed when
//! somebody asks. What is wrong with a message that has this much shape is for [`super::validate`] to say, so that a
//! request with a broken header can still be answered.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use memchr::memchr;

use super::header::Name;
use super::{is_lws, is_token_byte, number, trim};

/// Header fields a message may have; more is refused unread.
pub const MAX_FIELDS: usize = 256;

/// A request's method (RFC 3261 §7.1; names are case-sensitive).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Method {
    Register,
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Subscribe,
    Notify,
    Message,
    Info,
    Update,
    Prack,
    Refer,
    Publish,
    /// Any other token.
    Other,
}

impl Method {
    /// Every value, in order of its discriminant.
    pub const ALL: [Method; 15] = [
        Method::Register,
        Method::Invite,
        Method::Ack,
        Method::Bye,
        Method::Cancel,
        Method::Options,
        Method::Subscribe,
        Method::Notify,
        Method::Message,
        Method::Info,
        Method::Update,
        Method::Prack,
        Method::Refer,
        Method::Publish,
        Method::Other,
    ];

    /// The method that `raw` names.
    pub fn parse(raw: &[u8]) -> Method {
        match raw {
            b"REGISTER" => Method::Register,
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"OPTIONS" => Method::Options,
            b"SUBSCRIBE" => Method::Subscribe,
            b"NOTIFY" => Method::Notify,
            b"MESSAGE" => Method::Message,
            b"INFO" => Method::Info,
            b"UPDATE" => Method::Update,
            b"PRACK" => Method::Prack,
            b"REFER" => Method::Refer,
            b"PUBLISH" => Method::Publish,
            _ => Method::Other,
        }
    }

    /// Its name as it stands in a message; `other` for [`Method::Other`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Register => "REGISTER",
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Options => "OPTIONS",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Message => "MESSAGE",
            Method::Info => "INFO",
            Method::Update => "UPDATE",
            Method::Prack => "PRACK",
            Method::Refer => "REFER",
            Method::Publish => "PUBLISH",
            Method::Other => "other",
        }
    }
}

/// The start line. Ranges are offsets into the message's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// `Method SP Request-URI SP SIP-Version`. The URI is whatever stands between the first and the last space.
    Request {
        /// What the method token means.
        method: Method,
        /// Where the method token stands.
        method_at: Range<u32>,
        /// Where the Request-URI stands.
        uri: Range<u32>,
        /// Where the version stands.
        version: Range<u32>,
    },
    /// `SIP-Version SP Status-Code SP Reason-Phrase`.
    Response {
        /// The number; 0 where it is no three-digit number.
        status: u16,
    },
}

/// A header field in the index: what it is and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// What the name means.
    pub name: Name,
    start: u32,
    value_start: u32,
    value_end: u32,
    end: u32,
}

impl Field {
    /// The whole field with name, folds and the closing CRLF.
    pub fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The value without the white space around it. Folds inside are left as they are.
    pub fn value(&self) -> Range<usize> {
        self.value_start as usize..self.value_end as usize
    }
}

/// Why bytes are no SIP message at all: nothing in them that could be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ParseError {
    #[error("no SIP start line")]
    StartLine,
    #[error("header section does not end with an empty line")]
    Unterminated,
    #[error("more than {MAX_FIELDS} header fields")]
    TooManyFields,
    #[error("longer than the limit")]
    TooLong,
}

/// A SIP message: one buffer and an index of its header fields.
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    start: Start,
    fields: Vec<Field>,
    body: u32,
}

impl Message {
    /// Indexes one message that fills `bytes` (a WebSocket message, RFC 7118 §5). Everything behind the empty line
    /// is the body, whatever Content-Length says: [`super::validate`] compares the two.
    pub fn parse(bytes: Bytes) -> Result<Message, ParseError> {
        if bytes.len() > u32::MAX as usize / 2 {
            return Err(ParseError::TooLong);
        }
        let mut index = Index::start(&bytes)?;
        let body = index.fields(&bytes)?;
        Ok(Message { start: index.start, fields: index.fields, body: body as u32, bytes })
    }

    /// The same message in a buffer of its own: what is kept must not hold the large one that it was read into.
    pub fn detached(&self) -> Message {
        Message { bytes: Bytes::copy_from_slice(&self.bytes), ..self.clone() }
    }

    /// Its bytes as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The start line.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// The header fields in their order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Where the body begins.
    pub fn body_at(&self) -> usize {
        self.body as usize
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body as usize..]
    }

    /// Where the empty line stands, that is, where a field appended last would go.
    pub fn headers_end(&self) -> usize {
        self.body as usize - 2
    }

    /// Where the first header field stands.
    pub fn headers_start(&self) -> usize {
        self.fields.first().map_or(self.headers_end(), |f| f.start as usize)
    }

    /// The bytes in `range`.
    pub fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Its method, if it is a request.
    pub fn method(&self) -> Option<Method> {
        match self.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// The method token as it came; the CSeq's for a response. Empty where there is none.
    pub fn method_token(&self) -> &[u8] {
        match &self.start {
            Start::Request { method_at, .. } => &self.bytes[wide(method_at)],
            Start::Response { .. } => self.cseq().map_or(b"", |(_, m)| m),
        }
    }

    /// Its status code, if it is a response.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            Start::Request { .. } => None,
            Start::Response { status } => Some(status),
        }
    }

    /// The Request-URI and where it stands, if it is a request.
    pub fn request_uri(&self) -> Option<(&[u8], Range<usize>)> {
        match &self.start {
            Start::Request { uri, .. } => Some((&self.bytes[wide(uri)], wide(uri))),
            Start::Response { .. } => None,
        }
    }

    /// The first field of that name.
    pub fn field(&self, name: Name) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// The first such field's value.
    pub fn header(&self, name: Name) -> Option<&[u8]> {
        self.field(name).map(|f| self.slice(f.value()))
    }

    /// Every value of every such field, comma-joined ones one by one (RFC 3261 §7.3.1), with their places.
    pub fn values(&self, name: Name) -> impl Iterator<Item = (&[u8], Range<usize>)> {
        self.fields.iter().filter(move |f| f.name == name).flat_map(move |f| {
            let at = f.value_start as usize;
            split_values(self.slice(f.value()))
                .map(move |r| (at + r.start)..(at + r.end))
                .map(move |r| (&self.bytes[r.clone()], r))
        })
    }

    /// The first value of a field with that name as it is spelt here, for names that [`Name`] does not know.
    pub fn header_named(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|f| {
                let span = &self.bytes[f.start as usize..f.value_start as usize];
                let end = memchr(b':', span).unwrap_or(span.len());
                trim(&span[..end]).eq_ignore_ascii_case(name)
            })
            .map(|f| self.slice(f.value()))
    }

    /// Call-ID.
    pub fn call_id(&self) -> Option<&[u8]> {
        self.header(Name::CallId)
    }

    /// CSeq: number and method token. `None` where the number does not fit 32 bits.
    pub fn cseq(&self) -> Option<(u32, &[u8])> {
        let value = self.header(Name::CSeq)?;
        let digits = value.iter().position(|&b| is_lws(b))?;
        let method = trim(&value[digits..]);
        Some((number(&value[..digits])?, method))
    }

    /// The method of the transaction that this message belongs to: the CSeq's for a response.
    pub fn transaction_method(&self) -> Method {
        self.method().unwrap_or_else(|| self.cseq().map_or(Method::Other, |(_, m)| Method::parse(m)))
    }

    /// The tag of From or To.
    pub fn tag(&self, name: Name) -> Option<&[u8]> {
        super::address::parameter(self.header(name)?, b"tag")
    }

    /// Whether it belongs to a dialog as a request does: it has a To tag (RFC 3261 §12.2).
    pub fn in_dialog(&self) -> bool {
        self.tag(Name::To).is_some()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = memchr(b'\r', &self.bytes).unwrap_or(0);
        write!(f, "Message({:?}, {} bytes)", String::from_utf8_lossy(&self.bytes[..line]), self.bytes.len())
    }
}

/// The index while it is being made. Also used by the stream framer, which meets the header section before the body.
pub(super) struct Index {
    pub(super) start: Start,
    pub(super) fields: Vec<Field>,
    at: usize,
}

impl Index {
    pub(super) fn start(bytes: &[u8]) -> Result<Index, ParseError> {
        let line_end = crlf(bytes, 0).ok_or(ParseError::StartLine)?;
        let start = start_line(&bytes[..line_end]).ok_or(ParseError::StartLine)?;
        Ok(Index {
            start,
            // A browser's INVITE has about fifteen.
            fields: Vec::with_capacity(20),
            at: line_end + 2,
        })
    }

    /// Reads the fields and returns where the body begins.
    pub(super) fn fields(&mut self, bytes: &[u8]) -> Result<usize, ParseError> {
        let mut at = self.at;
        loop {
            let mut line_end = crlf(bytes, at).ok_or(ParseError::Unterminated)?;
            if line_end == at {
                return Ok(at + 2);
            }
            if self.fields.len() == MAX_FIELDS {
                return Err(ParseError::TooManyFields);
            }
            // A line that begins with white space goes on where the last one ended.
            while matches!(bytes.get(line_end + 2), Some(b' ' | b'\t')) {
                line_end = crlf(bytes, line_end + 2).ok_or(ParseError::Unterminated)?;
            }
            self.fields.push(field(bytes, at, line_end));
            at = line_end + 2;
        }
    }

    pub(super) fn into_message(self, bytes: Bytes, body: usize) -> Message {
        Message { start: self.start, fields: self.fields, body: body as u32, bytes }
    }
}

fn wide(r: &Range<u32>) -> Range<usize> {
    r.start as usize..r.end as usize
}

/// Where the next CRLF stands, from `from` on. A bare CR or LF ends nothing: two readers could disagree on it.
fn crlf(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let lf = at + memchr(b'\n', bytes.get(at..)?)?;
        if lf > from && bytes[lf - 1] == b'\r' {
            return Some(lf - 1);
        }
        at = lf + 1;
    }
}

fn start_line(line: &[u8]) -> Option<Start> {
    if line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
        let mut parts = line.splitn(3, |&b| b == b' ');
        let version = parts.next()?;
        let code = parts.next()?;
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            return None;
        }
        let status = match code {
            [b'1'..=b'6', _, _] => number(code).unwrap_or(0) as u16,
            _ => 0,
        };
        return Some(Start::Response { status });
    }
    let first = memchr(b' ', line)?;
    // Trailing white space would hide the version.
    let end = line.iter().rposition(|&b| !is_lws(b))? + 1;
    let last = line[..end].iter().rposition(|&b| b == b' ')?;
    let version = &line[last + 1..];
    if first == 0
        || version.len() < 4
        || !version[..4].eq_ignore_ascii_case(b"SIP/")
        || !line[..first].iter().all(|&b| is_token_byte(b))
    {
        return None;
    }
    let uri_start = (first + 1).min(last);
    Some(Start::Request {
        method: Method::parse(&line[..first]),
        method_at: 0..first as u32,
        uri: uri_start as u32..last as u32,
        version: last as u32 + 1..line.len() as u32,
    })
}

/// The field on `bytes[start..line_end]`, folds included.
fn field(bytes: &[u8], start: usize, line_end: usize) -> Field {
    let line = &bytes[start..line_end];
    let malformed = Field {
        name: Name::Malformed,
        start: start as u32,
        value_start: start as u32,
        value_end: line_end as u32,
        end: line_end as u32 + 2,
    };
    let Some(colon) = memchr(b':', line) else {
        return malformed;
    };
    let mut name_end = colon;
    while name_end > 0 && matches!(line[name_end - 1], b' ' | b'\t') {
        name_end -= 1;
    }
    let name = &line[..name_end];
    if name.is_empty() || !name.iter().all(|&b| is_token_byte(b)) {
        return malformed;
    }
    let value = &line[colon + 1..];
    let lead = value.iter().position(|&b| !is_lws(b));
    let (value_start, value_end) = match lead {
        None => (line_end, line_end),
        Some(lead) => {
            let tail = value.iter().rposition(|&b| !is_lws(b)).unwrap_or(lead);
            (start + colon + 1 + lead, start + colon + 1 + tail + 1)
        }
    };
    Field { name: Name::parse(name), value_start: value_start as u32, value_end: value_end as u32, ..malformed }
}

/// The places of the comma-separated values in a header value. Commas inside quotes or angle brackets separate
/// nothing. Empty values are left out.
pub(crate) fn split_values(value: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < value.len() {
            let start = at;
            let end = value_end(value, start);
            at = end + 1;
            let part = &value[start..end];
            if let Some(lead) = part.iter().position(|&b| !is_lws(b)) {
                let tail = part.iter().rposition(|&b| !is_lws(b)).unwrap_or(lead);
                return Some(start + lead..start + tail + 1);
            }
        }
        None
    })
}

fn value_end(value: &[u8], start: usize) -> usize {
    if memchr(b',', &value[start..]).is_none() {
        return value.len();
    }
    let (mut quoted, mut angle) = (false, false);
    let mut i = start;
    while i < value.len() {
        match value[i] {
            b'\\' if quoted => i += 1,
            b'"' if !angle => quoted = !quoted,
            b'<' if !quoted => angle = true,
            b'>' if !quoted => angle = false,
            b',' if !quoted && !angle => return i,
            _ => {}
        }
        i += 1;
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect("parses")
    }

    #[test]
    fn folded_joined_and_compact_fields_are_read_as_what_they_are() {
        let m = parse(
            "OPTIONS sip:a@b SIP/2.0\r\nv: SIP/2.0/WS x.invalid;branch=z9hG4bK1,\r\n  SIP/2.0/TCP y\r\nVia : SIP/2.0/UDP z\r\n\
             Subject:\r\n  folded\r\nRoute: \"a, b\" <sip:x,y@h>, <sip:q>\r\n\r\nbody",
        );
        let vias: Vec<_> = m.values(Name::Via).map(|(v, _)| v).collect();
        assert_eq!(vias, [&b"SIP/2.0/WS x.invalid;branch=z9hG4bK1"[..], b"SIP/2.0/TCP y", b"SIP/2.0/UDP z"]);
        assert_eq!(m.values(Name::Route).count(), 2);
        assert_eq!(m.header_named(b"subject"), Some(&b"folded"[..]));
        assert_eq!(m.body(), b"body");
    }

    #[test]
    fn a_line_without_a_colon_is_kept_as_malformed() {
        let m = parse("OPTIONS sip:a@b SIP/2.0\r\nnonsense\r\nTo: x\r\n\r\n");
        assert_eq!(m.fields()[0].name, Name::Malformed);
        assert_eq!(m.header(Name::To), Some(&b"x"[..]));
    }

    #[test]
    fn a_bare_line_feed_ends_no_line() {
        let m = parse("OPTIONS sip:a@b SIP/2.0\r\nTo: x\nFrom: y\r\n\r\n");
        assert_eq!(m.fields().len(), 1);
    }

    #[test]
    fn what_has_no_start_line_or_no_end_is_no_message() {
        let p = |t: &'static str| Message::parse(Bytes::from_static(t.as_bytes())).map(|_| ());
        assert_eq!(p("GET / HTTP/1.1\r\n\r\n"), Err(ParseError::StartLine));
        assert_eq!(p("\r\n"), Err(ParseError::StartLine));
        assert_eq!(p("OPTIONS sip:a SIP/2.0\r\nTo: x\r\n"), Err(ParseError::Unterminated));
    }
}
