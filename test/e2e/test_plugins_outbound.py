"""What plugins do outside of a hook's answer: mail that they send, envelopes that they change, log lines, Haraka's own plugins."""

import contextlib
import json
import os
import signal
import threading
import time

from clients import Raw
from peers import Aiosmtpd, Reports, Scripted
from test_plugins import Plugins
from world import wait_for

HEADER = "From: a@src.test\r\nTo: b@dst.test\r\nMessage-Id: <x@src.test>\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\nSubject: sent\r\n"
# Sends when a message to this domain is about to be delivered, and says what it was told.
SENDS = """
    const outbound = require('./outbound')
    exports.hook_get_mx = function (next, hmail, domain) {
        if (domain === 'trigger.test') send((...what) => { say(...what); next(OK, SINK) })
        else next(OK, PEER)
    }
"""


def octets(message):
    """What aiosmtpd was given, without the trace that the engine put on top."""
    content = message.original_content if hasattr(message, "original_content") else message.content
    content = content if isinstance(content, bytes) else content.encode("latin-1")
    return content[content.index(b"From: a@src.test"):]


class Sending(Plugins):
    def setUp(self):
        super().setUp()
        self.peer = Aiosmtpd(self)

    def sender(self, send):
        self.plugin(f"const PEER = '{self.peer.endpoint}'\n{SENDS}\nfunction send(told) {{ {send} }}").start()
        return self

    def test_every_form_of_contents_arrives_octet_by_octet(self):
        lines = ["", "hello", ".dot", "..two", "Grüße", "x" * 900, "last"]
        body = "\r\n".join(lines) + "\r\n"
        source = (HEADER + body).replace("\r\n", "\\r\\n")
        forms = {
            "text": f"'{source}'",
            "lf": f"'{source}'.replace(/\\r/g, '')",
            "open": f"'{source}'.slice(0, -2)",
            "buffer": f"Buffer.from('{source}')",
            "stream": f"require('stream').Readable.from([Buffer.from('{source}').subarray(0, 333), Buffer.from('{source}').subarray(333)])",
            "generator": f"(async function* () {{ for (const letter of '{source}') yield letter }})()",
        }
        calls = "".join(f"outbound.send_email('a@src.test', '{name}@dst.test', {form}, done)\n" for name, form in forms.items())
        self.sender(f"let left = {len(forms)}\n const done = (code, text) => {{ if (code !== OK || --left === 0) told(code === OK, text) }}\n{calls}")
        self.submit("b@trigger.test")
        self.assertTrue(self.what_was_said()[0][0], self.what_was_said())
        arrived = {message.rcpt_tos[0].partition("@")[0]: octets(message) for message in self.peer.wait(len(forms))}
        for name in forms:
            self.assertEqual(arrived[name], (HEADER + body).encode(), name)
        self.assertEqual(len(self.engine.events("accepted", client="plugin outbound")), len(forms))

    def test_what_is_missing_is_added_and_what_is_wrong_is_refused(self):
        self.sender("""
            const results = []
            const done = (code, text) => { results.push([code, String(text).split(' (')[0]]); if (results.length === 4) told(results.sort()) }
            outbound.send_email('a@src.test', ['b@dst.test', 'c@dst.test', 'b@else.test'], 'From: a@src.test\\nSubject: bare\\n\\nbody', done)
            outbound.send_email('a b', 'b@dst.test', 'x', done)
            outbound.send_email('a@src.test', [], 'x', done)
            outbound.send_email('a@src.test', 'b@dst.test', 'From: a@src.test\\n\\nNUL \\0', done)""")
        self.submit("b@trigger.test")
        said = self.what_was_said()[0][0]
        self.assertEqual([code for code, _ in said], [902, 902, 902, 906])
        messages = self.peer.wait(2)
        self.assertEqual(sorted(sorted(m.rcpt_tos) for m in messages), [["b@dst.test", "c@dst.test"], ["b@else.test"]])
        content = messages[0].content
        content = content if isinstance(content, bytes) else content.encode()
        for field in (b"\nMessage-Id: <", b"\nDate: ", b"with PLUGIN id "):
            self.assertIn(field, content)
        self.engine.wait_empty()
        self.assertEqual(len(self.peer.mailbox.envelopes), 2)

    def test_hooks_see_it_and_notes_stay_with_it(self):
        self.plugin(f"""const PEER = '{self.peer.endpoint}'
            {SENDS}
            function send(told) {{
                outbound.send_email('a@src.test', 'b@dst.test', 'From: a@src.test\\n\\nbody\\n', told, {{ notes: {{ campaign: 7, live: () => 'alive' }} }})
            }}
            exports.hook_pre_send_trans_email = function (next, connection) {{
                connection.transaction.add_header('X-Signed', connection.transaction.header.get('Date').trim().length > 20 ? 'yes' : 'no')
                next(DENY, 'which counts for nothing')
            }}
            exports.hook_delivered = function (next, hmail) {{
                if (hmail.todo.domain === 'dst.test') say('delivered', hmail.todo.notes.campaign, hmail.notes.live())
                next()
            }}""").start()
        self.submit("b@trigger.test")
        self.assertIn(b"X-Signed: yes\r\n", octets(self.peer.wait(1)[0]))
        self.assertIn(["delivered", 7, "alive"], self.what_was_said(2))

    def test_a_large_message_and_one_that_is_too_large(self):
        self.engine.set("connection.ini", "max", bytes=3_000_000)
        self.sender("""
            const line = 'y'.repeat(70) + '\\n'
            const results = []
            const done = (code) => { results.push(code); if (results.length === 2) told(results.sort()) }
            outbound.send_email('a@src.test', 'b@dst.test', 'From: a@src.test\\n\\n' + line.repeat(40000), done)
            outbound.send_email('a@src.test', 'c@dst.test', (function* () { yield 'From: a@src.test\\n\\n'; for (;;) yield line })(), done)""")
        self.submit("b@trigger.test")
        self.assertEqual(self.what_was_said()[0][0], [902, 906])
        self.assertEqual(octets(self.peer.wait(1)[0]).count(b"y" * 70 + b"\r\n"), 40_000)


class Deaths(Plugins):
    def test_what_was_told_OK_is_delivered_while_the_host_is_killed_again_and_again(self):
        count = 1000
        self.plugin(f"""
            const outbound = require('./outbound')
            const started = '{self.engine.directory}/begun'
            // Each number is handed in once, whatever becomes of us.
            function begin() {{
                const number = fs.existsSync(started) ? fs.statSync(started).size : 0
                if (number >= {count}) return
                fs.appendFileSync(started, '.')
                outbound.send_email('a@src.test', `n${{number}}@dst${{number % 5}}.test`, 'Subject: ' + number + '\\n\\n' + ('x'.repeat(70) + '\\n').repeat(number),
                    (code) => {{ if (code === OK) say(number); begin() }})
            }}
            exports.register = function () {{ for (let i = 0; i < 20; ++i) setTimeout(begin, 10) }}
            exports.hook_get_mx = (next) => next(OK, SINK)""").start()
        begun = self.engine.directory / "begun"
        over = threading.Event()
        killed = []

        def murder():
            while not over.wait(0.002):
                # In the middle of its work.
                if not begun.exists() or begun.stat().st_size < 120 * (len(killed) + 1):
                    continue
                host = self.plugins.host()
                with contextlib.suppress(ProcessLookupError):
                    if host and host not in killed:
                        os.kill(host, signal.SIGKILL)
                        killed.append(host)

        murderer = threading.Thread(target=murder)
        murderer.start()
        try:
            wait_for(lambda: begun.exists() and begun.stat().st_size >= count, "all to be handed in", 120)
        finally:
            over.set()
            murderer.join()
        settled = wait_for(lambda: self.quiet(), "the last answers", 60)
        self.engine.wait_empty(60)
        delivered = [to for mail in self.sink.ledger() for to in mail["to"]]
        told = {f"n{number}@dst{number % 5}.test" for (number,) in settled}
        self.assertEqual(told - set(delivered), set(), "told OK and not delivered")
        self.assertEqual(len(delivered), len(set(delivered)), "delivered twice")
        self.assertGreater(len(killed), 3)
        self.assertGreater(len(told), count // 2)

    def quiet(self):
        """What was said, when nothing was added for a second."""
        before = self.said.stat().st_size
        time.sleep(1)
        return self.what_was_said() if self.said.stat().st_size == before else None

    def test_what_was_told_OK_survives_the_engine(self):
        self.plugin("""
            const outbound = require('./outbound')
            exports.register = function () {
                if (fs.existsSync(__filename + '.sent')) return
                for (let number = 0; number < 50; ++number) {
                    outbound.send_email('a@src.test', `n${number}@dst.test`, 'Subject: x\\n\\nbody\\n', (code) => { if (code === OK) say(number) })
                }
            }
            exports.hook_get_mx = (next) => { if (fs.existsSync(__filename + '.sent')) next(OK, SINK) }""").start()
        self.what_was_said(50)
        self.engine.process.kill()
        (self.engine.directory / "plugins" / "only.js.sent").write_text("")
        self.plugins.start()
        delivered = sorted(to for mail in self.sink.wait(50) for to in mail["to"])
        self.assertEqual(delivered, sorted(f"n{number}@dst.test" for number in range(50)))


class Envelopes(Plugins):
    def test_another_sender_and_other_recipients_are_what_goes_out(self):
        peer = Scripted(self)
        self.plugin(f"""const {{ Address }} = require('@haraka/email-address')
            exports.hook_send_email = function (next, {{ todo }}) {{
                todo.mail_from = new Address('<srs0=x=src.test=a@us.test>')
                todo.rcpt_to[0].user = 'edited'
                todo.rcpt_to[1] = new Address('<replaced@dst.test>')
                next()
            }}
            exports.hook_get_mx = (next) => next(OK, '{peer.endpoint}')
            exports.hook_delivered = function (next, {{ todo }}, params) {{ say(String(todo.mail_from), params[6].map(String)); next() }}""").start()
        self.submit(["b@dst.test", "c@dst.test", "d@dst.test"])
        peer.wait(1)
        sender, recipients, _ = peer.messages[0]
        self.assertIn("<srs0=x=src.test=a@us.test>", sender)
        self.assertEqual([line[line.index("<"):line.index(">") + 1] for line in recipients], ["<edited@dst.test>", "<replaced@dst.test>", "<d@dst.test>"])
        self.assertEqual(self.what_was_said(), [["<srs0=x=src.test=a@us.test>", ["<edited@dst.test>", "<replaced@dst.test>", "<d@dst.test>"]]])
        self.engine.wait_empty()

    def test_changes_survive_the_engine_and_hooks_meet_them(self):
        peer = Scripted(self, {"RCPT": ["450 4.2.1 later", "250 ok"]})
        self.plugin(f"""exports.hook_send_email = function (next, {{ todo, num_failures }}) {{
                say(String(todo.mail_from), todo.rcpt_to.map(String))
                if (num_failures === 0) {{ todo.mail_from.user = 'srs'; todo.rcpt_to[0].user = 'new' }}
                next()
            }}
            exports.hook_get_mx = (next) => next(OK, '{peer.endpoint}')""").start()
        self.submit("b@dst.test")
        self.engine.wait_event("deferred")
        self.engine.wait_recorded()
        self.engine.process.kill()
        self.plugins.start()
        self.engine.wait_event("delivered", attempts=2)
        self.assertEqual(self.what_was_said(2), [["<a@src.test>", ["<b@dst.test>"]], ["<srs@src.test>", ["<new@dst.test>"]]])
        self.assertIn("<srs@src.test>", peer.messages[-1][0])
        self.assertIn("<new@dst.test>", peer.messages[-1][1][0])

    def test_removed_recipients_are_recorded_in_the_name_of_the_plugin(self):
        self.plugin("""
            exports.hook_send_email = function (next, { todo }) {
                todo.rcpt_to = todo.rcpt_to.filter((rcpt) => rcpt.user !== 'no')
                next()
            }
            exports.hook_get_mx = (next) => next(OK, SINK)""", name="remover").start()
        self.submit(["b@dst.test", "no@dst.test"])
        self.submit("no@dst.test")
        self.assertEqual(self.sink.wait(1)[0]["to"], ["b@dst.test"])
        removed = self.engine.wait_event("removed", count=2)
        self.assertEqual([(one["by"], one["recipients"]) for one in removed], [("plugin remover", ["no@dst.test"])] * 2)
        self.engine.wait_empty()
        self.assertEqual(len(self.sink.ledger()), 1)

    def test_after_a_deferral_some_are_removed_and_some_changed(self):
        peer = Scripted(self, {"RCPT TO:<b@": "450 4.2.1 later", "RCPT TO:<c@": "450 4.2.1 later"})
        self.plugin(f"""exports.hook_get_mx = (next) => next(OK, '{peer.endpoint}')
            exports.hook_deferred = function (next, {{ todo }}) {{
                say(todo.rcpt_to.map(String))
                todo.rcpt_to = todo.rcpt_to.filter((rcpt) => rcpt.user !== 'b')
                todo.rcpt_to[0].user = 'd'
                next(DENYSOFT, 1)
            }}""").start()
        self.submit(["a@dst.test", "b@dst.test", "c@dst.test"])
        self.engine.wait_event("delivered", count=2)
        self.assertEqual(self.engine.wait_event("removed")[0]["recipients"], ["b@dst.test"])
        self.engine.wait_empty()
        self.assertEqual(self.what_was_said(), [[["<b@dst.test>", "<c@dst.test>"]]])
        self.assertIn("<d@dst.test>", peer.messages[-1][1][0])

    def test_who_is_added_gets_the_message_once_also_when_the_plugin_knows_no_end(self):
        self.plugin("""
            exports.hook_send_email = function (next, { todo }) {
                todo.rcpt_to.push('archive@keep.test')
                next()
            }
            exports.hook_get_mx = (next, hmail, domain) => { say(domain, String(hmail.todo.mail_from)); next(OK, SINK) }""", name="adder").start()
        self.submit(["b@dst.test", "c@dst.test"], body="to be kept\r\n")
        to = sorted(tuple(mail["to"]) for mail in self.sink.wait(2))
        self.assertEqual(to, [("archive@keep.test",), ("b@dst.test", "c@dst.test")])
        self.engine.wait_empty()
        self.assertEqual(len(self.sink.ledger()), 2)
        self.engine.wait_logged("recipients that a plugin added add none themselves")
        self.assertEqual(sorted(self.what_was_said(2)), [["dst.test", "<a@src.test>"], ["keep.test", "<a@src.test>"]])

    def test_what_is_no_address_leaves_the_mail_as_it_was(self):
        self.plugin("""
            exports.hook_send_email = function (next, { todo }) {
                todo.mail_from = { format: () => 'nonsense' }
                todo.rcpt_to[0] = { format: () => '<two words@dst.test>' }
                next()
            }
            exports.hook_get_mx = (next) => next(OK, SINK)""").start()
        self.submit("b@dst.test")
        mail = self.sink.wait(1)[0]
        self.assertEqual((mail["from"], mail["to"]), ("a@src.test", ["b@dst.test"]))
        self.engine.wait_logged("what plugins changed of an envelope is left out")

    def test_another_domain_is_another_route(self):
        self.engine.route("gate.test", self.sink.endpoint)
        self.plugin("exports.hook_send_email = function (next, { todo }) { todo.domain = 'gate.test'; next() }").start()
        self.submit("b@dst.test")
        self.assertEqual(self.sink.wait(1)[0]["to"], ["b@dst.test"])

    def test_items_decide_for_themselves(self):
        reports = Reports(self.world)
        self.engine.route("src.test", reports.endpoint)
        self.plugin("""exports.hook_send_email = function (next, hmail) {
            if (hmail.domain === 'bounce.test') return hmail.bounce('not from here')
            if (hmail.domain === 'later.test') return hmail.temp_fail('not now')
            if (hmail.domain === 'gone.test') return hmail.discard()
            next()
        }""").start()
        for domain in ("bounce.test", "later.test", "gone.test"):
            self.submit(f"b@{domain}")
        self.assertEqual(self.engine.wait_event("bounced")[0]["reply"], "550 5.1.2 not from here")
        self.assertEqual(self.engine.wait_event("deferred")[0]["reply"], "450 4.1.2 not now")
        self.assertEqual(self.engine.wait_event("removed")[0]["by"], "plugin only")
        self.assertEqual(list(reports.wait(1)[0].recipients), ["b@bounce.test"])
        reports.sink.stop()


class Views(Plugins):
    def test_log_lines_reach_plugins(self):
        self.plugin("""
            exports.hook_log = function (next, logger, item) {
                if (/delivered|hello/.test(item.data)) say(item.level, item.obj.origin)
                next()
            }
            exports.hook_get_mx = function (next) { next(OK, SINK) }""", name="listener")
        self.plugins.add("talker", "exports.hook_get_mx = function (next) { this.logwarn('hello'); next() }")
        self.engine.files["plugins"] = "relay\ntalker\nlistener\n"
        self.plugins.start()
        self.submit("b@dst.test")
        self.sink.wait(1)
        said = self.what_was_said(2)
        self.assertIn(["WARN", "talker"], said)
        self.assertIn(["NOTICE", "outbound"], said)
        self.engine.wait_logged("[talker] hello")

    def test_the_status_plugin_of_Haraka_as_it_is(self):
        self.plugins.with_haraka()
        peer = Scripted(self, {"RCPT": "450 4.2.1 later"})
        self.engine.set("outbound.ini", temp_fail_intervals="1h")
        self.plugin(f"""
            exports.register = function () {{ this.inherits('status') }}
            exports.hook_get_mx = function (next, hmail, domain) {{ next(OK, hold || domain === 'gone.test' ? '{peer.endpoint}' : SINK) }}
            let hold = true
            const run = (plugin, command) => new Promise((resolve) => plugin.run(command, (error, result) => resolve(error || result)))
            exports.hook_deferred = function (next, hmail) {{
                next()
                setTimeout(async () => {{
                    const list = await run(this, 'QUEUE LIST')
                    const inspected = await run(this, 'QUEUE INSPECT')
                    say(await run(this, 'QUEUE STATS'), list.map((todo) => [todo.file === hmail.filename, todo.domain, todo.from, todo.to]),
                        inspected.temp_fail_queue.map((one) => one.id === hmail.filename))
                    hold = hmail.domain === 'gone.test'
                    await run(this, (hold ? 'QUEUE DISCARD ' : 'QUEUE PUSH ') + hmail.filename)
                }}, 1500)
            }}""")
        self.engine.files["plugins"] = "relay\nstatus\nprocess_title\nonly\n"
        self.plugins.start()
        self.submit("b@dst.test")
        self.sink.wait(1)
        self.engine.wait_empty()
        self.assertEqual(self.what_was_said(), [["0/0/1", [[True, "dst.test", "<a@src.test>", ["<b@dst.test>"]]], [True]]])
        self.submit("b@gone.test")
        self.engine.wait_event("removed")
        self.engine.wait_empty()

    def test_the_STATUS_command_of_Haraka(self):
        self.plugins.with_haraka()
        peer = Scripted(self, {"RCPT": "450 4.2.1 later"})
        self.engine.set("outbound.ini", temp_fail_intervals="1h")
        self.plugin(f"exports.hook_get_mx = (next) => next(OK, '{peer.endpoint}')")
        self.engine.files["plugins"] = "relay\nstatus\nonly\n"
        self.plugins.start()
        self.submit("b@dst.test")
        item = self.engine.wait_event("deferred")[0]["item"]
        with Raw(self.engine.port) as link:
            self.assertIn("STATUS", link.ask("EHLO client.test")[1].split("\n"))
            # On a busy machine the first views are empty: nobody is kept waiting for them.
            wait_for(lambda: link.ask("STATUS QUEUE STATS") == (211, '"0/0/1"'), "the right numbers")
            code, text = link.ask("STATUS QUEUE LIST")
            self.assertEqual(([todo["file"] for todo in json.loads(text)], code), ([item], 211))
            self.assertEqual(link.ask(f"STATUS QUEUE DISCARD {item}")[0], 211)
        self.engine.wait_event("removed")
        self.engine.wait_empty()
