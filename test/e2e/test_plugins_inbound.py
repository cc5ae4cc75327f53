"""The hooks of mail in: what each answer of a plugin does to a session and its message, and what happens without one."""

import base64
import contextlib
import json
import os
import signal
import smtplib
import threading
import time

from clients import Raw, submit
from plugin_home import dkim_key
from test_plugins import Plugins
from world import wait_for

# What plugins answer, by Haraka's names.
CODES = {"OK": 906, "DENY": 902, "DENYSOFT": 903, "DENYDISCONNECT": 904, "DENYSOFTDISCONNECT": 909, "DISCONNECT": 905}
HOOKS = ["connect_init", "lookup_rdns", "connect", "helo", "ehlo", "mail", "rcpt", "rcpt_ok", "data", "data_post", "queue",
         "queue_outbound", "max_data_exceeded", "quit", "vrfy", "noop"]
MESSAGE = "Subject: test\r\nFrom: a@src.test\r\nTo: b@dst.test\r\n\r\nhello\r\n.dot\r\n"


class Arrivals:
    """What comes out for dst.test, and clients that may not relay. For a world with an engine."""

    def setUp(self):
        super().setUp()
        self.directory = self.world.directory / "arrived"
        self.directory.mkdir()
        self.keeper = self.world.sink("--dir", self.directory)
        self.engine.route("dst.test", self.keeper.endpoint)

    def strangers(self):
        """From now on clients may relay only to domains that the engine knows, of which there are none."""
        self.engine.files["relay_acl_allow"] = "192.0.2.0/24\n"
        self.engine.settings["relay.ini"]["relay"].update(dest_domains="false", force_routing="false")

    def arrived(self, count=1):
        self.keeper.wait(count)
        files = sorted(self.directory.glob("*.eml"), key=lambda path: int(path.stem))
        return [file.read_bytes().decode("latin-1") for file in files[:count]]


class Inbound(Arrivals, Plugins):
    def dialogue(self, greeting="EHLO client.test", to="b@dst.test", content=MESSAGE):
        """The codes of a session from the banner to QUIT; 0: the link has ended."""
        with Raw(self.engine.port, greet=None) as client:
            codes = [client.reply()[0]]
            for line in (greeting, "MAIL FROM:<a@src.test>", f"RCPT TO:<{to}>", "DATA"):
                codes.append(client.ask(line)[0] if codes[-1] else 0)
            if codes[-1] == 354:
                client.send(content.replace("\r\n.", "\r\n.."))
                codes.append(client.ask(".")[0])
            codes.append(client.ask("QUIT")[0] if codes[-1] else 0)
            return codes


class Verdicts(Inbound):
    def setUp(self):
        super().setUp()
        self.wanted = self.engine.directory / "wanted.json"
        self.plugin(f"""
            for (const hook of {json.dumps(HOOKS)}) exports['hook_' + hook] = function (next) {{
                const wanted = JSON.parse(fs.readFileSync('{self.wanted}'))
                if (wanted[hook]) return next(...wanted[hook])
                next()
            }}""")

    def want(self, hook=None, code=None, *words):
        self.wanted.write_text(json.dumps({hook: [CODES[code], *words]} if hook else {}))

    def expect(self, table):
        self.want()
        self.plugins.start()
        fine = [220, 250, 250, 250, 354, 250, 221]
        self.assertEqual(self.dialogue(), fine)
        for hook, code, expected in table:
            with self.subTest(hook=hook, code=code):
                self.want(hook, code, "as the plugin says")
                greeting = "HELO client.test" if hook == "helo" else "EHLO client.test"
                self.assertEqual(self.dialogue(greeting), expected)
        self.want()
        self.assertEqual(self.dialogue(), fine)

    def test_the_opening(self):
        self.expect([
            ("connect_init", "DENY", [220, 250, 250, 250, 354, 250, 221]),
            ("lookup_rdns", "DENY", [554, 554, 554, 554, 554, 221]),
            ("lookup_rdns", "OK", [220, 250, 250, 250, 354, 250, 221]),
            ("connect", "DENY", [554, 554, 554, 554, 554, 221]),
            ("connect", "DENYSOFT", [421, 421, 421, 421, 421, 221]),
            ("connect", "DENYDISCONNECT", [554, 0, 0, 0, 0, 0]),
            ("connect", "DENYSOFTDISCONNECT", [421, 0, 0, 0, 0, 0]),
            ("connect", "DISCONNECT", [554, 0, 0, 0, 0, 0]),
            ("connect", "OK", [220, 250, 250, 250, 354, 250, 221]),
        ])

    def test_the_envelope(self):
        self.expect([
            ("ehlo", "DENY", [220, 550, 503, 503, 503, 221]),
            ("ehlo", "DENYSOFT", [220, 450, 503, 503, 503, 221]),
            ("ehlo", "DENYDISCONNECT", [220, 550, 0, 0, 0, 0]),
            ("helo", "DENYSOFTDISCONNECT", [220, 450, 0, 0, 0, 0]),
            ("mail", "DENY", [220, 250, 550, 503, 503, 221]),
            ("mail", "DENYSOFT", [220, 250, 450, 503, 503, 221]),
            ("mail", "DENYDISCONNECT", [220, 250, 550, 0, 0, 0]),
            ("mail", "DENYSOFTDISCONNECT", [220, 250, 450, 0, 0, 0]),
            ("mail", "OK", [220, 250, 250, 250, 354, 250, 221]),
            ("rcpt", "DENY", [220, 250, 250, 550, 503, 221]),
            ("rcpt", "DENYSOFT", [220, 250, 250, 450, 503, 221]),
            ("rcpt", "DENYDISCONNECT", [220, 250, 250, 550, 0, 0]),
            ("rcpt", "OK", [220, 250, 250, 250, 354, 250, 221]),
            ("rcpt_ok", "DENY", [220, 250, 250, 550, 503, 221]),
            ("rcpt_ok", "DENYSOFT", [220, 250, 250, 450, 503, 221]),
        ])

    def test_the_message(self):
        self.expect([
            ("data", "DENY", [220, 250, 250, 250, 554, 221]),
            ("data", "DENYSOFT", [220, 250, 250, 250, 451, 221]),
            ("data", "DENYDISCONNECT", [220, 250, 250, 250, 554, 0]),
            ("data_post", "DENY", [220, 250, 250, 250, 354, 550, 221]),
            ("data_post", "DENYSOFT", [220, 250, 250, 250, 354, 450, 221]),
            ("data_post", "DENYDISCONNECT", [220, 250, 250, 250, 354, 550, 0]),
            ("data_post", "OK", [220, 250, 250, 250, 354, 250, 221]),
            ("queue_outbound", "DENY", [220, 250, 250, 250, 354, 550, 221]),
            ("queue_outbound", "DENYSOFT", [220, 250, 250, 250, 354, 450, 221]),
            ("queue_outbound", "DENYSOFTDISCONNECT", [220, 250, 250, 250, 354, 450, 0]),
            ("queue_outbound", "OK", [220, 250, 250, 250, 354, 250, 221]),
            ("queue", "OK", [220, 250, 250, 250, 354, 250, 221]),  # a relaying client's mail is not its business
        ])
        # Those that nobody objected to or took: twice fine, `data_post` OK, `queue` OK.
        self.assertEqual(len(self.arrived(4)), 4)
        self.engine.wait_empty()
        self.assertEqual(len(self.keeper.ledger()), 4)

    def test_commands_that_bring_no_mail_and_the_words_of_plugins(self):
        self.want("vrfy", "OK", "he lives here")
        self.plugins.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(client.ask("VRFY b"), (250, "2.1.5 he lives here"))
            self.want("vrfy", "DENY", "5.1.1 no such user")
            self.assertEqual(client.ask("VRFY b"), (550, "5.1.1 no such user"))
            self.want("noop", "DENY")
            self.assertEqual(client.ask("NOOP")[0], 500)
            self.want("mail", "DENY", ["first", "second"])
            self.assertEqual(client.ask("MAIL FROM:<a@src.test>"), (550, "5.7.1 first\n5.7.1 second"))
            self.want("mail", "DENY", {"code": 552, "reply": "5.2.2 mailbox is full"})
            self.assertEqual(client.ask("MAIL FROM:<a@src.test>"), (552, "5.2.2 mailbox is full"))
            self.want("mail", "DENYSOFT", "not\r\n250 smuggled")
            self.assertEqual(client.ask("MAIL FROM:<a@src.test>"), (450, "4.7.1 not\n4.7.1 250 smuggled"))
            self.want("quit", "OK", "so long")
            self.assertEqual(client.ask("QUIT"), (221, "2.0.0 so long"))

    def test_a_message_that_is_too_large(self):
        self.engine.set("connection.ini", "max", bytes=2000)
        self.want("max_data_exceeded", "DENYSOFT", "come back with less")
        self.plugins.start()
        large = MESSAGE + "x" * 70 + "\r\n" * 1000
        self.assertEqual(self.dialogue(content=large)[5], 450)
        self.want()
        self.assertEqual(self.dialogue(content=large)[5], 552)


class Relaying(Inbound):
    def test_a_plugin_that_takes_a_recipient_opens_no_relay(self):
        self.strangers()
        self.plugin("""exports.hook_rcpt = (next, connection, [rcpt]) => next(rcpt.user === 'mine' ? OK : CONT)""").start()
        with Raw(self.engine.port) as client:
            client.ask("MAIL FROM:<a@src.test>")
            self.assertEqual(client.ask("RCPT TO:<b@dst.test>")[0], 550)
            self.assertEqual(client.ask("RCPT TO:<mine@dst.test>")[0], 250)
            client.ask("DATA")
            client.send(MESSAGE)
            # Nobody takes it, and it goes nowhere.
            self.assertEqual(client.ask(".")[0], 451)
        self.engine.wait_empty()

    def test_a_recipient_that_a_plugin_puts_in_opens_no_relay(self):
        self.strangers()
        self.engine.set("relay.ini", "relay", dest_domains="true", force_routing="true")
        self.plugin("""exports.hook_data_post = function (next, connection) {
            connection.transaction.rcpt_to[0].host = 'elsewhere.test'
            connection.transaction.rcpt_to[0].original_host = 'elsewhere.test'
            next()
        }""").start()
        self.assertEqual(self.dialogue(), [220, 250, 250, 250, 354, 451, 221])
        self.engine.wait_empty()

    def test_a_plugin_lets_a_stranger_relay(self):
        self.strangers()
        self.engine.settings["relay.ini"]["relay"].update(dest_domains="true", force_routing="true")
        self.engine.set("relay_dest_domains.ini", "domains", **{"dst.test": json.dumps({"action": "deny"})})
        self.plugin("""
            exports.hook_mail = function (next, connection, [from]) {
                if (from.user === 'friend') connection.relaying = true
                next()
            }
            exports.hook_get_mx = (next) => next(OK, SINK)""").start()
        submit(self.engine, "b@dst.test", self.message(), sender="friend@src.test")
        self.sink.wait(1)
        # That was for one transaction.
        self.assertEqual(self.dialogue()[3], 550)

    def test_a_plugin_keeps_a_client_of_the_acl_from_relaying(self):
        self.engine.settings["relay.ini"]["relay"].update(dest_domains="false")
        self.plugin("exports.hook_connect = (next, connection) => { connection.relaying = false; next() }").start()
        self.assertEqual(self.dialogue()[3], 550)

    def test_a_plugin_takes_the_message_over(self):
        self.strangers()
        self.plugin("""
            exports.hook_rcpt = (next) => next(OK, 'come in')
            exports.hook_queue = function (next, connection) {
                connection.transaction.message_stream.get_data((octets) => {
                    say(String(octets), connection.transaction.rcpt_to.map(String))
                    next(OK, 'taken')
                })
            }
            exports.hook_queue_ok = (next, connection, text) => { say(text); next() }""").start()
        self.assertEqual(self.dialogue(), [220, 250, 250, 250, 354, 250, 221])
        content, to = self.what_was_said(2)[0]
        self.assertTrue(content.startswith("Received: from client.test"), content)
        self.assertTrue(content.endswith(MESSAGE), content)
        self.assertEqual(to, ["<b@dst.test>"])
        self.assertRegex(self.what_was_said(2)[1][0], r"^taken \([0-9A-F]+\.1\)$")
        self.engine.wait_empty()
        self.assertEqual(self.engine.events("accepted"), [])

    def test_clients_log_in_by_a_plugin(self):
        self.strangers()
        self.plugins.add("own", """
            exports.hook_capabilities = (next, connection) => {
                connection.capabilities.push('AUTH PLAIN LOGIN', 'XOWN')
                next()
            }
            exports.hook_unrecognized_command = function (next, connection, [verb, rest]) {
                const { notes } = connection
                if (verb === 'AUTH' && rest === 'LOGIN') return connection.respond(334, 'VXNlcm5hbWU6', () => next(OK))
                if (verb === 'AUTH') return next(DENY, '5.7.8 no')
                if (!notes.user) {
                    notes.user = Buffer.from(verb, 'base64').toString()
                    return connection.respond(334, 'UGFzc3dvcmQ6', () => next(OK))
                }
                connection.relaying = true
                notes.auth_user = notes.user
                connection.respond(235, '2.7.0 welcome', () => next(OK))
            }
            exports.hook_get_mx = (next) => next(OK, '%s')""" % self.keeper.endpoint)
        self.plugins.start()
        with Raw(self.engine.port, greet=None) as client:
            client.reply()
            self.assertIn("AUTH PLAIN LOGIN\nXOWN", client.ask("EHLO client.test")[1])
            self.assertEqual(client.ask("AUTH PLAIN AGEAYg=="), (500, "5.7.8 no"))
            self.assertEqual(client.ask("AUTH LOGIN"), (334, "VXNlcm5hbWU6"))
            # Even a line that looks like a command of ours.
            self.assertEqual(client.ask(base64.b64encode(b"me@src.test").decode())[0], 334)
            self.assertEqual(client.ask("NOOP"), (235, "2.7.0 welcome"))
            self.assertEqual(client.ask("NOOP")[0], 250)
            client.ask("MAIL FROM:<a@src.test>")
            self.assertEqual(client.ask("RCPT TO:<b@dst.test>")[0], 250)
            client.ask("DATA")
            client.send(MESSAGE)
            self.assertEqual(client.ask(".")[0], 250)
        self.assertIn(" with ESMTPA ", self.arrived()[0])


class Changes(Inbound):
    def test_header_body_envelope_and_notes(self):
        self.plugin("""
            exports.hook_data = (next, connection) => { connection.transaction.set_banner('Regards'); next() }
            exports.hook_data_post = function (next, connection) {
                const { transaction } = connection
                transaction.add_leading_header('X-First', transaction.body.bodytext.trim().split('\\n')[0])
                transaction.remove_header('Subject')
                transaction.notes.campaign = 'spring'
                transaction.notes.header = transaction.header
                transaction.rcpt_to.pop()
                next()
            }
            exports.hook_queue_outbound = (next, connection) => { connection.transaction.add_header('X-Last', 'two'); next() }
            exports.hook_pre_send_trans_email = function (next, { transaction }) {
                say(transaction.header.get('Message-Id').length > 10, transaction.header.get('Date').length > 10)
                transaction.add_header('X-Signed', 'yes')
                next()
            }
            exports.hook_delivered = (next, hmail) => {
                say(hmail.todo.notes.campaign, hmail.notes.header.get('X-Last').trim(), hmail.todo.rcpt_to.map(String))
                next()
            }""").start()
        submit(self.engine, ["b@dst.test", "c@dst.test"], MESSAGE)
        arrived = self.arrived()[0]
        header, _, body = arrived.partition("\r\n\r\n")
        self.assertIn("X-First: hello\r\n", header)
        self.assertRegex(header, r"X-Last: two\r\nMessage-Id: <.*>\r\nDate: .*\r\nX-Signed: yes$")
        self.assertNotIn("Subject:", header)
        self.assertRegex(body, r"^hello\r\n\.dot\r\n[^~]*Regards\r\n$")
        self.assertEqual(self.keeper.ledger()[0]["to"], ["b@dst.test"])
        self.assertEqual(self.what_was_said(2), [[True, True], ["spring", "two", ["<b@dst.test>"]]])

    def test_what_nobody_changes_arrives_as_it_came(self):
        self.plugin("""
            exports.hook_data = (next, connection) => { connection.transaction.attachment_hooks(() => {}); next() }
            exports.hook_data_post = (next, connection) => connection.transaction.message_stream.get_data(() => next())""").start()
        odd = "Message-Id: <1@src.test>\r\nDate: now\r\nSubject: a\r\n folded\r\n\r\n.\r\n..\r\n\x80\xff\r\n\r\n"
        with Raw(self.engine.port) as client:
            for line in ("MAIL FROM:<a@src.test> BODY=8BITMIME", "RCPT TO:<b@dst.test>", "DATA"):
                client.ask(line)
            client.send(odd.replace("\r\n.", "\r\n..").encode("latin-1"))
            self.assertEqual(client.ask(".")[0], 250)
        self.arrived()
        self.assertTrue((self.directory / "1.eml").read_bytes().endswith(odd.encode("latin-1")))

    def test_mail_that_no_session_brings_is_changed_before_it_is_queued(self):
        self.plugin("""
            exports.hook_data_post = (next) => { say('not for this'); next() }
            exports.hook_pre_send_trans_email = function (next, { transaction }) {
                transaction.message_stream.get_data((octets) => {
                    transaction.add_leading_header('X-Signed', String(octets.includes('hello')))
                    transaction.notes.seen = true
                    next()
                })
            }
            exports.hook_delivered = (next, hmail) => { say(hmail.todo.notes.seen); next() }""").start()
        self.engine.cli("inject", "-f", "a@src.test", "-t", "b@dst.test", input=MESSAGE)
        header, _, body = self.arrived()[0].partition("\r\n\r\n")
        self.assertTrue(header.startswith("X-Signed: true\r\nReceived: "), header)
        self.assertEqual(body, "hello\r\n.dot\r\n")
        self.assertEqual(self.what_was_said(), [[True]])

    def test_a_large_message_is_read_and_changed(self):
        self.plugin("""
            exports.hook_data = (next, connection) => {
                connection.transaction.add_body_filter('text/plain', (ct, enc, buf) => Buffer.from(String(buf).replace(/y/g, 'z')))
                next()
            }
            exports.hook_data_post = (next, connection) => { say(connection.transaction.data_bytes > 5000000); next() }""").start()
        lines = 80_000
        submit(self.engine, "b@dst.test", self.message(body=("y" * 70 + "\r\n") * lines))
        body = self.arrived()[0].partition("\r\n\r\n")[2]
        self.assertEqual(body.count("z"), 70 * lines)
        self.assertEqual(body.count("y"), 0)
        self.assertEqual(self.what_was_said(), [[True]])

    def test_content_in_chunks_and_content_without_a_header(self):
        self.plugin("exports.hook_data_post = (next, connection) => { connection.transaction.add_header('X-Seen', 'yes'); next() }").start()
        with Raw(self.engine.port) as client:
            for content in (MESSAGE, "no header, only this\r\n", "\r\nnor here\r\n", ""):
                client.ask("MAIL FROM:<a@src.test>")
                client.ask("RCPT TO:<b@dst.test>")
                client.send(f"BDAT {len(content)} LAST\r\n{content}")
                self.assertEqual(client.reply()[0], 250)
        bodies = []
        for arrived in self.arrived(4):
            header, _, body = arrived.partition("\r\n\r\n")
            bodies.append(body)
            self.assertIn("\r\nX-Seen: yes", header)
        self.assertCountEqual(bodies, ["hello\r\n.dot\r\n", "no header, only this\r\n", "nor here\r\n", ""])

    def test_no_line_of_a_header_or_a_body_is_lost(self):
        """As many lines as the limit permits, and fields that no empty line separates from the text, which the host parses."""
        self.plugin("""
            exports.hook_data = (next, connection) => { connection.transaction.parse_body = true; next() }
            exports.hook_data_post = (next, connection) => { connection.transaction.add_header('X-Seen', 'yes'); next() }
            exports.hook_pre_send_trans_email = function (next, { transaction }) {
                if (!transaction.header.get('X-Seen')) transaction.add_header('X-Seen', 'yes')
                next()
            }""").start()
        many = "".join(f"X-{number}: y\r\n" for number in range(1000))
        arrived = []
        for content in (many + "\r\nhello\r\n", "Subject: x\r\nhello\r\nFrom : y\r\n", "Subject: x\r\nFrom : y\r\n"):
            submit(self.engine, "b@dst.test", content)
            self.engine.cli("inject", "-f", "a@src.test", "-t", "b@dst.test", input=content)
            arrived = self.arrived(len(arrived) + 2)  # one kind after the other
        for one in arrived:
            self.assertIn("\r\nX-Seen: yes\r\n", one.partition("\r\n\r\n")[0] + "\r\n")
        for one in arrived[:2]:
            self.assertEqual(one.count(": y\r\n"), 1000)
        for one in arrived[2:4]:
            self.assertTrue(one.endswith("\r\n\r\nhello\r\nFrom : y\r\n"), one)
        for one in arrived[4:]:
            self.assertIn("\r\nFrom : y\r\n", one)


class Unmodified(Inbound):
    """Packages from npm as they are."""

    def test_dkim_signs_what_arrives(self):
        try:
            import dkim
        except ImportError:
            self.skipTest("python3-dkim is not installed")
        record = dkim_key(self.engine.config)
        self.engine.set("dkim.ini", "sign", enabled="true", headers="From, To, Subject, Date, Message-ID")
        self.engine.set("dkim.ini", "verify", enabled="false")
        self.plugins.add("dkim")
        self.plugins.start()
        folded = "Subject: one\r\n two\r\nFrom: <a@src.test>\r\nTo: b@dst.test\r\n\r\n.\r\n.dots\r\n\r\nend  \r\n\r\n\r\n"
        for content in (MESSAGE, folded, self.message(body="x" * 70 + "\r\n")):
            submit(self.engine, "b@dst.test", content)
        asked = []

        def look_up(name, timeout=5):
            asked.append(name)
            return record

        for arrived in self.arrived(3):
            self.assertIn("DKIM-Signature:", arrived)
            self.assertTrue(dkim.verify(arrived.encode("latin-1"), dnsfunc=look_up), arrived)
        self.assertEqual(set(asked), {b"may2026._domainkey.src.test."})


    def test_auth_base_of_haraka_logs_clients_in(self):
        self.strangers()
        self.plugins.with_haraka().add("own_auth", """
            exports.register = function () { this.inherits('auth/auth_base') }
            exports.hook_capabilities = function (next, connection) {
                const methods = ['PLAIN', 'LOGIN', 'CRAM-MD5']
                connection.capabilities.push(`AUTH ${methods.join(' ')}`)
                connection.notes.allowed_auth_methods = methods
                next()
            }
            exports.hook_data_post = (next) => next()
            exports.get_plain_passwd = (user, connection, cb) => cb(user === 'me@src.test' ? 'secret' : undefined)
            exports.hook_get_mx = (next) => next(OK, '%s')""" % self.keeper.endpoint)
        self.plugins.start()
        for number, name in enumerate(("PLAIN", "LOGIN", "CRAM-MD5"), 1):
            method = "auth_" + name.lower().replace("-", "_")
            with self.subTest(name), smtplib.SMTP("127.0.0.1", self.engine.port, "client.test", timeout=60) as client:
                client.ehlo()
                client.user, client.password = "me@src.test", "wrong"
                with self.assertRaises(smtplib.SMTPAuthenticationError):
                    client.auth(name, getattr(client, method))
                self.assertEqual(client.mail("a@src.test")[0], 250)
                self.assertEqual(client.rcpt("b@dst.test")[0], 550)
                client.rset()
                client.password = "secret"
                self.assertEqual(client.auth(name, getattr(client, method))[0], 235)
                client.sendmail("a@src.test", "b@dst.test", MESSAGE)
            arrived = self.arrived(number)[-1]
            self.assertIn(" with ESMTPA ", arrived)
            self.assertIn("\r\nAuthentication-Results: mx.sluice.test;\r\n\tauth=fail", "\r\n" + arrived)


    def test_plugins_that_come_with_haraka(self):
        kept = self.world.directory / "quarantine"
        self.engine.set("quarantine.ini", quarantine_path=kept)
        self.plugins.with_haraka()
        for name in ("record_envelope_addresses", "delay_deny", "queue/quarantine", "queue/discard"):
            self.plugins.bundled(name)
        self.plugin("""
            exports.hook_mail = function (next, connection, [from]) {
                if (from.user !== 'bad') return next()
                connection.relaying = false
                next(DENY, 'bad sender')
            }
            exports.hook_data_post = function (next, { transaction }) {
                const [{ user }] = transaction.rcpt_to
                if (user === 'quarantine') Object.assign(transaction.notes, { quarantine: true, quarantine_action: [OK, 'kept'] })
                if (user === 'discard') transaction.notes.set('queue.wants', 'discard')
                next()
            }""").start()
        for to in ("b@dst.test", "quarantine@dst.test", "discard@dst.test"):
            submit(self.engine, to, MESSAGE)
        arrived = self.arrived()[0]
        self.assertIn("X-Envelope-From: a@src.test\r\nX-Envelope-To: b@dst.test\r\n", arrived)
        files = wait_for(lambda: [file for file in kept.rglob("*") if file.is_file()], "the file in quarantine")
        self.assertTrue(files[0].read_bytes().endswith(b"\n\nhello\n.dot\n"), files[0].read_bytes())
        self.engine.wait_empty()
        self.assertEqual(len(self.keeper.ledger()), 1)
        with Raw(self.engine.port) as client:  # denied, but not before the recipient
            self.assertEqual(client.ask("MAIL FROM:<bad@src.test>")[0], 250)
            self.assertEqual(client.ask("RCPT TO:<b@dst.test>"), (550, "5.7.1 bad sender"))


class Trouble(Inbound):
    def test_failures_and_timeouts(self):
        self.expects_errors = True
        self.engine.files["plugin_timeout"] = "0.5\n"
        self.plugin("""
            exports.hook_connect = () => { throw new Error('in connect') }
            exports.hook_mail = async () => { throw new Error('in mail') }
            exports.hook_rcpt = (next, connection, [rcpt]) => { if (rcpt.user !== 'slow') next() }
            exports.hook_data_post = function (next, connection) {
                const { user } = connection.transaction.rcpt_to[0]
                if (user === 'throws') throw new Error('in data_post')
                next()
            }
            exports.hook_queue_outbound = async function (next, connection) {
                const { user } = connection.transaction.rcpt_to[0]
                if (user === 'rejects') throw new Error('in queue_outbound')
                if (user !== 'hangs') { next(); next(DENY) }
            }""").start()
        fine = [220, 250, 250, 250, 354]
        self.assertEqual(self.dialogue(to="slow@dst.test")[3], 451)
        self.assertEqual(self.dialogue(to="throws@dst.test"), [*fine, 451, 221])
        self.assertEqual(self.dialogue(to="rejects@dst.test"), [*fine, 451, 221])
        self.assertEqual(self.dialogue(to="hangs@dst.test"), [*fine, 451, 221])
        self.assertEqual(self.dialogue(to="fine@dst.test"), [*fine, 250, 221])
        self.assertEqual(len(self.arrived()), 1)

    def test_an_endless_loop_in_data_post(self):
        self.engine.set("plugin_host.ini", hang_timeout="2s")
        self.plugin("""exports.hook_data_post = function (next, connection) {
            if (connection.transaction.rcpt_to[0].user === 'loop') for (;;);
            next()
        }""").start()
        host = wait_for(self.plugins.host, "the plugin host")
        self.assertEqual(self.dialogue(to="loop@dst.test")[5], 451)
        self.new_host(host)
        self.assertEqual(self.dialogue()[5], 250)
        self.assertEqual(len(self.arrived()), 1)

    def test_a_host_killed_in_the_middle_of_sessions(self):
        self.plugin("""
            exports.hook_connect = (next, connection) => { connection.notes.bad = true; next() }
            exports.hook_mail = (next) => next()
            exports.hook_data_post = function (next, connection) {
                if (!connection.notes.bad) say('forgotten')
                if (connection.transaction.rcpt_to[0].user === 'waits') return say(process.pid)
                next()
            }""").start()
        with Raw(self.engine.port) as idle, Raw(self.engine.port) as busy:
            for line in ("MAIL FROM:<a@src.test>", "RCPT TO:<waits@dst.test>", "DATA"):
                busy.ask(line)
            busy.send(MESSAGE + ".\r\n")
            host = self.what_was_said()[0][0]
            os.kill(host, signal.SIGKILL)
            self.assertEqual(busy.reply()[0], 451)
            # What plugins had noted about them is gone: nobody decides about somebody he does not know.
            self.assertEqual(idle.ask("MAIL FROM:<a@src.test>")[0], 421)
            self.assertEqual(idle.reply()[0], 0)
            self.assertEqual(busy.ask("MAIL FROM:<a@src.test>")[0], 421)
        self.assertEqual(self.dialogue()[5], 250)
        self.assertEqual(self.what_was_said(), [[host]])

    def test_clients_that_vanish_are_forgotten(self):
        self.plugin("""
            let known = 0
            exports.hook_connect = (next) => { known += 1; next() }
            exports.hook_reset_transaction = (next, connection) => { say('reset', connection.transaction.uuid.slice(-2)); next() }
            exports.hook_disconnect = (next) => { known -= 1; say('gone', known); next() }""").start()
        with Raw(self.engine.port) as client:
            client.ask("MAIL FROM:<a@src.test>")
            client.ask("RSET")
            client.ask("MAIL FROM:<a@src.test>")
        self.assertEqual(self.what_was_said(3), [["reset", ".1"], ["reset", ".2"], ["gone", 0]])

    def test_a_client_that_leaves_while_plugins_think(self):
        self.plugin("""
            exports.hook_data_post = (next) => { say('thinks'); setTimeout(next, 500) }
            exports.hook_disconnect = (next, connection) => { say('gone'); next() }""").start()
        with Raw(self.engine.port) as client:
            for line in ("MAIL FROM:<a@src.test>", "RCPT TO:<b@dst.test>", "DATA"):
                client.ask(line)
            client.send(MESSAGE + ".\r\n")
            self.what_was_said()
        self.assertEqual(self.what_was_said(2), [["thinks"], ["gone"]])
        # It was complete, so it may have been accepted; it must not have been twice, or in part.
        self.assertTrue(all(mail.endswith("hello\r\ndot\r\n") for mail in self.arrived()))

    def test_stopping_lets_plugins_decide_about_what_is_there(self):
        self.plugin("exports.hook_data_post = (next) => { say('thinks'); setTimeout(next, 1500) }").start()
        with Raw(self.engine.port) as client:
            for line in ("MAIL FROM:<a@src.test>", "RCPT TO:<b@dst.test>", "DATA"):
                client.ask(line)
            client.send(MESSAGE + ".\r\n")
            self.what_was_said()
            self.engine.process.child.terminate()
            self.assertEqual(client.reply()[0], 250)
        self.assertEqual(self.engine.stop(), 0)

    def test_hosts_killed_again_and_again_while_mail_comes_in(self):
        self.plugin("""
            exports.hook_connect = (next) => next()
            exports.hook_rcpt = (next) => next()
            exports.hook_data_post = (next, connection) => {
                connection.transaction.add_header('X-Seen', 'yes')
                setTimeout(next, 5)
            }""").start()
        over, taken = threading.Event(), []

        def murder():
            before = 0
            while not over.wait(0.5):
                if len(taken) < before + 5:  # a host that has just begun is let work
                    continue
                before = len(taken)
                host = self.plugins.host()
                with contextlib.suppress(ProcessLookupError):
                    if host:
                        os.kill(host, signal.SIGKILL)

        def insist(name):
            for number in range(15):
                to = f"{name}{number}@dst.test"
                while not self.dialogue(to=to)[5:6] == [250]:
                    time.sleep(0.05)
                taken.append(to)

        threads = [threading.Thread(target=insist, args=[name]) for name in "xyz"]
        murderer = threading.Thread(target=murder)
        for thread in [murderer, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        murderer.join()
        self.assertEqual(len(taken), 45)
        self.engine.wait_empty(60)
        self.assertEqual(sorted(to for mail in self.keeper.ledger() for to in mail["to"]), sorted(taken))
        self.assertTrue(all("\r\nX-Seen: yes" in mail for mail in self.arrived(len(taken))), "none went past the plugin")

    def test_a_header_without_measure_is_refused(self):
        self.engine.set("connection.ini", "headers", max_lines=100_000)
        self.engine.set("connection.ini", "max", bytes="26214400")
        self.plugin("exports.hook_data_post = (next) => next()").start()
        content = "Subject: a\r\n" + ("X-Long: " + "x" * 900 + "\r\n") * 5000 + "\r\nbody\r\n"
        self.assertEqual(self.dialogue(content=content)[5], 552)
        self.assertEqual(self.dialogue()[5], 250)

    def test_a_plugin_that_makes_a_message_endless(self):
        self.plugin("""
            exports.hook_data_post = function (next, connection) {
                for (let n = 0; n < 40; n++) connection.transaction.add_header('X-Much', 'y'.repeat(1024 * 1024))
                next()
            }""").start()
        self.assertEqual(self.dialogue()[5], 451)
        self.engine.wait_empty()

    def test_many_recipients_in_one_group(self):
        self.plugin("exports.hook_rcpt_ok = (next, connection) => next()").start()
        count = 500
        with Raw(self.engine.port) as client:
            lines = ["MAIL FROM:<a@src.test>", *(f"RCPT TO:<b{n}@dst.test>" for n in range(count)), "DATA"]
            client.send("".join(line + "\r\n" for line in lines))
            self.assertEqual([code for code, _ in client.replies(count + 2)], [250] * (count + 1) + [354])
            client.send(MESSAGE)
            self.assertEqual(client.ask(".")[0], 250)
        wait_for(lambda: sum(len(mail["to"]) for mail in self.keeper.ledger()) == count, "all recipients")
