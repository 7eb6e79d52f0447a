"""A WebSocket client that speaks just enough SIP to try a server with (RFC 6455, RFC 7118)."""

import base64
import os
import secrets
import socket
import ssl
import struct

from programs import PATIENCE


class Refused(Exception):
    """The server did not upgrade; `status` is what it said."""

    def __init__(self, status):
        super().__init__(f"HTTP {status}")
        self.status = status


class Message:
    """A SIP message, taken apart."""

    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        self.start, *lines = head.split("\r\n")
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
        words = self.start.split(" ")
        self.status = int(words[1]) if words[0] == "SIP/2.0" else None
        self.method = None if self.status else words[0]
        self.uri = None if self.status else words[1]

    def all(self, name):
        return [value for field, value in self.headers if field.lower() == name.lower()]

    def __getitem__(self, name):
        return self.all(name)[0]

    def answer(self, start, *headers, body="", tag=True):
        """A response to this request."""
        to = self["To"] + ("" if ";tag=" in self["To"] or not tag else ";tag=" + secrets.token_hex(4))
        lines = [f"SIP/2.0 {start}"]
        lines += [f"Via: {via}" for via in self.all("Via")]
        lines += [f"Record-Route: {route}" for route in self.all("Record-Route")]
        lines += [f"From: {self['From']}", f"To: {to}", f"Call-ID: {self['Call-ID']}", f"CSeq: {self['CSeq']}"]
        return "\r\n".join([*lines, *headers, f"Content-Length: {len(body)}", "", body])


class Client:
    """One connection of `user`."""

    def __init__(self, test, port, user, secure=False, target="/"):
        self.user = user
        self.host = f"{secrets.token_hex(6)}.invalid"
        self.transport = "WSS" if secure else "WS"
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        test.addCleanup(self._socket.close)
        if secure:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._socket = context.wrap_socket(self._socket)
            test.addCleanup(self._socket.close)
        self._socket.settimeout(PATIENCE)
        self._received = b""
        self._upgrade(port, target)

    def _upgrade(self, port, target):
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall((
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
        ).encode())
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status != 101:
            raise Refused(status)

    def _more(self):
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed by the server")
        self._received += data

    def _take(self, count):
        while len(self._received) < count:
            self._more()
        data, self._received = self._received[:count], self._received[count:]
        return data

    def close(self):
        self._socket.close()

    def send(self, text):
        """One text frame, masked."""
        data, mask = text.encode(), os.urandom(4)
        length = struct.pack("!B", 0x80 | len(data)) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self._socket.sendall(b"\x81" + length + mask + masked)

    def receive(self):
        """The next SIP message; pings and the like are passed over."""
        while True:
            first, second = self._take(2)
            length = second & 0x7F
            if length == 126:
                length = struct.unpack("!H", self._take(2))[0]
            elif length == 127:
                length = struct.unpack("!Q", self._take(8))[0]
            data = self._take(length)
            if first & 0x0F in (1, 2) and data.strip():
                return Message(data.decode())
            if first & 0x0F == 8:
                raise ConnectionError("closed by the server")

    def expect(self, what):
        """The next message with that status or method; a 100 before it is passed over."""
        while True:
            message = self.receive()
            if message.status == 100 and what != 100:
                continue
            if what not in (message.status, message.method):
                raise AssertionError(f"{self.user} got {message.start!r} instead of {what}")
            return message

    @property
    def contact(self):
        return f"<sip:{self.user}@{self.host};transport=ws>"

    def request(self, method, uri, *headers, body="", call=None, cseq=1, branch=None, to=None, hops=70, tag="me"):
        """Sends a request; the text that it was."""
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/{self.transport} {self.host};branch={branch or 'z9hG4bK' + secrets.token_hex(8)}",
            f"Max-Forwards: {hops}",
            f"From: <sip:{self.user}@127.0.0.1>;tag={tag}",
            f"To: {to or '<' + uri + '>'}",
            f"Call-ID: {call or secrets.token_hex(8)}",
            f"CSeq: {cseq} {method}",
        ]
        self.send("\r\n".join([*lines, *headers, f"Content-Length: {len(body)}", "", body]))

    def register(self, *headers, contact=None):
        """Registers; the 200."""
        self.request("REGISTER", "sip:127.0.0.1", f"Contact: {contact or self.contact}", *headers,
                     to=f"<sip:{self.user}@127.0.0.1>")
        return self.expect(200)
