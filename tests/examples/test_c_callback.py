"""c-callback: a stack of one's own behind callbacks."""

import unittest

from programs import Program
from sip import Client, Refused


class CCallback(unittest.TestCase):
    def setUp(self):
        self.server = Program(self, "c-callback", "ws://127.0.0.1:0/", "wss://127.0.0.1:0/")
        self.server.expect("^ready$")
        self.ws, self.wss = (int(self.server.expect(rf"^listening on {s}://127\.0\.0\.1:(\d+)/").group(1)) for s in ("ws", "wss"))

    def test_it_registers_and_answers_options(self):
        alice = Client(self, self.ws, "alice")
        answer = alice.register("Expires: 60")
        self.assertEqual(answer["Contact"], alice.contact)
        self.assertEqual(answer["Expires"], "60")
        self.assertIn(";tag=", answer["To"])
        alice.request("OPTIONS", "sip:127.0.0.1")
        self.assertIn("MESSAGE", alice.expect(200)["Allow"])
        alice.request("INVITE", "sip:bob@127.0.0.1")
        alice.expect(405)

    def test_a_message_and_its_answer_pass_between_two_who_registered(self):
        alice, bob = Client(self, self.ws, "alice"), Client(self, self.wss, "bob", secure=True)
        alice.register()
        bob.register()
        alice.request("MESSAGE", "sip:bob@127.0.0.1", "Content-Type: text/plain", body="hello", hops=5)
        got = bob.expect("MESSAGE")
        self.assertEqual((got.body, got["Max-Forwards"], len(got.all("Via"))), ("hello", "4", 2))
        bob.send(got.answer("200 OK"))
        answer = alice.expect(200)
        self.assertEqual(len(answer.all("Via")), 1)
        # Answered once is answered: what comes again is of no request.
        bob.send(got.answer("486 Busy Here"))
        alice.request("OPTIONS", "sip:127.0.0.1")
        alice.expect(200)

    def test_nobody_answers_for_somebody_else(self):
        alice, bob, eve = (Client(self, self.ws, user) for user in ("alice", "bob", "eve"))
        bob.register()
        alice.request("MESSAGE", "sip:bob@127.0.0.1", body="hello")
        got = bob.expect("MESSAGE")
        eve.send(got.answer("403 Forbidden"))
        eve.request("OPTIONS", "sip:127.0.0.1")
        eve.expect(200)
        bob.send(got.answer("200 OK"))
        alice.expect(200)

    def test_who_is_gone_is_not_found(self):
        alice, bob = Client(self, self.ws, "alice"), Client(self, self.ws, "bob")
        alice.request("MESSAGE", "sip:nobody@127.0.0.1")
        alice.expect(404)
        bob.register()
        bob.register(contact="*")
        alice.request("MESSAGE", "sip:bob@127.0.0.1")
        alice.expect(404)
        bob.register()
        bob.close()
        self.server.expect(r"^flow \d+ closed: ")
        alice.request("MESSAGE", "sip:bob@127.0.0.1")
        alice.expect(404)

    def test_hops_run_out(self):
        alice = Client(self, self.ws, "alice")
        alice.register()
        alice.request("MESSAGE", "sip:alice@127.0.0.1", hops=0)
        alice.expect(483)

    def test_events_come_to_the_thread_that_polls(self):
        alice = Client(self, self.ws, "alice")
        flow = self.server.expect(r"^flow (\d+) opened by 127\.0\.0\.1:").group(1)
        alice.close()
        self.server.expect(rf"^flow {flow} closed: ")

    def test_it_says_goodbye(self):
        alice = Client(self, self.ws, "alice")
        alice.register()
        self.assertEqual(self.server.stop(), 0, self.server.text())
        with self.assertRaises(ConnectionError):
            alice.receive()

    def test_another_path_is_refused(self):
        with self.assertRaises(Refused) as refused:
            Client(self, self.ws, "alice", target="/other")
        self.assertEqual(refused.exception.status, 404)


if __name__ == "__main__":
    unittest.main()
