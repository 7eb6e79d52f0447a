"""pjsua-ws: two of them call each other through c-softswitch, and one its echo."""

import unittest

from programs import Softswitch, free_port, phone


class PjsuaWs(unittest.TestCase):
    def setUp(self):
        self.switch = Softswitch(self)

    def call(self, here, there):
        bob = phone(self, "bob", self.switch.proxy(there))
        bob.expect("^waiting for a call$")
        alice = phone(self, "alice", self.switch.proxy(here), "--seconds", 1, callee="sip:bob@127.0.0.1")
        self.assertEqual(alice.finish(), 0, alice.text() + self.switch.text())
        self.assertEqual(bob.finish(), 0, bob.text() + self.switch.text())
        self.switch.expect("^answered alice -> bob$")
        self.switch.expect("^hangup alice -> bob$")
        self.switch.expect("^unregistered bob ")

    def test_ws_calls_ws(self):
        self.call("ws", "ws")

    def test_ws_calls_wss(self):
        self.call("ws", "wss")

    def test_wss_calls_ws(self):
        self.call("wss", "ws")

    def test_wss_calls_wss(self):
        self.call("wss", "wss")

    def test_wss_calls_a_udp_phone(self):
        self.call("wss", "udp")

    def test_a_udp_phone_calls_wss(self):
        self.call("udp", "wss")

    def test_it_calls_the_echo(self):
        alice = phone(self, "alice", self.switch.proxy("wss"), "--seconds", 1, callee="sip:echo@127.0.0.1")
        self.assertEqual(alice.finish(), 0, alice.text())
        self.switch.expect("^echo: talking$")
        self.switch.expect("^echo: over$")

    def test_nobody_there_is_a_failure_that_is_told(self):
        alice = phone(self, "alice", self.switch.proxy("ws"), callee="sip:nobody@127.0.0.1")
        self.assertEqual(alice.finish(), 1)
        alice.expect("DISCONNECTED: 404")
        alice = phone(self, "alice", f"sip:127.0.0.1:{free_port()};transport=ws;lr")
        self.assertEqual(alice.finish(), 1)
        alice.expect("^registration failed: 503")

    def test_a_certificate_of_nobody_known_is_refused(self):
        alice = phone(self, "alice", self.switch.proxy("wss"), config="listen = []\n")
        self.assertEqual(alice.finish(), 1)
        alice.expect("^registration failed: ")

    def test_who_waits_for_a_call_can_be_ended(self):
        bob = phone(self, "bob", self.switch.proxy("ws"))
        bob.expect("^waiting for a call$")
        self.assertEqual(bob.stop(), 1)
        bob.expect("^unregistered$")


if __name__ == "__main__":
    unittest.main()
