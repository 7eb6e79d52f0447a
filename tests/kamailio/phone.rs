//! A SIP client on a WebSocket, as a browser's would be: registers, calls, answers whatever it is asked with 200, and keeps
//! account of its requests and their final responses.

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::common::{Builder, DEADLINE, Dialog, Frame, PONG, Sip, TEXT, WsClient, frame, request, unique, uri_of};
use super::digest;
use super::process::DOMAIN;

/// Longer than any timer that these requests meet: without a final response by then there will be none.
const FINAL: Duration = Duration::from_secs(45);
/// A server that is killed takes its nonces along, so a request may be challenged by two.
const CHALLENGES: usize = 3;

const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

pub(crate) struct Phone {
    user: String,
    password: String,
    /// The URI that it is to be called by: nobody can resolve it.
    pub(crate) contact: String,
    via: String,
    registration: Mutex<Builder>,
    shared: Arc<Shared>,
    asked: Mutex<Receiver<Sip>>,
    sent: AtomicUsize,
    answered: AtomicUsize,
    reader: Option<JoinHandle<()>>,
}

struct Shared {
    socket: Mutex<TcpStream>,
    /// Requests without a final response, by branch.
    waiting: Mutex<HashMap<String, Sender<Sip>>>,
    /// Final responses to nothing that was still open.
    strays: AtomicUsize,
    contact: String,
    via: String,
    /// The calls that it was called into.
    calls: Mutex<HashMap<String, Dialog>>,
}

impl Phone {
    /// Connects to `url` (ws) as a user with the password that kamailio.cfg expects.
    pub(crate) fn connect(url: &str, user: &str) -> Phone {
        let client = WsClient::open_url(url);
        let host = unique("phone") + ".invalid";
        let contact = format!("sip:{user}@{host};transport=ws");
        let via = format!("SIP/2.0/WS {host}");
        let registration = request("REGISTER", &format!("sip:{DOMAIN}"))
            .set("To", &format!("<sip:{user}@{DOMAIN}>"))
            .with("Supported", "path");
        let shared = Arc::new(Shared {
            socket: Mutex::new(client.stream.socket().try_clone().expect("a second handle")),
            waiting: Mutex::default(),
            strays: AtomicUsize::new(0),
            contact: contact.clone(),
            via: via.clone(),
            calls: Mutex::default(),
        });
        let (ask, asked) = channel();
        let reading = Arc::clone(&shared);
        let reader = std::thread::spawn(move || reading.read(client, &ask));
        Phone {
            user: user.to_owned(),
            password: format!("secret-{user}"),
            contact,
            via,
            registration: Mutex::new(registration),
            shared,
            asked: Mutex::new(asked),
            sent: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            reader: Some(reader),
        }
    }

    pub(crate) fn with_password(mut self, password: &str) -> Phone {
        self.password = password.to_owned();
        self
    }

    fn uri(&self) -> String {
        format!("sip:{}@{DOMAIN}", self.user)
    }

    /// How many requests it sent, and how many final responses came: ACKs, which have none, are not among them.
    pub(crate) fn account(&self) -> (usize, usize) {
        (self.sent.load(Ordering::Relaxed), self.answered.load(Ordering::Relaxed))
    }

    /// Final responses that came a second time, or to nothing.
    pub(crate) fn strays(&self) -> usize {
        self.shared.strays.load(Ordering::Relaxed)
    }

    /// The next request that it was asked, which must be of that method.
    #[track_caller]
    pub(crate) fn asked(&self, method: &str) -> Sip {
        let message = self.asked.lock().expect("requests").recv_timeout(DEADLINE);
        let message = message.unwrap_or_else(|_| panic!("{} was not asked any {method}", self.user));
        assert_eq!(message.method(), method, "{message:?}");
        message
    }

    /// The call that it was called into.
    pub(crate) fn call_of(&self, invite: &Sip) -> Dialog {
        self.shared.calls.lock().expect("calls")[invite.get("Call-ID")].clone()
    }

    /// REGISTER for so many seconds; 0 takes the registration back.
    pub(crate) fn register(&self, expires: u32) -> Option<Sip> {
        let mut registration = self.registration.lock().expect("one at a time");
        let contact = format!("<{}>;expires={expires}", self.contact);
        let refresh = registration.clone().set("Contact", &contact);
        let (response, sent) = self.authenticated(refresh);
        *registration = next(sent);
        response
    }

    /// MESSAGE outside a dialog.
    pub(crate) fn message(&self, to: &Phone, text: &str) -> Option<Sip> {
        self.authenticated(request("MESSAGE", &to.uri()).without("Contact").body("text/plain", text.as_bytes())).0
    }

    /// INVITE: the final response, and the call, acknowledged, if it was answered with 200.
    pub(crate) fn call(&self, to: &Phone) -> (Option<Sip>, Option<Dialog>) {
        let invite = request("INVITE", &to.uri()).set("Contact", &format!("<{}>", self.contact));
        let (response, invite) = self.authenticated(invite.body("application/sdp", OFFER));
        let mut dialog =
            response.as_ref().filter(|r| r.status() == 200).map(|response| Dialog::of_caller(&invite, response));
        if let Some(dialog) = &mut dialog {
            self.shared.send(&dialog.request("ACK"));
        }
        (response, dialog)
    }

    /// A request in a call; a re-INVITE that is answered with 200 is acknowledged.
    pub(crate) fn in_call(&self, call: &mut Dialog, method: &str) -> Option<Sip> {
        let mut message = call.request(method);
        if method == "INVITE" {
            message = message.set("Contact", &format!("<{}>", self.contact)).body("application/sdp", OFFER);
        }
        let response = self.transact(&message);
        if method == "INVITE" && response.as_ref().is_some_and(|r| r.status() == 200) {
            self.shared.send(&call.request("ACK"));
        }
        response
    }

    /// A request outside a dialog, again with credentials where they are asked for; and the request as it was sent last.
    fn authenticated(&self, message: Builder) -> (Option<Sip>, Builder) {
        let tag = super::common::parameter(message.get("From"), "tag").expect("a tag");
        let mut message = message.set("From", &format!("<{}>;tag={tag}", self.uri()));
        for challenges in 0.. {
            message = message.set("Via", &format!("{};branch=z9hG4bK{};rport", self.via, unique("b")));
            let response = self.transact(&message);
            let (asks, answers) = match response.as_ref().map(Sip::status) {
                Some(401) => ("WWW-Authenticate", "Authorization"),
                Some(407) => ("Proxy-Authenticate", "Proxy-Authorization"),
                _ => return (response, message),
            };
            if challenges == CHALLENGES {
                return (response, message);
            }
            let challenge = response.as_ref().map_or("", |r| r.get(asks));
            let (method, uri) = start(&message);
            let answer = digest::answer(challenge, &self.user, &self.password, method, uri);
            message = next(message.without("Authorization").without("Proxy-Authorization").with(answers, &answer));
        }
        unreachable!("the loop ends by a return");
    }

    /// Sends a request and waits for its final response; the failure of an INVITE is acknowledged.
    fn transact(&self, message: &Builder) -> Option<Sip> {
        let (answer, answered) = channel();
        self.shared.waiting.lock().expect("waiting").insert(message.branch(), answer);
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.shared.send(message);
        let response = answered.recv_timeout(FINAL).ok()?;
        self.answered.fetch_add(1, Ordering::Relaxed);
        if start(message).0 == "INVITE" && response.status() >= 300 {
            self.shared.send(&message.ack_of(&response));
        }
        Some(response)
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        let _ = self.shared.socket.lock().expect("socket").shutdown(Shutdown::Both);
        let ended = self.reader.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "{} could not read what came", self.user);
        }
    }
}

/// Method and Request-URI.
fn start(message: &Builder) -> (&str, &str) {
    let mut words = message.start.split(' ');
    (words.next().unwrap_or(""), words.next().unwrap_or(""))
}

/// The same request with the next CSeq.
fn next(message: Builder) -> Builder {
    let (number, method) = message.get("CSeq").split_once(' ').expect("number and method");
    let cseq = format!("{} {method}", number.parse::<u32>().expect("a number") + 1);
    message.set("CSeq", &cseq)
}

impl Shared {
    fn send(&self, message: &Builder) {
        // Its end is the reader's to notice.
        let _ = self.socket.lock().expect("socket").write_all(&frame(true, TEXT, &message.bytes()));
    }

    fn read(&self, mut client: WsClient, ask: &Sender<Sip>) {
        loop {
            let message = match client.try_frame(DEADLINE) {
                Ok(Some(Frame::Text(text))) => Sip::parse(text.as_bytes()),
                Ok(Some(Frame::Ping(payload))) => {
                    let _ = self.socket.lock().expect("socket").write_all(&frame(true, PONG, &payload));
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::TimedOut => continue,
                Ok(Some(Frame::Close(..)) | None) | Err(_) => return,
                Ok(Some(other)) => panic!("unexpected {other:?}"),
            };
            if message.start.starts_with("SIP/2.0 ") {
                self.response(message);
            } else {
                self.answer(&message);
                let _ = ask.send(message);
            }
        }
    }

    fn response(&self, response: Sip) {
        if response.status() < 200 {
            return;
        }
        match self.waiting.lock().expect("waiting").remove(&response.branch()) {
            Some(waits) => drop(waits.send(response)),
            None => drop(self.strays.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn answer(&self, message: &Sip) {
        if message.method() == "ACK" {
            return;
        }
        let mut ok = message.respond(200, "OK").with("Contact", &format!("<{}>", self.contact));
        if message.method() == "INVITE" {
            ok = ok.body("application/sdp", OFFER);
            if message.tag("To").is_none() {
                let call = Dialog::of_callee(message, &ok, &self.via);
                self.calls.lock().expect("calls").insert(call.call_id.clone(), call);
                self.send(&message.respond(180, "Ringing").with("Contact", &format!("<{}>", self.contact)));
            }
        }
        self.send(&ok);
    }
}

/// The contact URIs of a response to a REGISTER.
pub(crate) fn contacts(response: &Sip) -> Vec<String> {
    response.all("Contact").iter().map(|value| uri_of(value).to_owned()).collect()
}
