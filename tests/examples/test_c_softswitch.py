"""c-softswitch: registrar and proxy, over raw connections, and with SIPp and pjsua-ws on its sides."""

import secrets
import socket
import unittest

from programs import Program, Softswitch, free_port, is_bound, path_of, phone, sipp, until
from sip import Client


class Registrar(unittest.TestCase):
    def setUp(self):
        self.switch = Softswitch(self)

    def client(self, user, secure=False):
        return Client(self, self.switch.port["wss" if secure else "ws"], user, secure)

    def test_it_keeps_several_contacts_until_they_go(self):
        one, two = self.client("bob"), self.client("bob", secure=True)
        self.assertEqual(len(one.register().all("Contact")), 1)
        self.assertEqual(len(two.register().all("Contact")), 2)
        self.assertEqual(len(one.register(contact=one.contact + ";expires=0").all("Contact")), 1)
        self.assertEqual(len(one.register(contact="*").all("Contact")), 0)

    def test_expires_is_bounded_and_runs_out(self):
        bob, alice = self.client("bob"), self.client("alice")
        self.assertIn(";expires=3600", bob.register("Expires: 86400")["Contact"])
        bob.register("Expires: 1")

        def is_gone():
            alice.request("MESSAGE", "sip:bob@127.0.0.1")
            while True:
                message = alice.receive()
                if message.status != 100:
                    return message.status == 404

        # Whoever is there still answers nothing here.
        self.switch.expect("^registered bob ")
        until("the end of the binding", lambda: self.switch.said("^expired bob") or self._poke(alice))
        self.assertTrue(is_gone())

    def _poke(self, alice):
        alice.register()  # looks through the bindings
        return False

    def test_a_lost_connection_takes_its_bindings_along(self):
        bob, alice = self.client("bob"), self.client("alice")
        bob.register()
        bob.close()
        self.switch.expect("^unregistered bob ")
        alice.request("MESSAGE", "sip:bob@127.0.0.1")
        alice.expect(404)

    def test_another_domain_is_not_ours(self):
        alice = self.client("alice")
        alice.request("REGISTER", "sip:127.0.0.1", f"Contact: {alice.contact}", to="<sip:alice@example.com>")
        alice.expect(404)


class Proxy(unittest.TestCase):
    def setUp(self):
        self.switch = Softswitch(self)

    def client(self, user, secure=False):
        made = Client(self, self.switch.port["wss" if secure else "ws"], user, secure)
        made.register()
        return made

    def test_messages_pass_in_both_directions_and_transports(self):
        alice, bob = self.client("alice"), self.client("bob", secure=True)
        for here, there in ((alice, bob), (bob, alice)):
            here.request("MESSAGE", f"sip:{there.user}@127.0.0.1", "Content-Type: text/plain", body="hello", hops=9)
            got = there.expect("MESSAGE")
            self.assertEqual((got.body, got["Max-Forwards"]), ("hello", "8"))
            there.send(got.answer("202 Accepted"))
            here.expect(202)

    def test_options_of_the_switch_itself(self):
        alice = self.client("alice")
        alice.request("OPTIONS", "sip:127.0.0.1")
        alice.expect(200)

    def test_hops_run_out_and_strangers_are_not_served(self):
        alice = self.client("alice")
        alice.request("MESSAGE", "sip:alice@127.0.0.1", hops=0)
        alice.expect(483)
        for uri in ("sip:nobody@127.0.0.1", "sip:somebody@192.0.2.1"):
            alice.request("MESSAGE", uri)
            alice.expect(404)
        alice.request("MESSAGE", "sip:somebody@192.0.2.1",
                      f"Route: <sip:127.0.0.1:{self.switch.port['ws']};transport=ws;lr>")
        alice.expect(404)

    def test_a_cancelled_call_ends_with_487(self):
        alice, bob = self.client("alice"), self.client("bob")
        call, branch = secrets.token_hex(8), "z9hG4bK" + secrets.token_hex(8)
        alice.request("INVITE", "sip:bob@127.0.0.1", f"Contact: {alice.contact}", call=call, branch=branch)
        invite = bob.expect("INVITE")
        bob.send(invite.answer("180 Ringing"))
        alice.expect(180)
        alice.request("CANCEL", "sip:bob@127.0.0.1", call=call, branch=branch)
        alice.expect(200)
        cancel = bob.expect("CANCEL")
        self.assertEqual(cancel["Via"].split("branch=")[1], invite["Via"].split("branch=")[1])
        bob.send(cancel.answer("200 OK"))
        bob.send(invite.answer("487 Request Terminated"))
        alice.expect(487)
        bob.expect("ACK")

    def test_the_first_of_two_phones_that_answers_has_the_call(self):
        alice, one, two = self.client("alice"), self.client("bob"), self.client("bob", secure=True)
        alice.request("INVITE", "sip:bob@127.0.0.1", f"Contact: {alice.contact}")
        invites = [phone.expect("INVITE") for phone in (one, two)]
        self.assertNotEqual(invites[0]["Via"], invites[1]["Via"])
        one.send(invites[0].answer("180 Ringing"))
        alice.expect(180)
        two.send(invites[1].answer("200 OK", f"Contact: {two.contact}"))
        answer = alice.expect(200)
        one.send(one.expect("CANCEL").answer("200 OK"))
        one.send(invites[0].answer("487 Request Terminated"))
        one.expect("ACK")
        # One Record-Route for each side; the way to the other one leads through both.
        routes = answer.all("Record-Route")
        self.assertEqual(len(routes), 2)
        contact = answer["Contact"].strip("<>")
        self.assertNotIn(".invalid", contact)
        way = [f"Route: {route}" for route in reversed(routes)]
        dialog = {"call": answer["Call-ID"], "to": answer["To"]}
        alice.request("ACK", contact, *way, **dialog)
        two.expect("ACK")
        alice.request("BYE", contact, *way, cseq=2, **dialog)
        two.send(two.expect("BYE").answer("200 OK"))
        alice.expect(200)

    def test_the_best_failure_is_the_answer(self):
        alice, one, two = self.client("alice"), self.client("bob"), self.client("bob", secure=True)
        alice.request("INVITE", "sip:bob@127.0.0.1", f"Contact: {alice.contact}")
        one.send(one.expect("INVITE").answer("503 Service Unavailable"))
        two.send(two.expect("INVITE").answer("486 Busy Here"))
        alice.expect(486)

    def test_a_phone_that_vanishes_while_it_rings_fails_the_call(self):
        alice, bob = self.client("alice"), self.client("bob")
        alice.request("INVITE", "sip:bob@127.0.0.1", f"Contact: {alice.contact}")
        bob.send(bob.expect("INVITE").answer("180 Ringing"))
        alice.expect(180)
        bob.close()
        self.assertGreaterEqual(alice.receive().status, 408)

    def test_a_browsers_offer_to_echo_is_refused_honestly(self):
        alice = self.client("alice")
        sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 127.0.0.1\r\n"
        alice.request("INVITE", "sip:echo@127.0.0.1", f"Contact: {alice.contact}", "Content-Type: application/sdp", body=sdp)
        alice.expect(488)

    def test_echo_returns_rtp(self):
        alice = self.client("alice")
        rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(rtp.close)
        rtp.bind(("127.0.0.1", 0))
        rtp.settimeout(10)
        sdp = ("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
               f"m=audio {rtp.getsockname()[1]} RTP/AVP 0\r\n")
        alice.request("INVITE", "sip:echo@127.0.0.1", f"Contact: {alice.contact}", "Content-Type: application/sdp", body=sdp)
        answer = alice.expect(200)
        contact = answer["Contact"].strip("<>")
        dialog = {"call": answer["Call-ID"], "to": answer["To"]}
        alice.request("ACK", contact, **dialog)
        port = next(int(line.split()[1]) for line in answer.body.split("\r\n") if line.startswith("m=audio"))
        packet = b"\x80\x00" + bytes(170)
        rtp.sendto(packet, ("127.0.0.1", port))
        self.assertEqual(rtp.recv(2000), packet)
        alice.request("BYE", contact, cseq=2, **dialog)
        alice.expect(200)
        self.switch.expect("^echo: over$")

    def test_it_stops_with_clients_on_it(self):
        alice = self.client("alice")
        self.assertEqual(self.switch.stop(), 0, self.switch.text())
        with self.assertRaises(ConnectionError):
            alice.receive()


class Gateway(unittest.TestCase):
    """SIPp, a UDP gateway behind the switch."""

    def setUp(self):
        path_of("sipp")
        self.switch = Softswitch(self)

    def register(self, user, port):
        registers = sipp(self, "register", self.switch.port["udp"], free_port(socket.SOCK_DGRAM), "-s", user,
                         "-key", "contact_port", port)
        self.assertEqual(registers.finish(), 0, registers.text())

    def call_the_gateway(self, scheme):
        port = free_port(socket.SOCK_DGRAM)
        gateway = sipp(self, "answer", self.switch.port["udp"], port)
        until("SIPp's port", lambda: is_bound(port))
        self.register("gateway", port)
        alice = phone(self, "alice", self.switch.proxy(scheme), "--seconds", 1, callee="sip:gateway@127.0.0.1")
        self.assertEqual(alice.finish(), 0, alice.text() + self.switch.text())
        self.assertEqual(gateway.finish(), 0, gateway.text())

    def test_a_ws_phone_calls_it(self):
        self.call_the_gateway("ws")

    def test_a_wss_phone_calls_it(self):
        self.call_the_gateway("wss")

    def be_called_by_the_gateway(self, scheme):
        bob = phone(self, "bob", self.switch.proxy(scheme))
        bob.expect("^waiting for a call$")
        gateway = sipp(self, "call", self.switch.port["udp"], free_port(socket.SOCK_DGRAM), "-s", "bob")
        self.assertEqual(gateway.finish(), 0, gateway.text() + self.switch.text())
        self.assertEqual(bob.finish(), 0, bob.text())

    def test_it_calls_a_ws_phone(self):
        self.be_called_by_the_gateway("ws")

    def test_it_calls_a_wss_phone(self):
        self.be_called_by_the_gateway("wss")


if __name__ == "__main__":
    unittest.main()
