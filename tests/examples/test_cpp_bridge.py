"""cpp-bridge: the bridge inside a C++ program, between pjsua-ws and the TCP side of c-softswitch."""

import os
import signal
import unittest

from programs import ANY_CERTIFICATE, Program, Softswitch, file_in, free_port, phone
from sip import Client, Refused

CONFIG = """
[[listen]]
url = "ws://127.0.0.1:{ws}/"
[sip]
listen = ["tcp://127.0.0.1:0"]
registration = "rewrite"
[[upstream]]
uri = "sip:127.0.0.1:{upstream};transport=tcp"
"""


class CppBridge(unittest.TestCase):
    def start(self, *args):
        bridge = Program(self, "cpp-bridge", *args)
        bridge.expect("^ready$")
        self.port = int(bridge.expect(r"^listening on ws://127\.0\.0\.1:(\d+)/").group(1))
        return bridge

    def test_who_has_no_token_may_not_connect(self):
        self.start("--token", "s3cret", "ws://127.0.0.1:0/", "tcp://127.0.0.1:0", f"sip:127.0.0.1:{free_port()};transport=tcp")
        for target in ("/", "/?token=other", "/?xtoken=s3cret"):
            with self.assertRaises(Refused) as refused:
                Client(self, self.port, "alice", target=target)
            self.assertEqual(refused.exception.status, 401)
        Client(self, self.port, "alice", target="/?a=b&token=s3cret")

    def test_it_decides_what_may_pass_and_says_what_happens(self):
        bridge = self.start("ws://127.0.0.1:0/", "tcp://127.0.0.1:0", f"sip:127.0.0.1:{free_port()};transport=tcp")
        alice = Client(self, self.port, "alice")
        flow = bridge.expect(r"^flow (\d+) opened by 127\.0\.0\.1").group(1)
        alice.request("MESSAGE", "sip:nobody@example.com")
        self.assertEqual(alice.expect(403).start, "SIP/2.0 403 Nobody Listens")
        alice.request("MESSAGE", "sip:somebody@example.com")
        alice.expect(503)  # nobody is upstream
        alice.close()
        bridge.expect(rf"^flow {flow} closed: ")
        self.assertEqual(bridge.stop(), 0, bridge.text())
        bridge.expect("^stopped$")

    def test_a_wrong_configuration_is_refused_with_its_words(self):
        bridge = Program(self, "cpp-bridge", file_in(self, "wrong.toml", "[limits]\nrequests_per_secnd = 1\n"))
        self.assertEqual(bridge.finish(), 1)
        bridge.expect("did you mean")

    def test_it_reads_its_configuration_again(self):
        config = file_in(self, "bridge.toml", CONFIG.format(ws=free_port(), upstream=free_port()))
        bridge = self.start(config)
        os.kill(bridge.pid, signal.SIGHUP)
        bridge.expect("^reloaded$")
        file_in(self, "bridge.toml", "nonsense")
        os.kill(bridge.pid, signal.SIGHUP)
        bridge.expect("^not reloaded: ")
        self.assertEqual(bridge.stop(), 0, bridge.text())

    def test_a_phone_calls_the_switch_behind_it(self):
        switch = Softswitch(self)
        config = file_in(self, "bridge.toml", CONFIG.format(ws=free_port(), upstream=switch.port["tcp"]))
        bridge = self.start("--token", "s3cret", config)
        bridge.expect("^reached ")
        with_token = ANY_CERTIFICATE + f'[[client.host]]\nhost = "127.0.0.1:{self.port}"\ntarget = "/?token=s3cret"\n'
        proxy = f"sip:127.0.0.1:{self.port};transport=ws;lr"
        alice = phone(self, "alice", proxy, "--seconds", 1, callee="sip:echo@127.0.0.1", config=with_token)
        self.assertEqual(alice.finish(), 0, alice.text() + bridge.text() + switch.text())
        bridge.expect("^registered sip:alice@127.0.0.1 ")
        switch.expect("^echo: call$")
        bridge.expect("^unregistered sip:alice@127.0.0.1")
        return switch

    def test_a_phone_finds_its_way_back_into_the_dialog(self):
        self.test_a_phone_calls_the_switch_behind_it().expect("^echo: talking$", patience=2)


if __name__ == "__main__":
    unittest.main()
