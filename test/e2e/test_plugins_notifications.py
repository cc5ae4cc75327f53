"""Notifications and plugins: who sees them, signs them, writes them; and items that plugins divide."""

from clients import submit
from peers import Reports, Scripted
from plugin_home import dkim_key
from test_plugins import Plugins


class Notified(Plugins):
    def setUp(self):
        super().setUp()
        self.reports = Reports(self.world)
        self.addCleanup(self.reports.sink.stop)
        self.engine.route("src.test", self.reports.endpoint)
        self.refusing = Scripted(self, {"RCPT": "550 5.1.1 nobody here"})
        self.engine.route("dst.test", self.refusing.endpoint)

    def bounce(self, to="b@dst.test"):
        """The notification of a message that was refused."""
        before = len(self.reports.all())
        self.submit(to)
        return self.reports.wait(before + 1)[before]


class Seen(Notified):
    def test_an_unmodified_dkim_signs_them(self):
        try:
            import dkim
        except ImportError:
            self.skipTest("python3-dkim is not installed")
        self.expects_errors = True  # for the sender of what is refused there is no key
        record = dkim_key(self.engine.config, "sluice.test")
        self.engine.set("dkim.ini", "sign", enabled="true", headers="From, To, Subject, Date, Message-ID")
        self.engine.set("dkim.ini", "verify", enabled="false")
        self.plugins.add("dkim").start()
        report = self.bounce()
        self.assertEqual(report.recipients["b@dst.test"]["Action"], "failed")
        self.assertIn("DKIM-Signature", report.message)
        self.assertTrue(dkim.verify(report.raw, dnsfunc=lambda name, timeout=5: record), report.raw)

    def test_they_may_be_changed_and_not_be_refused_or_sent_elsewhere(self):
        self.plugin("""
            const { Address } = require('@haraka/email-address')
            exports.hook_pre_send_trans_email = function (next, { transaction }) {
                if (!transaction.mail_from.isNull()) return next()
                say(transaction.rcpt_to.map(String), transaction.header.get('Subject').length > 5)
                transaction.add_leading_header('X-Seen', transaction.header.get('Content-Type').includes('delivery-status') ? 'yes' : 'no')
                transaction.rcpt_to[0] = new Address('<elsewhere@dst.test>')
                transaction.mail_from = new Address('<sender@src.test>')
                next(DENY, 'which counts for nothing')
            }""").start()
        report = self.bounce()
        self.assertEqual(report.message["X-Seen"], "yes")
        self.assertEqual((report.envelope["from"], report.envelope["to"]), ("", ["a@src.test"]))
        self.assertEqual(list(report.recipients), ["b@dst.test"])
        self.assertEqual(self.what_was_said(), [[["<a@src.test>"], True]])
        self.engine.wait_logged("what plugins changed of a notification's envelope is left out")
        self.engine.wait_empty()

    def test_silence_throws_and_dying_hosts_leave_them_as_they_are(self):
        self.expects_errors = True
        self.engine.files["plugin_timeout"] = "2\n"
        self.plugin("""
            exports.hook_pre_send_trans_email = function (next, { transaction }) {
                if (!transaction.mail_from.isNull()) return next()
                const about = transaction.rcpt_to[0].user
                transaction.add_header('X-Half', 'done')
                if (about === 'silent') return
                if (about === 'throwing') throw new Error('thrown in pre_send')
                if (about === 'rejecting') return Promise.reject(new Error('rejected in pre_send'))
                process.kill(process.pid, 'SIGKILL')
            }""").start()
        # The host dies last.
        for count, about in enumerate(("silent", "throwing", "rejecting", "dying"), 1):
            submit(self.engine, "b@dst.test", self.message(), sender=f"{about}@src.test")
            report = self.reports.wait(count)[-1]
            self.assertEqual(report.envelope["to"], [f"{about}@src.test"])
            self.assertEqual(list(report.recipients), ["b@dst.test"])
            self.assertEqual(report.message["X-Half"], None if about == "dying" else "done")
        self.engine.wait_logged("a notification is sent as it is, because plugins do not answer")
        self.engine.wait_empty()
        self.assertEqual(len(self.reports.all()), 4)


    def test_an_engine_that_dies_meanwhile_tells_once(self):
        self.plugin("""
            exports.hook_pre_send_trans_email = function (next, { transaction }) {
                if (!transaction.mail_from.isNull()) return next()
                say('asked')
                transaction.add_header('X-Seen', 'yes')
                if (fs.existsSync(__filename + '.again')) next()
            }""").start()
        self.submit("b@dst.test")
        self.what_was_said()
        self.engine.process.kill()
        (self.engine.directory / "plugins" / "only.js.again").write_text("")
        self.plugins.start()
        report = self.reports.wait(1)[0]
        self.assertEqual(list(report.recipients), ["b@dst.test"])
        self.assertEqual(report.message["X-Seen"], "yes")
        self.engine.wait_empty()
        self.assertEqual((len(self.reports.all()), len(self.engine.wait_event("bounced"))), (1, 1))


class Written(Notified):
    def test_a_plugin_writes_one_and_another_signs_it(self):
        self.plugin("""
            exports.hook_bounce = function (next, hmail, error) {
                hmail.populate_bounce_message = function (from, to, reason, cb) {
                    say(from.format(), to.format(), reason.message)
                    cb(null, ['From: Post <post@src.test>\\n', `To: ${to.format()}\\n`, 'Subject: sorry\\n', '\\n', 'Grüße,\\n', '.and dots\\n'])
                }
                next()
            }
            exports.hook_pre_send_trans_email = function (next, { transaction }) {
                transaction.add_header('X-Signed', transaction.header.get('Subject').trim())
                next()
            }""").start()
        self.submit("b@dst.test")
        [mail] = self.reports.sink.wait(1)
        self.assertEqual((mail["from"], mail["to"]), ("", ["a@src.test"]))
        [file] = self.reports.directory.glob("*.eml")
        head, _, body = file.read_bytes().partition(b"\r\n\r\n")
        self.assertEqual(body, "Grüße,\r\n.and dots\r\n".encode())
        for field in (b"From: Post <post@src.test>", b"\r\nMessage-Id: <", b"\r\nDate: ", b"\r\nX-Signed: sorry"):
            self.assertIn(field, head)
        self.assertEqual(self.what_was_said(), [["<>", "<a@src.test>", "550 5.1.1 nobody here"]])
        self.engine.wait_empty()

    def test_ours_with_a_line_more_and_ours_when_the_writer_fails(self):
        self.expects_errors = True
        self.plugin("""
            exports.register = function () {
                const { HMailItem } = this.haraka_require('outbound')
                const usual = HMailItem.prototype.populate_bounce_message
                HMailItem.prototype.populate_bounce_message = function (from, to, reason, cb) {
                    if (this.todo.rcpt_to[0].user === 'broken') throw new Error('no words')
                    usual.call(this, from, to, reason, (error, lines) => cb(error, ['X-Campaign: autumn\\r\\n', ...lines]))
                }
            }""").start()
        report = self.bounce()
        self.assertEqual(report.message["X-Campaign"], "autumn")
        self.assertEqual(report.recipients["b@dst.test"]["Status"], "5.1.1")
        broken = self.bounce("broken@dst.test")
        self.assertNotIn("X-Campaign", broken.message)
        self.assertEqual(broken.recipients["broken@dst.test"]["Status"], "5.1.1")
        self.engine.wait_logged("populate_bounce_message failed, and the usual notification is sent")
        self.engine.wait_empty()


class Divided(Plugins):
    def test_each_recipient_with_a_sender_of_its_own(self):
        peer = Scripted(self)
        self.plugin(f"""
            const {{ Address }} = require('@haraka/email-address')
            exports.hook_send_email = function (next, hmail) {{
                const {{ todo }} = hmail
                todo.notes.seen = (todo.notes.seen || 0) + 1
                for (const rcpt of todo.rcpt_to.slice(1)) {{
                    hmail.split_to_new_recipients([rcpt], 'VERP', (part) => {{
                        part.todo.mail_from = new Address(`<verp+${{rcpt.user}}@src.test>`)
                    }})
                }}
                next()
            }}
            exports.hook_get_mx = (next) => next(OK, '{peer.endpoint}')
            exports.hook_delivered = function (next, {{ todo }}, params) {{ say(String(todo.mail_from), params[6].map(String), todo.notes.seen); next() }}
            """, name="verp").start()
        self.submit(["b@dst.test", "c@dst.test", "d@dst.test"], body="one for all\r\n")
        peer.wait(3)
        self.engine.wait_empty()
        sent = sorted((sender.split()[1], [line.split()[1] for line in recipients]) for sender, recipients, _ in peer.messages)
        self.assertEqual(sent, [
            ("FROM:<a@src.test>", ["TO:<b@dst.test>"]), ("FROM:<verp+c@src.test>", ["TO:<c@dst.test>"]),
            ("FROM:<verp+d@src.test>", ["TO:<d@dst.test>"])])
        self.assertEqual(sorted(self.what_was_said(3)), [
            ["<a@src.test>", ["<b@dst.test>"], 1], ["<verp+c@src.test>", ["<c@dst.test>"], 2],
            ["<verp+d@src.test>", ["<d@dst.test>"], 2]])
        removed = self.engine.wait_event("removed", count=2)
        self.assertEqual(sorted(one["recipients"][0] for one in removed), ["c@dst.test", "d@dst.test"])
        self.assertTrue(all(one["by"].startswith("plugin verp, now ") for one in removed), removed)
        self.assertEqual(len(self.engine.wait_event("accepted", client="split by plugin verp")), 1)

    def test_parts_and_what_is_noted_on_them_survive_the_engine(self):
        peer = Scripted(self, {"RCPT": ["450 4.2.1 later", "450 4.2.1 later", "250 ok"]})
        self.plugin(f"""
            exports.hook_send_email = function (next, hmail) {{
                const {{ todo }} = hmail
                if (todo.rcpt_to.length < 2) return next()
                hmail.split_to_new_recipients([todo.rcpt_to[1]], 'halves', (part) => {{
                    part.todo.notes.half = 'second'
                    part.todo.mail_from.user = 'second'
                    next()
                }})
            }}
            exports.hook_get_mx = (next) => next(OK, '{peer.endpoint}')
            exports.hook_delivered = function (next, {{ todo }}) {{ say(String(todo.mail_from), todo.rcpt_to.map(String), todo.notes.half || 'first'); next() }}
            """).start()
        self.submit(["b@dst.test", "c@dst.test"])
        self.engine.wait_event("deferred", count=2)
        self.engine.wait_recorded()
        self.engine.process.kill()
        self.plugins.start()
        self.engine.wait_empty()
        self.assertEqual(sorted(self.what_was_said(2)), [
            ["<a@src.test>", ["<b@dst.test>"], "first"], ["<second@src.test>", ["<c@dst.test>"], "second"]])
        self.assertEqual(len(self.engine.wait_event("delivered", count=2)), 2)


class Late(Plugins):
    def test_changes_after_the_answer_count_from_the_next_attempt(self):
        peer = Scripted(self, {"RCPT": ["450 4.2.1 later", "450 4.2.1 later", "250 ok"]})
        self.plugin(f"""
            exports.hook_send_email = function (next, hmail) {{
                const {{ todo }} = hmail
                next()
                if (hmail.num_failures === 0) setTimeout(() => {{
                    todo.rcpt_to.pop()
                    todo.mail_from.user = 'late'
                    todo.notes.late = 'yes'
                }}, 200)
            }}
            exports.hook_get_mx = (next) => next(OK, '{peer.endpoint}')
            exports.hook_delivered = function (next, {{ todo }}) {{ say(String(todo.mail_from), todo.rcpt_to.map(String), todo.notes.late); next() }}
            """).start()
        self.submit(["b@dst.test", "c@dst.test"])
        self.engine.wait_event("delivered")
        self.assertEqual(self.what_was_said(), [["<late@src.test>", ["<b@dst.test>"], "yes"]])
        self.assertEqual(self.engine.wait_event("removed")[0]["recipients"], ["c@dst.test"])
        self.engine.wait_empty()
        self.assertEqual(len(peer.messages), 1)
