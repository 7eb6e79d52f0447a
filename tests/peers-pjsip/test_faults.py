"""What pjsua does when the Kamailio that it is registered at, and calls by, dies without a word."""

import unittest

from peers import DOMAIN, Kamailio, run, until


class KamailioIsKilled(unittest.TestCase):
    def killed_in_a_call(self):
        self.kamailio = Kamailio(self)
        self.phones = alice, bob = [
            self.kamailio.registered(user, scheme, "--auto-update-nat=0") for user, scheme in (("alice", "ws"), ("bob", "wss"))
        ]
        self.call(alice, bob)
        for phone in self.phones:
            phone.mark()
        self.kamailio.kill()
        for phone in self.phones:
            phone.expect(rf"SIP {phone.scheme.upper()} transport is disconnected from 127\.0\.0\.1:\d+: .*\[status=\d+\]")
            phone.expect("Scheduling re-registration retry")

    def call(self, caller, callee):
        caller.mark()
        callee.mark()
        caller.call(f"sip:{callee.user}@{DOMAIN}")
        caller.expect_call("CONFIRMED")
        callee.expect_call("CONFIRMED")

    def all_is_well_again(self):
        """The call of before is of no dialog that the new one knows; a new call goes through."""
        for phone in self.phones:
            until(f"{phone.user} at the new Kamailio", lambda user=phone.user: self.kamailio.contacts(user))
        for phone in self.phones:
            phone.tell("h")
            phone.expect_call("DISCONNECTED")
        alice, bob = self.phones
        for caller, callee in ((alice, bob), (bob, alice)):
            self.call(caller, callee)
            callee.mark()
            caller.tell("h")
            callee.expect_call("DISCONNECTED")
        for phone in self.phones:
            phone.quit()

    def test_it_registers_again_by_itself(self):
        self.killed_in_a_call()
        self.kamailio = Kamailio(self, before=self.kamailio)
        # pjsua tries again after 60 s, give or take 10, whatever it was told.
        for phone in self.phones:
            phone.expect("registration success", patience=90)
        self.all_is_well_again()

    def test_it_is_told_to_register_while_nobody_is_there_and_again_when_somebody_is(self):
        self.killed_in_a_call()
        for phone in self.phones:
            phone.tell("rr")
            phone.expect("registration failed|registration error")
        self.kamailio = Kamailio(self, before=self.kamailio)
        for phone in self.phones:
            phone.tell("rr")
            phone.expect("registration success")
        self.all_is_well_again()


if __name__ == "__main__":
    run("kamailio", "openssl", "setsid", "stdbuf", "pjsua")
