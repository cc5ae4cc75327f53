"""Mail comes in: from the clients that people use, within the rules of who may send what, and never from strangers."""

import json
import smtplib
import ssl
import unittest
import warnings

from clients import Raw, smtp_source, swaks
from peers import certificate_for, parse
from world import EndToEnd, free_port, wait_for

LOGIN, PASSWORD = "user@src.test", "se cret%1"


class Submission(EndToEnd):
    """An engine whose mail ends in a sink that keeps every message."""

    def setUp(self):
        super().setUp()
        self.box = self.world.directory / "box"
        self.box.mkdir()
        self.sink = self.world.sink("--dir", self.box)
        self.engine = self.world.engine()
        self.engine.set("relay.ini", "relay", force_routing="true")
        rule = json.dumps({"action": "continue", "nexthop": self.sink.endpoint})
        self.engine.set("relay_dest_domains.ini", "domains", any=rule)

    def trust_nobody(self):
        self.engine.files["relay_acl_allow"] = "198.51.100.7/32\n"

    def with_logins(self, **core):
        self.trust_nobody()
        self.engine.files["plugins"] += "auth/flat_file\n"
        self.engine.set("auth_flat_file.ini", "core", methods="CRAM-MD5,PLAIN,LOGIN", **core)
        self.engine.set("auth_flat_file.ini", "users", **{LOGIN: PASSWORD})

    def with_tls(self):
        cert, key = certificate_for(self.world, "mx.sluice.test")
        self.engine.files["plugins"] += "tls\n"
        self.engine.set("tls.ini", cert=cert, key=key)
        return cert

    def messages(self, count):
        """The parsed messages, once so many have come."""
        self.sink.wait(count)
        files = sorted(self.box.glob("*.eml"), key=lambda path: int(path.stem))
        return [parse(path.read_bytes()) for path in files]

    def delivered(self):
        return [to for event in self.engine.events("delivered") for to in event["recipients"]]

    def swaks(self, *arguments, check=True, port=None):
        return swaks(
            "--server", "127.0.0.1", "--port", port or self.engine.port, "--from", LOGIN, "--to", "b@dst.test", *arguments,
            check=check)

    def end_clean(self):
        """Stops engine and sink: a violation on the wire or a bad exit code is a failure."""
        self.assertEqual(self.engine.stop(), 0)
        self.sink.stop()


class Clients(Submission):
    def test_postfix_smtp_source(self):
        self.engine.start()
        target = f"127.0.0.1:{self.engine.port}"
        smtp_source("-s", 4, "-m", 40, "-l", 3000, "-d", "-f", "a@src.test", "-t", "b@dst.test", target)
        smtp_source("-s", 2, "-m", 10, "-N", "-f", "a@src.test", "-t", "b@dst.test", target)
        smtp_source("-m", 2, "-r", 5, "-f", "a@src.test", "-t", "c@dst.test", target)
        ledger = self.sink.wait(52)
        self.assertEqual(sum(len(one["to"]) for one in ledger), 60)
        self.engine.wait_empty()
        self.assertEqual(len(self.engine.wait_event("accepted", 52)), 52)
        told = wait_for(lambda: self.delivered() if len(self.delivered()) >= 60 else None, "60 recipients in the events")
        self.assertEqual(len(told), 60)
        self.assertEqual(len(self.sink.ledger()), 52)
        self.end_clean()

    def test_swaks_with_and_without_pipelining(self):
        self.engine.start()
        self.swaks("--header", "Subject: plain")
        self.swaks("--pipeline", "--header", "Subject: piped", "--to", "b@dst.test,c@dst.test")
        subjects = sorted(one["Subject"] for one in self.messages(2))
        self.assertEqual(subjects, ["piped", "plain"])
        self.end_clean()

    def test_8B_1_EA_1_smtplib_with_8bit_utf8_and_a_refused_recipient(self):
        """8B_1, EA_1, S5321_11: content of any kind; `for` in Received only when there is one recipient."""
        self.engine.start()
        with smtplib.SMTP("127.0.0.1", self.engine.port, local_hostname="client.test") as client:
            body = self.message("latin").encode() + "Grüße\r\n".encode("latin-1")
            client.sendmail("a@src.test", ["b@dst.test"], body, mail_options=["BODY=8BITMIME"])
            text = "From: <a@src.test>\r\nSubject: Grüße\r\n\r\nhi\r\n".encode()
            client.sendmail("a@src.test", ["jürgen@dst.test"], text, mail_options=["SMTPUTF8", "BODY=8BITMIME"])
            refused = client.sendmail("a@src.test", ["b@dst.test", "c@d..test", "c@dst.test"], self.message("some"))
            self.assertEqual([(who, reply[0] // 100) for who, reply in refused.items()], [("c@d..test", 5)])
        recipients = sorted(to for one in self.sink.wait(3) for to in one["to"])
        self.assertEqual(recipients, ["b@dst.test", "b@dst.test", "c@dst.test", "jürgen@dst.test"])
        by_subject = {one["Subject"]: one for one in self.messages(3)}
        self.assertIn("Grüße\r\n".encode("latin-1"), b"".join(path.read_bytes() for path in self.box.iterdir()))
        self.assertRegex(" ".join(by_subject["latin"].get_all("Received")), r"with ESMTP id \S+\s+for <b@dst.test>")
        self.assertRegex(" ".join(by_subject["Grüße"].get_all("Received")), "with UTF8SMTP ")
        self.assertFalse([field for field in by_subject["some"].get_all("Received") if " for <" in field])
        self.end_clean()

    def test_S5321_11_S5321_13_S5321_16_S5321_17_an_old_client(self):
        """HELO, VRFY, odd case, Postmaster without a domain, and a Return-Path that does not belong there."""
        self.engine.start()
        with Raw(self.engine.port, greet=None) as client:
            client.reply()
            self.assertEqual(client.ask("HELO")[0], 501)
            self.assertEqual(client.ask("helo old.test")[0], 250)
            self.assertEqual(client.ask("VRFY b@dst.test")[0], 252)
            self.assertIn(client.ask("EXPN list")[0], (502, 550))
            self.assertEqual(client.ask("mail from:<A.Bc@src.test>")[0], 250)
            self.assertEqual(client.ask("MAIL FROM:<other@src.test>")[0], 503)  # S5321_02: the first one stays
            client.ask("RCPT TO:<>")
            client.ask("RCPT TO:<Postmaster>")
            self.assertEqual(client.ask("rcpt to:<B.cD@dst.test>")[0], 250)
            self.assertEqual(client.ask("data")[0], 354)
            client.send("Return-Path: <old@src.test>\r\n" + self.message("old"))
            self.assertEqual(client.ask(".")[0], 250)
            self.assertEqual(client.ask("QUIT")[0], 221)
        for message in self.messages(2):
            self.assertIsNone(message["Return-Path"])
            self.assertRegex(" ".join(message.get_all("Received")), r"with SMTP ")
        self.assertEqual({one["from"] for one in self.sink.ledger()}, {"A.Bc@src.test"})
        recipients = [to for one in self.sink.ledger() for to in one["to"]]
        self.assertEqual(sorted(recipients), ["B.cD@dst.test", "Postmaster@mx.sluice.test"])  # SU_4: qualified
        self.end_clean()

    def test_EA_1_utf8_needs_the_parameter(self):
        self.engine.start()
        with Raw(self.engine.port) as client:
            code, text = client.ask("MAIL FROM:<jürgen@src.test>")
            self.assertEqual((code, text[:5]), (553, "5.6.7"))
            self.assertEqual(client.ask("MAIL FROM:<jürgen@src.test> SMTPUTF8")[0], 250)
            code, text = client.ask(b"RCPT TO:<\xc0\xaf@dst.test>")  # EA_2: overlong
            self.assertEqual(code, 501, text)
            self.assertEqual(client.ask("RCPT TO:<b@dst.test>")[0], 250)
        self.end_clean()


class Logins(Submission):
    def assert_accepted_as(self, user, **members):
        event = self.engine.wait_event("accepted", user=user, **members)[-1]
        self.assertEqual(event["sender"], LOGIN)
        return event

    def test_AU_swaks_plain_login_and_cram_md5(self):
        """RFC 4954, 4616, 2195: every mechanism lets a stranger relay, and the Received field says so (S5321_11)."""
        self.with_logins()
        self.engine.start()
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            with self.subTest(mechanism):
                self.swaks("--auth", mechanism, "--auth-user", LOGIN, "--auth-password", PASSWORD)
        self.engine.wait_event("accepted", 3, user=LOGIN)
        for message in self.messages(3):
            self.assertRegex(" ".join(message.get_all("Received")), "with ESMTPA ")
            self.assertNotIn(PASSWORD, message.as_string())
        self.assertNotIn(PASSWORD, self.engine.process.output())
        self.end_clean()

    def test_AU_4_wrong_password_and_unknown_user_get_the_same_answer(self):
        self.with_logins()
        self.engine.start()
        answers = []
        for user in (LOGIN, "nobody@src.test"):
            for mechanism in ("PLAIN", "CRAM-MD5"):
                code, text = self.swaks("--auth", mechanism, "--auth-user", user, "--auth-password", "wrong", check=False)
                self.assertEqual(code, 28, text)  # swaks: authentication failed
                answers += [line[4:].strip() for line in text.splitlines() if line.startswith("<** 535")]
        self.assertEqual(len(answers), 4)
        self.assertEqual(len(set(answers)), 1, answers)
        self.assertIn("535 5.7.8", answers[0])
        self.assertEqual(self.engine.events("accepted"), [])
        self.end_clean()

    def test_without_login_nothing_is_relayed(self):
        self.with_logins()
        self.engine.start()
        code, text = self.swaks(check=False)
        self.assertEqual(code, 24, text)  # swaks: no recipient was accepted
        self.assertRegex(text, r"55\d 5\.7\.1")
        self.end_clean()

    def test_SU_3_a_login_sends_only_as_its_own_domain(self):
        self.with_logins()
        self.engine.start()
        auth = ("--auth", "PLAIN", "--auth-user", LOGIN, "--auth-password", PASSWORD)
        code, text = self.swaks(*auth, "--from", "boss@other.test", check=False)
        self.assertEqual(code, 23, text)  # swaks: MAIL was refused
        self.assertIn("553 5.7.1", text)
        self.swaks(*auth, "--from", "colleague@mail.src.test")
        self.messages(1)
        self.end_clean()

    def test_AU_2_AU_3_odd_dialogues(self):
        self.with_logins()
        self.engine.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(client.ask("AUTH PLAIN")[0], 334)
            self.assertEqual(client.ask("*")[0], 501)
            self.assertEqual(client.ask("AUTH PLAIN !!!")[0], 501)
            self.assertIn(client.ask("AUTH GSSAPI")[0], (504,))
            self.assertEqual(client.ask("AUTH PLAIN AHVzZXJAc3JjLnRlc3QAc2UgY3JldCUx")[0], 235)
            self.assertEqual(client.ask("AUTH PLAIN AHVzZXJAc3JjLnRlc3QAc2UgY3JldCUx")[0], 503)
        self.end_clean()


class Encryption(Submission):
    def test_swaks_starttls_with_login(self):
        """RFC 3207, S5321_11 (ESMTPSA)."""
        self.with_logins()
        self.with_tls()
        self.engine.start()
        self.swaks("--tls", "--auth", "LOGIN", "--auth-user", LOGIN, "--auth-password", PASSWORD)
        self.assertRegex(" ".join(self.messages(1)[0].get_all("Received")), "with ESMTPSA ")
        self.assertTrue(self.engine.wait_event("accepted", user=LOGIN)[0]["cipher"])
        self.end_clean()

    def test_SU_2_implicit_tls_port(self):
        self.with_tls()
        secure = free_port()
        self.engine.set("smtp.ini", listen=f"127.0.0.1:{self.engine.port},127.0.0.1:{secure}", smtps_port=secure)
        self.engine.start()
        _, text = self.swaks("--tlsc", port=secure)
        self.assertNotIn("250-STARTTLS", text)
        with smtplib.SMTP_SSL("127.0.0.1", secure, context=ssl._create_unverified_context()) as client:
            client.sendmail("a@src.test", ["b@dst.test"], self.message())
        for message in self.messages(2):
            self.assertRegex(" ".join(message.get_all("Received")), "with ESMTPS ")
        with Raw(secure, greet=None) as client:
            client.send("EHLO client.test\r\nMAIL FROM:<a@src.test>\r\n")
            self.assertEqual([code for code in client.rest() if code < 400], [])
        self.end_clean()

    def test_SU_5_old_versions_are_refused(self):
        self.with_tls()
        self.engine.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(client.ask("STARTTLS")[0], 220)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
                context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(client.link)
        self.end_clean()


class Proxied(Submission):
    """PP_1 to PP_5: the PROXY protocol, from listed hosts only."""

    def from_proxy(self, source, version, *more, check=True):
        return self.swaks(
            "--proxy-version", version, "--proxy-family", "TCP4" if version == 1 else "AF_INET", "--proxy-source", source,
            "--proxy-source-port", 4567, "--proxy-dest", "198.51.100.1", "--proxy-dest-port", 25, *more, check=check)

    def test_PP_2_swaks_v1_and_v2_from_a_listed_host(self):
        self.trust_nobody()
        self.engine.set("connection.ini", "haproxy", **{"hosts": ["127.0.0.1"]})
        self.engine.start()
        for version in (1, 2):
            with self.subTest(version):
                self.from_proxy("198.51.100.7", version)
                code, text = self.from_proxy("198.51.100.8", version, check=False)
                self.assertEqual(code, 24, text)
        self.engine.wait_event("accepted", 2)
        self.assertEqual({e["client"].split(":")[0] for e in self.engine.events("accepted")}, {"198.51.100.7"})
        for message in self.messages(2):
            self.assertIn("[198.51.100.7]", " ".join(message.get_all("Received")))
        self.end_clean()

    def test_AU_1_auth_is_not_offered_in_clear_to_public_addresses(self):
        self.with_logins()
        self.engine.set("connection.ini", "haproxy", **{"hosts": ["127.0.0.1"]})
        self.engine.start()
        with Raw(self.engine.port, greet=None) as client:
            client.send("PROXY TCP4 8.8.8.8 127.0.0.1 4567 25\r\n")
            self.assertEqual(client.reply()[0], 220)
            _, text = client.ask("EHLO client.test")
            self.assertNotIn("AUTH", text)
            code, text = client.ask("AUTH PLAIN AHVzZXJAc3JjLnRlc3QAc2UgY3JldCUx")
            self.assertGreaterEqual(code, 500, text)
        self.end_clean()

    def test_PP_1_nobody_else_may_say_where_he_comes_from(self):
        self.trust_nobody()
        self.engine.set("connection.ini", "haproxy", **{"hosts": ["127.0.0.5"]})
        self.engine.start()
        for version in (1, 2):
            code, text = self.from_proxy("198.51.100.7", version, check=False)
            self.assertNotEqual(code, 0, text)
        self.assertEqual(self.engine.events("accepted"), [])
        self.end_clean()

    def test_PP_3_PP_4_split_and_broken_headers(self):
        self.engine.set("connection.ini", "haproxy", **{"hosts": ["127.0.0.1"]})
        self.engine.start()
        with Raw(self.engine.port, greet=None) as client:
            for octet in b"PROXY TCP4 198.51.100.7 127.0.0.1 4567 25\r\n":
                client.send(bytes([octet]))
            self.assertEqual(client.reply()[0], 220)
        for header in ("PROXY TCP4 256.0.0.1 127.0.0.1 1 25\r\n", "PROXY TCP4 1.2.3.4 127.0.0.1 70000 25\r\n",
                       "EHLO client.test\r\n", "PROXY TCP4 " + "1" * 120 + "\r\n"):
            with self.subTest(header), Raw(self.engine.port, greet=None) as client:
                client.send(header)
                self.assertEqual([code for code in client.rest() if code < 400], [])
        self.end_clean()


class Relaying(Submission):
    """Which destinations are ours to take mail for. What strangers may not do is in test/attacks."""

    def setUp(self):
        super().setUp()
        self.engine.files["relay_acl_allow"] = "127.0.0.1/32\n192.0.2.0/24\n"
        self.engine.set("relay.ini", "relay", dest_domains="true")

    def test_destinations_with_actions(self):
        """accept and continue take mail from strangers, as in Haraka; deny refuses it."""
        rules = {"local.test": "accept", "never.test": "deny", "open.test": "continue"}
        domains = {name: json.dumps({"action": action, "nexthop": self.sink.endpoint}) for name, action in rules.items()}
        self.engine.set("relay_dest_domains.ini", "domains", **domains)
        self.engine.start()
        answers = {}
        for source in ("127.0.0.1", "127.0.0.9"):
            with Raw(self.engine.port, source=source) as client:
                client.ask("MAIL FROM:<a@src.test>")
                answers[source] = [client.ask(f"RCPT TO:<b@{name}>")[0] // 100 for name in rules]
        self.assertEqual(answers["127.0.0.9"], [2, 5, 2])
        self.assertEqual((answers["127.0.0.1"][0], answers["127.0.0.1"][2]), (2, 2))
        self.end_clean()


class Listeners(Submission):
    def test_S5321_11_a_client_of_ipv6(self):
        port = free_port("::1")
        self.engine.set("smtp.ini", listen=f"[::]:{port}").start()
        with Raw(port, address="::1") as client:
            client.ask("MAIL FROM:<a@src.test>")
            client.ask("RCPT TO:<b@dst.test>")
            client.ask("DATA")
            client.send(self.message())
            self.assertEqual(client.ask(".")[0], 250)
        self.assertIn("[IPv6:::1]", " ".join(self.messages(1)[0].get_all("Received")))
        self.end_clean()

    def test_PP_5_a_proxy_header_before_implicit_tls(self):
        self.with_tls()
        self.trust_nobody()
        secure = free_port()
        self.engine.set("smtp.ini", listen=f"127.0.0.1:{self.engine.port},127.0.0.1:{secure}", smtps_port=secure)
        self.engine.set("connection.ini", "haproxy", **{"hosts": ["127.0.0.1"]})
        self.engine.start()
        with Raw(secure, greet=None) as client:
            client.send("PROXY TCP4 198.51.100.7 127.0.0.1 4567 465\r\n")
            context = ssl._create_unverified_context()
            client.link = context.wrap_socket(client.link)
            self.assertEqual(client.reply()[0], 220)
            client.ask("EHLO client.test")
            client.ask("MAIL FROM:<a@src.test>")
            self.assertEqual(client.ask("RCPT TO:<b@dst.test>")[0], 250)
        self.end_clean()

    def test_the_name_that_is_asked_for_chooses_the_certificate(self):
        first, second = certificate_for(self.world, "one.sluice.test"), certificate_for(self.world, "two.sluice.test")
        self.engine.files["plugins"] += "tls\n"
        self.engine.set("tls.ini", **{"cert": [first[0], second[0]], "key": [first[1], second[1]]})
        self.engine.start()
        for name, pair in (("one.sluice.test", first), ("two.sluice.test", second)):
            with Raw(self.engine.port) as client:
                self.assertEqual(client.ask("STARTTLS")[0], 220)
                context = ssl.create_default_context(cafile=pair[0])
                client.link = context.wrap_socket(client.link, server_hostname=name)  # verifies chain and name
                self.assertEqual(client.ask("EHLO client.test")[0], 250)
        self.end_clean()


class Limits(Submission):
    def data(self, client, octets, sender="a@src.test"):
        """Sends a message with this content; the reply to its end."""
        self.assertEqual(client.ask(f"MAIL FROM:<{sender}>")[0], 250)
        self.assertEqual(client.ask("RCPT TO:<b@dst.test>")[0], 250)
        self.assertEqual(client.ask("DATA")[0], 354)
        client.send(octets)
        return client.ask(".")

    def test_SZ_size_is_announced_and_kept(self):
        """SZ_1, SZ_3, SZ_4."""
        self.engine.set("connection.ini", "max", bytes="20000")
        self.engine.start()
        with Raw(self.engine.port) as client:
            self.assertIn("SIZE 20000", client.ask("EHLO client.test")[1].split("\n"))
            code, text = client.ask("MAIL FROM:<a@src.test> SIZE=20001")
            self.assertEqual((code, text[:5]), (552, "5.3.4"))
            self.assertIn(client.ask("MAIL FROM:<a@src.test> SIZE=99999999999999999999")[0], (552, 501))
            self.assertEqual(client.ask("MAIL FROM:<a@src.test> SIZE=100")[0], 250)
            client.ask("RSET")
            code, text = self.data(client, "Subject: large\r\n\r\n" + "x" * 70 * 400 + "\r\n")
            self.assertEqual((code, text[:5]), (552, "5.3.4"))
            self.assertEqual(self.data(client, "Subject: small\r\n\r\nx\r\n")[0], 250)
        self.assertEqual([one["Subject"] for one in self.messages(1)], ["small"])
        self.end_clean()

    def test_S5321_08_one_recipient_too_many(self):
        self.engine.set("connection.ini", "max", recipients="100")
        self.engine.start()
        with Raw(self.engine.port) as client:
            client.ask("MAIL FROM:<a@src.test>")
            client.send("".join(f"RCPT TO:<r{i}@dst.test>\r\n" for i in range(101)))
            replies = client.replies(101)
            self.assertEqual([code for code, _ in replies], [250] * 100 + [452])
            self.assertTrue(replies[-1][1].startswith("4.5.3"), replies[-1])
            client.ask("DATA")
            client.send(self.message())
            self.assertEqual(client.ask(".")[0], 250)
        self.assertEqual(sum(len(one["to"]) for one in self.sink.wait(1)), 100)
        self.end_clean()

    def test_S5321_12_a_loop_is_refused(self):
        self.engine.set("connection.ini", "headers", max_received="5")
        self.engine.start()
        with Raw(self.engine.port) as client:
            code, text = self.data(client, "Received: from a by b; now\r\n" * 6 + self.message())
            self.assertEqual((code, text[:5]), (554, "5.4.6"))
        self.end_clean()

    def test_S5321_07_a_very_long_command_line_costs_one_reply(self):
        self.engine.start()
        with Raw(self.engine.port) as client:
            client.send("NOOP " + "x" * 100_000 + "\r\nNOOP\r\n")
            (first, _), (second, _) = client.replies(2)
            self.assertEqual((first // 100, second), (5, 250))
        self.end_clean()

    def test_DoS_4_too_many_bad_commands_and_too_many_connections(self):
        self.engine.set("connection.ini", "max", errors="5")
        self.engine.set("smtp.ini", connections_per_client_max="3")
        self.engine.start()
        with Raw(self.engine.port) as client:
            client.send("FOO\r\n" * 10)
            codes = client.rest()
            self.assertEqual(codes[-1], 421)
            self.assertLessEqual(len(codes), 7)
        wait_for(lambda: self.engine.api("GET", "/v1/status")[1]["connections_in"] == 0, "the session to end")
        clients = [Raw(self.engine.port) for _ in range(3)]
        with Raw(self.engine.port, greet=None) as client:
            self.assertEqual(client.reply()[0], 421)
        for client in clients:
            self.assertEqual(client.ask("QUIT")[0], 221)
            client.close()
        self.end_clean()

    def test_F5322_03_messages_of_every_shape(self):
        """No empty line, no header, nothing at all, an mbox line: taken or refused, and no line of a body is lost."""
        self.engine.start()
        shapes = {
            "headers": "Subject: only\r\nTo: <b@dst.test>\r\n", "body": "just text\r\nmore text\r\n", "nothing": "",
            "mbox": "From a@src.test Thu Jan  1 00:00:00 1970\r\nSubject: x\r\n\r\nmore text\r\n", "blank": "\r\nmore text\r\n",
            "colon": ": no name\r\n\r\nmore text\r\n", "folded": " begins folded\r\nSubject: x\r\n\r\nmore text\r\n"}
        taken = []
        for name, content in shapes.items():
            with self.subTest(name), Raw(self.engine.port) as client:
                code, text = self.data(client, content)
                self.assertIn(code // 100, (2, 5), text)
                taken += [name] if code == 250 else []
        self.sink.wait(len(taken))
        with_text = [name for name in taken if "more text" in shapes[name]]
        files = [path.read_bytes() for path in self.box.glob("*.eml")]
        self.assertEqual(sum(b"more text\r\n" in file for file in files), len(with_text))
        for file in files:  # what the engine adds is a header section of its own, well formed
            self.assertRegex(file.split(b"\r\n")[0], b"^Received: ")
        self.end_clean()

    def test_DoS_3_too_many_header_lines(self):
        self.engine.set("connection.ini", "headers", max_lines="50", max_bytes="4k")
        self.engine.start()
        for content in ("X: y\r\n" * 60 + "\r\nhello\r\n", "X: " + "y" * 900 + "\r\n" + ("Y: " + "y" * 900 + "\r\n") * 6 + "\r\nx\r\n"):
            with Raw(self.engine.port) as client:
                code, text = self.data(client, content)
                self.assertEqual(code // 100, 5, text)
                self.assertEqual(self.data(client, self.message())[0], 250)
        self.sink.wait(2)
        self.end_clean()

    def test_a_silent_client_is_told_421(self):
        self.engine.set("smtp.ini", inactivity_timeout="1")
        self.engine.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(client.rest(), [421])
        self.end_clean()


class Wire(Submission):
    def test_PL_1_one_segment_for_everything(self):
        self.engine.start()
        with Raw(self.engine.port) as client:
            client.send("MAIL FROM:<a@src.test>\r\n" + "".join(f"RCPT TO:<r{i}@dst.test>\r\n" for i in range(50)) + "DATA\r\n")
            self.assertEqual([code for code, _ in client.replies(52)], [250] * 51 + [354])
            client.send(self.message() + ".\r\nQUIT\r\n")
            self.assertEqual([code for code, _ in client.replies(2)], [250, 221])
        self.assertEqual(sum(len(one["to"]) for one in self.sink.wait(1)), 50)
        self.end_clean()

    def test_BD_1_chunks_and_BD_2_dots_in_them(self):
        self.engine.start()
        content = self.message("chunks", "one\r\n.\r\n..two\r\n.three\r\n").encode()
        with Raw(self.engine.port) as client:
            client.ask("MAIL FROM:<a@src.test>")
            client.ask("RCPT TO:<b@dst.test>")
            for at in range(0, len(content), 7):
                chunk = content[at:at + 7]
                client.send(f"BDAT {len(chunk)}\r\n".encode() + chunk)
                self.assertEqual(client.reply()[0], 250)
            self.assertEqual(client.ask("BDAT 0 LAST")[0], 250)
        message = self.messages(1)[0]
        self.assertEqual(message.get_content().replace("\n", "\r\n").replace("\r\r", "\r"), "one\r\n.\r\n..two\r\n.three\r\n")
        self.end_clean()

    def test_S5321_14_the_dot_then_silence(self):
        self.engine.start()
        with Raw(self.engine.port) as client:
            client.ask("MAIL FROM:<a@src.test>")
            client.ask("RCPT TO:<b@dst.test>")
            client.ask("DATA")
            client.send(self.message() + ".\r\n")
        self.sink.wait(1)
        self.engine.wait_empty()
        self.assertEqual(len(self.sink.ledger()), 1)
        self.end_clean()

    def test_S5321_15_a_stop_in_the_middle_of_a_message(self):
        self.engine.set("smtp.ini", force_shutdown_timeout="1")
        self.engine.start()
        with Raw(self.engine.port) as client:
            client.ask("MAIL FROM:<a@src.test>")
            client.ask("RCPT TO:<b@dst.test>")
            client.ask("DATA")
            client.send("Subject: half\r\n\r\nhalf of it\r\n")
            self.assertEqual(self.engine.stop(), 0)
            self.assertNotIn(250, client.rest())
        self.engine.start()
        self.assertEqual(self.engine.api("GET", "/v1/status")[1]["queue"]["items"], 0)
        self.assertEqual(self.sink.ledger(), [])
        self.end_clean()


class Injection(Submission):
    def post(self, body, key=None, **fields):
        headers = {"Idempotency-Key": key} if key else {}
        return self.engine.api("POST", "/v1/messages", {**body, **fields}, headers=headers)

    def test_the_api_queues_once_per_idempotency_key(self):
        self.engine.start()
        body = {"from": "a@src.test", "to": ["b@dst.test", "c@dst.test"], "message": self.message("json")}
        status, first = self.post(body, key="order-1")
        self.assertEqual((status, first["repeated"]), (202, False))
        status, again = self.post(body, key="order-1")
        self.assertEqual((status, again["repeated"], again["id"]), (200, True, first["id"]))
        status, other = self.post(body, key="order-2")
        self.assertEqual(status, 202)
        self.assertNotEqual(other["id"], first["id"])
        self.engine.wait_empty()
        self.assertEqual([one["to"] for one in self.sink.wait(2)], [["b@dst.test", "c@dst.test"]] * 2)
        self.end_clean()

    def test_an_idempotency_key_survives_kill_9(self):
        self.engine.start()
        body = {"from": "a@src.test", "to": ["b@dst.test"], "message": self.message("json")}
        status, first = self.post(body, key="order-1")
        self.assertEqual(status, 202)
        self.engine.restart_after_kill()
        status, again = self.post(body, key="order-1")
        self.assertEqual((status, again["id"]), (200, first["id"]))
        self.engine.wait_empty()
        self.end_clean()

    def test_the_api_takes_raw_messages(self):
        self.engine.start()
        status, answer = self.engine.api(
            "POST", "/v1/messages?from=a@src.test&to=b@dst.test&to=c@dst.test", self.message("raw"), "message/rfc822")
        self.assertEqual(status, 202, answer)
        self.assertEqual(sorted(self.sink.wait(1)[0]["to"]), ["b@dst.test", "c@dst.test"])
        message = self.messages(1)[0]
        self.assertEqual(message["Subject"], "raw")
        self.assertTrue(message["Message-ID"] and message["Date"])  # F5322_01
        self.end_clean()

    def test_files_with_unix_line_ends_become_messages(self):
        """What `cat mail.eml | sluice inject` sends has bare LF at each line end: the wire has CRLF (the sink looks)."""
        self.engine.start()
        text = "From: <a@src.test>\nSubject: unix\n\n.one\n\n..two\n.\nlast without line end"
        self.engine.cli("inject", "-f", "a@src.test", "-t", "b@dst.test", input=text)
        self.post({"from": "a@src.test", "to": ["b@dst.test"], "message": text.replace("unix", "json")})
        for message in self.messages(2):
            self.assertEqual(message.get_content().replace("\r\n", "\n"), ".one\n\n..two\n.\nlast without line end\n")
        self.end_clean()

    def test_large_messages_by_smtp_and_by_the_api(self):
        self.engine.start()
        smtp_source("-m", 2, "-s", 2, "-l", 20_000_000, "-f", "a@src.test", "-t", "b@dst.test", f"127.0.0.1:{self.engine.port}")
        text = self.message(body="0123456789" * 7 + "\r\n") + ("y" * 78 + "\r\n") * 200_000
        status, answer = self.engine.api("POST", "/v1/messages?from=a@src.test&to=b@dst.test", text, "message/rfc822")
        self.assertEqual(status, 202, answer)
        sizes = sorted(one["size"] for one in self.sink.wait(3))
        self.assertGreater(sizes[0], 16_000_000)
        self.assertGreater(sizes[2], 20_000_000)
        self.end_clean()

    def test_cli_inject_from_a_file_and_from_a_pipe(self):
        self.engine.start()
        file = self.world.directory / "mail.eml"
        file.write_bytes(self.message("from a file").encode())
        self.engine.cli("inject", "-f", "a@src.test", "-t", "b@dst.test", "-t", "c@dst.test", file)
        answer = self.engine.cli("inject", "--json", "-f", "", "-t", "b@dst.test", input=self.message("piped"))
        self.assertTrue(json.loads(answer.stdout)["id"])
        self.assertEqual(sorted(one["Subject"] for one in self.messages(2)), ["from a file", "piped"])
        self.assertEqual(sorted(one["from"] for one in self.sink.ledger()), ["", "a@src.test"])
        failed = self.engine.cli("inject", "-f", "a@src.test", "-t", "not an address", file, check=False)
        self.assertNotEqual(failed.returncode, 0)
        self.assertTrue(failed.stderr)
        self.end_clean()


if __name__ == "__main__":
    unittest.main()
