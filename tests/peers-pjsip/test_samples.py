"""pjproject's samples as they are, but for our transport in them: a pjsua calls them by ws, and they call a pjsua.

What the samples say of themselves is their UDP address, in Contact and Record-Route: requests of the dialog go there, and
pjsua has UDP as well."""

import socket
import unittest

from peers import Authority, Peer, Pjsua, file_in, free_port, is_bound, run

ONLY_CONNECTS = "listen = []\n[client]\nverify = false\n"


def listening(authority, port=0):
    """A configuration with a listener for each of ws and wss."""
    return (f'[tls]\ncertificate = "{authority.certificate}"\nkey = "{authority.key}"\n'
            f'[[listen]]\nurl = "ws://127.0.0.1:{port}/"\n[[listen]]\nurl = "wss://127.0.0.1:0/"\n')


class Samples(unittest.TestCase):
    def setUp(self):
        self.authority = Authority(self)

    def sample(self, name, *args, port=0):
        return Peer(self, name, *args, config=file_in(self, f"{name}.toml", listening(self.authority, port)))

    def pjsua(self, user, *args, config=ONLY_CONNECTS):
        return Pjsua(self, user, f"--id=sip:{user}@127.0.0.1", *args, config=file_in(self, f"{user}.toml", config))

    def sipecho_is_called(self, scheme):
        echo = self.sample("sipecho", "-p", free_port(socket.SOCK_DGRAM))
        alice = self.pjsua("alice")
        uri = f"sip:echo@127.0.0.1:{echo.port(scheme)};transport={scheme}"
        alice.call(uri)
        alice.expect_call("CONFIRMED")
        echo.expect("CONFIRMED")
        alice.tell("h")
        alice.expect_call("DISCONNECTED")
        alice.expect(r"RX \d+ bytes Response msg 200/BYE")
        alice.call(uri)
        alice.expect_call("CONFIRMED")
        # Its BYE comes to a Contact under .invalid, by the connection.
        echo.expect(r"State changed|CONFIRMED")
        alice.mark()
        echo.tell("h")
        alice.expect(rf"RX \d+ bytes Request msg BYE/.* from {scheme.upper()} ")
        alice.expect_call("DISCONNECTED")
        alice.quit()
        echo.quit()

    def test_sipecho_answers_and_hangs_up_over_ws(self):
        self.sipecho_is_called("ws")

    def test_sipecho_answers_and_hangs_up_over_wss(self):
        self.sipecho_is_called("wss")

    def calls_out(self, name, scheme, *args):
        bob = self.pjsua("bob", config=listening(self.authority))
        uri = f"sip:bob@127.0.0.1:{bob.port(scheme)};transport={scheme}"
        sample = Peer(self, name, *args, uri, config=file_in(self, f"{name}.toml", ONLY_CONNECTS))
        bob.expect_call("CONFIRMED")
        bob.tell("h")
        bob.expect_call("DISCONNECTED")
        bob.expect(r"RX \d+ bytes Response msg 200/BYE.* from WSS? ")
        bob.quit()
        return sample

    def test_sipecho_calls_over_wss(self):
        self.calls_out("sipecho", "wss", "-p", free_port(socket.SOCK_DGRAM)).quit()

    def simpleua_can_be_run(self):
        if is_bound(5060):
            self.skipTest("UDP port 5060, which simpleua has for itself, is somebody else's (tests/browser/own-network.sh)")

    def test_simpleua_calls_over_ws(self):
        self.simpleua_can_be_run()
        self.calls_out("simpleua", "ws").end_well()

    def test_simpleua_calls_over_wss(self):
        self.simpleua_can_be_run()
        self.calls_out("simpleua", "wss").end_well()

    def test_simpleua_is_called_over_ws(self):
        self.simpleua_can_be_run()
        simpleua, alice = self.sample("simpleua"), self.pjsua("alice")
        alice.call(f"sip:simpleua@127.0.0.1:{simpleua.port('ws')};transport=ws")
        alice.expect_call("CONFIRMED")
        simpleua.expect("Call state changed to CONFIRMED")
        alice.tell("h")
        alice.expect_call("DISCONNECTED")
        simpleua.expect("Call DISCONNECTED")
        simpleua.end_well()
        alice.quit()

    def test_stateful_proxy_between_ws_and_udp(self):
        # It takes a Route for its own by the port of its UDP: ws has the same one.
        port = free_port()
        while is_bound(port):
            port = free_port()
        proxy = self.sample("stateful_proxy", "-R", "-L", 5, "-p", port, port=port)
        proxy.port("ws")
        alice = self.pjsua("alice", f"--proxy=sip:127.0.0.1:{port};transport=ws;lr")
        bob = self.pjsua("bob", f"--proxy=sip:127.0.0.1:{port};lr")
        bob_port = bob.expect(r"SIP UDP socket reachable at [\d.]+:(\d+)").group(1)

        alice.call(f"sip:bob@127.0.0.1:{bob_port}")
        alice.expect_call("CONFIRMED")
        bob.expect_call("CONFIRMED")
        bob.tell("h")
        alice.expect(r"RX \d+ bytes Request msg BYE/.* from WS ")
        alice.expect_call("DISCONNECTED")
        bob.expect(r"RX \d+ bytes Response msg 200/BYE")

        here = proxy.expect(r"RX \d+ bytes Request msg INVITE/.* from WS 127\.0\.0\.1:(\d+):").group(1)
        alice.mark()
        bob.call(f"sip:alice@127.0.0.1:{here};transport=ws")
        alice.expect(r"RX \d+ bytes Request msg INVITE/.* from WS ")
        bob.expect_call("CONFIRMED")
        alice.expect_call("CONFIRMED")
        bob.mark()
        alice.tell("h")
        bob.expect_call("DISCONNECTED")
        alice.expect(r"RX \d+ bytes Response msg 200/BYE")
        for program in (alice, bob, proxy):
            program.quit()


if __name__ == "__main__":
    run("openssl", "stdbuf", "pjsua", "sipecho", "simpleua", "stateful_proxy")
