"""Plugins at their worst: what they do to their own process, to the todo and to their answers harms no mail but theirs, and that not for long."""

import json
import os
import threading

from attacks import Raw, wait_for  # first, for it makes the world importable
from test_plugin_tools import ROUTE, Tools
from test_plugins_inbound import MESSAGE, Inbound

# Each ends the process, or leaves it unable to go on. Said in the realm of the host itself: packages share it.
FATAL = {
    "exits": "process.exit(0)",
    "fails": "process.exit(3)",
    "aborts": "process.abort()",
    "stops": "process.kill(process.pid, 'SIGSTOP')",
    "closes": "require('fs').closeSync(3)",
    "talks": "require('fs').writeSync(3, 'x'.repeat(100))",
    "stringify": "JSON.stringify = () => 'x'",
    "parse": "JSON.parse = () => null",
    "push": "Array.prototype.push = () => 0",
    "immediate": "globalThis.setImmediate = () => {}",
    "forbids": "process.removeAllListeners('uncaughtException'); setImmediate(() => { throw new Error('end') })",
}
# The process goes on after each of these.
HARMLESS = {
    "moves": "process.chdir('/')",
    "chatters": "process.stdout.write('x'.repeat(8e6)); console.error('y'.repeat(8e6))",
    "throws_later": "setImmediate(() => { throw new Error('later') }); Promise.reject(new Error('later too'))",
    "listens": "require('net').createServer().listen(0, '127.0.0.1'); require('net').createServer().listen('/nowhere/at/all')",
    "threads": "new (require('worker_threads').Worker)('for (;;) {}', { eval: true }).unref()",
    "forks": "require('cluster').fork(); require('child_process').fork(process.argv[1])",
    "signals": "process.kill(process.pid, 'SIGTERM'); process.kill(process.pid, 'SIGHUP')",
    "forgets": "process.env = {}; process.argv = []; process.title = ''",
    "pollutes": "Object.prototype.polluted = 'yes'; Array.prototype.polluted = 'yes'",
    "shouts": "for (let n = 0; n < 20000; n++) this.logwarn('again and again')",
    "no_todo": "hmail.todo = null",
    "no_rcpt": "hmail.todo.rcpt_to = null",
    "odd_rcpt": "hmail.todo.rcpt_to.push(null, 7, {}, 'no address'); hmail.todo.mail_from = {}",
    "frozen": "Object.freeze(hmail); Object.freeze(hmail.todo); Object.freeze(hmail.todo.rcpt_to)",
    "getter": "Object.defineProperty(hmail.notes, 'x', { enumerable: true, get() { throw new Error('no') } })",
    "circle": "hmail.notes.me = hmail.notes; hmail.todo.notes.deep = { me: hmail }",
    "waits": "setTimeout(() => next(OK, 'never.test'), 100); next(); return",
}


class Attacks(Tools):
    expects_errors = True

    def package(self, name, source, **members):
        folder = self.engine.directory / "node_modules" / f"haraka-plugin-{name}"
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps({"name": folder.name, "version": "1.0.0", **members}))
        if source is not None:
            (folder / "index.js").write_text(source)
        self.engine.files["plugins"] += f"{name}\n"

    def villain(self, deeds):
        """Does each deed when the mail for it is asked about for the first time."""
        cases = "".join(f"        case '{name.replace('_', '-')}.test': {{ {deed}; break }}\n" for name, deed in deeds.items())
        self.package("villain", f"""
            exports.register = function () {{ this.register_hook('get_mx', 'act', -50) }}
            exports.act = function (next, hmail, domain) {{
                if (hmail.num_failures === 0 && !hmail.todo.notes.done) switch (domain) {{
            {cases}
                }}
                next()
            }}""")

    def deliver(self, *domains):
        for domain in domains:
            self.submit(f"b@{domain.replace('_', '-')}.test")

    def delivered_once(self, domains, extra=0):
        self.engine.wait_empty(patience=120)
        wanted = sorted(f"b@{domain.replace('_', '-')}.test" for domain in domains)
        self.assertEqual(sorted(to for mail in self.sink.wait(len(wanted) + extra) for to in mail["to"] if to.startswith("b@")), wanted)

    def test_what_ends_the_process_puts_off_one_message(self):
        self.engine.set("plugin_host.ini", hang_timeout="2s")
        self.villain(FATAL)
        self.plugins.add("route", ROUTE.format(self.sink.endpoint)).start()
        for count, name in enumerate(FATAL, 1):
            self.ready()
            self.deliver(name)
            wait_for(lambda number=count: self.shown()["host"]["ends"] >= number, f"the end by `{name}`")
        self.ready()
        self.deliver("innocent")
        self.delivered_once([*FATAL, "innocent"])

    def test_what_does_not_end_it_disturbs_nobody(self):
        self.villain(HARMLESS)
        self.plugins.add("route", ROUTE.format(self.sink.endpoint)).start()
        self.ready()
        process = self.shown()["host"]["process"]
        for name in HARMLESS:
            self.deliver(name)
        self.deliver("innocent")
        self.delivered_once([*HARMLESS, "innocent"])
        self.assertEqual((self.shown()["host"]["process"], self.shown()["host"]["ends"]), (process, 0))

    def test_answers_without_measure(self):
        """What is too large or makes no sense is cut, or counts as no answer; nothing of it becomes a line of a header or of SMTP."""
        forged = "'no\\r\\nX-Forged: 1\\r\\n\\r\\n.\\r\\nMAIL FROM:<x@y>\\r\\n'"
        deeds = {
            "many-hosts": f"return next(OK, Array.from({{ length: 50000 }}, (_, n) => `127.1.${{n >> 8}}.${{n & 255}}:1`).concat('{self.sink.endpoint}'))",
            "long-host": "return next(OK, 'x'.repeat(5e6))",
            "huge": "return next(DENYSOFT, 'x'.repeat(30e6))",
            "notes": "hmail.todo.notes.huge = 'x'.repeat(30e6)",
            "forged-host": f"return next(OK, {{ exchange: '127.0.0.1', bind_helo: {forged} }})",
            "forged-note": f"hmail.todo.notes.outbound_helo = {forged}; hmail.todo.notes.outbound_ip = {forged}",
            "forged-rcpt": f"hmail.todo.rcpt_to[0].user = {forged}",
            "long-log": "this.logwarn('x'.repeat(5e6)); this.loginfo('a\\r\\nforged line')",
            "socket": "return next(OK, { path: '/' + 'x'.repeat(5000) })",
            "for-ever": "if (!hmail.notes.asked) { hmail.notes.asked = 1; return next(OK, { exchange: '127.0.0.1', port: 1e308 }) }",
        }
        self.villain({name: deed.replace("return next", "hmail.todo.notes.done = 1; return next") for name, deed in deeds.items()})
        self.plugins.add("route", ROUTE.format(self.sink.endpoint)).start()
        self.ready()
        process = self.shown()["host"]["process"]
        for name in deeds:
            self.deliver(name)
        self.deliver("innocent")
        self.engine.wait_event("delivered", domain="innocent.test")
        self.delivered_once([*deeds, "innocent"])
        self.assertEqual(self.shown()["host"]["process"], process)

    def test_a_reason_that_forges_lines(self):
        folder = self.world.directory / "reports"
        folder.mkdir()
        reports = self.world.sink("--dir", folder, name="reports")
        self.package("villain", """exports.hook_get_mx = (next, hmail, domain) => domain === 'src.test' ? next()
            : next(DENY, 'no\\r\\nX-Forged: 1\\r\\n\\r\\nforged ' + 'x'.repeat(1e6))""")
        self.engine.route("src.test", reports.endpoint)
        self.plugins.start()
        self.deliver("dst")
        reports.wait(1)
        event = self.engine.wait_event("bounced")[0]
        self.assertNotIn("\n", event["reply"])
        self.assertLess(len(event["reply"]), 100_000)
        report = next(folder.glob("*.eml")).read_bytes()
        self.assertIn(b"forged", report)
        self.assertFalse([line for line in report.splitlines() if line.startswith((b"X-Forged", b"forged"))])

    def test_names_of_all_kinds(self):
        """Odd lines of the list are left out or found where they say; a package without a main file is placed; links are followed."""
        self.plugins.add("route", ROUTE.format(self.sink.endpoint))
        self.engine.set("smtp.ini", ignore_bad_plugins="true")
        elsewhere = self.world.directory / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "linked.js").write_text("exports.hook_delivered = (next) => next()\n")
        plugins = self.engine.directory / "plugins"
        (plugins / "away").symlink_to(elsewhere)
        (plugins / "dotted.name.js").write_text("exports.hook_delivered = (next) => next()\n")
        (plugins / "dangling.js").symlink_to(elsewhere / "nothing.js")
        (plugins / "folder.js").mkdir()
        self.package("mainless", None, main="absent.js")
        self.package("broken", "exports.hook_get_mx = (next) => {\n\n  next(\n")
        (self.engine.directory / "node_modules" / "haraka-plugin-torn").mkdir()
        (self.engine.directory / "node_modules" / "haraka-plugin-torn" / "package.json").write_text("{")
        odd = ["away/linked", "dotted.name", "dangling", "folder", "torn", "../plugins/route", "..", ".", "/etc/passwd", "a b c", "__proto__",
               "constructor", "x" * 5000, "h\u00e4\u00df", "away/../dotted.name", "haraka-plugin-", "/"]
        self.engine.files["plugins"] += "\n".join(odd) + "\n"
        self.plugins.start()
        self.ready()
        shown = {plugin["name"] for plugin in self.shown()["plugins"]}
        self.assertLessEqual({"route", "away/linked", "dotted.name"}, shown)
        self.deliver("dst")
        self.sink.wait(1)
        text = self.cli("plugins").stdout
        for name in ("mainless", "broken", "folder", "torn"):
            self.assertIn(name, text)
        self.assertIn("haraka-plugin-broken/index.js:4", self.engine.process.output() + text)
        # A file behind a link is watched like any other.
        (elsewhere / "linked.js").write_text("exports.hook_deferred = (next) => next()\n")
        wait_for(lambda: self.listener("deferred", "away/linked"), "the plugin behind a link to be loaded again")

    def test_a_storm_of_reloads(self):
        """Files that change all the time, a list that changes all the time, and orders to reload: each message is delivered once."""
        self.plugins.add("route", ROUTE.format(self.sink.endpoint))
        self.plugins.add("other", "exports.hook_send_email = (next) => setTimeout(next, 5)\n").start()
        self.ready()
        over = threading.Event()
        orders = [0]

        def storm():
            for number in range(10_000):
                if over.is_set():
                    return
                self.write("other", f"// {number}\nexports.hook_send_email = (next) => setTimeout(next, 5)\n" if number % 3 else "exports.x = {\n")
                listed = "relay\nother\nroute\n" if number % 2 else "relay\nroute\nother\nabsent\n"
                (self.engine.config / "plugins").write_text(listed)
                self.engine.api("POST", "/v1/plugins/reload", {})
                orders[0] += 1

        stormer = threading.Thread(target=storm)
        stormer.start()
        domains = []
        try:
            while orders[0] < 8:
                domains.append(f"storm{len(domains)}")
                self.deliver(domains[-1])
        finally:
            over.set()
            stormer.join()
        self.delivered_once(domains)
        self.write("other", "exports.hook_deferred = (next) => next()\n")
        wait_for(lambda: self.listener("deferred", "other"), "the last word")
        wait_for(lambda: len(self.hosts()) == 1, "the hosts of before to be gone")

    def hosts(self):
        """The plugin hosts that the engine has."""
        found = []
        for child in os.listdir("/proc"):
            try:
                with open(f"/proc/{child}/stat", encoding="latin-1") as file:
                    stat = file.read().rpartition(")")[2].split()
                if int(stat[1]) == self.engine.process.pid and stat[0] != "Z":
                    found.append(int(child))
            except (OSError, ValueError, IndexError):
                continue
        return found

    def test_a_hook_that_is_registered_after_the_start(self):
        self.plugins.add("route", ROUTE.format(self.sink.endpoint))
        self.plugin("""exports.register = function () { setTimeout(() => this.register_hook('delivered', 'hear'), 500) }
            exports.hear = function (next, hmail) { say(hmail.todo.domain); next() }""", "late").start()
        wait_for(lambda: self.listener("delivered", "late"), "the hook")
        self.deliver("dst")
        self.assertEqual(self.what_was_said(), [["dst.test"]])
        self.engine.wait_logged("the plugin host is ready")
        self.assertEqual(self.engine.process.output().count("the plugin host is ready"), 1)


class Words(Inbound):
    expects_errors = True

    def test_no_words_of_plugins_forge_a_reply(self):
        """Line ends, control characters, codes that are none and megabytes: a client sees well-formed lines, one reply for each command."""
        self.plugin("""
            const forged = 'no\\r\\n250 2.0.0 forged\\r\\n\\x00\\x1b[2J' + 'x'.repeat(2e6)
            exports.hook_capabilities = function (next, connection) {
                connection.capabilities.push('X-ONE\\r\\n250 X-FORGED', 'X-' + 'y'.repeat(1e6), '', '\\r\\n', null)
                next()
            }
            exports.hook_mail = (next) => next(DENY, forged)
            exports.hook_vrfy = (next) => next(OK, { reply: forged, code: 999 })
            exports.hook_noop = function (next, connection) {
                for (const code of [NaN, 42, 250.5, 'x', 1e300, -1]) connection.respond(code, forged)
                next(DENY, Array(5000).fill(forged.slice(0, 50)))
            }
            exports.hook_unrecognized_command = (next) => next(NEXT_HOOK, '__proto__')""").start()
        with Raw(self.engine.port, greet=None) as client:
            self.assertEqual(client.reply()[0], 220)
            for command, codes in [("EHLO client.test", [250]), ("MAIL FROM:<a@src.test>", [550]), ("VRFY x", [252, 250, 550]),
                                   ("NOOP", [500, 550]), ("BLAH", [500]), ("QUIT", [221])]:
                client.send(command + "\r\n")
                lines = self.reply(client)
                self.assertIn(int(lines[0][:3]), codes, (command, lines[0][:80]))
                for line in lines:
                    self.assertLessEqual(len(line), 510, command)
                    self.assertFalse([letter for letter in line if letter < " "], line[:80])

    def reply(self, client):
        lines = []
        while not lines or lines[-1][3:4] == "-":
            lines.append(client.line())
        return lines


# What a plugin may do to a session before it says next().
MEDDLING = {
    "no_transaction": "connection.transaction = null",
    "no_rcpt": "connection.transaction.rcpt_to = null",
    "odd_rcpt": "connection.transaction.rcpt_to.push(null, 7, {})",
    "forged_rcpt": "connection.transaction.rcpt_to[0].user = 'x>\\r\\nRCPT TO:<y'",
    "no_sender": "connection.transaction.mail_from = null",
    "no_notes": "connection.transaction.notes = null; connection.notes = null",
    "getter": "Object.defineProperty(connection.transaction.notes, 'x', { enumerable: true, get() { throw new Error('no') } })",
    "no_header": "connection.transaction.header = null",
    "odd_header": "connection.transaction.header.header_list.push(null)",
    "no_stream": "connection.transaction.message_stream = null",
    "no_body": "connection.transaction.set_banner('x'); connection.transaction.body = null",
    "frozen": "Object.freeze(connection); Object.freeze(connection.transaction)",
    "no_remote": "connection.remote = null; connection.hello = null; connection.results = null",
    "never_read": "connection.transaction.message_stream.pipe(new (require('stream').Writable)({ write() {} }))",
    "resets": "connection.reset_transaction(() => connection.disconnect())",
    "huge": "connection.transaction.notes.x = 'x'.repeat(5e6); connection.transaction.add_header('X-Huge', 'y'.repeat(5e6))",
}


class Sessions(Inbound):
    expects_errors = True

    def test_what_plugins_do_to_a_session_is_its_own_trouble(self):
        """The client gets a reply, by which the message is kept or not; the next session notices nothing."""
        self.engine.files["plugin_timeout"] = "2\n"
        cases = "".join(f"case '{name}': {{ {deed}; break }}\n" for name, deed in MEDDLING.items())
        self.plugin(f"""exports.hook_data_post = function (next, connection) {{
            switch (connection.transaction.mail_from.user) {{ {cases} }}
            next()
        }}""").start()
        self.assertEqual(self.hand_in("innocent"), 250)
        host = self.plugins.host()
        kept = 1
        for name in MEDDLING:
            code = self.hand_in(name)
            self.assertIn(code, (250, 421, 450, 451, 452, 550, 552, 554, 0), name)
            kept += code == 250
            self.assertEqual(self.hand_in("innocent"), 250, name)
            kept += 1
        self.assertEqual(self.plugins.host(), host, '\n'.join(l[:300] for l in self.engine.process.output().splitlines() if '[plugins]' in l or 'uncaught' in l))
        self.engine.wait_empty()
        self.assertEqual(len(self.keeper.wait(kept)), kept)

    def hand_in(self, sender):
        with Raw(self.engine.port) as client:
            for line in (f"MAIL FROM:<{sender}@src.test>", "RCPT TO:<b@dst.test>", "DATA"):
                code, text = client.ask(line)
                self.assertLess(code, 400, (sender, line, text))
            client.send(MESSAGE.replace("\r\n.", "\r\n.."))
            return client.ask(".")[0]
