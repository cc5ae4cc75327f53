"""Haraka's plugins on the engine: what each answer does to mail, and what happens when there is none."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import unittest

from clients import submit
from peers import Reports, Scripted
from plugin_home import HOST, PluginEngine, node_modules
from world import EndToEnd, wait_for


def running(process):
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Host(unittest.TestCase):
    def test_the_plugin_hosts_own_tests(self):
        """With a mock of the engine: every answer of every hook, loading, notes, addresses."""
        env = {**os.environ, "NODE_PATH": str(node_modules())}
        tests = sorted(map(str, (HOST / "test").glob("*.test.js")))
        done = subprocess.run(["node", "--test", *tests], capture_output=True, text=True, env=env, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-8000:] + done.stderr[-2000:])


class Plugins(EndToEnd):
    def setUp(self):
        super().setUp()
        self.sink = self.world.sink()
        self.engine = self.world.engine()
        self.engine.set("outbound.ini", temp_fail_intervals="5s*9", retry_jitter="false")
        self.plugins = PluginEngine(self.engine)
        self.said = self.engine.directory / "said"

    def plugin(self, body, name="only"):
        """A plugin that may `say` things, which end up in a file."""
        return self.plugins.add(name, f"""
            const fs = require('fs')
            const say = (...what) => fs.appendFileSync('{self.said}', JSON.stringify(what) + '\\n')
            const SINK = '{self.sink.endpoint}'
            {body}""")

    def what_was_said(self, count=1):
        def enough():
            lines = self.said.read_text().splitlines(keepends=True) if self.said.exists() else []
            lines = [json.loads(line) for line in lines if line.endswith("\n")]
            return lines if len(lines) >= count else None
        return wait_for(enough, f"{count} lines from plugins; engine: {self.engine.process.output()[-2000:]}")

    def submit(self, to="b@dst.test", **options):
        submit(self.engine, [to] if isinstance(to, str) else to, self.message(**options))

    def new_host(self, old):
        return wait_for(lambda: self.plugins.host() not in (None, old) and self.plugins.host(), "another plugin host")


class Answers(Plugins):
    def test_a_legacy_plugin_routes_mail_and_hears_of_its_delivery(self):
        self.plugin("""
            exports.hook_get_mx = function (next, hmail, domain) {
                hmail.todo.notes.from_get_mx = domain
                next(OK, SINK)
            }
            exports.hook_delivered = function (next, hmail, params) {
                say(hmail.todo.notes.from_get_mx, params[1], params[4], params[5], params[6].map(String), hmail.num_failures)
                next()
            }""").start()
        self.submit(["b@dst.test", "c@dst.test"])
        self.assertEqual(self.sink.wait(1)[0]["to"], ["b@dst.test", "c@dst.test"])
        said = self.what_was_said()
        self.assertEqual(said, [["dst.test", "127.0.0.1", self.sink.port, "SMTP", ["<b@dst.test>", "<c@dst.test>"], 0]])
        self.engine.wait_empty()
        self.assertEqual(self.engine.stop(), 0)

    def test_an_unmodified_package_from_npm_routes_mail(self):
        self.engine.files["rcpt_to.routes.ini"] = (
            f"[redis]\nenabled=false\n[routes]\nb@dst.test=smtp://{self.sink.endpoint}\nother.test=smtp://{self.sink.endpoint}\n")
        self.plugins.add("recipient-routes").start()
        self.submit("b@dst.test")
        self.submit("somebody@other.test")
        to = sorted(mail["to"][0] for mail in self.sink.wait(2))
        self.assertEqual(to, ["b@dst.test", "somebody@other.test"])

    def test_a_plugin_that_refuses_to_start_is_one_that_does_not_load(self):
        self.expects_errors = True
        self.plugin("""exports.hook_init_master = (next) => fs.existsSync('@/licence') ? next() : next(DENY, 'no licence')
            exports.hook_get_mx = (next) => next(OK, SINK)""".replace("@", str(self.engine.directory))).start()
        self.engine.wait_logged("init_master answered DENY: no licence")
        (self.engine.directory / "licence").write_text("")
        self.engine.wait_logged("the plugin host is ready")
        self.submit()
        self.sink.wait(1)

    def test_a_hook_that_is_not_called_is_named(self):
        self.plugin("exports.hook_init_wss = (next) => next()").start()
        self.engine.wait_logged("a plugin waits for a hook that is not called")

    def test_get_mx_DENY_bounces_and_DENYSOFT_defers(self):
        reports = Reports(self.world)
        self.engine.route("src.test", reports.endpoint)
        self.plugin("""exports.hook_get_mx = function (next, hmail, domain) {
            if (domain === 'never.test') return next(DENY, 'not from here')
            if (domain === 'later.test') return next(DENYSOFT, 'not now')
            next()
        }""").start()
        self.submit("b@never.test")
        self.submit("b@later.test")
        bounced = self.engine.wait_event("bounced")[0]
        self.assertEqual((bounced["status"], bounced["reply"]), ("5.1.2", "550 5.1.2 not from here"))
        deferred = self.engine.wait_event("deferred")[0]
        self.assertEqual((deferred["status"], deferred["reply"]), ("4.1.2", "450 4.1.2 not now"))
        self.assertEqual(list(reports.wait(1)[0].recipients), ["b@never.test"])
        reports.sink.stop()

    def test_A16_throws_and_rejections_leave_the_mail_its_own_way(self):
        self.expects_errors = True  # what plugins throw is logged as critical
        self.engine.route("any", self.sink.endpoint)
        self.plugin("""exports.hook_get_mx = async function (next, hmail, domain) {
            if (domain === 'throw.test') throw new Error('thrown in get_mx')
            await Promise.reject(new Error('rejected in get_mx'))
        }
        exports.hook_send_email = function () { throw new Error('thrown in send_email') }""").start()
        host = wait_for(self.plugins.host, "the plugin host")
        self.submit("b@throw.test")
        self.submit("b@reject.test")
        self.sink.wait(2)
        self.assertEqual(self.plugins.host(), host)
        for text in ("thrown in get_mx", "rejected in get_mx", "thrown in send_email", "only.js:6"):
            self.engine.wait_logged(text)

    def test_send_email_puts_mail_off_without_counting_a_failure(self):
        self.plugin("""
            exports.hook_send_email = function (next, hmail) {
                hmail.todo.notes.gates = (hmail.todo.notes.gates || 0) + 1
                if (hmail.todo.notes.gates < 3) return next(DELAY, 1)
                say(hmail.num_failures, hmail.todo.notes.gates)
                next()
            }
            exports.hook_get_mx = (next) => next(OK, SINK)""").start()
        self.submit()
        self.sink.wait(1)
        self.assertEqual(self.what_was_said(), [[0, 3]])
        self.assertEqual(self.engine.events("deferred"), [])

    def test_a_plugin_chooses_when_mail_is_tried_again_or_drops_it(self):
        peer = Scripted(self, {"RCPT b@": ["450 4.2.1 later", "250 ok"], "RCPT c@": "450 4.2.1 later"})
        self.engine.set("outbound.ini", temp_fail_intervals="1h")
        self.plugin(f"""
            exports.hook_get_mx = (next) => next(OK, '{peer.endpoint}')
            exports.hook_deferred = function (next, hmail, {{ delay, err }}) {{
                const rcpt = hmail.todo.rcpt_to[0]
                say(Math.round(delay), err, String(rcpt), rcpt.dsn_smtp_code)
                if (rcpt.user === 'c') return next(OK)
                next(DENYSOFT, 1)
            }}""").start()
        self.submit("b@dst.test")
        self.engine.wait_event("delivered", attempts=2)
        self.submit("c@dst.test")
        self.assertEqual(self.engine.wait_event("removed")[0]["by"], "plugin only")
        self.engine.wait_empty()
        self.assertEqual(self.what_was_said(2)[0], [3600, "450 4.2.1 later", "<b@dst.test>", 450])

    def test_A15_bounce_without_a_notification_only_when_a_plugin_says_so(self):
        reports = Reports(self.world)
        self.engine.route("src.test", reports.endpoint)
        peer = Scripted(self, {"RCPT": "550 5.1.1 no such user"})
        self.engine.files["plugin_timeout"] = "0.5\n"
        self.expects_errors = True  # a timeout is logged as critical
        self.plugin(f"""
            exports.hook_get_mx = (next, hmail, domain) => domain === 'src.test' ? next() : next(OK, '{peer.endpoint}')
            exports.hook_bounce = function (next, hmail, error) {{
                say(error.message, error.bounced_rcpt.map(String), error.bounced_rcpt[0].dsn_status)
                if (hmail.domain === 'quiet.test') return next(OK)
                if (hmail.domain !== 'silent.test') next()
            }}""").start()
        for domain in ("quiet.test", "silent.test", "loud.test"):
            self.submit(f"b@{domain}")
        self.engine.wait_event("bounced", count=3)
        told = sorted(to for report in reports.wait(2) for to in report.recipients)
        self.assertEqual(told, ["b@loud.test", "b@silent.test"])
        self.engine.wait_empty()
        self.assertEqual(len(reports.wait(2)), 2)
        self.assertIn(["550 5.1.1 no such user", ["<b@quiet.test>"], "5.1.1"], self.what_was_said(3))
        reports.sink.stop()

    def test_a_plugin_that_does_not_answer_about_the_route_defers(self):
        self.expects_errors = True
        self.engine.files["plugin_timeout"] = "0.5\n"
        self.plugin("exports.hook_get_mx = function () {}").start()
        self.submit()
        self.assertEqual(self.engine.wait_event("deferred")[0]["reply"], "450 4.1.2 plugin timeout")

    def test_the_message_is_there_to_be_read(self):
        self.plugin("""exports.hook_get_mx = function (next, hmail) {
            let size = 0, head = ''
            hmail.data_stream().on('data', (d) => { head = head || String(d); size += d.length })
                .on('end', () => { say(size > 1000000, head.includes('Received')); next(OK, SINK) })
        }""").start()
        self.submit(body="x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 20_000)
        self.assertEqual(self.what_was_said(), [[True, True]])
        self.sink.wait(1)

    def test_another_level_of_the_log_holds_for_plugins_at_once(self):
        self.plugin("exports.hook_get_mx = function (next, hmail, domain) { this.logdebug('debug of ' + domain); next(OK, SINK) }").start()
        self.submit("b@before.test")
        self.sink.wait(1)
        host = self.plugins.host()
        self.engine.set("log.ini", level="debug").write()
        self.engine.cli("reload")
        self.submit("b@after.test")
        self.engine.wait_logged("debug of after.test")
        self.assertNotIn("debug of before.test", self.engine.process.output())
        self.assertEqual(self.plugins.host(), host)

    def test_nothing_is_started_without_plugins(self):
        self.engine.files["plugins"] += "not-installed\n"
        self.engine.route("dst.test", self.sink.endpoint).start()
        self.submit()
        self.sink.wait(1)
        self.assertIsNone(self.plugins.host())
        checked = self.engine.cli("check", check=False)
        self.assertIn("plugin `not-installed` is neither in plugins/ nor in node_modules/", checked.stdout + checked.stderr)


class Restarts(Plugins):
    def test_notes_and_failures_survive_the_engine_and_the_host(self):
        peer = Scripted(self, {"RCPT": ["450 4.2.1 later", "450 4.2.1 later", "250 ok"]})
        self.plugin(f"""exports.hook_get_mx = function (next, hmail) {{
            const {{ notes }} = hmail.todo
            notes.seen = (notes.seen || 0) + 1
            hmail.notes.live = (hmail.notes.live || 0) + 1
            hmail.todo.rcpt_to[0].mark = (hmail.todo.rcpt_to[0].mark || 0) + 1
            say(notes.seen, hmail.notes.live, hmail.todo.rcpt_to[0].mark, hmail.num_failures)
            next(OK, '{peer.endpoint}')
        }}""").start()
        self.submit()
        self.engine.wait_event("deferred")
        host = self.plugins.host()
        os.kill(host, signal.SIGKILL)
        self.engine.wait_event("deferred", count=2)
        self.engine.wait_recorded()
        self.engine.process.kill()
        self.plugins.start()
        self.engine.wait_event("delivered", attempts=3)
        self.assertEqual(self.what_was_said(3), [[1, 1, 1, 0], [2, 2, 2, 1], [3, 3, 3, 2]])

    def test_items_share_the_live_notes_of_their_message_and_all_of_it_survives_the_engine(self):
        self.plugin("""
            exports.hook_queue_outbound = function (next, { transaction }) {
                transaction.notes.seen = []
                transaction.notes.alive = () => 'alive'
                next()
            }
            exports.hook_get_mx = function (next, hmail) {
                const { notes, todo } = hmail
                const { host } = todo.rcpt_to[0]
                say(host, hmail.num_failures, notes.seen, typeof notes.alive, todo.notes.own, todo.force_tls, todo.domain)
                notes.seen.push(host)
                todo.notes.own = host
                todo.force_tls = true
                todo.domain = `gate.${host}`
                next(DENYSOFT, 'not yet')
            }""").start()
        self.submit(["b@one.test", "c@two.test"])
        self.engine.wait_event("deferred", count=2)
        (first, *_), (second, *_) = before = self.what_was_said(2)
        self.assertEqual(before, [
            [first, 0, [], "function", None, False, first], [second, 0, [first], "function", None, False, second]])
        self.engine.process.kill()
        self.plugins.start()
        self.engine.api("POST", "/v1/queue/flush", {"all": True})
        after = self.what_was_said(4)[2:]
        for host, failures, _, alive, own, tls, domain in after:
            self.assertEqual((failures, alive, own, tls, domain), (1, "undefined", host, True, f"gate.{host}"))
        self.assertEqual(sorted(line[0] for line in after), ["one.test", "two.test"])
        self.assertIn(after[0][0], after[0][2])
        self.assertEqual(after[1][2], [*after[0][2], after[0][0]], "they share them again")

    def test_what_operators_do_while_plugins_are_asked_is_done_when_they_have_answered(self):
        self.plugin("""exports.hook_get_mx = function (next, hmail, domain) {
            say(domain)
            if (domain.endsWith('.dies')) return
            const looks = setInterval(() => {
                if (!fs.existsSync('@/go')) return
                clearInterval(looks)
                domain.endsWith('.ok') ? next(OK, SINK) : next(DENYSOFT, 'not now')
            }, 20)
        }""".replace("@", str(self.engine.directory))).start()
        ways, ends = ("delete", "hold", "bounce"), ("ok", "soft", "dies")
        for way in ways:
            for end in ends:
                self.submit(f"b@{way}.{end}")
        self.what_was_said(len(ways) * len(ends))
        for way in ways:
            for end in ends:
                self.engine.cli("queue", way, "--where", f"domain={way}.{end}")
        (self.engine.directory / "go").write_text("")
        self.engine.wait_event("removed", 2, by="operator")
        os.kill(self.plugins.host(), signal.SIGKILL)
        removed = self.engine.wait_event("removed", len(ends), by="operator")
        self.assertEqual({event["domain"] for event in removed}, {f"delete.{end}" for end in ends})
        bounced = self.engine.wait_event("bounced", len(ends))
        self.assertEqual({event["domain"] for event in bounced}, {f"bounce.{end}" for end in ends})

        def others():
            items = self.engine.api("GET", "/v1/queue")[1]["items"]
            return {(item["domain"], item["state"]) for item in items if item["domain"] != "src.test"}
        wait_for(lambda: others() == {(f"hold.{end}", "held") for end in ends}, f"only what is held; there is {others()}")
        self.assertEqual([mail for mail in self.sink.ledger() if not mail["to"][0].endswith("src.test")], [])

    def test_a_host_that_dies_with_a_question(self):
        self.plugin("""exports.hook_get_mx = function (next, hmail) {
            say(process.pid)
            if (hmail.num_failures > 0) next(OK, SINK)
        }""").start()
        self.submit()
        first = self.what_was_said()[0][0]
        os.kill(first, signal.SIGKILL)
        deferred = self.engine.wait_event("deferred")[0]
        self.assertEqual(deferred["reply"], "450 4.1.2 no answer from plugins: the plugin host ended")
        self.sink.wait(1)
        self.assertNotEqual(self.what_was_said(2)[1][0], first)

    def test_endless_loops_and_endless_memory_end_the_host_and_not_the_mail(self):
        self.engine.set("plugin_host.ini", hang_timeout="2s", heap_bytes_max="64M")
        self.plugin("""exports.hook_get_mx = function (next, hmail, domain) {
            if (domain === 'loop.test' && hmail.num_failures === 0) for (;;);
            if (domain === 'hog.test' && hmail.num_failures === 0) for (const all = []; ;) all.push(new Array(100000).fill(domain + all.length))
            next(OK, SINK)
        }""").start()
        for domain in ("loop.test", "hog.test"):
            host = wait_for(self.plugins.host, "the plugin host")
            self.submit(f"b@{domain}")
            self.engine.wait_event("deferred", domain=domain)
            self.new_host(host)
            self.submit(f"b@fine-after-{domain}")
        self.sink.wait(4)
        self.engine.wait_logged("it hangs")

    def test_a_host_that_is_killed_again_and_again_under_load(self):
        self.plugin("""
            exports.hook_get_mx = (next) => setTimeout(() => next(OK, SINK), 20)
            exports.hook_delivered = (next) => next()""").start()
        count = 300
        over = threading.Event()

        def murder():
            while not over.wait(0.7):
                host = self.plugins.host()
                with contextlib.suppress(ProcessLookupError):
                    if host:
                        os.kill(host, signal.SIGKILL)

        murderer = threading.Thread(target=murder)
        murderer.start()
        try:
            for number in range(count):
                self.submit(f"b{number}@dst{number % 7}.test")
                time.sleep(0.01)
        finally:
            over.set()
            murderer.join()
        self.engine.wait_empty(60)
        delivered = [to for mail in self.sink.wait(count) for to in mail["to"]]
        self.assertEqual(sorted(delivered), sorted(f"b{number}@dst{number % 7}.test" for number in range(count)))

    def turned_away(self):
        """True when the banner is 421."""
        with contextlib.closing(socket.create_connection(("127.0.0.1", self.engine.port), timeout=60)) as link:
            return link.recv(4096).startswith(b"421 ")

    def test_mail_waits_for_a_host_that_cannot_start_and_none_comes_in(self):
        self.expects_errors = True
        self.plugin("exports.hook_get_mx = (next) => next(DENYSOFT)").start()
        self.submit()
        self.engine.wait_event("deferred")
        self.assertEqual(self.engine.stop(), 0)
        self.engine.set("plugin_host.ini", node="/no/such/node")
        self.plugins.start()
        self.assertTrue(self.turned_away())
        deferred = self.engine.wait_event("deferred", count=2, patience=60)[1]
        self.assertIn("no answer from plugins", deferred["reply"])
        self.engine.wait_logged("/no/such/node")

    def test_a_plugin_that_does_not_load_keeps_mail_out_until_it_does(self):
        self.expects_errors = True
        self.plugin("exports.hook_get_mx = (next) => next(OK, SINK)", name="good")
        broken = self.plugins.add("route", "exports.register = function () { require('./not-there-yet') }")
        broken.start()
        self.assertTrue(self.turned_away())
        self.engine.wait_logged("not-there-yet")
        (self.engine.directory / "plugins" / "not-there-yet.js").write_text("")
        wait_for(lambda: not self.turned_away(), "the plugin host", patience=90)
        self.submit()
        self.sink.wait(1)

    def test_stopping_does_not_wait_for_plugins_and_loses_nothing(self):
        self.plugin("exports.hook_get_mx = function (next, hmail) { say('asked'); if (hmail.todo.notes.again) next(OK, SINK) }").start()
        self.submit()
        self.what_was_said()
        host = self.plugins.host()
        began = time.monotonic()
        self.assertEqual(self.engine.stop(), 0)
        self.assertLess(time.monotonic() - began, 20)
        self.assertFalse(os.path.exists(f"/proc/{host}"))
        self.assertEqual(self.engine.events("deferred"), [])
        self.engine.files["plugins"] = "relay\n"
        self.engine.route("dst.test", self.sink.endpoint).start()
        self.sink.wait(1)

    def test_what_is_given_up_while_a_plugin_thinks_is_not_sent_by_the_next_engine(self):
        self.plugin("exports.hook_get_mx = (next, hmail, domain) => domain === 'dst.test' ? say('asked') : next(OK, SINK)").start()
        cases = [(command, kill) for command in (("delete", "removed"), ("bounce", "bounced")) for kill in (True, False)]
        for number, ((command, event), kill) in enumerate(cases):
            self.submit()
            self.what_was_said(number + 1)
            self.engine.cli("queue", command, "--where", "domain=dst.test")
            if kill:
                self.engine.process.kill()
            else:
                self.assertEqual(self.engine.stop(), 0)
            self.plugins.start()
            self.engine.wait_event(event, count=number % 2 + 1)
            self.engine.wait_empty()
        self.assertEqual(len(self.what_was_said(len(cases))), len(cases))
        self.assertEqual([line["to"] for line in self.sink.ledger()], [["a@src.test"]] * 2)  # the bounces

    def test_a_killed_engine_leaves_no_host_behind(self):
        self.plugin("exports.hook_get_mx = function () { say(process.pid); for (;;); }").start()
        self.submit()
        host = self.what_was_said()[0][0]
        self.engine.process.kill()
        wait_for(lambda: not running(host), "the host to die")
