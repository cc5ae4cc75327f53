"""What else may lie in the folders of an instance: foreign files, links, pipes, files without end. Nothing hangs, nothing outside is
touched, no mail is lost, and what cannot be passed over is named."""

import os
import pathlib
import socket
import subprocess
import time
import unittest

from attacks import Attack, free_port
from haraka_home import name_of, queue_file
from world import PATIENCE, SLUICE, wait_for

TEBIBYTE = 1 << 40


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


class Folders(Attack):
    def setUp(self):
        super().setUp()
        self.outside = self.world.directory / "outside"
        self.outside.write_text("not of the queue\n")
        self.kinds = {
            "a pipe": os.mkfifo, "a folder": os.mkdir, "a socket": make_socket,
            "a link to a file": lambda path: os.symlink(self.outside, path),
            "a link to itself": lambda path: os.symlink(path, path),
            "a link to endless zeroes": lambda path: os.symlink("/dev/zero", path)}

    def clear(self, path):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif path.exists() or path.is_symlink():
            path.unlink()

    def assert_untouched(self):
        self.assertEqual(self.outside.read_text(), "not of the queue\n")


class QueueFolder(Folders):
    """Some messages wait in the queue while things appear beside its files."""

    def setUp(self):
        super().setUp()
        self.dead = free_port()
        self.engine.route("any", f"127.0.0.1:{self.dead}").set("outbound.ini", temp_fail_intervals="1h*10")
        self.queue = self.engine.directory / "queue"
        self.kept = 0

    def fill(self, count=4):
        self.engine.start()
        for _ in range(count):
            self.kept += 1
            self.assertEqual(self.by_json(b"Subject: x\n\nhello\n", f"b{self.kept}@dst.test")[0], 202)
        self.engine.stop()

    def start_and_stop(self):
        """It starts in time, with all that was queued."""
        began = time.monotonic()
        self.engine.start()
        self.assertLess(time.monotonic() - began, PATIENCE / 2)
        self.assertEqual(self.queued(), self.kept)
        self.assertEqual(self.engine.stop(), 0)
        self.assert_untouched()

    def refused_start(self, *words):
        self.engine.start(wait=False)
        wait_for(lambda: not self.engine.process.running(), "the start to be refused")
        self.assertEqual(self.engine.process.child.returncode, 1)
        for word in words:
            self.assertIn(word, self.engine.process.output())
        self.assert_untouched()

    def test_PATH_1_names_that_mean_nothing_here_are_left_alone(self):
        self.fill()
        names = [b"notes", b"x.seg", b"00000000001.seg", b"0000000001.seg~", b"00000000-1.seg", b"0x00000001.seg", b"-", b"a\nb", b"\xff\xfe", b"LOCK"]
        for number, name in enumerate(names):
            kind = list(self.kinds.values())[number % len(self.kinds)]
            kind(pathlib.Path(os.fsdecode(os.path.join(os.fsencode(self.queue), name))))
        self.start_and_stop()
        self.assertLessEqual(set(names), set(os.listdir(os.fsencode(self.queue))))

    def test_PATH_1_nothing_but_a_plain_file_is_a_spare_a_reserve_or_a_note(self):
        """They are not needed: what is no plain file is passed over, or replaced."""
        self.fill()
        names = ("spare-0000000007.seg", "reserve.seg", "reserve.tmp", "clock", "crashes", "quarantine")
        for kind, make in self.kinds.items():
            for name in names:
                self.clear(self.queue / name)
                if not name.startswith("reserve") or kind != "a folder":  # which cannot be replaced, and is an error
                    make(self.queue / name)
            with self.subTest(kind):
                self.start_and_stop()
            for name in names:
                self.clear(self.queue / name)

    def test_PATH_1_nothing_but_a_plain_file_is_a_segment_or_the_lock(self):
        self.fill()
        for name in ("0000000900.seg", "lock"):
            for kind, make in self.kinds.items():
                with self.subTest(f"{name} is {kind}"):
                    (self.queue / name).unlink(missing_ok=True)
                    make(self.queue / name)
                    self.refused_start(name)
                    self.clear(self.queue / name)
        self.start_and_stop()

    def test_segments_that_are_cut_or_endless(self):
        """A foreign segment of any length holds nothing; one of ours that became endless holds what it held."""
        self.fill()
        for size in (0, 1, 511, 512, 513, 4096, 4 * TEBIBYTE):
            with self.subTest(size):
                with (self.queue / "0000000901.seg").open("wb") as file:
                    file.truncate(size)
                self.start_and_stop()
        own = sorted(self.queue.glob("000000*.seg"))
        self.assertTrue(own)
        for segment in own:
            os.truncate(segment, 4 * TEBIBYTE)
        self.start_and_stop()
        self.fill()
        self.start_and_stop()

    def test_numbers_of_segments_do_not_begin_again(self):
        """Behind the last number there would be a first one, whose mail counted as older than all the rest, and before it there are
        numbers that no ledger holds: refused, not lost."""
        self.fill()
        for number in (0xFFFFFFFF, 0xFFFFFFFE, 3_000_000_000, 1 << 31, (1 << 31) - 1, 2_000_000_001):
            with self.subTest(number):
                foreign = self.queue / f"{number:010}.seg"
                foreign.write_bytes(b"")
                self.refused_start(foreign.name)
                foreign.unlink()
        self.fill()
        self.fill()
        self.start_and_stop()


class Configuration(Folders):
    """`sluice check` as people run it, and the engine with what passed."""

    FILES = ("smtp.ini", "outbound.ini", "relay_dest_domains.ini", "me", "plugins", "relay_acl_allow", "policy.yaml", "suspend.yaml",
             "fields.yaml", "transports.yaml", "delivery.yaml", "auth_flat_file.ini")

    def check(self):
        """Exit code and what it said, which is lines that a terminal bears; it takes neither long nor much."""
        limited = ["prlimit", f"--as={3 << 30}", SLUICE, "check", str(self.engine.directory)]
        done = subprocess.run(limited, capture_output=True, timeout=PATIENCE)
        said = (done.stdout + done.stderr).decode()
        self.assertIn(done.returncode, (0, 78), said[-500:])
        for line in said.splitlines():
            self.assertTrue(line.isprintable() and len(line) < 2000, line[:300])
        return done.returncode, said

    def test_marks_of_editors_change_nothing(self):
        """A byte order mark, CR LF, CR alone, blanks at the ends of lines."""
        self.engine.set("outbound.ini", disabled="true")
        self.engine.files["policy.yaml"] = "- fields: [recipientdomain]\n  default: {concurrency: 3}\n"
        self.engine.write()
        self.assertEqual(self.check()[0], 0)
        changes = {"a mark": lambda text: b"\xef\xbb\xbf" + text, "CR LF": lambda text: text.replace(b"\n", b"\r\n"),
                   "a mark and CR LF": lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"),
                   "blanks": lambda text: text.replace(b"\n", b" \t\n"), "no end": lambda text: text.rstrip(b"\n")}
        plain = {path: path.read_bytes() for path in self.engine.config.iterdir()}
        for name, change in changes.items():
            with self.subTest(name):
                for path, text in plain.items():
                    path.write_bytes(change(text))
                code, said = self.check()
                self.assertEqual((code, "warning" in said), (0, False), said)
                self.engine.process = self.world.spawn([SLUICE, "serve", self.engine.directory], self.world.directory / f"engine.{name}.log")
                self.engine.wait_until_serving()
                self.assertEqual(self.by_data("clear", b"Subject: x\r\n\r\nx\r\n.\r\n", "b@dst.test"), [250, 221])
                self.assertEqual(self.engine.stop(), 0)

    def test_octets_that_are_no_text(self):
        for name in self.FILES:
            for octets in (b"\0", b"a\0b=c\0\n", b"\xff\xfe" + "listen=1".encode("utf-16-le"), b"\xc0\xaf\n", b"\x1b[31mkey=\x1b]0;x\x07\n", b"\r", b"[\n", b"=\n", b"]" * 1000):
                with self.subTest(name, octets=octets[:20]):
                    self.engine.write()
                    (self.engine.config / name).write_bytes(octets)
                    self.check()
            self.clear(self.engine.config / name)

    def test_files_without_end(self):
        """Two gigabytes on one line are refused by their size; twenty-five thousand mistakes are told in time."""
        for name in self.FILES:
            with self.subTest(name):
                self.engine.write()
                with (self.engine.config / name).open("wb") as file:
                    file.truncate(2 << 30)
                code, said = self.check()
                self.assertEqual(code, 78)
                self.assertIn(f"config/{name}", said)
            self.clear(self.engine.config / name)
        for name, piece in (("smtp.ini", b"x=1\n"), ("smtp.ini", b"[a]\n"), ("smtp.ini", b"a\\\n"), ("outbound.ini", b"x"), ("policy.yaml", b"["),
                            ("policy.yaml", b"- "), ("policy.yaml", b"a: {"), ("policy.yaml", b"&a [*a]\n"), ("me", b"x"), ("relay_acl_allow", b"x\n"), ("plugins", b"../x\n")):
            with self.subTest(name, piece=piece):
                self.engine.write()
                (self.engine.config / name).write_bytes(piece * (100_000 // len(piece)))
                self.check()
            self.clear(self.engine.config / name)

    def test_PATH_1_settings_come_from_plain_files(self):
        for name in self.FILES:
            for kind, make in self.kinds.items():
                if kind == "a link to a file":  # which people do
                    continue
                with self.subTest(name, kind=kind):
                    self.engine.write()
                    self.clear(self.engine.config / name)
                    make(self.engine.config / name)
                    code, said = self.check()
                    self.assertEqual(code, 78)
                    self.assertIn(f"config/{name}", said)
                self.clear(self.engine.config / name)
        self.assert_untouched()


class CommandLine(Folders):
    def run_sluice(self, *arguments, input=b""):
        done = subprocess.run(
            [SLUICE, "-c", str(self.engine.directory), *map(str, arguments)], input=input, capture_output=True, timeout=PATIENCE)
        for line in (done.stdout + done.stderr).decode().splitlines():
            self.assertTrue(line.isprintable(), line)
        return done

    def test_PATH_1_what_cannot_be_read_is_no_message_and_no_policy(self):
        """A folder, a file that fails when it is read, a name that cannot be: an error with the name, and nothing is queued."""
        self.engine.set("outbound.ini", disabled="true").start()
        folder = self.world.directory / "a folder"
        folder.mkdir()
        for name in (str(folder), str(self.world.directory / "missing"), "/proc/self/mem", "x" * 300, "a\nb\x1b[31m", "-\udcff"):
            for command in (["inject", "-f", "a@src.test", "-t", "b@dst.test", "--"], ["policy", "check", "--"]):
                with self.subTest(name, command=command[0]):
                    done = self.run_sluice(*command, name)
                    self.assertIn(done.returncode, (1, 3), done)
                    self.assertEqual(done.stdout, b"")
        self.assertEqual(self.queued(), 0)
        self.assertEqual(self.engine.stop(), 0)

    def test_messages_come_from_pipes_as_well(self):
        self.engine.set("outbound.ini", disabled="true").start()
        message = b"Subject: x\r\n\r\nx\r\n"
        for name in ([], ["-"], ["/dev/stdin"]):
            done = self.run_sluice("inject", "-f", "a@src.test", "-t", "b@dst.test", *name, input=message)
            self.assertTrue(done.stdout.startswith(b"queued as "), done)
        self.assertEqual(self.queued(), 3)
        self.assertEqual(self.engine.stop(), 0)

    def test_PATH_1_an_import_takes_plain_files_only(self):
        """Links, pipes, sockets and folders by the names of queue files are left where they are, and told."""
        self.engine.set("outbound.ini", disabled="true").start()
        old = self.world.directory / "old"
        old.mkdir()
        now = time.time_ns() // 1_000_000
        for number, make in enumerate(self.kinds.values()):
            make(old / name_of(number, now, now))
        good = queue_file(["b@dst.test"], b"Subject: x\r\n\r\nx\r\n")
        self.outside.write_bytes(good)
        (old / name_of(100, now, now)).write_bytes(good)
        before = set(os.listdir(old))
        done = self.run_sluice("queue", "import", old)
        self.assertIn(b"imported 1 of ", done.stdout)
        self.assertEqual(before - set(os.listdir(old)), {name_of(100, now, now)})
        self.assertEqual((self.queued(), self.outside.read_bytes()), (1, good))
        self.assertEqual(self.engine.stop(), 0)

    def test_names_of_files_are_only_names(self):
        self.engine.set("outbound.ini", disabled="true").start()
        for number, name in enumerate(("--help", "-f", "$(id)", "a;b", "a\nb", "\x1b[31m", "%n%s", "ü", "x" * 200)):
            file = self.world.directory / name
            file.write_bytes(b"Subject: x\r\n\r\nx\r\n")
            done = self.engine.cli("inject", "-f", "a@src.test", "-t", "b@dst.test", file)
            self.assertTrue(done.stdout.startswith("queued as "), done)
            self.assertEqual(self.queued(), number + 1)
        self.assertEqual(self.engine.stop(), 0)

    def test_an_instance_that_is_none(self):
        commands = (["serve"], ["check"], ["status"], ["queue", "list"], ["journal", "verify"], ["journal", "dump"], ["queue", "import"])
        for kind, make in self.kinds.items():
            if kind == "a folder":  # which may become one
                continue
            path = self.world.directory / "instance"
            make(path)
            for command in commands:
                with self.subTest(kind, command=command):
                    instance = self.engine.directory if command == ["queue", "import"] else path
                    named = [path] if command[0] in ("serve", "check", "journal") or command[-1] == "import" else []
                    done = subprocess.run([SLUICE, "-c", instance, *command, *named], capture_output=True, timeout=PATIENCE)
                    self.assertIn(done.returncode, (1, 3, 69, 78), done)
            path.unlink()
        self.assert_untouched()


if __name__ == "__main__":
    unittest.main()
