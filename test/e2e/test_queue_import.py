"""Moving house: what a Haraka had accepted is delivered, as it would have been, once; whatever happens on the way."""

import collections
import concurrent.futures
import datetime
import hashlib
import json
import os
import random
import shutil
import smtplib
import socket
import subprocess
import time

from haraka_home import Instance, RealHaraka, contents_of, name_of, prepare_haraka, queue_file
from plugin_home import HOST, dkim_key, node_modules
from world import EndToEnd, free_port, wait_for

FILES = int(os.environ.get("SLUICE_IMPORT_FILES", "300"))


def now_ms():
    return time.time_ns() // 1_000_000


def digest(octets):
    return hashlib.sha256(octets).hexdigest()


def wall_ms(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


class QueueImport(EndToEnd):
    """Queue files that the test writes itself."""

    def setUp(self):
        super().setUp()
        self.old = self.world.directory / "old"
        self.old.mkdir()
        self.sink = self.world.sink()
        self.engine = self.world.engine().route("any", self.sink.endpoint)

    def put(self, name, octets, folder=None):
        (folder or self.old).mkdir(parents=True, exist_ok=True)
        ((folder or self.old) / name).write_bytes(octets)

    def fill(self, count, folder=None, due=0):
        """Queue files with one recipient each; gives what each recipient is to get."""
        expected = {}
        for number in range(count):
            to, content = f"r{number}@dst{number % 7}.test", f"Subject: {number}\r\n\r\n.{number}\r\n".encode() * 3
            self.put(name_of(number, now_ms() - 60_000, due or now_ms() - 1000), queue_file([to], content, queue_time=now_ms() - 60_000), folder)
            expected[to] = digest(content)
        return expected

    def received(self):
        return collections.Counter((to, line["sha256"]) for line in self.sink.ledger() for to in line["to"])

    def imported(self, state="done"):
        """What became of the last import, when it is over."""
        def over():
            status, body = self.engine.api("GET", "/v1/queue/import")
            return body if status == 200 and body["state"] not in ("running", "waiting") else None
        found = wait_for(over, "the end of the import")
        self.assertEqual(found["state"], state, found)
        return found

    def items(self):
        return {item["recipients"][0]: item for item in self.engine.api("GET", "/v1/queue?limit=10000")[1]["items"]}

    def test_every_form_of_queue_files(self):
        arrival = now_ms() - 3_600_000
        forms = {
            "now": (name_of(1, arrival, arrival), {"generation": "3.2", "uuid": "AB-1.1"}),
            "before_3_2": (name_of(2, arrival, arrival + 64_000, 1), {"generation": "3.1"}),
            "plain": (name_of(3, arrival, arrival), {"generation": "2.0", "indent": None}),
            "texts": (name_of(4, arrival, arrival), {"generation": "text"}),
            "old_name": ("1484878079415_2_12345_8888.mta1.example.com", {"generation": "2.0"}),
            "null_sender": (name_of(6, arrival, arrival), {"generation": "2.0", "sender": ""}),
            "stuck": (f"{arrival}_NaN_1_999999999_u00007_1_mx", {}),
            "escaped": (name_of(8, arrival, arrival, host="a\\057137b"), {}),
        }
        expected = {}
        for form, (name, options) in forms.items():
            content = f"Subject: {form}\r\nX-Long: {'x' * 900}\r\n\r\n.\r\n..\r\n.leading\r\n\xe9\r\n".encode("latin-1")
            self.put(name, queue_file([f"{form}@dst.test", f"second-{form}@dst.test"], content, **options))
            expected[form] = digest(content)
        self.engine.start()
        done = self.engine.import_queue(self.old)
        self.assertIn("imported 8 of 8 files", done.stdout)
        self.sink.wait(8)
        self.engine.wait_empty()
        self.assertEqual(self.received(), collections.Counter(
            {(f"{second}{form}@dst.test", sha): 1 for form, sha in expected.items() for second in ("", "second-")}))
        senders = {line["to"][0]: line["from"] for line in self.sink.ledger()}
        self.assertEqual(senders["null_sender@dst.test"], "")
        self.assertEqual(senders["now@dst.test"], "a@src.test")
        self.assertEqual(os.listdir(self.old), [])
        self.assertEqual(len(self.engine.events("accepted", origin="haraka AB-1.1")), 1, self.engine.events("accepted")[:2])

    def test_schedules_are_kept(self):
        arrival, due = now_ms() - 7_200_000, now_ms() + 3_600_000
        self.put(name_of(1, arrival, due, 4), queue_file(["later@dst.test"], b"\r\nx\r\n", queue_time=arrival - 1000))
        self.engine.start()
        self.engine.import_queue(self.old)
        for _ in range(2):
            item = self.items()["later@dst.test"]
            self.assertEqual((item["state"], item["attempts"], item["domain"]), ("scheduled", 4, "dst.test"))
            self.assertAlmostEqual(wall_ms(item["next"]), due, delta=3000)
            self.assertAlmostEqual(wall_ms(item["arrival"]), arrival - 1000, delta=3000)
            self.engine.restart_after_kill()
        self.assertEqual(self.sink.ledger(), [])

    def deliver_each_once(self, expected):
        self.engine.set("outbound.ini", disabled="false")
        self.engine.start()
        self.sink.wait(len(expected))
        self.engine.wait_empty()
        self.engine.stop()
        self.assertEqual(self.received(), collections.Counter({(to, sha): 1 for to, sha in expected.items()}))

    def test_a_start_takes_over_the_own_queue_directory(self):
        expected = self.fill(40, self.engine.directory / "queue")
        self.engine.start()
        self.assertEqual(self.imported()["imported"], 40)
        self.sink.wait(40)
        self.engine.wait_empty()
        self.assertEqual(self.received(), collections.Counter({(to, sha): 1 for to, sha in expected.items()}))
        wait_for(lambda: self.engine.api("GET", "/v1/status")[1]["journal"]["live_messages"] == 0, "the outcomes to be on disk")
        self.engine.restart_after_kill()
        self.engine.stop()
        self.assertEqual(len(self.sink.ledger()), 40)

    def test_what_is_corrupt_is_left_and_told(self):
        whole = queue_file(["b@dst.test"], b"\r\nx\r\n")
        bad = {name_of(1, 1, 1): b"", name_of(2, 1, 1): whole[:50], name_of(3, 1, 1): whole[:4] + b"}" + whole[5:],
               "error." + name_of(4, 1, 1): whole, "notes.txt": b"x"}
        for name, octets in bad.items():
            self.put(name, octets)
        self.put("__tmp__." + name_of(5, 1, 1), whole[:30])
        self.put(name_of(6, 1, 1), whole)
        self.engine.start()
        before = {name: (self.old / name).read_bytes() for name in bad}
        dry = self.engine.cli("queue", "import", self.old, "--dry-run", check=False)
        self.assertEqual((dry.returncode, len(os.listdir(self.old))), (1, 7))
        self.assertIn("would import 1 of 4 files", dry.stdout)
        done = self.engine.cli("queue", "import", self.old, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("imported 1 of 4 files", done.stdout)
        told = self.imported()
        self.assertEqual({left["file"] for left in told["left_files"]}, set(bad))
        offsets = {left["file"]: left["offset"] for left in told["left_files"]}
        self.assertEqual((offsets[name_of(2, 1, 1)], offsets[name_of(3, 1, 1)]), (0, 4))
        self.assertEqual(told["temporary"], 1)
        for name, octets in before.items():
            self.assertIn(f"left: {name}: octet ", done.stderr)
            self.assertEqual((self.old / name).read_bytes(), octets)
        self.sink.wait(1)
        self.engine.wait_logged("a queue file is left where it is")

    def test_without_an_engine_only_a_dry_run(self):
        self.fill(3)
        self.engine.write()
        self.assertIn("would import 3 of 3 files", self.engine.cli("queue", "import", self.old, "--dry-run").stdout)
        refused = self.engine.cli("queue", "import", self.old, check=False)
        self.assertEqual(refused.returncode, 69)
        self.assertIn("start it", refused.stderr)
        self.assertEqual(len(os.listdir(self.old)), 3)

    def test_a_process_that_files_name_is_noticed_by_its_title(self):
        """The plugin process_title hides the command line; pids in file names tell then. `--force` when it is somebody else."""
        host = socket.gethostname().replace("\\", "\\057").replace(":", "\\072").replace("_", "\\137")
        child = subprocess.Popen(["Haraka (worker 1)", "600"], executable=shutil.which("sleep"))
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        queue = self.engine.directory / "queue"
        for number, name in enumerate((host, "another-host")):
            self.put(name_of(number, now_ms(), now_ms(), pid=child.pid, host=name), queue_file([f"r{number}@dst.test"], b"\r\nx\r\n"), queue)
        self.engine.start()
        self.assertIn(f"process {child.pid}", self.imported("failed")["problem"])
        self.engine.wait_logged("a queue is not imported")
        self.assertEqual(self.engine.cli("queue", "import", queue, check=False).returncode, 1)
        self.assertIn("imported 2 of 2", self.engine.cli("queue", "import", queue, "--force").stdout)
        self.sink.wait(2)
        self.put(name_of(2, now_ms(), now_ms(), pid=child.pid, host="another-host"), queue_file(["r2@dst.test"], b"\r\nx\r\n"), queue)
        self.assertIn("imported 1 of 1", self.engine.cli("queue", "import", queue).stdout)

    def test_mistakes_are_told(self):
        self.engine.start()
        (self.old / "config").mkdir()
        (self.old / "queue").mkdir()
        told = self.engine.cli("queue", "import", self.old, check=False)
        self.assertIn(f"did you mean `{self.old}/queue`?", told.stderr)
        self.assertIn("No such file", self.engine.cli("queue", "import", self.old / "none", check=False).stderr)
        self.assertEqual(self.engine.api("POST", "/v1/queue/import", {"directory": "relative"})[0], 422)

    def test_kill_9_again_and_again_gives_each_message_once(self):
        self.engine.set("outbound.ini", disabled="true")
        count = max(FILES * 5, 1500)
        expected = self.fill(count, self.engine.directory / "queue")
        queue = self.engine.directory / "queue"

        def files():
            return sum(1 for name in os.listdir(queue) if name.startswith("1"))

        deaths = 0
        while files() > 0 and deaths < 12:
            self.engine.start(wait=False)
            goal = files() - random.randrange(1, 250)
            wait_for(lambda: files() <= max(goal, 0), "some files to be imported")
            self.engine.process.kill()
            deaths += 1
        self.assertGreaterEqual(deaths, 3)
        self.deliver_each_once(expected)

    def test_kill_9_at_each_step_gives_each_message_once(self):
        """Dies in the system calls themselves: before a file is removed, in the middle of a portion, before the directory is synced."""
        if not shutil.which("strace"):
            self.skipTest("strace is not installed")
        self.engine.set("outbound.ini", disabled="true")
        count = 700
        queue = self.engine.directory / "queue"
        expected = self.fill(count, queue)
        deaths = 0
        for call, when in (("unlinkat", 1), ("unlinkat", 100), ("unlinkat", 256), ("fsync", 3), ("unlinkat", 300), ("fsync", 4)):
            strace = ["strace", "-D", "-f", "-q", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
            self.engine.start(wait=False, command=strace)
            wait_for(lambda: not self.engine.process.running() or not any(name.startswith("1") for name in os.listdir(queue)),
                     f"the death at {call} {when}")
            deaths += not self.engine.process.running()
            self.engine.process.kill()
        self.assertGreaterEqual(deaths, 3)
        self.deliver_each_once(expected)


class FromHaraka(EndToEnd):
    """Queue files that a real Haraka wrote."""

    def setUp(self):
        super().setUp()
        prepare_haraka()
        self.haraka = RealHaraka(self.world.directory / "haraka", f"127.0.0.1:{free_port()}")
        self.addCleanup(self.haraka.stop)

    def message_of(self, number):
        """Bodies of all kinds: dots, octets above 127, long lines, no last line end, large ones."""
        bodies = [f"plain {number}\r\n", f".\r\n..\r\n.{number}\r\n...\r\n", f"caf\u00e9 {number}\r\n", "x" * 900 + f" {number}\r\n",
                  f"\r\n\r\n{number}\r\n\r\n", ("line of a large one " * 4 + "\r\n") * 900]
        head = f"From: <a@src.test>\r\nSubject: message {number}\r\n folded\r\nX-Number: {number}\r\n\r\n"
        return (head + bodies[number % len(bodies)]).encode()

    def recipients_of(self, number):
        several = [f"two{number}@dst.test", f"three{number}@other.test"] if number % 10 == 0 else []
        return [f"one{number}@dst.test", *several]

    def submit(self, numbers):
        with smtplib.SMTP("127.0.0.1", self.haraka.port, timeout=60) as client:
            for number in numbers:
                client.sendmail("a@src.test", self.recipients_of(number), self.message_of(number))

    def accept(self, count):
        """Haraka takes so many messages and tries each once; gives the number of files."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(self.submit, [range(first, count, 4) for first in range(4)]))
        files = sum(len({to.rpartition("@")[2] for to in self.recipients_of(number)}) for number in range(count))
        wait_for(lambda: len(self.haraka.names()) == files and all(name.split("_")[2] == "1" for name in self.haraka.names()),
                 f"{files} deferred files", patience=60 + count / 20)
        return files

    def deliver_by_haraka(self, queue):
        """What a receiver gets when Haraka itself delivers a copy of the queue."""
        sink = self.world.sink("--no-check", name="reference")
        copy = self.world.directory / "copy"
        shutil.copytree(self.haraka.folder, copy, ignore=shutil.ignore_patterns("queue"))
        shutil.copytree(queue, copy / "queue")
        for name in os.listdir(copy / "queue"):
            parts = name.split("_")
            os.rename(copy / "queue" / name, copy / "queue" / "_".join([parts[0], "1", *parts[2:]]))
        files = len(os.listdir(copy / "queue"))
        again = Instance(copy, sink.endpoint)
        try:
            sink.wait(files, patience=60 + files / 20)
        finally:
            again.stop()
        return collections.Counter((*sorted(line["to"]), line["sha256"]) for line in sink.ledger())

    def test_a_queue_comes_over_complete_and_octet_by_octet(self):
        files = self.accept(FILES)
        self.haraka.stop()
        expected, schedules = collections.Counter(), {}
        for name in self.haraka.names():
            todo, content = contents_of((self.haraka.queue / name).read_bytes())
            to = [f'{one["user"]}@{one["original_host"]}' for one in todo["rcpt_to"]]
            expected[(*sorted(to), digest(content))] += 1
            schedules[to[0]] = (int(name.split("_")[1]), int(name.split("_")[2]), todo["queue_time"])
        self.assertEqual(self.deliver_by_haraka(self.haraka.queue), expected, "what the test makes of the files is what Haraka sends")

        sink = self.world.sink()
        engine = self.world.engine().route("any", sink.endpoint).start()
        done = engine.cli("queue", "import", self.haraka.queue)
        self.assertIn(f"imported {files} of {files} files", done.stdout)
        items = engine.api("GET", "/v1/queue?limit=10000")[1]["items"]
        self.assertEqual(len(items), min(files, 10_000))
        for item in items:
            due, attempts, queued = schedules[item["recipients"][0]]
            self.assertEqual(item["attempts"], attempts)
            self.assertAlmostEqual(wall_ms(item["next"]), due, delta=3000)
            self.assertAlmostEqual(wall_ms(item["arrival"]), queued, delta=3000)
        self.assertEqual(sink.ledger(), [])
        engine.api("POST", "/v1/queue/flush", {"all": True})
        sink.wait(files, patience=60 + files / 100)
        engine.wait_empty()
        self.assertEqual(collections.Counter((*sorted(line["to"]), line["sha256"]) for line in sink.ledger()), expected)
        self.assertEqual(self.haraka.names(), [])

    def test_a_running_haraka_is_noticed(self):
        self.accept(2)
        engine = self.world.engine().start()
        told = engine.cli("queue", "import", self.haraka.queue, check=False)
        self.assertEqual(told.returncode, 1)
        self.assertIn(f"process {self.haraka.server.pid}", told.stderr)
        self.assertEqual(len(self.haraka.names()), 3)
        self.assertIn("would import 3 of 3", engine.cli("queue", "import", self.haraka.queue, "--dry-run").stdout)
        self.haraka.stop()
        self.assertIn("imported 3 of 3", engine.cli("queue", "import", self.haraka.queue).stdout)

    def test_an_instance_with_its_plugins_goes_on_under_sluice(self):
        """One directory: Haraka takes mail and is stopped, Sluice starts there and delivers through the same plugins."""
        modules = node_modules()
        files = self.accept(20)
        self.haraka.stop()
        uuids = {contents_of((self.haraka.queue / name).read_bytes())[0]["uuid"] for name in self.haraka.names()}

        # One that a plugin had noted something on; Haraka before 3.2 keeps that.
        noted = queue_file(["noted@dst.test"], b"\r\nx\r\n", uuid="NOTED.1", notes={"accounted": {"to": 1}}, more={"seen": [1]})
        (self.haraka.queue / name_of(1, now_ms(), now_ms(), 1)).write_bytes(noted)
        uuids.add("NOTED.1")
        files += 1

        sink = self.world.sink()
        engine = self.world.engine()
        engine.directory, engine.port = self.haraka.folder, self.haraka.port
        engine.write = lambda: None  # the directory is taken as it is
        (self.haraka.folder / "config" / "sink").write_text(sink.endpoint + "\n")  # the destination is back
        (self.haraka.folder / "config" / "plugin_host.ini").write_text(f"folder={HOST}\n")
        engine.start(env={"NODE_PATH": str(modules), "HARAKA": str(self.haraka.folder)})
        wait_for(lambda: self.haraka.names() == [], "the queue to be taken over")
        engine.api("POST", "/v1/queue/flush", {"all": True})
        sink.wait(files)
        engine.wait_empty()

        def accounts(count):
            file = self.haraka.folder / "accounts"
            lines = file.read_text().splitlines() if file.exists() else []
            return [json.loads(line) for line in lines] if len(lines) == count else None

        told = wait_for(lambda: accounts(files), f"{files} accounts; {engine.process.output()[-2000:]}")
        self.assertEqual({one["uuid"] for one in told}, uuids, "plugins know the message by the id that Haraka gave it")
        for one in told:
            self.assertIn(one["notes"]["accounted"]["to"], (1, 3))
            self.assertEqual(one["fails"], 1)
            self.assertEqual(one["seen"], [[1]] if one["uuid"] == "NOTED.1" else [None] * len(one["seen"]))
        # New mail: the same plugins let it in, note on it, route it, and keep accounts.
        self.submit(range(101, 111))
        new = sum(len({to.rpartition("@")[2] for to in self.recipients_of(number)}) for number in range(101, 111))
        sink.wait(files + new)
        told = wait_for(lambda: accounts(files + new), "the new accounts")[files:]
        self.assertEqual({one["notes"]["accounted"]["to"] for one in told}, {1, 3})
        self.assertEqual({one["fails"] for one in told}, {0})

    def test_packages_of_npm_go_on_under_sluice(self):
        """The same with packages: haraka-plugin-dkim signed what Haraka had accepted, and signs what Sluice accepts."""
        try:
            import dkim
        except ImportError:
            self.skipTest("python3-dkim is not installed")
        modules, records = node_modules(), []

        def furnish(folder):
            (folder / "node_modules").mkdir()
            for package in ("Haraka", "haraka-plugin-dkim"):
                (folder / "node_modules" / package).symlink_to(modules / package)
            (folder / "config" / "plugins").write_text("route\naccounts\ndkim\nprocess_title\n")
            (folder / "config" / "dkim.ini").write_text("[sign]\nenabled=true\nheaders=From, Subject, Date, Message-ID\n[verify]\nenabled=false\n")
            records.append(dkim_key(folder / "config"))

        self.haraka.stop()
        self.haraka = RealHaraka(self.world.directory / "furnished", f"127.0.0.1:{free_port()}", furnish=furnish)
        self.addCleanup(self.haraka.stop)
        files = self.accept(12)
        self.haraka.stop()
        arrived = self.world.directory / "arrived"
        arrived.mkdir()
        sink = self.world.sink("--dir", arrived)
        engine = self.world.engine()
        engine.directory, engine.port, engine.write = self.haraka.folder, self.haraka.port, lambda: None
        (self.haraka.folder / "config" / "sink").write_text(sink.endpoint + "\n")
        (self.haraka.folder / "config" / "plugin_host.ini").write_text(f"folder={HOST}\n")
        engine.start(env={"NODE_PATH": str(modules), "HARAKA": str(self.haraka.folder)})
        wait_for(lambda: self.haraka.names() == [], "the queue to be taken over")
        engine.api("POST", "/v1/queue/flush", {"all": True})
        sink.wait(files)
        self.submit(range(101, 107))
        sink.wait(files + 6)
        engine.wait_empty()
        plugins = {plugin["name"] for plugin in engine.api("GET", "/v1/plugins")[1]["plugins"]}
        self.assertEqual(plugins, {"route", "accounts", "dkim", "process_title"})
        mails = [file.read_bytes() for file in arrived.glob("*.eml")]
        self.assertEqual(len(mails), files + 6)
        for mail in mails:
            self.assertEqual(mail.count(b"\r\nDKIM-Signature:") + mail.startswith(b"DKIM-Signature:"), 1, mail[:600])
            self.assertTrue(dkim.verify(mail, dnsfunc=lambda name, timeout=5: records[0]), mail[:600])
