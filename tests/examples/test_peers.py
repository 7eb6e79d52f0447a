"""pjproject's own programs with our transport linked into them, or loaded: that each starts with it, and that pjsua
registers and calls by it. Not a line of theirs was changed: tests/peers-pjsip."""

import socket
import subprocess
import unittest

from programs import ANY_CERTIFICATE, Program, Softswitch, file_in, free_port, phone
from sip import Client, Message


def peer(test, name, *args, listen=False):
    """One of them, with a WebSocket listener or none. They end when their stdin does, and print into a buffer."""
    config = '[[listen]]\nurl = "ws://127.0.0.1:0/"\n' if listen else ANY_CERTIFICATE
    path = file_in(test, f"{name}.toml", config)
    return Program(test, name, *args, env={"SIPWS_CONFIG": path}, stdin=subprocess.PIPE, wrapper=("stdbuf", "-oL"))


class Samples(unittest.TestCase):
    def client_of(self, name, *args):
        started = peer(self, name, *args, listen=True)
        port = int(started.expect(r"^sipws: listening on ws://127\.0\.0\.1:(\d+)/").group(1))
        return Client(self, port, "alice")

    def call(self, client, uri):
        """A call from its INVITE to its BYE."""
        sdp = ("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
               "m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n")
        client.request("INVITE", uri, f"Contact: {client.contact}", "Content-Type: application/sdp", body=sdp)
        answer = client.receive()
        while answer.status < 200:
            answer = client.receive()
        self.assertEqual(answer.status, 200, answer.start)
        dialog = {"call": answer["Call-ID"], "to": answer["To"]}
        contact = answer["Contact"].strip("<>")
        client.request("ACK", contact, **dialog)
        client.request("BYE", contact, cseq=2, **dialog)
        while answer["CSeq"] != "2 BYE":
            answer = client.receive()
        self.assertEqual(answer.status, 200)

    def test_sipecho_takes_a_call(self):
        self.call(self.client_of("peer-sipecho", "-p", free_port()), "sip:echo@127.0.0.1")

    def test_simpleua_takes_a_call(self):
        self.call(self.client_of("peer-simpleua"), "sip:simpleuas@127.0.0.1")

    def test_pjsip_perf_takes_a_call_and_requests(self):
        client = self.client_of("peer-pjsip-perf", "-p", free_port())
        for user in ("0", "1"):
            client.request("OPTIONS", f"sip:{user}@127.0.0.1")
            client.expect(200)
        self.call(client, "sip:2@127.0.0.1")

    def test_stateful_proxy_passes_a_request_on(self):
        port = free_port()
        client = self.client_of("peer-stateful_proxy", "-p", port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            udp.settimeout(10)
            client.request("OPTIONS", f"sip:bob@127.0.0.1:{udp.getsockname()[1]}")
            data, proxy = udp.recvfrom(65536)
            udp.sendto(Message(data.decode()).answer("200 OK").encode(), proxy)
            self.assertEqual(len(client.expect(200).all("Via")), 1)


class Pjsua(unittest.TestCase):
    def setUp(self):
        self.switch = Softswitch(self)

    def pjsua(self, scheme, *args, name="peer-pjsua"):
        # 8000 Hz and PCMU alone: a PJSIP without resampling can do nothing else.
        pjsua = peer(self, name, "--null-audio", "--no-tcp", f"--local-port={free_port()}", "--clock-rate=8000",
                     "--add-codec=pcmu", "--auto-answer=200", "--id=sip:bob@127.0.0.1", "--registrar=sip:127.0.0.1",
                     f"--proxy={self.switch.proxy(scheme)}", *args)
        pjsua.expect("registration success")
        return pjsua

    def be_called(self, scheme, name="peer-pjsua"):
        pjsua = self.pjsua(scheme, name=name)
        alice = phone(self, "alice", self.switch.proxy("ws"), "--seconds", 1, callee="sip:bob@127.0.0.1")
        self.assertEqual(alice.finish(), 0, alice.text() + pjsua.text() + self.switch.text())
        pjsua.expect("is DISCONNECTED")
        pjsua.tell("q")
        self.assertEqual(pjsua.finish(), 0, pjsua.text())
        self.switch.expect("^unregistered bob ")

    def test_it_is_called_over_ws(self):
        self.be_called("ws")

    def test_it_is_called_over_wss(self):
        self.be_called("wss")

    def test_it_is_called_over_wss_with_the_transport_loaded(self):
        self.be_called("wss", name="peer-pjsua-plugin")

    def test_it_calls_over_wss(self):
        # Echo, since it sends nothing before pjsua does: to a packet that comes while pjsua (2.17) starts its media, its
        # media thread may answer with an abort.
        pjsua = self.pjsua("wss")
        pjsua.tell("m")
        pjsua.tell("sip:echo@127.0.0.1")
        pjsua.expect("state changed to CONFIRMED")
        self.switch.expect("^echo: talking$")
        pjsua.tell("h")
        self.switch.expect("^echo: over$")
        pjsua.tell("q")
        self.assertEqual(pjsua.finish(), 0, pjsua.text())


if __name__ == "__main__":
    unittest.main()
