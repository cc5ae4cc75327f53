"""Native plugins on the engine: every answer of every hook, at once, later, twice and never; the examples; natives and JavaScript."""

import contextlib
import datetime
import json
import os
import pathlib
import shutil
import smtplib
import subprocess
import tempfile
import time
import unittest
import zlib

from clients import Raw, submit
from peers import Reports, Scripted
from plugin_home import PluginEngine
from world import ROOT, EndToEnd, wait_for

CONT, STOP, DENY, DENYSOFT, DENYDISCONNECT, DISCONNECT, OK, NEXT_HOOK, DELAY, DENYSOFTDISCONNECT = range(900, 910)
CODES = range(900, 910)
WAYS = ("sync", "async", "twice", "silent")
HOUR = 3_600_000


def compiled(source, folder, name=None):
    """A shared object of this file, made as the guide says."""
    source = pathlib.Path(source)
    plus = source.suffix != ".c"
    compiler = next(filter(None, map(shutil.which, ("c++", "clang++-19", "g++") if plus else ("cc", "clang-19", "gcc"))), None)
    if compiler is None:
        raise unittest.SkipTest("there is no compiler")
    target = pathlib.Path(folder) / f"{name or source.stem}.so"
    standard = ["-std=c++17"] if plus else ["-std=c11", "-D_DEFAULT_SOURCE"]
    subprocess.run(
        [compiler, *standard, "-Wall", "-Wextra", "-Werror", "-O1", "-fPIC", "-shared", "-pthread", f"-I{ROOT / 'include'}", source, "-o", target],
        check=True)
    return target


class Native(EndToEnd):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="sluice-native-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.probe_file = compiled(ROOT / "test" / "native" / "probe.c", cls.folder)

    def setUp(self):
        super().setUp()
        self.sink = self.world.sink()
        self.engine = self.world.engine()
        self.engine.set("outbound.ini", temp_fail_intervals="2h", retry_jitter="false")

    def probe(self, name="probe", also=None, **hooks):
        """A probe under this name: what each hook answers, and `also` by "hook domain"."""
        plugins = self.engine.directory / "plugins"
        plugins.mkdir(exist_ok=True)
        shutil.copy(self.probe_file, plugins / f"{name}.so")
        sections = {**hooks, **(also or {})}
        lines = [line for section, answers in sections.items() for line in (f"[{section}]", *(f"{k}={v}" for k, v in answers.items()))]
        self.engine.files[f"{name}.ini"] = "\n".join(lines) + "\n"
        self.engine.files["plugins"] += f"{name}\n"

    def said(self, start=""):
        file = self.engine.directory / "probe.said"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [line[:-1] for line in lines if line.endswith("\n") and line.startswith(start)]

    def wait_said(self, start, count=1):
        return wait_for(lambda: self.said(start) if len(self.said(start)) >= count else None, f"{count} x {start}: {self.said()[-5:]}")

    def submit(self, to="b@dst.test", **options):
        submit(self.engine, [to] if isinstance(to, str) else to, self.message(**options))

    def node_hosts(self):
        """Processes that the engine has started."""
        children = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self.engine.process.pid:
                    children.append(stat.parent.name)
        return children


class Matrix(Native):
    """One message for each code and way, each to a domain of its own."""

    def matrix(self, hook, **answers):
        self.expects_errors = True  # silence is logged
        self.engine.files["plugin_timeout"] = "0.5\n"
        self.cases = {f"c{code}-{way}.test": (code, way) for code in CODES for way in WAYS}
        sections = {f"{hook} {domain}": {"code": code, "how": way, **answers} for domain, (code, way) in self.cases.items()}
        self.probe(**{hook: {"code": CONT}}, also=sections)

    def submit_all(self):
        for domain in self.cases:
            self.submit(f"b@{domain}")

    def domains(self, *codes, silent):
        """Those that answer one of these codes, and those that do not answer when `silent`."""
        return sorted(d for d, (code, way) in self.cases.items() if (silent if way == "silent" else code in codes))

    def of(self, kind, count, **members):
        return sorted(event["domain"] for event in self.engine.wait_event(kind, count=count, **members))

    def test_get_mx(self):
        other = self.world.sink(name="other")
        reports = Reports(self.world)
        self.engine.route("any", self.sink.endpoint).route("src.test", reports.endpoint)
        self.matrix("get_mx", next_hop=other.endpoint, reason="because I say so")
        self.engine.start()
        self.submit_all()
        bounced = self.domains(DENY, DENYDISCONNECT, silent=False)
        deferred = self.domains(DENYSOFT, DENYSOFTDISCONNECT, silent=True)
        routed = self.domains(OK, silent=False)
        self.assertEqual(self.of("bounced", len(bounced), status="5.1.2", reply="550 5.1.2 because I say so"), bounced)
        self.assertEqual(self.of("deferred", len(deferred), status="4.1.2"), deferred)
        silent = self.engine.wait_event("deferred", count=len(CODES), reply="450 4.1.2 plugin timeout")
        self.assertEqual({event["domain"].split("-")[1] for event in silent}, {"silent.test"})
        self.assertEqual(sorted(m["to"][0].split("@")[1] for m in other.wait(len(routed))), routed)
        rest = sorted(set(self.cases) - set(bounced) - set(deferred) - set(routed))
        self.assertEqual(sorted(m["to"][0].split("@")[1] for m in self.sink.wait(len(rest))), rest)
        self.assertEqual(len(reports.wait(len(bounced))), len(bounced))
        reports.sink.stop()
        twice = [line for line in self.wait_said("answered", 2 * len(CODES)) if line.endswith("of 2")]
        self.assertEqual(set(twice), {"answered 1 of 2"})

    def test_send_email(self):
        self.engine.route("any", self.sink.endpoint)
        self.matrix("send_email", delay_ms=HOUR)
        self.engine.start()
        self.submit_all()
        late = self.domains(DELAY, silent=False)
        now = sorted(set(self.cases) - set(late))
        self.assertEqual(sorted(m["to"][0].split("@")[1] for m in self.sink.wait(len(now))), now)
        wait_for(lambda: self.engine.process.output().count("a plugin puts an item off") == len(late), "all that are put off")
        self.assertEqual(self.engine.events("deferred"), [])

    def test_deferred(self):
        peer = Scripted(self, {"RCPT": "450 4.2.1 later"})
        self.engine.route("any", peer.endpoint)
        self.matrix("deferred", delay_ms=HOUR)
        self.engine.start()
        self.submit_all()
        soon = self.domains(DENYSOFT, DENYSOFTDISCONNECT, silent=False)
        usual = self.domains(CONT, silent=True)
        removed = sorted(set(self.cases) - set(soon) - set(usual))
        self.assertEqual(self.of("removed", len(removed), by="plugin probe"), removed)
        events = self.engine.wait_event("deferred", count=len(soon) + len(usual))

        def hours(event):
            return round((datetime.datetime.fromisoformat(event["next"]).timestamp() - time.time()) / 3600)

        self.assertEqual(sorted(e["domain"] for e in events if hours(e) == 1), soon)
        self.assertEqual(sorted(e["domain"] for e in events if hours(e) == 2), usual)
        self.assertIn("reason=450 4.2.1 later", self.said("deferred")[0])
        self.assertIn("to=b:450:4.2.1", self.said("deferred")[0])

    def test_bounce(self):
        reports = Reports(self.world)
        peer = Scripted(self, {"RCPT": "550 5.1.1 no such user"})
        self.engine.route("any", peer.endpoint).route("src.test", reports.endpoint)
        self.matrix("bounce")
        self.engine.start()
        self.submit_all()
        self.engine.wait_event("bounced", count=len(self.cases))
        told = self.domains(CONT, silent=True)
        self.assertEqual(sorted(to.split("@")[1] for report in reports.wait(len(told)) for to in report.recipients), told)
        self.engine.wait_empty()
        self.assertEqual(len(reports.all()), len(told))
        reports.sink.stop()

    def test_delivered(self):
        self.engine.route("any", self.sink.endpoint)
        self.matrix("delivered")
        self.engine.start()
        self.submit_all()
        self.sink.wait(len(self.cases))
        said = self.wait_said("delivered", len(self.cases))
        self.assertTrue(all(f"port={self.sink.port}" in line and "octets=1" in line and "to=b:250" in line for line in said))
        self.engine.wait_empty()


class Life(Native):
    def test_no_node_is_started_for_native_plugins(self):
        self.engine.set("plugin_host.ini", node="/no/such/node")
        self.probe(get_mx={"code": OK, "next_hop": self.sink.endpoint}, delivered={"code": CONT})
        self.engine.start()
        self.submit(["b@dst.test", "c@dst.test"])
        self.assertEqual(self.sink.wait(1)[0]["to"], ["b@dst.test", "c@dst.test"])
        self.wait_said("delivered")
        self.assertEqual(self.node_hosts(), [])
        self.assertEqual(self.engine.stop(), 0)
        self.assertEqual(self.said()[-1], "shutdown")

    def test_what_does_not_load_keeps_the_engine_from_starting(self):
        self.probe()
        cases = {
            "absent.so": (78, "config/plugins:2: expected a shared object, found no file"),
            "plain": (78, "config/plugins:2: plugin `plain`, " + str(self.engine.directory / "plugins/plain.so") + ": it is no shared object"),
            # It may lack what comes later: a supervisor shall try again.
            "probe": (1, "config/plugins:2: plugin `probe`, " + str(self.engine.directory / "plugins/probe.so") + ": its init() fails: no, thanks"),
        }
        (self.engine.directory / "plugins" / "plain.so").write_text("#!/bin/sh\n")
        self.engine.files["probe.ini"] = "fails=no, thanks\n"
        for name, (code, words) in cases.items():
            self.engine.files["plugins"] = f"relay\n{name}\n"
            self.engine.start(wait=False)
            wait_for(lambda: not self.engine.process.running(), "the engine to end")
            self.assertEqual(self.engine.process.child.returncode, code)
            self.engine.wait_logged(words)
        # The operator may want to go on without it.
        self.engine.set("smtp.ini", ignore_bad_plugins="true").route("dst.test", self.sink.endpoint).start()
        self.submit()
        self.sink.wait(1)
        self.engine.wait_logged("a plugin does not load and is left out")

    def test_a_file_of_another_name_is_suggested(self):
        self.probe("acme")
        self.engine.files["plugins"] = "relay\nacne.so\n"
        self.engine.write()
        checked = self.engine.cli("check", check=False)
        self.assertNotEqual(checked.returncode, 0)
        self.assertIn("did you mean `acme.so`", checked.stdout + checked.stderr)

    def test_a_path_names_a_plugin(self):
        self.probe(get_mx={"code": OK, "next_hop": self.sink.endpoint})
        elsewhere = self.world.directory / "probe.so"
        (self.engine.directory / "plugins" / "probe.so").rename(elsewhere)
        self.engine.files["plugins"] = f"relay\n{elsewhere}\n"
        self.engine.start()
        self.submit()
        self.sink.wait(1)

    def test_notes_survive_a_kill(self):
        peer = Scripted(self, {"RCPT": ["450 4.2.1 later", "250 ok"]})
        self.engine.set("outbound.ini", temp_fail_intervals="5s")
        self.probe(get_mx={"code": OK, "next_hop": peer.endpoint, "notes": '{"mark":"kept"}'})
        self.engine.start()
        self.submit()
        self.engine.wait_event("deferred")
        self.engine.restart_after_kill()
        self.engine.wait_event("delivered", attempts=2)
        first, second = self.said("get_mx")
        self.assertNotIn("kept", first)
        self.assertIn('"mark":"kept"', second)

    def test_stopping_does_not_wait_for_plugins_and_loses_nothing(self):
        self.engine.files["plugin_timeout"] = "0\n"
        self.probe(get_mx={"code": OK, "how": "silent", "next_hop": self.sink.endpoint})
        self.engine.start()
        self.submit()
        self.wait_said("get_mx")
        began = time.monotonic()
        self.assertEqual(self.engine.stop(), 0)
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(self.engine.events("deferred"), [])
        self.engine.files["plugins"] = "relay\n"
        self.engine.route("dst.test", self.sink.endpoint).start()
        self.sink.wait(1)

    def test_a_hook_that_never_returns_is_left_behind(self):
        self.expects_errors = True
        self.engine.files["plugin_timeout"] = "0.3\n"
        self.probe(get_mx={"code": OK, "how": "blocking", "after_ms": 600_000})
        self.engine.start()
        self.submit()
        self.assertEqual(self.engine.wait_event("deferred")[0]["reply"], "450 4.1.2 plugin timeout")
        self.assertEqual(self.engine.stop(), 0)
        self.engine.wait_logged("a hook of a native plugin does not return")

    def test_a_message_that_crashes_a_plugin_is_held_after_three_crashes(self):
        self.crash_three_times("sync")

    def test_the_same_on_a_thread_that_may_block(self):
        self.crash_three_times("blocking")

    def crash_three_times(self, how):
        self.expects_errors = True  # a message that is held is told
        self.probe(get_mx={"code": OK, "how": how, "next_hop": self.sink.endpoint}, also={"get_mx boom.test": {"how": "crash"}})
        self.engine.start()
        self.submit("b@good.test")
        self.sink.wait(1)
        with contextlib.suppress(OSError, smtplib.SMTPException):  # the crash may come before the reply
            self.submit("b@boom.test")
        for crashes in (1, 2, 3):
            wait_for(lambda: not self.engine.process.running(), "the crash")
            blamed = (self.engine.directory / "queue" / "crashes").read_text().split()
            self.assertEqual((len(blamed), len(set(blamed))), (crashes, 1))
            self.engine.start(wait=crashes == 3)
        self.engine.wait_logged("a message is held")
        held = self.engine.api("GET", "/v1/queue")[1]["items"]
        self.assertEqual([(item["domain"], item["state"]) for item in held], [("boom.test", "held")])
        self.assertEqual(held[0]["id"].split(".")[0], blamed[0])
        self.submit("c@good.test")
        self.sink.wait(2)
        self.assertEqual(self.engine.stop(), 0)

    def test_many_answers_from_many_threads_under_load(self):
        self.probe(get_mx={"code": OK, "how": "async", "next_hop": self.sink.endpoint, "after_ms": 1},
                   send_email={"code": CONT, "how": "twice", "after_ms": 1}, delivered={"code": CONT})
        self.engine.start()
        count = 200
        for number in range(count):
            self.submit(f"b{number}@dst{number % 7}.test")
        delivered = [to for mail in self.sink.wait(count) for to in mail["to"]]
        self.assertEqual(sorted(delivered), sorted(f"b{number}@dst{number % 7}.test" for number in range(count)))
        self.engine.wait_empty()
        self.assertEqual(self.engine.stop(), 0)
        self.assertEqual(len(self.said("delivered")), count)


class Mixed(Native):
    def setUp(self):
        super().setUp()
        self.plugins = PluginEngine(self.engine)

    def javascript(self, name, body):
        said = self.engine.directory / "js.said"
        self.plugins.add(name, f"const say = (what) => require('fs').appendFileSync('{said}', what + '\\n')\n{body}")
        return lambda: said.read_text().split() if said.exists() else []

    def test_one_chain_in_the_order_of_the_list(self):
        self.probe("first", get_mx={"code": CONT, "notes": '{"first":1}'}, delivered={"code": CONT})
        said = self.javascript("middle", """exports.hook_get_mx = (next, hmail, domain) => {
            say(`middle:${domain}:${hmail.todo.notes.first}`)
            hmail.todo.notes.middle = 2
            if (domain === 'js.test') return next(OK, process.env.SINK)
            next()
        }
        exports.hook_delivered = (next) => { say('delivered'); next() }""")
        self.probe("last", get_mx={"code": OK, "next_hop": self.sink.endpoint})
        os.environ["SINK"] = self.sink.endpoint
        self.addCleanup(os.environ.pop, "SINK")
        self.plugins.start()
        self.submit("b@native.test")
        self.sink.wait(1)
        self.submit("b@js.test")
        self.sink.wait(2)
        wait_for(lambda: len(said()) == 4, "both plugins")
        self.assertEqual(sorted(said()), ["delivered", "delivered", "middle:js.test:1", "middle:native.test:1"])
        asked = [line.split(" notes=")[0].split(" from=")[0] for line in self.said("get_mx")]
        self.assertEqual(asked, ["get_mx first domain=native.test", "get_mx last domain=native.test", "get_mx first domain=js.test"])
        self.assertIn('"first":1,"middle":2', self.said("get_mx last")[0].replace(" ", ""))
        self.assertEqual(len(self.said("delivered first")), 2)

    def test_a_native_answer_ends_the_chain_before_javascript(self):
        self.probe("first", get_mx={"code": OK, "next_hop": self.sink.endpoint}, deferred={"code": CONT}, bounce={"code": CONT})
        said = self.javascript("second", "exports.hook_get_mx = (next) => { say('asked'); next(DENY, 'never') }")
        self.plugins.start()
        self.submit()
        self.sink.wait(1)
        self.assertEqual(said(), [])

    def test_priority_goes_before_the_list(self):
        self.probe("native", get_mx={"code": DENY, "reason": "too late", "priority": 10})
        self.javascript("script", f"exports.hook_get_mx = (next) => next(OK, '{self.sink.endpoint}')")
        self.plugins.start()
        self.submit()
        self.sink.wait(1)

    def test_native_plugins_see_what_javascript_before_them_has_changed(self):
        answers = {"send_email": {"code": CONT}, "get_mx": {"code": CONT}}
        self.engine.route("any", self.sink.endpoint)
        self.probe("first", **answers)
        self.javascript("editor", """exports.hook_send_email = (next, { todo }) => {
            todo.rcpt_to = todo.rcpt_to.filter((rcpt) => rcpt.user !== 'no')
            todo.rcpt_to[0].user = 'edited'
            next()
        }
        exports.hook_get_mx = (next, { todo }) => { todo.rcpt_to[1].user = 'again'; next() }""")
        self.probe("last", **answers)
        self.plugins.start()
        self.submit(["b@dst.test", "no@dst.test", "c@dst.test"])
        self.assertEqual(self.sink.wait(1)[0]["to"], ["edited@dst.test", "again@dst.test"])
        told = {" ".join(line.split()[:2]): line.split(" to=")[1] for line in self.said()}
        self.assertEqual(told, {
            "send_email first": "b:0:,no:0:,c:0:", "send_email last": "edited:0:,c:0:", "get_mx first": "edited:0:,c:0:",
            "get_mx last": "edited:0:,again:0:"})

    def test_every_hook_with_both_kinds(self):
        reports = Reports(self.world)
        peer = Scripted(self, {"RCPT b@": "550 5.1.1 no", "RCPT c@": "450 4.2.1 later"})
        self.engine.route("any", peer.endpoint).route("src.test", reports.endpoint)
        said = self.javascript("script", """
            exports.hook_send_email = (next) => { say('send_email'); next() }
            exports.hook_deferred = (next) => { say('deferred'); next(DENYSOFT, 3600) }
            exports.hook_bounce = (next) => { say('bounce'); next(OK) }""")
        answers = {hook: {"code": CONT} for hook in ("send_email", "get_mx", "deferred", "bounce")}
        self.probe("before", **answers)
        self.probe("after", **answers)
        self.engine.files["plugins"] = "relay\nbefore\nscript\nafter\n"
        self.plugins.start()
        self.submit(["b@dst.test", "c@dst.test"])
        self.engine.wait_event("bounced")
        self.engine.wait_event("deferred")
        self.assertEqual(sorted(said()), ["bounce", "deferred", "send_email"])
        who = [" ".join(line.split()[:2]) for line in self.said()]
        self.assertEqual(
            who, ["send_email before", "send_email after", "get_mx before", "get_mx after", "deferred before", "bounce before"])
        self.assertEqual(reports.all(), [])
        reports.sink.stop()


class Examples(Native):
    def install(self, file, name):
        plugins = self.engine.directory / "plugins"
        plugins.mkdir(exist_ok=True)
        compiled(ROOT / "examples" / file, plugins, name)
        self.engine.files["plugins"] += f"{name}\n"

    def test_static_routes(self):
        other = self.world.sink(name="other")
        self.install("static_routes.c", "static_routes")
        self.engine.route("any", other.endpoint)
        self.engine.files["static_routes"] = f"# domains\none.test {self.sink.endpoint}\n.below.test\t{self.sink.endpoint}\n"
        self.engine.start()
        for domain in ("one.test", "a.below.test", "a.b.below.test"):
            self.submit(f"b@{domain}")
        self.submit("b@below.test")
        self.submit("b@another.test")
        self.assertEqual(sorted(m["to"][0] for m in self.sink.wait(3)), ["b@a.b.below.test", "b@a.below.test", "b@one.test"])
        self.assertEqual(sorted(m["to"][0] for m in other.wait(2)), ["b@another.test", "b@below.test"])

    def test_static_routes_names_a_bad_line(self):
        self.install("static_routes.c", "static_routes")
        self.engine.files["static_routes"] = "one.test\n"
        self.engine.start(wait=False)
        wait_for(lambda: not self.engine.process.running(), "the engine to end")
        self.engine.wait_logged("config/static_routes:1: expected a domain and a next hop")

    def test_known_recipients(self):
        self.install("known_recipients.c", "known_recipients")
        self.engine.route("any", self.sink.endpoint)
        self.engine.files["known_recipients"] = "open.test\nb@dst.test\n# nobody else\nC@DST.test\n"
        self.engine.start()
        with Raw(self.engine.port) as client:
            client.ask("MAIL FROM:<a@src.test>")
            replies = [client.ask(f"RCPT TO:<{to}>") for to in ("b@dst.test", "x@dst.test", "c@dst.test", "x@open.test", "x@sub.dst.test", "bb@dst.test")]
            self.assertEqual([code for code, _ in replies], [250, 550, 250, 250, 250, 550])
            self.assertEqual(replies[1], (550, "5.1.1 nobody of that name is here"))
            client.ask("DATA")
            client.send(self.message())
            self.assertEqual(client.ask(".")[0], 250)
        self.sink.wait(3)

    def test_accounting(self):
        peer = Scripted(self, {"RCPT c@": ["450 4.2.1 later", "250 ok"]})
        self.install("accounting.cc", "accounting")
        self.engine.route("any", peer.endpoint)
        self.engine.files["accounting.ini"] = "[retry]\ndst.test=1\n"
        self.engine.start()
        self.submit(["b@dst.test", "c@dst.test"])
        self.engine.wait_event("delivered", attempts=2)
        self.engine.wait_empty()
        self.assertEqual(self.engine.stop(), 0)
        lines = [json.loads(line) for line in (self.engine.directory / "log" / "accounting.jsonl").read_text().splitlines()]
        self.assertEqual([(line["to"], line["attempts"]) for line in lines], [("b@dst.test", 1), ("c@dst.test", 2)])
        self.assertEqual({line["from"] for line in lines}, {"a@src.test"})

    def test_javascript_that_calls_a_shared_library(self):
        plugins = PluginEngine(self.engine, also={"koffi": "2.9.2"})
        if not (plugins.modules / "koffi").exists():
            self.skipTest("npm does not give koffi")
        sinks = [self.sink, self.world.sink(name="other")]
        plugins.add("hash_routes", (ROOT / "examples" / "ffi" / "hash_routes.js").read_text())
        self.engine.files["hash_routes"] = "".join(f"{sink.endpoint}\n" for sink in sinks)
        plugins.start()
        senders = [f"a{number}@src.test" for number in range(8)]
        for sender in senders:
            submit(self.engine, ["b@dst.test"], self.message(), sender=sender)
        for index, sink in enumerate(sinks):
            due = sorted(s for s in senders if zlib.crc32(f"<{s}>".encode()) % 2 == index)
            self.assertEqual(sorted(m["from"] for m in sink.wait(len(due))), due)


if __name__ == "__main__":
    unittest.main()
