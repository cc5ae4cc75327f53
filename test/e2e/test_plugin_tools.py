"""What authors of plugins need: who is loaded and what it costs, reloads, the module `sluice`, new plugins and their rehearsal."""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time

from peers import Scripted
from plugin_home import HOST, TYPESCRIPT, node_modules
from test_plugins import Plugins
from world import ROOT, wait_for

ROUTE = "exports.hook_get_mx = (next) => next(OK, '{}')\n"


class Tools(Plugins):
    def cli(self, *arguments, check=True):
        """The engine's Node packages are those of the tests."""
        before = os.environ.get("NODE_PATH")
        os.environ["NODE_PATH"] = str(self.plugins.modules)
        try:
            return self.engine.cli(*arguments, check=check)
        finally:
            if before is None:
                del os.environ["NODE_PATH"]
            else:
                os.environ["NODE_PATH"] = before

    def shown(self):
        return self.engine.api("GET", "/v1/plugins")[1]

    def listener(self, hook, plugin):
        for point in self.shown()["hooks"]:
            for listener in point["listeners"]:
                if (point["hook"], listener["plugin"]) == (hook, plugin):
                    return listener
        return None

    def ready(self):
        return wait_for(lambda: self.shown()["host"]["state"] == "ready", "the plugin host to be ready")

    def write(self, name, source):
        """As editors do it: the file is there whole or not at all."""
        file = self.engine.directory / "plugins" / f"{name}.js"
        new = file.with_name(f".{name}.new")
        new.write_text(source)
        new.rename(file)


class Overview(Tools):
    def test_what_is_loaded_in_run_order_and_what_it_costs(self):
        self.expects_errors = True  # a timeout and a throw are logged as critical
        self.engine.files["slow.timeout"] = "0.3\n"
        self.plugins.add("first", ROUTE.format(self.sink.endpoint))
        self.plugins.add("urgent", """exports.register = function () { this.register_hook('get_mx', 'look', -20) }
            exports.look = function (next, hmail) { if (hmail.todo.domain === 'throw.test') throw new Error('oh'); next() }""")
        self.plugins.add("slow", "exports.hook_delivered = function (next) { const end = Date.now() + 40; while (Date.now() < end); }")
        self.plugins.start()
        self.submit("b@dst.test")
        self.submit("b@throw.test")
        self.sink.wait(2)
        wait_for(lambda: (self.listener("delivered", "slow") or {}).get("timeouts") == 2, "both timeouts to be counted")
        order = [one["plugin"] for point in self.shown()["hooks"] if point["hook"] == "get_mx" for one in point["listeners"]]
        self.assertEqual(order, ["urgent", "first"])
        urgent, slow = self.listener("get_mx", "urgent"), self.listener("delivered", "slow")
        self.assertEqual((urgent["calls"], urgent["failures"], urgent["priority"], urgent["method"]), (2, 1, -20, "look"))
        self.assertEqual((slow["calls"], slow["failures"]), (2, 0))
        self.assertGreater(slow["ms"], 590)
        self.assertTrue(75 < slow["busy_ms"] < 500, slow)
        text = self.cli("plugins").stdout
        for pattern in (r"^plugin host: ready, process \d+", r"^slow +0\.3 s +2 ", r"^get_mx +urgent +look +-20 +2 ", r"^delivered +slow +hook_delivered +0 "):
            self.assertRegex(text, re.compile(pattern, re.M))
        self.assertLess(text.index("urgent  "), text.index("get_mx  "))
        metrics = self.engine.api("GET", "/metrics")[1]
        self.assertIn('sluice_plugin_timeouts_total{hook="delivered",plugin="slow"} 2', metrics)
        self.assertIn('sluice_plugin_failures_total{hook="get_mx",plugin="urgent"} 1', metrics)
        self.assertIn("sluice_plugin_host_up 1", metrics)
        documented = (ROOT / "docs" / "reference" / "metrics.md").read_text()
        self.assertEqual(set(re.findall(r"^# TYPE (sluice_plugin\w+)", metrics, re.M)), set(re.findall(r"`(sluice_plugin\w+)", documented)))

    def test_who_it_is(self):
        """An endless loop, a memory without end, I/O that blocks and rejections: mail goes on, and each is named in the log, the list
        and the metrics."""
        self.expects_errors = True  # a rejection is logged as critical
        self.engine.set("plugin_host.ini", hang_timeout="2s", heap_bytes_max="64M")
        pipe = self.engine.directory / "pipe"
        os.mkfifo(pipe)
        self.plugins.add("innocent", "exports.hook_get_mx = (next) => next()")
        crimes = {
            "loops": "for (;;);",
            # Whoever fills the heap at once is gone before anybody looks.
            "hoards": """const pause = new Int32Array(new SharedArrayBuffer(4))
                for (const all = []; ;) { all.push(new Array(10000).fill(domain + all.length)); Atomics.wait(pause, 0, 0, 1) }""",
            "blocks": f"require('fs').readFileSync('{pipe}')",
            "rejects": "return Promise.reject(new Error('no good'))",
        }
        for name, crime in crimes.items():
            self.plugins.add(name, f"""exports.hook_get_mx = function (next, hmail, domain) {{
                if (domain === '{name}.test' && hmail.num_failures === 0) {{ {crime} }}
                next()
            }}""")
        self.engine.route("any", self.sink.endpoint)
        self.plugins.start()
        fatal = [name for name in crimes if name != "rejects"]
        for count, name in enumerate(fatal, 1):
            self.ready()
            self.submit(f"b@{name}.test")
            self.submit(f"b@beside-{name}.test")
            self.engine.wait_event("deferred", domain=f"{name}.test")
            wait_for(lambda number=count: self.shown()["host"]["ends"] == number, "the end to be counted")
            end = self.shown()["host"]["last_ends"][0]
            self.assertEqual((end["plugin"], end["hook"], end["because"]), (name, "get_mx", "was running"))
        self.submit("b@rejects.test")
        to = sorted(to for mail in self.sink.wait(7) for to in mail["to"])
        self.assertEqual(to, sorted(["b@rejects.test", *(f"b@{who}{name}.test" for name in fatal for who in ("", "beside-"))]))
        wait_for(lambda: self.listener("get_mx", "rejects")["failures"] == 1, "the rejection to be counted")
        self.engine.wait_empty()
        shown, metrics = self.cli("plugins").stdout, self.engine.api("GET", "/metrics")[1]
        for name in fatal:
            self.engine.wait_logged(f"plugin={name}")
            self.assertRegex(shown, rf"ended after \d+ s: .*; {name} \(get_mx\) was running")
            self.assertIn(f'sluice_plugin_ends_total{{hook="get_mx",plugin="{name}"}} 1', metrics)
        self.assertIn("sluice_plugin_host_ends_total 3", metrics)
        self.assertIn('sluice_plugin_ends_total{hook="get_mx",plugin="innocent"} 0', metrics)
        self.assertRegex(shown, re.compile(r"^get_mx +rejects .* 1$", re.M))
        self.assertIn('sluice_plugin_failures_total{hook="get_mx",plugin="rejects"} 1', metrics)
        self.engine.wait_logged("no good")

    def passed_over(self):
        return [(one["plugin"], one["hook"]) for one in self.shown()["host"]["passed_over"]]

    def test_a_hook_that_is_over_its_budget_again_and_again_is_passed_over(self):
        self.engine.set("plugin_host.ini", call_busy_max="300ms", over_budget_max=3, pass_over_time="1m")
        self.plugin("exports.hook_send_email = function (next) { say('heavy'); const end = Date.now() + 500; while (Date.now() < end); next() }", "heavy")
        self.plugin("exports.hook_get_mx = (next) => next(OK, SINK)", "innocent")
        self.plugins.start()
        self.ready()
        for number in range(3):
            self.submit(f"b{number}@dst.test")
            self.sink.wait(number + 1)
        wait_for(lambda: self.passed_over() == [("heavy", "send_email")], "the hook to rest")
        self.submit("last@dst.test")
        self.assertEqual(self.sink.wait(4)[3]["to"], ["last@dst.test"])
        self.assertEqual(len(self.what_was_said(3)), 3)
        wait_for(lambda: self.listener("send_email", "heavy")["passed_over"] == 1, "the hook that was not asked")
        heavy, innocent = self.listener("send_email", "heavy"), self.listener("get_mx", "innocent")
        self.assertEqual((heavy["calls"], heavy["over_budget"], innocent["over_budget"], innocent["passed_over"]), (3, 3, 0, 0))
        file = self.engine.directory / "plugins" / "heavy.js"
        self.engine.wait_logged("call_busy_max is 300 ms")
        self.engine.wait_logged(f"send_email is passed over for 60 s: over its budget 3 times within a minute ({file})")
        self.assertRegex(self.cli("plugins").stdout, r"passed over for \d+ s more: send_email of heavy")
        metrics = self.engine.api("GET", "/metrics")[1]
        for line in ('sluice_plugin_over_budget_total{hook="send_email",plugin="heavy"} 3',
                     'sluice_plugin_passed_over_total{hook="send_email",plugin="heavy"} 1', "sluice_plugin_hooks_passed_over 1"):
            self.assertIn(line, metrics)

    def test_a_hook_by_which_hosts_end_again_and_again_is_passed_over(self):
        self.engine.set("plugin_host.ini", hang_timeout="2s", heap_bytes_max="64M", host_ends_max=2, pass_over_time="5m")
        crimes = {
            "loops": "for (;;);",
            "hoards": """const pause = new Int32Array(new SharedArrayBuffer(4))
                for (const all = []; ;) { all.push(new Array(10000).fill('x' + all.length)); Atomics.wait(pause, 0, 0, 1) }""",
        }
        for name, crime in crimes.items():
            self.plugins.add(name, f"exports.hook_send_email = function (next, hmail) {{ if (hmail.todo.domain === '{name}.test') {{ {crime} }} next() }}")
        self.plugins.add("innocent", ROUTE.format(self.sink.endpoint)).start()
        for count, name in enumerate(crimes, 1):
            self.ready()
            self.submit(f"b@{name}.test")
            self.sink.wait(count)
            resting = [(who, "send_email") for who in list(crimes)[:count]]
            wait_for(lambda expected=resting: self.passed_over() == expected, f"{name} to rest")
            self.assertEqual(self.shown()["host"]["ends"], 2 * count)
            file = self.engine.directory / "plugins" / f"{name}.js"
            self.engine.wait_logged(f": hosts ended by it ({file})")
        # Another version of a plugin begins without a past.
        self.write("loops", "exports.hook_send_email = (next) => next()\n")
        wait_for(lambda: self.shown()["host"]["reloads"] == 1, "the reload")
        before = self.listener("send_email", "loops")["calls"]
        self.submit("again@loops.test")
        self.sink.wait(3)
        wait_for(lambda: self.listener("send_email", "loops")["calls"] > before, "what the new host counted")
        self.assertEqual(self.passed_over(), [])

    def test_without_plugins_there_is_nothing_to_show(self):
        self.engine.start()
        self.assertIn("no plugin host runs", self.cli("plugins").stdout)
        self.assertEqual(self.cli("plugins", "reload", check=False).returncode, 1)


class Reloads(Tools):
    def test_a_changed_plugin_takes_over_and_no_mail_notices(self):
        self.plugins.add("route", f"""
            exports.hook_get_mx = function (next, hmail) {{ hmail.todo.notes.version = 1; setTimeout(() => next(OK, '{self.sink.endpoint}'), 30) }}
            exports.shutdown = function () {{ require('fs').writeFileSync('{self.engine.directory}/goodbye', '') }}""").start()
        self.ready()
        first = self.shown()["host"]["process"]
        over = threading.Event()
        sent = []

        def load():
            while not over.is_set():
                self.submit(f"b{len(sent)}@dst{len(sent) % 5}.test")
                sent.append(1)

        loader = threading.Thread(target=load)
        loader.start()
        try:
            for version in range(2, 5):
                self.write("route", f"exports.hook_get_mx = function (next) {{ setTimeout(() => next(OK, '{self.sink.endpoint}'), {version}) }}\n")
                wait_for(lambda number=version - 1: self.shown()["host"]["reloads"] == number, "the reload")
        finally:
            over.set()
            loader.join()
        self.engine.wait_empty()
        delivered = [to for mail in self.sink.wait(len(sent)) for to in mail["to"]]
        self.assertEqual(sorted(delivered), sorted(f"b{n}@dst{n % 5}.test" for n in range(len(sent))))
        self.assertEqual(self.engine.events("deferred"), [])
        host = self.shown()["host"]
        self.assertEqual((host["ends"], host["reloads"]), (0, 3))
        self.assertNotEqual(host["process"], first)
        self.assertTrue((self.engine.directory / "goodbye").exists())

    def test_no_mail_is_lost_doubled_or_stuck_while_versions_die_and_forget_to_answer(self):
        self.expects_errors = True
        self.engine.files["route.timeout"] = "2"

        def source(version):
            return f"""
                let asked = 0
                exports.hook_get_mx = function (next) {{
                    asked += 1
                    if (asked % 9 === 0) return
                    setTimeout(() => {{ next(OK, '{self.sink.endpoint}'); if (asked % 5 === 0) next(DENY) }}, asked % 7 * 40)
                }} // {version}"""

        self.plugins.add("route", source(0)).start()
        self.ready()
        over = threading.Event()

        def trouble():
            version = 0
            while not over.wait(0.4):
                version += 1
                self.write("route", source(version))
                self.cli("plugins", "reload", check=False)
                host = self.plugins.host() if version % 2 else None
                with contextlib.suppress(ProcessLookupError):
                    if host:
                        os.kill(host, signal.SIGKILL)

        troubler = threading.Thread(target=trouble)
        troubler.start()
        sent = [f"b{number}@dst{number % 7}.test" for number in range(150)]
        try:
            for to in sent:
                self.submit(to)
                time.sleep(0.03)
        finally:
            over.set()
            troubler.join()

        def empty():
            self.engine.api("POST", "/v1/queue/flush", {"all": True})
            return not self.engine.api("GET", "/v1/queue")[1]["items"]
        wait_for(empty, "an empty queue", 60)
        self.assertEqual(sorted(to for mail in self.sink.ledger() for to in mail["to"]), sorted(sent))

    def test_a_version_that_does_not_load_changes_nothing_and_is_placed(self):
        self.expects_errors = True
        self.plugins.add("route", ROUTE.format(self.sink.endpoint)).start()
        self.ready()
        self.write("route", "'use strict'\n\nexports.hook_get_mx = function (next {\n")
        wait_for(lambda: self.shown()["host"]["failed_reloads"] == 1, "the attempt")
        place = f"{self.engine.directory}/plugins/route.js:3"
        self.engine.wait_logged(place)
        self.submit()
        self.sink.wait(1)
        done = self.cli("plugins", "reload", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{place}: route: SyntaxError", done.stderr)
        self.write("route", ROUTE.format(self.sink.endpoint) + "exports.hook_delivered = (next) => next()\n")
        wait_for(lambda: self.listener("delivered", "route"), "the mended version")

    def test_the_list_itself(self):
        self.plugins.add("one", "exports.hook_get_mx = (next) => next()").start()
        self.ready()
        self.write("two", ROUTE.format(self.sink.endpoint))
        (self.engine.config / "plugins").write_text(self.engine.files["plugins"] + "two\n")
        wait_for(lambda: self.listener("get_mx", "two"), "the plugin that was added")
        self.submit()
        self.sink.wait(1)
        self.assertNotIn("after a restart", self.engine.process.output())
        self.assertEqual(self.cli("plugins", "reload").stdout, "in service: one,two\n")

    def test_a_plugin_that_is_installed_after_it_was_listed(self):
        self.engine.files["plugins"] += "late\n"
        self.plugins.start()
        self.engine.wait_logged("plugin `late` is neither in plugins/ nor in node_modules/")
        (self.engine.directory / "plugins").mkdir(exist_ok=True)
        self.write("late", ROUTE.format(self.sink.endpoint))
        self.assertEqual(self.cli("plugins", "reload").stdout, "in service: late\n")
        self.submit()
        self.sink.wait(1)

    def test_a_plugin_that_vanishes_for_a_moment_goes_on(self):
        self.expects_errors = True  # it cannot be loaded meanwhile
        self.plugins.add("route", ROUTE.format(self.sink.endpoint)).start()
        self.ready()
        file = self.engine.directory / "plugins" / "route.js"
        file.rename(file.with_suffix(".away"))
        self.cli("reload")
        self.engine.wait_logged("plugin `route` is no longer in plugins/ nor in node_modules/; what is loaded of it goes on")
        wait_for(lambda: self.shown()["host"]["failed_reloads"] == 1, "the attempt without it")
        self.submit()
        self.sink.wait(1)
        # One that starts meanwhile waits for it.
        os.kill(self.plugins.host(), signal.SIGKILL)
        self.submit()
        self.engine.wait_logged("plugin `route` is neither in plugins/ nor in node_modules/", 2)
        file.with_suffix(".away").rename(file)
        self.sink.wait(2)
        wait_for(lambda: self.shown()["host"]["state"] == "ready", "the plugin host")
        self.assertEqual(self.cli("plugins", "reload").stdout, "in service: route\n")
        self.assertEqual(self.cli("reload").stdout, "")

    def test_the_first_plugin_of_all(self):
        self.plugins.start()
        self.assertEqual(self.shown()["host"]["state"], "none")
        (self.engine.directory / "plugins").mkdir(exist_ok=True)
        self.write("route", ROUTE.format(self.sink.endpoint))
        (self.engine.config / "plugins").write_text(self.engine.files["plugins"] + "route\n")
        wait_for(lambda: self.shown()["host"]["state"] == "ready", "the plugin host")
        self.submit()
        self.sink.wait(1)


class TheModule(Tools):
    def test_ten_failures_a_minute_lower_the_rate_of_an_mx(self):
        """The script of Halon's announcement."""
        peer = Scripted(self, {"RCPT": "450 4.2.1 later"})
        self.engine.files["policy.yaml"] = "policies:\n  - fields: [remotemx]\n    default: { rate: 1000 }\n"
        self.engine.set("outbound.ini", temp_fail_intervals="1h")
        self.plugins.add("route", f"exports.hook_get_mx = (next, hmail) => next(OK, 'localhost:{peer.endpoint.rpartition(':')[2]}')")
        self.plugins.add("slow-down", (HOST / "examples" / "slow-down.js").read_text()).start()
        for number in range(10):
            self.submit(f"b{number}@dst.test")
        self.engine.wait_event("deferred", count=10)
        wait_for(lambda: self.used("localhost") == 10, "ten failures to be counted")
        self.assertEqual(self.engine.api("GET", "/v1/policy/conditions")[1]["conditions"], [])
        for number in range(3):
            self.submit(f"c{number}@dst.test")
        condition = wait_for(lambda: self.engine.api("GET", "/v1/policy/conditions")[1]["conditions"], "the condition")[0]
        self.assertEqual((condition["author"], condition["class"]), ("plugin slow-down", "back_off"))
        self.assertEqual(len(self.engine.api("GET", "/v1/policy/conditions")[1]["conditions"]), 1)

    def used(self, mx):
        return self.engine.api("POST", "/v1/memory/rate", {"namespace": "failures", "key": mx, "count": 0, "seconds": 60})[1]["used"]

    def test_memory_is_shared_and_outlives_the_host(self):
        self.plugins.add("asks", f"""const {{ memory, queue, explain, policy, suspend, rate, cache }} = require('sluice')
            exports.hook_get_mx = async function (next, hmail, domain) {{
                const {{ notes }} = hmail.todo
                notes.limit = await memory.get('limit:' + domain)
                notes.count = await memory.incr('count', 2)
                notes.swaps = [await memory.compareAndSet('lock', undefined, 'me'), await memory.compareAndSet('lock', undefined, 'you')]
                await memory.set('brief', [1], {{ ttl: 1 }})
                const left = await memory.ttl('brief')
                notes.ttl = [left > 0 && left <= 1, String(await memory.ttl('count')), String(await memory.ttl('absent')), await memory.get('brief')]
                await new Promise((resolve) => setTimeout(resolve, 1100))
                notes.ttl.push(String(await memory.get('brief')), await memory.compareAndSet('brief', [1], 2), await memory.delete('brief'))
                notes.queued = await queue.count('domain=' + domain)
                notes.why = (await explain(hmail.uuid)).length
                const added = await suspend.add({{ remotemx: 'never.test', ttl: 60 }})
                notes.mine = (await suspend.list()).some((one) => one.id === added.id && one.author === 'plugin asks')
                await suspend.delete(added.id)
                notes.bad = await policy.add({{ if: {{ colour: 'x' }}, then: {{ rate: 1 }} }}).catch((error) => [error.status, error.field])
                require('fs').writeFileSync('{self.engine.directory}/said', JSON.stringify(notes))
                next(OK, '{self.sink.endpoint}')
            }}""").start()
        self.ready()
        entries = [{"key": "limit:dst.test", "value": {"most": 7}}, {"key": "count", "value": 40}]
        self.assertEqual(self.engine.api("POST", "/v1/memory", {"entries": entries}), (200, {"set": 2}))
        self.submit()
        self.sink.wait(1)
        said = json.loads((self.engine.directory / "said").read_text())
        self.assertEqual(said["limit"], {"most": 7})
        self.assertEqual((said["count"], said["swaps"], said["queued"], said["why"], said["mine"]), (42, [True, False], 1, 1, True))
        self.assertEqual(said["ttl"], [True, "Infinity", "undefined", [1], "undefined", False, False])
        self.assertEqual(said["bad"][0], 422)
        self.cli("plugins", "reload")
        self.submit("c@dst.test")
        self.sink.wait(2)
        self.assertEqual(self.engine.api("GET", "/v1/memory?key=count")[1]["value"], 44)
        self.assertEqual(self.engine.api("GET", "/v1/suspensions")[1]["suspensions"], [])


class Declarations(Tools):
    def test_the_declarations_of_the_module_compile(self):
        """With the compiler of TypeScript: what the reference shows is right, and what is wrong is refused."""
        modules = node_modules(TYPESCRIPT)
        folder = self.engine.directory
        folder.mkdir(exist_ok=True)
        (folder / "plugin.ts").write_text("""/// <reference path="./sluice.d.ts" />
import { policy, suspend, rate, cache, memory, queue, explain, request, SluiceError } from 'sluice'

const slowDown = cache(300, (mx: string) => policy.add({
    if: { remotemx: mx }, then: { rate: '10/60', tag: 'slow-down' }, ttl: 300, class: 'back_off', reason: 'more than 10 failures a minute',
}))

export async function all(mx: string): Promise<void> {
    const allowed: boolean = await rate('failures', mx, 10, 60)
    const used: number = await rate('failures', mx, 0, 60)
    const { id } = await slowDown(mx)
    if (id) await policy.delete(id, 'over')
    const added = await suspend.add({ remotemx: ['a.test', '*.b.test'], ttl: 60, percent: 50 })
    if (added.id) await suspend.delete(added.id)
    for (const one of [...await policy.list(), ...await suspend.list()]) console.log(one.id)
    await memory.set('k', { a: [1, 'x', null] }, { ttl: 5 })
    const value = await memory.get('k')
    const sum: number = await memory.incr('n', 2, { ttl: 60 })
    const done: boolean = await memory.compareAndSet('lock', undefined, 'me')
    const left: number | undefined = await memory.ttl('k')
    const deleted: boolean = await memory.delete('k')
    const { entries } = await memory.list({ prefix: 'vip:', limit: 10 })
    const waiting: number = await queue.count('domain=*.example.org age>2h')
    const { items, cursor } = await queue.list({ where: 'age>1h', limit: 5 })
    await queue.groups(['domain', 'tenant'], { limit: 5 })
    await queue.stats()
    await explain('example.org')
    await request('POST', '/v1/queue/flush', { body: { all: true } })
    try { await memory.get('') } catch (error) { if (error instanceof SluiceError) console.log(error.status, error.field) }
    console.log(allowed, used, value, sum, done, left, deleted, entries.length, waiting, items.length, cursor)
    // @ts-expect-error: a word that is none
    await policy.add({ if: { remotemx: mx }, then: { rate: 1 }, class: 'colour' })
    // @ts-expect-error: no number
    await memory.incr('n', 'two')
}
""")
        (folder / "sluice.d.ts").write_text((HOST / "sluice.d.ts").read_text())
        command = ["node", modules / "typescript" / "bin" / "tsc", "--noEmit", "--strict", "--target", "es2022", "--module", "commonjs", "--lib",
                   "es2022,dom", "plugin.ts"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))


class Authors(Tools):
    def test_a_new_plugin_runs_is_tested_and_rehearsed(self):
        self.engine.write()
        made = self.cli("plugin", "new", "my-routes").stdout
        self.assertIn("plugins/my-routes.js", made)
        self.assertNotIn("my-routes", (self.engine.config / "plugins").read_text())
        source = (self.engine.directory / "plugins" / "my-routes.js").read_text()
        again = self.cli("plugin", "new", "my-routes", check=False)
        self.assertEqual((again.returncode, source), (1, (self.engine.directory / "plugins" / "my-routes.js").read_text()))
        self.assertIn("exists already", again.stderr)
        for name in ("tls", "../x", "dkim_sign", "a b"):
            self.assertEqual(self.cli("plugin", "new", name, check=False).returncode, 1, name)
        env = {**os.environ, "NODE_PATH": str(self.plugins.modules)}
        tests = subprocess.run(
            ["node", "--test", str(self.engine.directory / "test" / "my-routes.test.js")], capture_output=True, text=True, env=env, check=False)
        self.assertEqual(tests.returncode, 0, tests.stdout[-4000:])
        (self.engine.config / "my-routes.ini").write_text(f"[routes]\ndst.test={self.sink.endpoint}\n")
        tried = self.cli("plugin", "test", "my-routes", "--item", '{"domain":"dst.test"}').stdout
        self.assertIn(f"get_mx: the mail goes to {self.sink.endpoint}", tried)
        self.assertIn("delivered: the mail was heard of", tried)
        answers = json.loads(self.cli("--json", "plugin", "test", "my-routes", "--hook", "get_mx").stdout)["answers"]
        self.assertEqual(list(answers), ["get_mx"])
        self.plugins.start()
        self.engine.files["plugins"] += "my-routes\n"
        (self.engine.config / "plugins").write_text(self.engine.files["plugins"])
        wait_for(lambda: self.listener("get_mx", "my-routes"), "the new plugin")
        self.submit()
        self.sink.wait(1)

    def test_a_new_plugin_may_have_a_name_of_the_engines_own_where_the_instance_wants_it(self):
        self.engine.write()
        refused = self.cli("plugin", "new", "relay", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("with `instead=relay` in plugin_host.ini it would be", refused.stderr)
        self.engine.set("plugin_host.ini", instead="relay")
        self.engine.files["plugins"] += "relay\n"  # an error until the plugin is there
        self.engine.write()
        self.assertEqual(self.cli("plugin", "new", "tls", check=False).returncode, 1)
        self.assertIn("it is listed in config/plugins", self.cli("plugin", "new", "relay").stdout)
        self.assertEqual(self.cli("check").returncode, 0)

    def test_hooks_of_mail_in_are_rehearsed_with_a_client(self):
        self.plugins.add("gate", """exports.hook_connect = (next, connection) => connection.remote.ip === '192.0.2.66' ? next(DENY, 'go away') : next()
            exports.hook_rcpt = (next, connection, [rcpt]) => rcpt.user === 'nobody' ? next(DENY, '5.1.1 no such user') : next(OK)
            exports.hook_data_post = (next, connection) => { connection.transaction.add_header('X-Gate', connection.hello.host); next() }
            exports.hook_queue_outbound = (next, connection) => next(connection.relaying ? CONT : DENY)""")
        self.engine.write()
        message = self.engine.directory / "message.eml"
        message.write_text("Subject: from a file\n\nbody\n")
        said = self.cli("plugin", "test", "gate", "--ehlo", "me.test", "--message", str(message), "--dump-stream", "--set-relay").stdout
        for pattern in (r"^connect: CONT", r"^rcpt: OK", r"^data_post: CONT", r"^queue_outbound: CONT", r"^Subject: from a file\nX-Gate: me.test$"):
            self.assertRegex(said, re.compile(pattern, re.M))
        refused = self.cli("plugin", "test", "gate", "--ip", "192.0.2.66", "--envrcpt", "nobody@dst.test", "--skip-deny").stdout
        self.assertIn("  the client is refused: 554 go away\n", refused)
        self.assertIn("  the client is refused: 550 5.1.1 no such user\n", refused)
        answers = json.loads(self.cli("--json", "plugin", "test", "gate", "--ip", "192.0.2.66", "--envfrom", "").stdout)
        self.assertEqual([step["point"] for step in answers["session"]], ["opening"])
        self.assertEqual(self.cli("plugin", "test", "gate", "--ip", "nowhere", check=False).returncode, 2)

    def test_rehearsals_say_what_is_wrong(self):
        self.engine.write()
        self.cli("plugin", "new", "queue/odd", "--enable")
        self.assertIn("queue/odd\n", (self.engine.config / "plugins").read_text())
        self.write("broken", "exports.x = {\n")
        broken = self.cli("plugin", "test", "broken", check=False)
        self.assertEqual(broken.returncode, 1)
        self.assertRegex(broken.stderr, r"plugins/broken\.js:\d+: SyntaxError")
        self.assertEqual(self.cli("plugin", "test", "broken", "--hook", "colour", check=False).returncode, 2)
        self.write("asks", "exports.hook_get_mx = async function (next) { next(OK, (await require('sluice').memory.get('mx')) + '.test') }\n")
        refused = self.cli("plugin", "test", "asks", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("asked the engine: GET /v1/memory", refused.stdout)
        self.engine.start(env={"NODE_PATH": str(self.plugins.modules)})
        self.engine.api("POST", "/v1/memory", {"key": "mx", "value": "found"})
        self.assertIn("goes to found.test", self.cli("plugin", "test", "asks", "--engine").stdout)
