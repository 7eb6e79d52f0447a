"""pjsua by ws and wss without a proxy: at the listener of another pjsua, and at c-softswitch."""

import os
import unittest

from peers import Authority, Pjsua, Program, file_in, hold_and_resume, path_of, run


class AtAListenerOfOurs(unittest.TestCase):
    """A client is reached on its connection alone: its Contact names a host that nobody can resolve."""

    def setUp(self):
        self.authority = Authority(self)
        tls = f'certificate = "{self.authority.certificate}"\nkey = "{self.authority.key}"\n'
        listeners = f'[tls]\n{tls}[[listen]]\nurl = "ws://127.0.0.1:0/"\n[[listen]]\nurl = "wss://127.0.0.1:0/"\n'
        self.office = self.pjsua("office", listeners, "--id=sip:office@127.0.0.1")

    def pjsua(self, user, config, *args):
        return Pjsua(self, user, *args, config=file_in(self, f"{user}.toml", config))

    def client(self, user):
        return self.pjsua(user, f'listen = []\n[client]\nca = "{self.authority.ca}"\n', f"--id=sip:{user}@127.0.0.1")

    def calls(self, scheme):
        alice = self.client("alice")
        port = self.office.port(scheme)
        alice.call(f"sip:office@127.0.0.1:{port};transport={scheme}")
        alice.expect_call("CONFIRMED")
        self.office.expect_call("CONFIRMED")
        return alice

    def goes_both_ways(self, scheme):
        alice = self.calls(scheme)
        # Requests in the dialog, from the one side and from the other.
        for holder, held in ((alice, self.office), (self.office, alice)):
            hold_and_resume(holder, held)
        self.office.tell("h")
        alice.expect_call("DISCONNECTED")
        self.office.expect_call("DISCONNECTED")
        self.office.expect(r"RX \d+ bytes Response msg 200/BYE")
        alice.quit()
        self.office.quit()

    def test_it_is_called_and_hangs_up_over_ws(self):
        self.goes_both_ways("ws")

    def test_it_is_called_and_hangs_up_over_wss(self):
        self.goes_both_ways("wss")

    def calls_back(self, scheme):
        """A call of its own to the Contact of a client that is there."""
        alice = self.calls(scheme)
        alice.tell("h")
        self.office.expect_call("DISCONNECTED")
        port = self.office.expect(r"bytes Request msg INVITE/.* from WSS? 127\.0\.0\.1:(\d+):").group(1)
        alice.mark()
        self.office.call(f"sip:alice@127.0.0.1:{port};transport={scheme}")
        alice.expect_call("CONFIRMED")
        self.office.expect_call("CONFIRMED")
        alice.tell("h")
        self.office.expect_call("DISCONNECTED")
        alice.quit()
        self.office.quit()

    def test_it_calls_a_client_on_the_connection_of_that_client_over_ws(self):
        self.calls_back("ws")

    def test_it_calls_a_client_on_the_connection_of_that_client_over_wss(self):
        self.calls_back("wss")


class AtTheSoftswitch(unittest.TestCase):
    def setUp(self):
        try:
            path_of("c-softswitch")
        except unittest.SkipTest:
            self.skipTest("c-softswitch is not there (C_SOFTSWITCH)")
        self.switch = Program(self, "c-softswitch", *(f"{scheme}://127.0.0.1:0" for scheme in ("ws", "wss")))
        self.switch.expect("^ready$")
        self.ports = {scheme: self.switch.expect(rf"^listening on {scheme}://127\.0\.0\.1:(\d+)").group(1) for scheme in ("ws", "wss")}

    def phone(self, user, scheme):
        phone = Pjsua(self, user, f"--id=sip:{user}@127.0.0.1", "--registrar=sip:127.0.0.1",
                      f"--proxy=sip:127.0.0.1:{self.ports[scheme]};transport={scheme};lr",
                      config=file_in(self, "any.toml", "listen = []\n[client]\nverify = false\n"))
        phone.expect("registration success")
        return phone

    def calls(self, here, there):
        alice, bob = self.phone("alice", here), self.phone("bob", there)
        for caller, callee in ((alice, bob), (bob, alice)):
            callee.mark()
            caller.call(f"sip:{callee.user}@127.0.0.1")
            caller.expect_call("CONFIRMED")
            callee.expect_call("CONFIRMED")
            hold_and_resume(caller, callee)
            caller.mark()
            callee.tell("h")
            callee.expect_call("DISCONNECTED")
            caller.expect_call("DISCONNECTED")
        bob.tell("ru")
        bob.expect("unregistration success")
        self.switch.expect("^unregistered bob ")
        alice.call("sip:bob@127.0.0.1")
        alice.expect(r"DISCONNECTED \[reason=4(04|80)")
        alice.quit()
        bob.quit()
        self.assertEqual(self.switch.stop(), 0)

    def test_ws_to_ws(self):
        self.calls("ws", "ws")

    def test_wss_to_wss(self):
        self.calls("wss", "wss")

    def test_ws_to_wss(self):
        self.calls("ws", "wss")


if __name__ == "__main__":
    run("openssl", "stdbuf", "pjsua")
