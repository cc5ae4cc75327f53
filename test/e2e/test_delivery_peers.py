"""Mail goes out: to the servers that people run, in clear and encrypted, with and without credentials."""

import base64
import hashlib
import re
import ssl
import unittest
import warnings
from urllib.parse import quote

from clients import Raw, submit
from peers import Aiosmtpd, Closed, Dovecot, Postfix, Reports, Scripted, SmtpSink, certificate_for, logins_by, parse, server_tls
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
        engine = self.engine(str(dovecot.socket) if socket else f"lmtp://{self.world.tap(dovecot.port)}").start()
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

    def test_TL_sessions_are_resumed(self):
        """The second handshake with a host is an abbreviated one (RFC 8446 §2.2)."""
        peer = Scripted(self, tls=self.tls)
        engine = self.engine(peer.endpoint, pool_timeout="0").start()
        for at in range(3):
            submit(engine, "b@dst.test", self.message())
            peer.wait(at + 1)
            wait_for(lambda: engine.api("GET", "/v1/status")[1]["queue"]["sessions"] == 0, "the session to end")
        self.assertEqual(peer.resumed, [False, True, True])
        self.end_clean(engine)

    def test_a_client_certificate_is_shown_to_who_asks(self):
        ours = certificate_for(self.world, "mx.sluice.test")
        self.tls.verify_mode = ssl.CERT_REQUIRED
        self.tls.load_verify_locations(ours[0])
        peer = Scripted(self, tls=self.tls)
        engine = self.engine(peer.endpoint)
        engine.set("tls.ini", "outbound", cert=ours[0], key=ours[1])
        engine.start()
        submit(engine, "b@dst.test", self.message())
        peer.wait(1)
        self.assertTrue(engine.wait_event("delivered")[0]["tls"])
        self.assertEqual(len(peer.resumed), 1)
        self.end_clean(engine)

    def after_lax_mail(self, peer, **outbound):
        """Mail for dst.test goes as it can; then mail for strict.test, which demands a verified host, to the same one."""
        engine = self.engine(peer.endpoint, **outbound).route("strict.test", peer.endpoint)
        engine.set("tls.ini", "outbound", ca=self.cert, force_tls_hosts="strict.test")
        engine.start()
        submit(engine, "b@dst.test", self.message())
        engine.wait_event("delivered")
        if outbound:
            wait_for(lambda: engine.api("GET", "/v1/status")[1]["queue"]["sessions"] == 0, "the session to end")
        submit(engine, "b@strict.test", self.message())
        decided = wait_for(
            lambda: engine.events("deferred", domain="strict.test") + engine.events("delivered", domain="strict.test"), "a decision")
        self.assertEqual(decided[0]["event"], "deferred", decided)
        self.assertEqual([recipients for _, recipients, _ in peer.messages], [["RCPT TO:<b@dst.test>"]])
        self.end_clean(engine)

    def test_ST_10_an_unverified_connection_is_not_used_for_mail_that_demands_more(self):
        self.after_lax_mail(Scripted(self, tls=server_tls(*certificate_for(self.world, "stranger.test"))))

    def test_ST_10_a_connection_in_clear_is_not_used_for_mail_that_demands_tls(self):
        self.after_lax_mail(Scripted(self))

    def test_ST_10_a_kept_connection_does_not_survive_a_stricter_setting(self):
        peer = Scripted(self)
        engine = self.engine(peer.endpoint, pool_timeout="60").start()
        submit(engine, "b@dst.test", self.message())
        engine.wait_event("delivered")
        engine.set("tls.ini", "outbound", force_tls_hosts="dst.test").write()
        engine.wait_logged("settings reloaded")
        submit(engine, "c@dst.test", self.message())
        engine.wait_event("deferred", recipients=["c@dst.test"])
        self.assertEqual(len(peer.messages), 1)
        self.end_clean(engine)

    def test_TLS_I8_an_unverified_session_is_not_resumed_for_mail_that_demands_more(self):
        """Resumption skips the certificate, so a session of the lax policy must not serve the strict one."""
        stranger = server_tls(*certificate_for(self.world, "stranger.test"))
        self.after_lax_mail(Scripted(self, tls=stranger), pool_timeout="0")

    def test_rejectUnauthorized_asks_everybody_for_a_good_certificate(self):
        """Haraka: a failed verification ends the session with that host; the mail does not go in clear instead."""
        stranger = Scripted(self, tls=server_tls(*certificate_for(self.world, "stranger.test")))
        good = Scripted(self, tls=self.tls)
        engine = self.engine(stranger.endpoint).route("good.test", good.endpoint)
        engine.set("tls.ini", "outbound", ca=self.cert, rejectUnauthorized="true")
        engine.start()
        submit(engine, "b@good.test", self.message())
        self.assertTrue(engine.wait_event("delivered", domain="good.test")[0]["tls_verified"])
        submit(engine, "b@dst.test", self.message())
        wait_for(lambda: engine.events("deferred", domain="dst.test") + engine.events("delivered", domain="dst.test"), "a decision")
        self.assertEqual(stranger.messages, [])
        engine.wait_event("deferred", domain="dst.test")
        self.end_clean(engine)

    def test_TLS_I5_PL_4_only_what_is_offered_inside_counts(self):
        peer = Scripted(
            self, {"EHLO": ["250-x\r\n250-PIPELINING\r\n250-DSN\r\n250-CHUNKING\r\n250-SIZE 1\r\n250 STARTTLS", "250 x"]}, tls=self.tls)
        engine = self.engine(peer.endpoint).start()
        submit(engine, "b@dst.test", self.message(), mail_options=["RET=HDRS"], rcpt_options={"b@dst.test": ["NOTIFY=NEVER"]})
        sender, recipients, _ = peer.wait(1)[0]
        self.assertEqual((sender, recipients), ("MAIL FROM:<a@src.test>", ["RCPT TO:<b@dst.test>"]))
        self.assertEqual(len(peer.commands("EHLO")), 2)
        self.end_clean(engine)

    def test_TLS_1_2_is_spoken_and_older_versions_are_not(self):
        new, old = server_tls(self.cert, self.key), server_tls(self.cert, self.key)
        new.maximum_version = ssl.TLSVersion.TLSv1_2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that they are old is the point
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        peers = {"new": Scripted(self, tls=new), "old": Scripted(self, tls=old)}
        engine = self.engine("127.0.0.1:1")
        for name, peer in peers.items():
            engine.route(f"{name}.test", peer.endpoint)
        engine.start()
        for name, peer in peers.items():
            submit(engine, f"b@{name}.test", self.message())
            peer.wait(1)
        self.assertTrue(engine.wait_event("delivered", domain="new.test")[0]["tls"])
        self.assertFalse(engine.wait_event("delivered", domain="old.test")[0].get("tls", False))
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

    def test_a_login_is_used_for_its_own_route_only(self):
        """Two routes to one host with different logins, and one without: every connection carries its own mail."""
        peer = Scripted(self, ehlo=("AUTH PLAIN",))
        engine = self.engine(peer.endpoint, auth_cleartext="true")
        for user in ("anna", "bert"):
            engine.route(f"{user}.test", f"smtp://{user}:secret@{peer.endpoint}")
        engine.start()
        for at, domain in enumerate(("anna.test", "bert.test", "dst.test") * 3):
            submit(engine, f"b@{domain}", self.message())
            peer.wait(at + 1)
        for session in peer.sessions:
            login = [base64.b64decode(line.split()[2]).split(b"\0")[1].decode() for line in session if line.startswith("AUTH")]
            domains = {line.split("@")[1].rstrip(">") for line in session if line.startswith("RCPT")}
            self.assertEqual(domains, {f"{login[0]}.test"} if login else {"dst.test"}, session)
        self.end_clean(engine)

    def test_AU_8_auth_not_offered_defers(self):
        peer = Scripted(self)
        engine = self.engine_to(peer, auth_cleartext="true").start()
        submit(engine, "b@dst.test", self.message())
        engine.wait_event("deferred")
        self.assertEqual(peer.commands("MAIL"), [])
        wait_for(lambda: re.search(r"\[WARN\] .*\[outbound\]", engine.process.output()), "the warning")
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


class Mechanisms(Delivery):
    """AU_11: every mechanism against Dovecot's, behind a real Postfix."""

    LOGIN, PASSWORD = "relay@dst.test", "s3cret%/@"

    def log_in(self, mechanisms, expected, password=PASSWORD):
        cert, key = certificate_for(self.world, "127.0.0.1")
        dovecot = Dovecot(self.world, [self.LOGIN], self.PASSWORD, mechanisms)
        postfix = Postfix(self.world, ["b@dst.test"], cert, key, logins_by(dovecot))
        engine = self.engine(f"smtp://{quote(self.LOGIN, safe='')}:{quote(password, safe='')}@{postfix.endpoint}")
        engine.set("tls.ini", "outbound", ca=cert, force_tls_hosts="127.0.0.1")
        engine.start()
        submit(engine, "b@dst.test", self.message())
        if expected:
            self.assertTrue(engine.wait_event("delivered")[0]["authenticated"])
            wait_for(lambda: postfix.mailbox("b@dst.test"), "the message in its mailbox")
            self.assertIn(f"sasl_method={expected}, sasl_username={self.LOGIN}", postfix.log())
        else:
            self.assertIn("535", engine.wait_event("deferred")[0]["reply"])
            self.assertEqual(engine.events("bounced"), [])
        self.end_clean(engine)

    def test_RFC_4616_plain(self):
        self.log_in("plain", "PLAIN")

    def test_login(self):
        self.log_in("login", "LOGIN")

    def test_RFC_2195_cram_md5(self):
        self.log_in("cram-md5", "CRAM-MD5")

    def test_RFC_7677_scram_sha_256(self):
        self.log_in("scram-sha-256", "SCRAM-SHA-256")

    def test_AU_11_the_best_of_all(self):
        self.log_in("login plain cram-md5 scram-sha-256", "SCRAM-SHA-256")

    def test_AU_9_a_wrong_password(self):
        self.log_in("scram-sha-256 plain", None, password="wrong")


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

    def test_F5322_07_downgrading_keeps_parts_and_leaves_signed_ones_alone(self):
        inner = ("--i\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße = ja\r\n--i\r\n"
                 "Content-Type: image/gif\r\nContent-Transfer-Encoding: base64\r\n\r\nR0lGODlhAQABAAAAACw=\r\n--i\r\n"
                 "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<p>Straße</p>\r\n--i--\r\n")
        head = "From: <a@src.test>\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
        mixed = head + 'Content-Type: multipart/mixed; boundary="i"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n' + inner
        signed = head + ('Content-Type: multipart/signed; boundary="o"; micalg=sha-256; protocol="application/x"\r\n\r\n--o\r\n'
                         'Content-Type: multipart/mixed; boundary="i"\r\n\r\n' + inner
                         + "--o\r\nContent-Type: application/x\r\n\r\nsignature\r\n--o--\r\n")
        peer = Scripted(self, ehlo=())
        engine = self.engine(peer.endpoint, eight_bit="downgrade").start()
        submit(engine, "mixed@dst.test", mixed)
        content = peer.wait(1)[0][2]
        self.assertTrue(content.isascii())
        parts = [part for part in parse(content).walk() if not part.is_multipart()]
        self.assertEqual([part.get_content() if part.get_content_maintype() == "image" else part.get_content().strip()
                          for part in parts], ["Grüße = ja", base64.b64decode("R0lGODlhAQABAAAAACw="), "<p>Straße</p>"])
        submit(engine, "signed@dst.test", signed)
        wait_for(lambda: engine.events("bounced") or len(peer.messages) == 2, "what becomes of the signed one")
        for _, recipients, content in peer.messages:
            if "signed" in recipients[0]:
                self.assertIn(inner.encode(), content)
        self.end_clean(engine)

    def test_F5322_04_a_raw_8bit_header_never_reaches_a_host_without_smtputf8(self):
        peer = Scripted(self)
        engine = self.engine(peer.endpoint).start()
        with Raw(engine.port) as client:
            client.ask("MAIL FROM:<a@src.test>")
            client.ask("RCPT TO:<b@dst.test>")
            client.ask("DATA")
            client.send("From: <a@src.test>\r\nSubject: Grüße\r\n\r\nhello\r\n".encode())
            code, text = client.ask(".")
        if code == 250:
            wait_for(lambda: engine.events("bounced") or peer.messages, "a decision")
        else:
            self.assertEqual(code // 100, 5, text)
        for _, _, content in peer.messages:
            self.assertTrue(content.isascii(), content)
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

    def test_S5321_09_bodies_of_every_size_arrive_unchanged(self):
        """Sizes around the buffers of both sides, dots at line starts everywhere; by BDAT, by DATA and after a restart."""
        sizes = [0, 1, 2, 3] + [base + off for base in (4096, 8192, 16384, 65536, 131072) for off in (-3, -2, -1, 0, 1, 2, 3)]
        for arguments in (("--no-chunking", "--no-pipelining"), ("--no-chunking",), ()):
            with self.subTest(arguments):
                peer = self.world.sink(*arguments)
                engine = self.world.engine(name=f"engine{len(arguments)}").route("any", peer.endpoint)
                engine.set("outbound.ini", disabled="true" if not arguments else "false").start()
                expected = {}
                for size in sizes:
                    body = (".\r\n..dot\r\n" * (size // 8 + 1)).encode()[:size]
                    body = body[:-1] + b"x" if body.endswith(b"\r") else body
                    body += b"" if body.endswith(b"\r\n") or not body else b"\r\n"
                    submit(engine, f"s{size}@dst.test", f"X-Ledger-Id: {size}\r\nSubject: x\r\n\r\n".encode() + body)
                    expected[str(size)] = hashlib.sha256(body).hexdigest()
                if not arguments:
                    engine.process.kill()
                    engine.set("outbound.ini", disabled="false").start()
                ledger = peer.wait(len(sizes))
                self.assertEqual({one["id"]: one["body_sha256"] for one in ledger}, expected)
                self.assertEqual(engine.stop(), 0)
                peer.stop()

    def test_the_size_that_is_declared_is_the_size_that_is_sent(self):
        """RFC 1870 §3: octets of the content with CRLF, without doubled dots; and the name in EHLO is our own."""
        peer = Scripted(self, ehlo=("SIZE", "8BITMIME"))  # SZ_6: SIZE without a number is no limit
        engine = self.engine(peer.endpoint).start()
        submit(engine, "b@dst.test", self.message(body=HARD_BODY))
        sender, _, content = peer.wait(1)[0]
        self.assertIn(f"SIZE={len(content)}", sender.split())
        self.assertEqual(peer.commands("EHLO"), ["EHLO mx.sluice.test"])
        self.end_clean(engine)

    def test_S5321_19_quoted_local_parts_make_the_round_trip(self):
        peer = Scripted(self)
        engine = self.engine(peer.endpoint).start()
        quoted = ['"a b"@dst.test', '"a\\"b"@dst.test', '""@dst.test', '"a\\\\b"@dst.test', '"c@d"@dst.test', '"<x>"@dst.test']
        with Raw(engine.port) as client:
            self.assertEqual(client.ask('MAIL FROM:<"the sender"@src.test>')[0], 250)
            for address in quoted:
                self.assertEqual(client.ask(f"RCPT TO:<{address}>")[0], 250, address)
            client.ask("DATA")
            client.send(self.message())
            self.assertEqual(client.ask(".")[0], 250)
        sender, recipients, _ = peer.wait(1)[0]
        self.assertTrue(sender.startswith('MAIL FROM:<"the sender"@src.test>'), sender)
        self.assertEqual(recipients, [f"RCPT TO:<{address}>" for address in quoted])
        self.end_clean(engine)

    def test_a_graceful_stop_waits_for_the_answer_to_the_dot(self):
        """What is on its way when the engine is told to stop is finished and recorded: nothing is sent twice."""
        peer = self.world.sink("--rule", "dot=delay 1500")
        engine = self.engine(peer.endpoint).start()
        submit(engine, "b@dst.test", self.message())
        wait_for(
            lambda: engine.api("GET", "/v1/status")[1]["queue"]["sending"] == 1, "the attempt to begin")
        self.assertEqual(engine.stop(), 0)
        engine.start()
        engine.wait_event("delivered")
        engine.wait_empty()
        self.assertEqual(len(peer.ledger()), 1)
        self.assertEqual(engine.events("possible_duplicate") + engine.events("deferred"), [])
        self.end_clean(engine)
        peer.stop()

    def test_routes_to_ipv6_and_to_a_socket_that_is_not_there(self):
        peer = Scripted(self, address="::1")
        engine = self.engine(f"[::1]:{peer.port}").route("nowhere.test", str(self.world.directory / "no.sock")).start()
        submit(engine, ["b@dst.test", "b@nowhere.test"], self.message())
        peer.wait(1)
        self.assertEqual(engine.wait_event("delivered")[0]["remote"], f"[::1]:{peer.port}")
        self.assertRegex(engine.wait_event("deferred", domain="nowhere.test")[0]["status"], r"^4\.4\.")
        self.end_clean(engine)

    def test_messages_per_connection(self):
        peer = self.world.sink()
        engine = self.engine(peer.endpoint, messages_per_connection="3", destination_concurrency="1").start()
        for _ in range(10):
            submit(engine, "b@dst.test", self.message())
        connections = [one["connection"] for one in peer.wait(10)]
        self.assertEqual(max(connections.count(one) for one in connections), 3)
        self.assertEqual(len(set(connections)), 4)
        self.end_clean(engine)
        peer.stop()

    def test_B_16_one_message_to_five_thousand_people_in_a_thousand_domains(self):
        peer = self.world.sink()
        engine = self.world.engine().route("any", peer.endpoint).start()
        self.reports = Reports(self.world)
        everybody = [f"r{at}@d{at % 1000}.test" for at in range(5000)]
        submit(engine, everybody, self.message())
        engine.wait_empty()
        ledger = peer.wait(1000)
        self.assertEqual(sorted(to for one in ledger for to in one["to"]), sorted(everybody))
        self.assertEqual(len(ledger), 1000)
        self.assertEqual(engine.wait_event("accepted")[0]["items"], 1000)
        self.end_clean(engine)
        peer.stop()

    def test_2_6_a_loop_ends_by_counting(self):
        """The engine's mail for dst.test comes back to the engine itself: Received fields stop it, and the sender hears."""
        engine = self.engine("127.0.0.1:1")
        engine.route("dst.test", f"127.0.0.1:{engine.port}")
        engine.set("connection.ini", "headers", max_received="12").start()
        submit(engine, "b@dst.test", self.message())
        report = self.reports.wait(1)[0]
        self.assertEqual(report.recipients["b@dst.test"]["Status"], "5.4.6")
        engine.wait_empty()
        self.assertLessEqual(len(engine.events("accepted")), 13)
        self.assertEqual(len(self.reports.all()), 1)
        self.end_clean(engine)

    def test_S5321_10_a_very_long_line_is_not_broken(self):
        peer = Scripted(self)
        peer.longest_line = 6000
        engine = self.engine(peer.endpoint).start()
        body = "a" * 5000 + "\r\n"
        submit(engine, "b@dst.test", self.message(body=body))
        self.assert_body(peer.wait(1)[0][2], body)
        self.end_clean(engine)

    def test_S5321_19_one_mailbox_is_served_once(self):
        """The same recipient twice, in two spellings of the domain and of the local part."""
        peer = Scripted(self)
        engine = self.engine(peer.endpoint).start()
        submit(engine, ["b@dst.test", "b@DST.TEST", '"b"@dst.test', "B@dst.test"], self.message())
        recipients = peer.wait(1)[0][1]
        engine.wait_empty()
        self.assertEqual(len(peer.messages), 1)
        self.assertEqual([line.split(":")[1].lower() for line in recipients], ["<b@dst.test>"] * 2)  # B is another mailbox
        self.end_clean(engine)

    def test_always_split_and_received_header(self):
        box = self.world.directory / "box"
        box.mkdir()
        peer = self.world.sink("--dir", box)
        engine = self.engine(peer.endpoint, always_split="true", received_header="disabled").start()
        submit(engine, ["b@dst.test", "c@dst.test"], self.message())
        ledger = peer.wait(2)
        self.assertEqual(sorted(one["to"] for one in ledger), [["b@dst.test"], ["c@dst.test"]])
        self.assertEqual(engine.wait_event("accepted")[0]["items"], 2)
        for file in box.glob("*.eml"):
            self.assertEqual(len(parse(file.read_bytes()).get_all("Received")), 1)
        self.end_clean(engine)
        peer.stop()

    def test_disabled_holds_everything_until_it_is_taken_back(self):
        peer = self.world.sink()
        engine = self.engine(peer.endpoint, disabled="true").start()
        submit(engine, "b@dst.test", self.message())
        engine.wait_event("accepted")
        self.assertEqual(engine.api("GET", "/v1/status")[1]["queue"]["sending"], 0)
        engine.set("outbound.ini", disabled="false").write()
        peer.wait(1)
        self.assertEqual(engine.events("deferred"), [])
        self.end_clean(engine)
        peer.stop()

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
