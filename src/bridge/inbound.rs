//! What servers ask of clients: requests down, responses up.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::branch::{Branch, Way};
use super::connection::{Connection, Refused};
use super::identity::OwnRoutes;
use super::pending::{Cancel, Entry, NoRoom, Progress, cancel_of};
use super::{Bridge, FlowState, REMEMBERED, RETRY_AFTER, flow_token, registration, translator, with_edits};
use crate::edge::Flow;
use crate::sip::response::Reply;
use crate::sip::uri::Uri;
use crate::sip::validate::{self, Transport};
use crate::sip::via::Via;
use crate::sip::{Message, Method, Name};
use crate::telemetry::metrics::{Direction, Kind};

/// The Unsupported field of a 420 (RFC 3261 §20.40); nothing for other answers.
pub(super) fn unsupported(message: &Message, status: u16) -> Vec<u8> {
    let mut out = Vec::new();
    if status == 420 {
        for (tag, _) in message.values(Name::ProxyRequire) {
            out.extend_from_slice(if out.is_empty() { b"Unsupported: " } else { b", " });
            out.extend_from_slice(tag);
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

impl Bridge {
    pub(super) fn request_to_client(&self, connection: &Arc<Connection>, message: Message, dirty: &mut Vec<Flow>) {
        let arrived = Instant::now();
        let method = message.method().unwrap_or(Method::Other);
        let refuse = |status, reason: &'static str, label| {
            self.metrics.refused(label);
            let headers = unsupported(&message, status);
            self.answer_server(connection, &message, Reply { reason, headers: &headers, ..Reply::new(status, b"") });
        };
        if let Err(fault) = validate::check(&message, Transport::Stream) {
            tracing::debug!(?message, fault.reason, "refused what a SIP server sent");
            return refuse(fault.status, fault.reason, "invalid");
        }
        if method == Method::Ack && self.tags.absorbs(&message) {
            return;
        }
        let routes = self.identity.own_routes(&message);
        let uri = message.request_uri().and_then(|(uri, _)| Uri::parse(uri)).filter(|uri| self.identity.is_own(uri));
        let user = uri.and_then(|uri| uri.user);
        let claim = routes.claim.or_else(|| self.identity.keys.verify(user?));
        let Some(claim) = claim else {
            return match method {
                Method::Options if self.is_for_us(&message) => {
                    self.answer_server(connection, &message, Reply::new(200, b""));
                }
                // Signed with a secret that is no more: its flow is gone, and a registrar should know (RFC 5626 §5.3.1).
                _ if routes.stale || user.is_some_and(flow_token::looks_like_one) => refuse(430, "", "stale_token"),
                _ if message.in_dialog() => refuse(481, "", "no_dialog"),
                _ => refuse(404, "No Flow Token", "no_token"),
            };
        };
        let flow = (claim.node == self.identity.keys.node())
            .then(|| self.edge.get().and_then(Weak::upgrade)?.registry.get(claim.flow))
            .flatten();
        let Some(flow) = flow else {
            return refuse(430, "", "flow_failed");
        };
        if let Some((status, label)) = self.unfit(&message, method, &flow, Way::ToClient) {
            return refuse(status, "", label);
        }
        let Some(key) = message
            .values(Name::Via)
            .next()
            .and_then(|(v, _)| Via::parse(v))
            .map(|via| self.brancher.key(&message, &via, flow.id(), Way::ToClient))
        else {
            return;
        };
        if method == Method::Ack {
            // The ACK of a failure closes its INVITE; that of a 2xx has a transaction of its own.
            let _ = self.pending.take_if(key, |e| e.way == Way::ToClient && e.progress == Progress::Ended);
        } else {
            let own_key = if method == Method::Cancel {
                let known = self.pending.with(key, |e| {
                    e.cancel = Cancel::Sent;
                    e.progress
                });
                match known {
                    None => return refuse(481, "", "no_transaction"),
                    Some(Progress::Ended) => {
                        return self.answer_server(connection, &message, Reply::new(200, b""));
                    }
                    Some(_) => cancel_of(key),
                }
            } else {
                key
            };
            let deadline = arrived + self.timeouts.request;
            let entry = Entry::new(Way::ToClient, &flow, connection, None, message.detached(), deadline);
            match self.pending.insert(own_key, entry) {
                Ok(()) => {}
                Err(NoRoom::Known) => return self.metrics.refused("retransmission"),
                Err(NoRoom::Full) => {
                    self.metrics.refused("in_flight");
                    let reply = Reply { headers: RETRY_AFTER, ..Reply::new(503, b"") };
                    return self.answer_server(connection, &message, reply);
                }
            }
            if let Some(state) = flow.attached::<FlowState>() {
                state.inbound.lock().push(own_key);
            }
            if !flow.is_open() {
                // It closed while this was noted, and may have missed it.
                self.metrics.refused("flow_failed");
                return self.end(own_key, 430, b"");
            }
            if method == Method::Invite {
                self.answer_server(connection, &message, Reply::new(100, b""));
            }
        }
        self.write_to_client(&flow, connection, &message, &routes, key, arrived);
        self.metrics.message(Direction::ToClient, Kind::request(method));
        dirty.push(flow);
    }

    fn write_to_client(
        &self,
        flow: &Flow,
        connection: &Connection,
        message: &Message,
        routes: &OwnRoutes,
        key: u64,
        arrived: Instant,
    ) {
        let Some(state) = flow.attached::<FlowState>() else {
            return;
        };
        let tls = connection.tls;
        let (authority, _) = self.identity.authority(tls);
        let branch =
            Branch { flow: flow.id(), key, loops: self.brancher.loops(message, flow.id(), Way::ToClient), attempt: 0 };
        let method = message.method().unwrap_or(Method::Other);
        with_edits(|edits| {
            let top = message.headers_start();
            edits.insert(top, |out| {
                translator::via(out, if flow.secure() { "WSS" } else { "WS" }, authority, &branch);
                if translator::forms_dialog(method, message.in_dialog()) {
                    let target = connection.target.as_ref().and_then(Weak::upgrade).map(|t| t.id());
                    let target = target.or_else(|| self.target_at(connection));
                    self.identity.record_route(out, &state.token, (tls, target), flow.secure(), false);
                }
            });
            translator::max_forwards(message, edits, top);
            if let Some(peer) = connection.peer() {
                let differs = message
                    .values(Name::Via)
                    .next()
                    .and_then(|(v, _)| Some(crate::sip::uri::address(Via::parse(v)?.host) != Some(peer.ip())));
                if differs == Some(true) {
                    translator::received(message, edits, peer);
                }
            }
            routes.remove(edits);
            registration::show_request_uri(&self.identity, state, message, edits);
            let bytes = message.bytes();
            flow.queue(edits.len_of(bytes), arrived, |out| edits.apply(bytes, out));
        });
    }

    /// The target at the other end of a connection that a server opened.
    fn target_at(&self, connection: &Connection) -> Option<u32> {
        let ip = connection.peer()?.ip();
        let targets = self.targets.load();
        let mut at = targets.iter().filter(|t| t.is_at(ip));
        match (at.next(), at.next()) {
            (Some(only), None) => Some(only.id()),
            // Several servers at one address: its port on this connection tells nothing.
            _ => None,
        }
    }

    /// Passes a client's response on to the connection that its request came from.
    pub(super) fn response_to_server(&self, flow: &Flow, message: &Message) {
        let arrived = Instant::now();
        let branch = message.values(Name::Via).next().and_then(|(v, _)| Branch::parse(Via::parse(v)?.branch?));
        let (Some(branch), Some(status @ 100..=699)) = (branch, message.status()) else {
            return self.metrics.refused("stray_response");
        };
        let method = message.transaction_method();
        let key = if method == Method::Cancel { cancel_of(branch.key) } else { branch.key };
        let success = (200..300).contains(&status);
        let passed = self.pending.with(key, |e| {
            if e.way != Way::ToClient || e.flow != *flow || e.method != method {
                return None;
            }
            // A client repeats its 2xx until the ACK comes (RFC 3261 §13.3.1.4): nothing else is said twice.
            if e.progress == Progress::Ended && !(success && method == Method::Invite) {
                return None;
            }
            if status < 200 {
                e.progress = Progress::Proceeding;
                if method == Method::Invite {
                    e.deadline = Instant::now() + self.timeouts.invite;
                }
            } else {
                e.progress = Progress::Ended;
                e.deadline = Instant::now() + REMEMBERED;
            }
            Some((e.connection.clone(), if status >= 200 { e.request.take() } else { None }))
        });
        let Some((connection, request)) = passed.flatten() else {
            return self.metrics.refused("stray_response");
        };
        if status >= 200 {
            self.settled(flow, key, Way::ToClient);
            if method != Method::Invite {
                self.pending.take(key);
            }
            if let Some(request) = &request {
                self.log_call(request, status, flow);
            }
        }
        if status == 100 {
            return;
        }
        let written = with_edits(|edits| {
            translator::pop_via(message, edits);
            translator::strip_asserted(message, edits);
            translator::content_length(message, edits);
            let bytes = message.bytes();
            let len = edits.len_of(bytes);
            let first = connection.queue(len, arrived, |out| edits.apply(bytes, out));
            if first != Err(Refused::Gone) {
                return first;
            }
            // The connection that the request came on is gone; the server may still be there (RFC 3261 §18.2.2).
            match self.way_back(&connection) {
                Some(target) => target.connection(flow.id()).queue(len, arrived, |out| edits.apply(bytes, out)),
                None => first,
            }
        });
        match written {
            Ok(()) => self.metrics.message(Direction::ToServer, Kind::response(method, status)),
            Err(_) => self.metrics.refused("upstream_queue"),
        }
    }

    /// Another way to the server at the other end of a connection that is gone.
    fn way_back(&self, connection: &Connection) -> Option<Arc<super::Target>> {
        if let Some(target) = connection.target.as_ref().and_then(Weak::upgrade) {
            return Some(target);
        }
        let ip = connection.peer()?.ip();
        self.targets.load().iter().find(|t| t.is_at(ip)).cloned()
    }
}
