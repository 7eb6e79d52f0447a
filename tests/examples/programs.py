"""Programs under test: started on free ports, watched by what they print, ended by their process id."""

import os
import re
import socket
import subprocess
import tempfile
import threading
import time
import unittest

PATIENCE = 20.0  # seconds, for anything that has to happen


def until(what, condition, patience=PATIENCE):
    """The first true value of condition(); fails when it takes too long."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:.0f} s for {what}")
        time.sleep(0.02)


def path_of(name):
    """Where CMake built it; the test is left out where it did not."""
    path = os.environ.get(re.sub(r"\W", "_", name).upper(), "")
    if not path or path.endswith("NOTFOUND"):
        raise unittest.SkipTest(f"{name} is not there")
    return path


def free_port(kind=socket.SOCK_STREAM):
    """A port of loopback that nobody has just now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_bound(port):
    """Whether somebody has that UDP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return False
        except OSError:
            return True


class Program:
    """A running program, and all that it has said on stdout and stderr."""

    def __init__(self, test, name, *args, env=None, stdin=subprocess.DEVNULL, wrapper=()):
        self.name = os.path.basename(name)
        self.lines = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [*wrapper, path_of(name), *map(str, args)],
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})}, cwd=folder_of(test),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        test.addCleanup(self._end)

    def _read(self):
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._changed.notify_all()

    @property
    def pid(self):
        return self._process.pid

    def said(self, pattern):
        """The match of the first line with the pattern, said already; None where there is none."""
        with self._changed:
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None)

    def expect(self, pattern, patience=PATIENCE):
        """Waits for a line with the pattern."""
        deadline = time.monotonic() + patience
        while True:
            found = self.said(pattern)
            if found:
                return found
            ended = self._process.poll() is not None and not self._reader.is_alive()
            with self._changed:
                left = deadline - time.monotonic()
                if ended or left < 0:
                    raise AssertionError(f"{self.name} never said /{pattern}/:\n{self.text()}")
                self._changed.wait(min(left, 0.1))

    def tell(self, line):
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def text(self):
        return "\n".join(self.lines[-200:])

    def finish(self, patience=PATIENCE):
        """Waits until it ends by itself; its exit code."""
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end:\n{self.text()}") from None
        self._reader.join(PATIENCE)
        return code

    def stop(self):
        """SIGTERM; its exit code."""
        self._process.terminate()
        return self.finish()

    def _end(self):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE)
        for pipe in (self._process.stdout, self._process.stdin):
            if pipe:
                pipe.close()


def folder_of(test):
    """A folder of the test's own, for what programs leave behind."""
    if not hasattr(test, "folder"):
        folder = tempfile.TemporaryDirectory(prefix="sipws-test-")
        test.addCleanup(folder.cleanup)
        test.folder = folder.name
    return test.folder


def file_in(test, name, text):
    path = os.path.join(folder_of(test), name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


class Softswitch(Program):
    """c-softswitch on free ports, ready."""

    def __init__(self, test, *args):
        urls = [f"{scheme}://127.0.0.1:0" for scheme in ("ws", "wss", "udp", "tcp")]
        super().__init__(test, "c-softswitch", *args, *urls)
        self.expect("^ready$")
        self.port = {s: int(self.expect(rf"^listening on {s}://127\.0\.0\.1:(\d+)").group(1)) for s in ("ws", "wss", "udp", "tcp")}

    def proxy(self, scheme):
        """As pjsua is told to reach it."""
        return f"sip:127.0.0.1:{self.port[scheme]};transport={scheme};lr"


# No listeners: a phone only connects.
ANY_CERTIFICATE = "listen = []\n[client]\nverify = false\n"


def phone(test, user, proxy, *args, callee=None, config=ANY_CERTIFICATE):
    """pjsua-ws, started."""
    path = file_in(test, f"{user}.toml", config)
    callee = [callee] if callee else []
    return Program(test, "pjsua-ws", "--config", path, *args, f"sip:{user}@127.0.0.1", proxy, "secret", *callee)


def sipp(test, scenario, target, port, *args):
    """SIPp with one call of tests/examples/sipp/SCENARIO.xml, started."""
    here = os.path.dirname(os.path.abspath(__file__))
    return Program(
        test, "sipp", f"127.0.0.1:{target}", "-sf", os.path.join(here, "sipp", f"{scenario}.xml"), "-i", "127.0.0.1",
        "-p", port, "-t", "u1", "-m", 1, "-nostdin", "-timeout", "20s", "-timeout_error", *args,
        env={"TERM": "dumb"},
    )
