"""Conformance 2.4: who may relay is decided by logins and address ranges alone, whatever a stranger writes."""

import json
import unittest

from attacks import Attack, at_once, octets, vectors
from clients import Raw
from world import free_port

TABLE = vectors("relaying")
STRANGER = "127.0.0.9"
FORMS_A_SESSION = 8  # bad commands are counted, and 421 would hide the answers


class Relaying(Attack):
    """Relays for 127.0.0.1 and takes mail for two domains of its own."""

    def setUp(self):
        super().setUp()
        self.engine.files["relay_acl_allow"] = "127.0.0.1/32\n192.0.2.0/24\n"
        self.engine.set("relay.ini", "relay", dest_domains="true")
        own = json.dumps({"action": "accept"})
        self.engine.set("relay_dest_domains.ini", "domains", **{"local.test": own, "xn--bcher-kva.test": own})
        self.engine.set("outbound.ini", disabled="true")

    def answers(self, helo, sender, forms, source=STRANGER):
        """The reply to RCPT with each of the forms; where one ends the session, a new one goes on."""
        answers = []
        while len(answers) < len(forms):
            with Raw(self.engine.port, source=source, greet=helo) as client:
                self.assertEqual(client.ask(f"MAIL FROM:{sender}")[0], 250)
                for form in forms[len(answers):]:
                    answers.append((form, *client.ask(b"RCPT TO:" + octets(form))))
                    if b"\0" in octets(form):
                        break
        return answers

    def end_clean(self):
        self.assertEqual(self.engine.events("accepted"), [])
        self.assertEqual(self.engine.stop(), 0)

    def test_2_4_no_form_of_a_foreign_recipient_is_taken_from_a_stranger(self):
        """Nor does it help to call oneself one of ours, in EHLO or in MAIL."""
        self.engine.start()
        forms = TABLE["forms"]
        sessions = [(helo, sender, forms[at:at + FORMS_A_SESSION])
                    for sender in TABLE["senders"] for helo in TABLE["helo"] for at in range(0, len(forms), FORMS_A_SESSION)]
        found = [(session[0], session[1], *answer) for session, answers in zip(sessions, at_once(self.answers, sessions))
                 for answer in answers if not 500 <= answer[1] < 600]
        self.assertEqual(found, [])
        self.end_clean()

    def test_2_4_nor_inside_tls(self):
        """After STARTTLS and on the port that begins with TLS the rule is the same."""
        self.engine.set("connection.ini", "max", errors="100").start()
        for channel in ("starttls", "implicit"):
            for at in range(0, len(TABLE["forms"]), FORMS_A_SESSION):
                with self.client(channel, source=STRANGER) as client:
                    self.assertEqual(client.ask("MAIL FROM:<b@local.test>")[0], 250)
                    for form in TABLE["forms"][at:at + FORMS_A_SESSION]:
                        with self.subTest(form, channel=channel):
                            self.assertEqual(client.ask(b"RCPT TO:" + octets(form))[0] // 100, 5)
                        if b"\0" in octets(form):
                            break
                    else:  # nor does content make up for it, in whichever way it comes
                        for command in ("DATA", "BDAT 0 LAST"):
                            self.assertEqual(client.ask(command)[0] // 100, 5)
        self.end_clean()

    def test_2_4_the_rule_itself(self):
        """A listed destination is taken from everybody, in all spellings of its name; a listed client may relay."""
        self.engine.start()
        for form in ("<v@LOCAL.test>", "<v@xn--bcher-kva.test>", "<v@XN--BCHER-KVA.test>"):
            self.assertEqual(self.answers("x.test", "<a@src.test>", [form])[0][1], 250, form)
        with Raw(self.engine.port, source=STRANGER) as client:  # the same domain as its U-label
            self.assertEqual(client.ask("MAIL FROM:<a@src.test> SMTPUTF8")[0], 250)
            self.assertEqual(client.ask("RCPT TO:<v@bücher.test>".encode())[0], 250)
            self.assertEqual(client.ask("RCPT TO:<v@bucher.test>")[0] // 100, 5)
            self.assertEqual(client.ask("RCPT TO:<v@bücher.victim.test>".encode())[0] // 100, 5)
        self.assertEqual(self.answers("x.test", "<a@src.test>", ["<v@victim.test>"], source="127.0.0.1")[0][1], 250)
        self.end_clean()

    def test_2_4_a_login_is_a_login_only_when_it_succeeded(self):
        self.engine.files["plugins"] += "auth/flat_file\n"
        self.engine.set("auth_flat_file.ini", "core", methods="PLAIN,LOGIN")
        self.engine.set("auth_flat_file.ini", "users", **{"u@src.test": "secret"})
        self.engine.start()
        for tried in (["AUTH PLAIN AHVAc3JjLnRlc3QAd3Jvbmc="], ["AUTH LOGIN", "*"], ["AUTH PLAIN", "AAA="], ["AUTH PLAIN ="],
                      ["AUTH PLAIN AGFkbWluAA=="], ["AUTH XOAUTH2 eA=="]):
            with self.subTest(tried), Raw(self.engine.port, source=STRANGER) as client:
                codes = [client.ask(line)[0] for line in tried]
                self.assertTrue(500 <= codes[-1] < 600, codes)
                client.ask("MAIL FROM:<u@src.test>")
                self.assertTrue(500 <= client.ask("RCPT TO:<v@victim.test>")[0] < 600)
        self.end_clean()

    def test_2_4_the_proxy_header_of_an_untrusted_source_gives_no_rights(self):
        """Neither when nobody may send one, nor when somebody else may."""
        for hosts in ([], ["127.0.0.5"]):
            if hosts:
                self.engine.set("connection.ini", "haproxy", hosts=hosts)
            self.engine.start()
            for header in TABLE["proxy"]:
                with self.subTest(header, hosts=hosts), Raw(self.engine.port, source=STRANGER, greet=None) as client:
                    client.send(octets(header) + b"EHLO x.test\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<v@victim.test>\r\n")
                    codes = client.rest()
                    self.assertEqual([code for code in codes if 200 <= code < 400 and code != 220], [])
                    self.assertTrue(codes and codes[-1] >= 400, codes)
            self.assertEqual(self.engine.stop(), 0)
        self.assertEqual(self.engine.events("accepted"), [])

    def test_2_4_a_proxy_may_not_say_that_the_client_is_ours_by_another_spelling(self):
        """What a trusted proxy tells is the client's address, mapped or not, and no other address counts."""
        self.engine.set("connection.ini", "haproxy", hosts=["127.0.0.1"])
        self.engine.start()
        for header, code in (("PROXY TCP4 192.0.2.1 127.0.0.1 4567 25", 250), ("PROXY TCP6 ::ffff:192.0.2.1 ::1 4567 25", 250),
                             ("PROXY TCP4 192.0.3.1 127.0.0.1 4567 25", 550), ("PROXY TCP6 ::192.0.2.1 ::1 4567 25", 550),
                             ("PROXY TCP6 64:ff9b::192.0.2.1 ::1 4567 25", 550), ("PROXY TCP4 198.51.100.1 192.0.2.1 4567 25", 550)):
            with self.subTest(header), Raw(self.engine.port, greet=None) as client:
                client.send(header + "\r\n")
                self.assertEqual(client.reply()[0], 220)
                client.ask("EHLO x.test")
                client.ask("MAIL FROM:<a@src.test>")
                self.assertEqual(client.ask("RCPT TO:<v@victim.test>")[0], code)
        self.end_clean()

    def test_2_4_ipv4_clients_on_an_ipv6_listener_follow_the_ipv4_list(self):
        port = free_port("::1")
        self.engine.set("smtp.ini", listen=f"[::]:{port}")
        for allowed, expected in (("127.0.0.1/32\n", (250, 550, 550)), ("::1/128\n", (550, 550, 250)),
                                  ("::ffff:127.0.0.1/128\n", (250, 550, 550))):
            self.engine.files["relay_acl_allow"] = allowed
            self.engine.start()
            codes = []
            for address, source in (("127.0.0.1", "127.0.0.1"), ("127.0.0.1", STRANGER), ("::1", "::1")):
                with Raw(port, address=address, source=source) as client:
                    client.ask("MAIL FROM:<a@src.test>")
                    codes.append(client.ask("RCPT TO:<v@victim.test>")[0])
            self.assertEqual(tuple(codes), expected, allowed)
            self.end_clean()


if __name__ == "__main__":
    unittest.main()
