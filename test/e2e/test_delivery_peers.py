"""Mail goes out: to the servers that people run, in clear and encrypted, with and without credentials."""

import unittest

from clients import submit
from peers import Aiosmtpd, Closed, Dovecot, Postfix, Reports, Scripted, SmtpSink, certificate_for, parse, server_tls
from world import EndToEnd, free_port, wait_for

# Lines that a careless engine would change: dots, trailing blanks, the longest legal line, what looks like mbox or a bounce.
HARD_BODY = (".\r\n..\r\n.x\r\n..y \r\n\t\r\nFrom here\r\n" + "l" * 998 + "\r\n=20=\r\n\r\n.\r\n\r\nend-of-body\r\n")


class Delivery(EndToEnd):
    def engine(self, nexthop, **outbound):
        """An engine that sends mail for dst.test to nexthop and takes src.test's bounces to self.reports."""
        engine = self.world.engine().route("dst.test", nexthop)
        self.reports = Reports(self.world)
        engine.route("src.test", self.reports.endpoint)
        engine.set("outbound.ini", **outbound)
        return engine

    def end_clean(self, engine):
        self.assertEqual(engine.stop(), 0)
        self.reports.sink.stop()

    def assert_body(self, content, body):
        self.assertEqual(content.partition(b"\r\n\r\n")[2], body.encode() if isinstance(body, str) else body)


class PostfixSmtpSink(Delivery):
    def deliver_ten(self, *arguments):
        peer = SmtpSink(self.world, *arguments)
        nexthop = f"lmtp://{peer.endpoint}" if "-L" in arguments else peer.endpoint
        engine = self.engine(nexthop).start()
        for at in range(10):
            submit(engine, "b@dst.test", self.message(f"number {at}", HARD_BODY))
        engine.wait_event("delivered", 10)
        for text in peer.wait(10, "end-of-body"):
            self.assertIn("\n\n" + HARD_BODY.replace("\r\n", "\n"), text)
        engine.wait_empty()
        self.end_clean(engine)
        return engine

    def test_S5321_09_S5321_10_content_arrives_unchanged(self):
        self.deliver_ten("-8")

    def test_PL_4_without_pipelining(self):
        self.deliver_ten("-p")

    def test_C5321_06_a_server_that_only_knows_helo(self):
        self.deliver_ten("-e")

    def test_LM_1_lmtp(self):
        engine = self.deliver_ten("-L")
        self.assertTrue(all(event.get("lmtp") for event in engine.events("delivered")))


class RealPostfix(Delivery):
    def test_a_whole_postfix_over_tls(self):
        """STARTTLS, CHUNKING, PIPELINING and reuse against a real MTA; its unknown user becomes a bounce."""
        cert, key = certificate_for(self.world, "peer.test")
        postfix = Postfix(self.world, ["b@dst.test", "c@dst.test"], cert, key)
        engine = self.engine(postfix.endpoint, destination_concurrency="2").start()
        for at in range(20):
            submit(engine, ["b@dst.test", "c@dst.test"], self.message(f"number {at}", HARD_BODY))
        submit(engine, ["b@dst.test", "nobody@dst.test"], self.message("to an unknown user"))
        engine.wait_event("delivered", 21)
        for user, count in (("b@dst.test", 21), ("c@dst.test", 20)):
            box = wait_for(
                lambda user=user, count=count: postfix.mailbox(user) if len(postfix.mailbox(user)) >= count else None,
                f"{count} messages for {user}")
            self.assertEqual(len(box), count)
            hard = [one for one in box if one["Subject"].startswith("number")]
            for one in hard:
                self.assertEqual(one.get_payload().replace("\n", "\r\n"), HARD_BODY)
                self.assertIn("using TLSv1.3", " ".join(one.get_all("Received")))
        delivered = engine.events("delivered", domain="dst.test")
        self.assertTrue(all(event["tls"] for event in delivered))
        self.assertGreater(max(event["on_connection"] for event in delivered), 1)  # C5321_19
        report = self.reports.wait(1)[0]
        self.assertEqual(list(report.recipients), ["nobody@dst.test"])
        self.assertEqual(report.recipients["nobody@dst.test"]["Status"], "5.1.1")
        self.assertIn("User unknown", report.recipients["nobody@dst.test"]["Diagnostic-Code"])
        self.assertNotRegex(postfix.log(), "warning: non-SMTP|improper command|lost connection after (?!CONNECT)|SSL_accept error")
        self.end_clean(engine)


class Aio(Delivery):
    def test_aiosmtpd_in_clear(self):
        peer = Aiosmtpd(self)
        engine = self.engine(peer.endpoint).start()
        submit(engine, ["b@dst.test", "c@dst.test"], self.message("aio", HARD_BODY))
        envelope = peer.wait(1)[0]
        self.assertEqual((envelope.mail_from, envelope.rcpt_tos, envelope.tls), ("a@src.test", ["b@dst.test", "c@dst.test"], False))
        self.assert_body(envelope.content, HARD_BODY)
        engine.wait_empty()
        self.end_clean(engine)

    def test_EA_4_EA_5_8B_3_utf8_and_8bit_to_aiosmtpd(self):
        peer = Aiosmtpd(self, enable_SMTPUTF8=True)
        engine = self.engine(peer.endpoint).start()
        text = "From: <a@src.test>\r\nSubject: Grüße\r\n\r\nümläut\r\n".encode()
        submit(engine, "jürgen@dst.test", text, mail_options=["SMTPUTF8", "BODY=8BITMIME"])
        envelope = peer.wait(1)[0]
        self.assertEqual(envelope.rcpt_tos, ["jürgen@dst.test"])
        self.assertEqual([option.upper() for option in sorted(envelope.mail_options) if "SIZE" not in option.upper()],
                         ["BODY=8BITMIME", "SMTPUTF8"])
        self.assertIn("Subject: Grüße".encode(), envelope.content)
        self.end_clean(engine)


class RealDovecot(Delivery):
    def run_with(self, socket):
        dovecot = Dovecot(self.world, ["b@dst.test", "c@dst.test"])
        engine = self.engine(str(dovecot.socket) if socket else f"lmtp://127.0.0.1:{dovecot.port}").start()
        submit(engine, ["b@dst.test", "nobody@dst.test", "c@dst.test"], self.message("lmtp", HARD_BODY))
        report = self.reports.wait(1)[0]
        self.assertEqual(list(report.recipients), ["nobody@dst.test"])
        self.assertEqual(report.recipients["nobody@dst.test"]["Status"], "5.1.1")
        delivered = [to for event in engine.wait_event("delivered", domain="dst.test") for to in event["recipients"]]
        self.assertEqual(sorted(delivered), ["b@dst.test", "c@dst.test"])
        for user in ("b@dst.test", "c@dst.test"):
            box = wait_for(lambda user=user: dovecot.mailbox(user), f"mail for {user}")
            self.assertEqual([one["Subject"] for one in box], ["lmtp"])
            self.assertEqual(box[0].get_payload().replace("\n", "\r\n"), HARD_BODY)
        engine.wait_empty()
        self.end_clean(engine)

    def test_LM_2_dovecot_over_tcp(self):
        self.run_with(socket=False)

    def test_LM_5_dovecot_over_a_unix_socket(self):
        self.run_with(socket=True)


class Garbage:
    """Stands for a TLS context: answers the handshake with nonsense."""

    def wrap_socket(self, link, **_):
        link.recv(4096)
        link.sendall(b"this is no TLS\r\n")
        raise Closed


class Encrypted(Delivery):
    def setUp(self):
        super().setUp()
        self.cert, self.key = certificate_for(self.world, "127.0.0.1", "mx.dst.test")
        self.tls = server_tls(self.cert, self.key)

    def test_RFC_7435_opportunistic_starttls_takes_any_certificate(self):
        peer = Aiosmtpd(self, tls=self.tls)
        engine = self.engine(peer.endpoint).start()
        submit(engine, "b@dst.test", self.message())
        self.assertTrue(peer.wait(1)[0].tls)
        event = engine.wait_event("delivered")[0]
        self.assertTrue(event["tls"] and event["cipher"])
        self.assertFalse(event.get("tls_verified", False))
        self.end_clean(engine)

    def test_forced_tls_verifies_the_certificate(self):
        peer = Aiosmtpd(self, tls=self.tls)
        engine = self.engine(peer.endpoint)
        engine.set("tls.ini", "outbound", ca=self.cert, force_tls_hosts="dst.test")
        engine.start()
        submit(engine, "b@dst.test", self.message())
        self.assertTrue(peer.wait(1)[0].tls)
        self.assertTrue(engine.wait_event("delivered")[0]["tls_verified"])
        self.end_clean(engine)

    def test_TL_3_TLS_I6_forced_tls_never_falls_back(self):
        """A certificate of somebody else, none at all, a broken handshake, a refusal: deferred, and no MAIL was sent."""
        stranger = server_tls(*certificate_for(self.world, "other.test"))
        cases = {
            "stranger": Scripted(self, tls=stranger),
            "none": Scripted(self),
            "broken": Scripted(self, tls=Garbage()),
            "refused": Scripted(self, {"STARTTLS": "454 4.7.0 not now"}, tls=self.tls),
        }
        engine = self.engine("127.0.0.1:1")
        for name, peer in cases.items():
            engine.route(f"{name}.test", peer.endpoint)
        engine.set("tls.ini", "outbound", ca=self.cert, force_tls_hosts=",".join(f"{name}.test" for name in cases))
        engine.start()
        for name in cases:
            submit(engine, f"b@{name}.test", self.message())
        for name, peer in cases.items():
            with self.subTest(name):
                event = engine.wait_event("deferred", domain=f"{name}.test")[0]
                self.assertRegex(event.get("status", ""), r"^4\.")
                self.assertEqual(peer.commands("MAIL"), [])
        self.assertEqual(engine.events("bounced"), [])
        self.end_clean(engine)

    def test_TL_3_broken_tls_falls_back_to_clear_and_is_remembered(self):
        peer = Scripted(self, tls=Garbage())
        engine = self.engine(peer.endpoint, pool_timeout="0").start()
        submit(engine, "b@dst.test", self.message("first"))
        peer.wait(1)
        self.assertFalse(engine.wait_event("delivered")[0].get("tls", False))
        self.assertEqual(engine.events("deferred"), [])
        submit(engine, "b@dst.test", self.message("second"))
        peer.wait(2)
        self.assertEqual(len(peer.commands("STARTTLS")), 1)
        engine.wait_empty()
        self.end_clean(engine)

    def test_A10_TL_2_starttls_refused_goes_on_in_clear(self):
        """A10: Haraka bounced the mail when STARTTLS was answered 5yz."""
        for reply in ("502 5.5.1 no", "454 4.7.0 not now"):
            with self.subTest(reply):
                peer = Scripted(self, {"STARTTLS": reply}, tls=self.tls)
                engine = self.world.engine(name=f"engine{reply[:3]}").route("any", peer.endpoint).start()
                submit(engine, "b@dst.test", self.message())
                peer.wait(1)
                self.assertFalse(engine.wait_event("delivered")[0].get("tls", False))
                self.assertEqual(engine.events("bounced") + engine.events("deferred"), [])
                self.assertEqual(engine.stop(), 0)

    def test_TLS_I4_words_before_the_handshake_are_not_heard_inside(self):
        """TLS_I4, TLS_I5: what the peer said in clear, even after 220, has no effect inside TLS."""
        peer = Scripted(
            self, {"STARTTLS": "220 go\r\n250-x\r\n250 SIZE 1"}, ehlo=("SIZE 100000",), tls=self.tls)
        engine = self.engine(peer.endpoint).start()
        submit(engine, "b@dst.test", self.message())
        wait_for(lambda: engine.events("delivered") + engine.events("deferred"), "the message to be decided")
        for session in peer.sessions:  # a session that asked for TLS says EHLO again before anything else, or ends
            after = session[session.index("STARTTLS") + 1:] if "STARTTLS" in session else []
            self.assertTrue(not after or after[0].startswith("EHLO"), session)
        self.assertEqual(engine.events("bounced"), [])
        self.end_clean(engine)

    def test_no_tls_hosts_and_enable_tls(self):
        peer = Aiosmtpd(self, tls=self.tls)
        engine = self.engine(peer.endpoint)
        engine.set("tls.ini", "outbound", no_tls_hosts="127.0.0.0/8")
        engine.start()
        submit(engine, "b@dst.test", self.message())
        self.assertFalse(peer.wait(1)[0].tls)
        self.end_clean(engine)


class Smarthost(Delivery):
    LOGIN = ("relay@smart.test", "p:a/s@s%")
    WORDS = "relay%40smart.test:p%3Aa%2Fs%40s%25"

    def smarthost(self, **options):
        return Aiosmtpd(self, login=self.LOGIN, **options)

    def engine_to(self, peer, words=WORDS, **outbound):
        return self.engine(f"smtp://{words}@{peer.endpoint}", **outbound)

    def test_AU_credentials_go_over_verified_tls(self):
        cert, key = certificate_for(self.world, "127.0.0.1")
        peer = self.smarthost(tls=server_tls(cert, key))
        engine = self.engine_to(peer)
        engine.set("tls.ini", "outbound", ca=cert, force_tls_hosts="127.0.0.1")
        engine.start()
        submit(engine, "b@dst.test", self.message())
        envelope = peer.wait(1)[0]
        self.assertTrue(envelope.tls)
        self.assertEqual(envelope.login, self.LOGIN[0])
        self.assertTrue(engine.wait_event("delivered")[0]["authenticated"])
        self.assertNotIn(self.LOGIN[1], engine.process.output())
        self.end_clean(engine)

    def test_AU_10_no_credentials_in_clear_unless_allowed(self):
        peer = Scripted(self, ehlo=("AUTH PLAIN LOGIN",))
        engine = self.engine_to(peer).start()
        submit(engine, "b@dst.test", self.message())
        engine.wait_event("deferred")
        self.assertEqual(peer.commands("AUTH") + peer.commands("MAIL"), [])
        self.assertEqual(engine.stop(), 0)
        engine.set("outbound.ini", auth_cleartext="true")
        allowed = self.smarthost()
        engine.route("dst.test", f"smtp://{self.WORDS}@{allowed.endpoint}").start()
        submit(engine, "c@dst.test", self.message())
        self.assertEqual(allowed.wait(1)[0].login, self.LOGIN[0])
        self.end_clean(engine)

    def test_AU_8_auth_not_offered_defers(self):
        peer = Scripted(self)
        engine = self.engine_to(peer, auth_cleartext="true").start()
        submit(engine, "b@dst.test", self.message())
        engine.wait_event("deferred")
        self.assertEqual(peer.commands("MAIL"), [])
        self.assertIn("[WARN]", engine.process.output())
        self.assertEqual(engine.stop(), 0)
        engine.set("outbound.ini", auth_fallback_plain="true")
        engine.start()
        submit(engine, "c@dst.test", self.message())
        peer.wait(1)
        self.end_clean(engine)

    def test_AU_9_refused_credentials_defer_and_do_not_bounce(self):
        peer = self.smarthost()
        engine = self.engine_to(peer, words="relay%40smart.test:wrong", auth_cleartext="true").start()
        submit(engine, "b@dst.test", self.message())
        event = engine.wait_event("deferred")[0]
        self.assertIn("535", event["reply"])
        self.assertEqual(engine.events("bounced"), [])
        self.assertEqual(peer.mailbox.envelopes, [])
        self.end_clean(engine)


class Extensions(Delivery):
    def test_DS_03_parameters_are_forwarded_unchanged(self):
        peer = Scripted(self, ehlo=("PIPELINING", "DSN"))
        engine = self.engine(peer.endpoint).start()
        submit(engine, ["b@dst.test", "c@dst.test"], self.message(), mail_options=["RET=HDRS", "ENVID=QQ+2B314159"],
               rcpt_options={"b@dst.test": ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;Bob+2BX@Old.Test"], "c@dst.test": ["NOTIFY=NEVER"]})
        sender, recipients, _ = peer.wait(1)[0]
        self.assertRegex(sender, r"\bRET=HDRS\b.*\bENVID=QQ\+2B314159(\s|$)|\bENVID=QQ\+2B314159\b.*\bRET=HDRS(\s|$)")
        self.assertIn("NOTIFY=SUCCESS,DELAY", recipients[0])
        self.assertIn("ORCPT=rfc822;Bob+2BX@Old.Test", recipients[0])
        self.assertIn("NOTIFY=NEVER", recipients[1])
        engine.wait_empty()
        self.assertEqual(self.reports.all(), [])
        self.end_clean(engine)

    def test_DS_03_LI_5_no_parameters_to_hosts_that_do_not_know_them(self):
        peer = Scripted(self, ehlo=("LIMITS RCPTMAX=0 MAILMAX=-1 RCPTDOMAINMAX=abc FOO=99999999999999999999",))
        engine = self.engine(peer.endpoint).start()
        submit(engine, ["b@dst.test", "c@dst.test"], self.message(), mail_options=["RET=FULL", "ENVID=x", "BODY=8BITMIME"],
               rcpt_options={"b@dst.test": ["NOTIFY=FAILURE"]})
        sender, recipients, _ = peer.wait(1)[0]
        self.assertEqual((sender, recipients), ("MAIL FROM:<a@src.test>", ["RCPT TO:<b@dst.test>", "RCPT TO:<c@dst.test>"]))
        self.end_clean(engine)

    def test_LI_2_LI_3_limits_of_the_peer_are_kept(self):
        peer = self.world.sink("--ehlo", "LIMITS RCPTMAX=2 MAILMAX=2")
        engine = self.engine(peer.endpoint, destination_concurrency="1").start()
        submit(engine, [f"r{i}@dst.test" for i in range(5)], self.message())
        submit(engine, "last@dst.test", self.message())
        ledger = peer.wait(4)
        self.assertEqual(sorted(len(one["to"]) for one in ledger), [1, 1, 2, 2])
        self.assertEqual(sorted(to for one in ledger for to in one["to"]), ["last@dst.test"] + [f"r{i}@dst.test" for i in range(5)])
        connections = [one["connection"] for one in ledger]
        self.assertLessEqual(max(connections.count(one) for one in connections), 2)
        self.assertEqual(engine.events("deferred"), [])
        engine.wait_empty()
        self.end_clean(engine)
        peer.stop()

    def test_SZ_5_a_message_larger_than_the_peer_takes_is_not_sent(self):
        peer = self.world.sink("--size-max", "2000")
        engine = self.engine(peer.endpoint).start()
        submit(engine, "b@dst.test", self.message(body="x" * 70 + "\r\n" + "y\r\n" * 1000))
        report = self.reports.wait(1)[0]
        self.assertEqual(report.recipients["b@dst.test"]["Status"], "5.3.4")
        self.assertEqual(peer.ledger(), [])
        self.end_clean(engine)
        peer.stop()

    def test_8B_2_eight_bit_content_for_a_host_without_8bitmime(self):
        body = "From: <a@src.test>\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n" \
               "Content-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe\r\n".encode("latin-1")
        for choice in ("send", "downgrade", "bounce"):
            with self.subTest(choice):
                peer = Scripted(self, ehlo=())
                engine = self.world.engine(name=choice).route("dst.test", peer.endpoint)
                self.reports = Reports(self.world)
                engine.route("src.test", self.reports.endpoint).set("outbound.ini", eight_bit=choice)
                engine.start()
                submit(engine, "b@dst.test", body)
                if choice == "bounce":
                    report = self.reports.wait(1)[0]
                    self.assertEqual(report.recipients["b@dst.test"]["Status"], "5.6.3")
                    self.assertEqual(peer.messages, [])
                else:
                    content = peer.wait(1)[0][2]
                    self.assertEqual(b"Gr\xfc\xdfe" in content, choice == "send")
                    self.assertEqual(parse(content).get_content().strip(), "Grüße")
                self.assertNotIn("BODY", "".join(peer.commands("MAIL")))
                self.end_clean(engine)

    def test_EA_3_utf8_for_a_host_that_does_not_know_it(self):
        peer = Scripted(self)
        engine = self.engine(peer.endpoint).start()
        submit(engine, "jürgen@dst.test", self.message(), mail_options=["SMTPUTF8"])
        submit(engine, "plain@dst.test", self.message(), mail_options=["SMTPUTF8"])  # EA_4
        report = self.reports.wait(1)[0]
        event = engine.wait_event("bounced")[0]
        self.assertIn(event["status"], ("5.6.7", "5.6.9"))
        self.assertTrue(report.raw.isascii())  # DS_13: the sender can read only ASCII
        self.assertEqual(peer.wait(1)[0][1], ["RCPT TO:<plain@dst.test>"])
        self.end_clean(engine)

    def test_source_pool_keeps_the_address_of_equal_mail(self):
        peer = self.world.sink()
        engine = self.engine(peer.endpoint)
        pool = [f"127.0.0.{i}" for i in range(21, 25)]
        engine.files["outbound.ini"] = "local_mx_ok=true\n[outbound_ipv4]\n" + "\n".join(pool) + "\n"
        engine.start()
        for _ in range(2):
            for at in range(12):
                submit(engine, f"r{at}@dst.test", self.message())
        events = engine.wait_event("delivered", 24)
        chosen = {}
        for event in events:
            chosen.setdefault(event["recipients"][0], set()).add(event["local"].split(":")[0])
        self.assertTrue(all(len(sources) == 1 for sources in chosen.values()), chosen)
        used = set.union(*chosen.values())
        self.assertTrue(used <= set(pool), used)
        self.assertGreater(len(used), 1)
        self.end_clean(engine)
        peer.stop()


if __name__ == "__main__":
    unittest.main()
