"""pjproject's programs with our transport in them, and the Kamailio that they are tried at.

The programs are those of SIPWS_PEERS_DIR. Where they, or Kamailio, are missing, a test file ends with 77 and says why.
SIPWS_PEERS_LOGS: a folder for what each of pjproject's programs has said."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "examples"))

from programs import PATIENCE, Program, file_in, folder_of, free_port, is_bound, path_of, until  # noqa: E402

CONFIG = os.path.join(HERE, os.pardir, "peers", "kamailio-ws.cfg")
DOMAIN = "sipws.test"


def run(*needed):
    """Runs the tests of the file that was started, if the programs that they need are there."""
    folder = os.environ.get("SIPWS_PEERS_DIR", "")
    for name in needed:
        variable = re.sub(r"\W", "_", name).upper()
        own = os.path.join(folder, name) if folder else ""
        path = os.environ.get(variable) or (own if os.access(own, os.X_OK) else shutil.which(name, path=_search()))
        if not path:
            sys.stderr.write(f"left out: {name} is not there (SIPWS_PEERS_DIR={folder or 'not set'})\n")
            sys.exit(77)
        os.environ[variable] = os.path.abspath(path)
    unittest.main(module="__main__", verbosity=2)


def _search():
    # Where Debian has Kamailio, which is not in everybody's PATH.
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])


class Peer(Program):
    """One of pjproject's programs. It prints into a buffer, and ends when its stdin does."""

    def __init__(self, test, name, *args, config):
        self._test = test
        self._seen = 0
        super().__init__(test, name, *args, env={"SIPWS_CONFIG": config}, stdin=subprocess.PIPE, wrapper=("stdbuf", "-oL"))

    def mark(self):
        """What it has said so far is over: `expect` and `said` look at what comes behind."""
        with self._changed:
            self._seen = len(self.lines)

    def said(self, pattern):
        with self._changed:
            return next(filter(None, (re.search(pattern, line) for line in self.lines[self._seen:])), None)

    def tell(self, *lines):
        """Types lines, after a mark: what is expected then is what comes of them."""
        self.mark()
        try:
            for line in lines:
                super().tell(line)
        except BrokenPipeError:
            self._test.fail(f"{self.name} is gone, with {self.finish()}:\n{self.text()}")

    def port(self, scheme):
        """Where it listens."""
        return int(self.expect(rf"^sipws: listening on {scheme}://127\.0\.0\.1:(\d+)/").group(1))

    def quit(self):
        """Its own end, which has to be a clean one."""
        self.tell("q")
        self.end_well()

    def end_well(self):
        code = self.finish()
        self._test.assertEqual(code, 0, f"{self.name} ended with {code}:\n{self.text()}")
        for line in self.lines:
            self._test.assertNotRegex(line, r"Assert|assertion|panicked|SIGSEGV|AddressSanitizer")

    def text(self):
        return "\n".join(self.lines[-400:])

    def _end(self):
        try:
            super()._end()
        except BrokenPipeError:
            # What was typed for one that was gone already: the test has failed by then.
            pass
        logs = os.environ.get("SIPWS_PEERS_LOGS")
        if logs:
            name = f"{self._test.id().removeprefix('__main__.')}-{getattr(self, 'user', self.name)}.log"
            with open(os.path.join(logs, name), "w", encoding="utf-8") as file:
                file.write("\n".join(self.lines))


class Pjsua(Peer):
    """pjsua, started. `--id` and what it is to do otherwise come as further arguments."""

    def __init__(self, test, user, *args, config):
        self.user = user
        super().__init__(
            # 8000 Hz and PCMU alone: a PJSIP without resampling can do nothing else. The RTP that comes is passed over:
            # pjmedia 2.17 aborts now and then where it comes while the stream begins (it copies the address of the
            # source while transport_udp.c's tp_attach sets it to zero), over whatever transport the call was made.
            test, "pjsua", "--null-audio", "--clock-rate=8000", "--add-codec=pcmu", "--rx-drop-pct=100", "--no-tcp",
            "--app-log-level=5",
            f"--local-port={free_port(socket.SOCK_DGRAM)}", f"--rtp-port={_rtp_port()}", "--auto-answer=200", *args, config=config,
        )
        # Its listeners are open before it can take a call.
        self.expect("PJSUA state changed: STARTING --> RUNNING")

    def call(self, uri):
        self.tell("m", uri)

    def expect_call(self, state):
        return self.expect(rf"Call \d+ state changed to {state}|Call \d+ is {state}")


def hold_and_resume(holder, held):
    """Two re-INVITEs, from the one who holds, on the way of the dialog. A second one may come after the ACK of the first."""
    for command, direction, status in (("H", "sendonly", "Local hold"), ("v", "sendrecv", "Active")):
        held.mark()
        holder.tell(command)
        held.expect(f"^a={direction}$")
        holder.expect(r"RX \d+ bytes Response msg 200/INVITE")
        holder.expect(f"status is {status}")
        held.expect(r"RX \d+ bytes Request msg ACK")
        # Not before has it let go of the transaction, and may send a re-INVITE of its own.
        held.expect("Request to terminate transaction")


_next_rtp_port = 21000 + os.getpid() % 200 * 20


def _rtp_port():
    """pjsua looks for a free one from here on; two at the same time, from different places."""
    global _next_rtp_port
    _next_rtp_port += 20
    return _next_rtp_port


class Kamailio(Program):
    """Kamailio with its websocket module, ready. Its processes are a group of their own."""

    def __init__(self, test, before=None):
        """`before`: the one that was there; this one takes its place, with nothing remembered."""
        self.authority = before.authority if before else Authority(test)
        self.ws, self.wss = (before.ws, before.wss) if before else (_quiet_port(), _quiet_port())
        self._test, self._generation = test, before._generation + 1 if before else 0
        folder = os.path.join(folder_of(test), f"kamailio-{self._generation}")
        os.mkdir(folder)
        self._rpc = os.path.join(folder, "rpc")
        defines = [f"WS_PORT={self.ws}", f"WSS_PORT={self.wss}", f'SIP_DOMAIN="{DOMAIN}"', f'RPC_SOCKET="{self._rpc}"',
                   f'CERTIFICATE="{self.authority.certificate}"', f'PRIVATE_KEY="{self.authority.key}"']
        super().__init__(
            test, "kamailio", "-f", CONFIG, "-DD", "-E", "-m", 64, "-M", 8, "-Y", folder, "-w", folder,
            *[word for define in defines for word in ("-A", define)], wrapper=("setsid",),
        )
        test.addCleanup(self.kill)
        until(f"Kamailio to listen\n{self.text()}", lambda: self._process.poll() is not None or self._answers())
        assert self._process.poll() is None, self.text()

    def _answers(self):
        try:
            for port in (self.ws, self.wss):
                socket.create_connection(("127.0.0.1", port), 1).close()
            return self.rpc("core.version")
        except OSError:
            return False

    def rpc(self, method, *params):
        """Asks it by JSON-RPC; None for an error."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENCE)
            own = f"{self._rpc}-{os.urandom(4).hex()}"
            asking.bind(own)
            try:
                question = {"jsonrpc": "2.0", "method": method, "params": list(params), "id": 1}
                asking.sendto(json.dumps(question).encode(), self._rpc)
                return json.loads(asking.recv(1 << 20)).get("result")
            finally:
                os.unlink(own)

    def contacts(self, user):
        """The contacts that are registered of a user."""
        found = self.rpc("ul.lookup", "location", f"sip:{user}@{DOMAIN}") or self.rpc("ul.lookup", "location", user)
        return [entry["Contact"]["Address"] for entry in found["Contacts"]] if found else []

    def kill(self):
        """All its processes end without a word."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)

    def url(self, scheme):
        """As pjsua is told to reach it: on the side of PJSIP the two have names of their own."""
        return f"sip:127.0.0.1:{self.ws if scheme == 'ws' else self.wss};transport={scheme}"

    def phone(self, user, scheme, *args, proxy=True, config=None):
        """A pjsua of that user's, by that way: as the proxy of the account, or in the registrar's URI alone."""
        config = config or file_in(self._test, "phone.toml", f'listen = []\n[client]\nca = "{self.authority.ca}"\n')
        way = [f"--registrar=sip:{DOMAIN}", f"--proxy={self.url(scheme)};lr"] if proxy else [f"--registrar={self.url(scheme)}"]
        phone = Pjsua(
            self._test, user, f"--id=sip:{user}@{DOMAIN}", *way, "--realm=*", f"--username={user}",
            f"--password=secret-{user}", *args, config=config,
        )
        phone.scheme = scheme
        return phone

    def registered(self, user, scheme, *args, proxy=True):
        """The same, registered."""
        phone = self.phone(user, scheme, *args, proxy=proxy)
        phone.expect("registration success")
        until(f"{user} at Kamailio", lambda: self.contacts(user))
        return phone


def _quiet_port():
    """Below those that the system gives to outgoing connections: it stays free while its owner is dead."""
    global _next_port
    while True:
        _next_port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", _next_port))
                return _next_port
            except OSError:
                continue


_next_port = 12000 + os.getpid() % 4000 * 2


class Authority:
    """A certificate authority of the test's own, and a certificate of its for 127.0.0.1."""

    def __init__(self, test):
        folder = folder_of(test)
        self.ca, self.certificate, self.key = (os.path.join(folder, f"{name}.pem") for name in ("ca", "certificate", "key"))
        ca_key, request, extensions = (os.path.join(folder, name) for name in ("ca.key", "request.pem", "extensions"))
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self._openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", self.ca, "-days", "2", "-subj", "/CN=sipws test CA",
                      "-addext", "keyUsage=critical,keyCertSign")
        self._openssl("req", *new_key, "-keyout", self.key, "-out", request, "-subj", "/CN=127.0.0.1")
        with open(extensions, "w", encoding="ascii") as file:
            file.write("basicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2",
                      "-extfile", extensions, "-out", self.certificate)

    @staticmethod
    def _openssl(*args):
        done = subprocess.run(["openssl", *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stdout.decode()
