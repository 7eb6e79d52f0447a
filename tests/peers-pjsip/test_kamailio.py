"""pjsua by ws and wss at a Kamailio: it registers, calls, is called, holds, transfers, hangs up and unregisters."""

import unittest

from peers import DOMAIN, Kamailio, file_in, hold_and_resume, run, until


class AtKamailio(unittest.TestCase):
    def setUp(self):
        self.kamailio = Kamailio(self)

    def call(self, caller, callee):
        caller.mark()
        callee.mark()
        caller.call(f"sip:{callee.user}@{DOMAIN}")
        caller.expect_call("CONFIRMED")
        callee.expect_call("CONFIRMED")

    def hang_up(self, by, other):
        other.mark()
        by.tell("h")
        by.expect_call("DISCONNECTED")
        other.expect_call("DISCONNECTED")

    def leave(self, *phones):
        """pjsua unregisters when it ends."""
        for phone in phones:
            phone.quit()
            until(f"{phone.user} to be gone", lambda: not self.kamailio.contacts(phone.user))

    def calls_with_hold(self, here, there):
        alice, bob = self.kamailio.registered("alice", here), self.kamailio.registered("bob", there)
        self.call(alice, bob)
        for holder, held in ((alice, bob), (bob, alice)):
            hold_and_resume(holder, held)
        self.hang_up(bob, alice)
        self.call(bob, alice)
        self.hang_up(bob, alice)
        self.leave(alice, bob)

    def test_ws_to_ws(self):
        self.calls_with_hold("ws", "ws")

    def test_wss_to_wss(self):
        self.calls_with_hold("wss", "wss")

    def test_ws_to_wss(self):
        self.calls_with_hold("ws", "wss")

    def transfers(self, *schemes):
        alice, bob, carol = (self.kamailio.registered(user, scheme) for user, scheme in zip(("alice", "bob", "carol"), schemes))
        self.call(alice, bob)
        carol.mark()
        bob.mark()
        alice.tell("x", f"sip:carol@{DOMAIN}")
        alice.expect("msg 202/REFER")
        carol.expect_call("CONFIRMED")
        alice.expect("Request msg NOTIFY")
        alice.expect("call transferred successfully")
        alice.expect_call("DISCONNECTED")
        self.hang_up(carol, bob)
        self.leave(alice, bob, carol)

    def test_a_call_is_transferred_over_ws(self):
        self.transfers("ws", "ws", "ws")

    def test_a_call_is_transferred_over_wss(self):
        self.transfers("wss", "wss", "wss")

    def test_a_call_is_transferred_from_ws_to_wss(self):
        self.transfers("ws", "wss", "ws")

    def unregisters(self, scheme):
        alice, bob = self.kamailio.registered("alice", scheme), self.kamailio.registered("bob", scheme)
        bob.tell("ru")
        bob.expect("unregistration success")
        until("bob to be gone", lambda: not self.kamailio.contacts("bob"))
        alice.call(f"sip:bob@{DOMAIN}")
        alice.expect(r"DISCONNECTED \[reason=480")
        bob.tell("rr")
        bob.expect("registration success")
        self.call(alice, bob)
        self.hang_up(alice, bob)
        self.leave(alice, bob)

    def test_who_unregisters_is_not_called_and_who_registers_again_is_over_ws(self):
        self.unregisters("ws")

    def test_who_unregisters_is_not_called_and_who_registers_again_is_over_wss(self):
        self.unregisters("wss")

    def test_a_registrar_that_is_no_proxy_of_the_account(self):
        """The transport in the URI of the registrar and in those that are called."""
        alice, bob = self.kamailio.registered("alice", "ws", proxy=False), self.kamailio.registered("bob", "wss", proxy=False)
        for caller, callee in ((alice, bob), (bob, alice)):
            callee.mark()
            caller.call(f"sip:{callee.user}@{self.kamailio.url(caller.scheme).removeprefix('sip:')}")
            caller.expect_call("CONFIRMED")
            callee.expect_call("CONFIRMED")
            self.hang_up(callee, caller)
        self.leave(alice, bob)

    def test_ws_is_what_stands_in_uris_over_tls_too(self):
        """RFC 7118, section 5: a Contact on the wire has transport=ws."""
        alice = self.kamailio.registered("alice", "wss")
        # pjsua writes it in capitals.
        self.assertRegex(" ".join(self.kamailio.contacts("alice")), "(?i);transport=ws(;|$)")
        self.leave(alice)

    def test_a_certificate_of_nobody_known_is_refused(self):
        alice = self.kamailio.phone("alice", "wss", config=file_in(self, "strict.toml", "listen = []\n"))
        alice.expect("PJSIP_TLS_ECERTVERIF")
        alice.expect("registration failed")
        self.assertEqual(self.kamailio.contacts("alice"), [])
        alice.quit()


if __name__ == "__main__":
    run("kamailio", "openssl", "setsid", "stdbuf", "pjsua")
