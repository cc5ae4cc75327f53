"""PRIV-1, PRIV-2 and the service protocol: as whom the engine runs, what it leaves behind, and how it says that it is well."""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
import unittest

from clients import Raw, submit
from disks import LoopDisk
from world import PATIENCE, SLUICE, EndToEnd, free_port, port_answers, wait_for

NOBODY = pwd.getpwnam("nobody")
as_root = unittest.skipUnless(os.geteuid() == 0, "needs root")


def status_of(pid, thread=None):
    """The fields of /proc/PID/status."""
    path = f"/proc/{pid}/task/{thread}/status" if thread else f"/proc/{pid}/status"
    return dict(line.split(":\t", 1) for line in pathlib.Path(path).read_text().splitlines() if ":\t" in line)


def threads_of(pid):
    """Name -> id of every thread."""
    return {
        pathlib.Path(f"/proc/{pid}/task/{thread}/comm").read_text().strip(): int(thread)
        for thread in os.listdir(f"/proc/{pid}/task")
    }


def free_low_port():
    for port in range(600, 1024):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise unittest.SkipTest("every port below 1024 is taken")


class Privileges(EndToEnd):
    def setUp(self):
        super().setUp()
        self.sink = self.world.sink()
        self.engine = self.world.engine().route("dst.test", self.sink.endpoint)
        # Where an unprivileged engine can reach it.
        self.world.directory.chmod(0o755)
        self.program = shutil.copy(SLUICE, self.world.directory / "sluice")

    def deliver_one(self):
        submit(self.engine, "b@dst.test", self.message())
        self.sink.wait()

    @as_root
    def test_PRIV_1_root_binds_low_ports_and_becomes_somebody_else(self):
        engine = self.engine
        port = engine.port = free_low_port()
        engine.set("smtp.ini", listen=f"127.0.0.1:{port}", user="nobody", group="nogroup")
        # A name that others may have put into a folder of theirs, of a file that is not theirs.
        treasure = self.world.directory / "treasure"
        treasure.write_text("root's")
        (engine.directory / "log").mkdir()
        os.link(treasure, engine.directory / "log" / "stolen")
        os.symlink(treasure, engine.directory / "log" / "link")
        engine.start()
        for thread in threads_of(engine.process.pid).values():
            status = status_of(engine.process.pid, thread)
            self.assertEqual(status["Uid"].split(), [str(NOBODY.pw_uid)] * 4)
            self.assertEqual(status["Gid"].split(), [str(NOBODY.pw_gid)] * 4)
            self.assertEqual(status["Groups"].split(), [str(NOBODY.pw_gid)])
            for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                self.assertEqual(int(status[capabilities], 16), 0, capabilities)
            self.assertEqual(status["NoNewPrivs"], "1")
        self.deliver_one()
        for folder in ("queue", "run"):
            for path in (engine.directory / folder).rglob("*"):
                self.assertEqual(path.lstat().st_uid, NOBODY.pw_uid, path)
        self.assertEqual(treasure.stat().st_uid, 0)
        self.assertNotIn("runs as root", engine.process.output())
        # It may read, and so apply, changed settings, and start again on what is its own now.
        (engine.config / "connection.ini").write_text("[headers]\nshow_version=false\n")
        engine.wait_logged("settings reloaded")
        self.assertEqual(engine.stop(), 0)
        engine.start()
        self.deliver_one()

    @as_root
    def test_PRIV_1_what_root_made_is_reloaded_by_somebody_else(self):
        """The way of the guide: `init` as root, `user` and `group`, then edits."""
        engine = self.engine
        subprocess.run([SLUICE, "init", engine.directory], check=True, stdout=subprocess.DEVNULL)
        private = engine.config / "dkim" / "private"
        private.parent.mkdir()
        private.write_text("key")
        private.chmod(0o600)
        engine.set("smtp.ini", user="nobody", group="nogroup").start()
        secrets = [engine.config / name for name in ("auth_flat_file.ini", "http.ini", "relay_dest_domains.ini")]
        for secret in secrets:
            facts = secret.stat()
            self.assertEqual((facts.st_mode & 0o7777, facts.st_uid, facts.st_gid), (0o640, 0, NOBODY.pw_gid), secret)
        engine.wait_logged(f"{self.UNREADABLE} file=config/dkim/private")
        secrets[1].write_text(f"listen=127.0.0.1:{free_port()}\ntoken=0123456789abcdef\n")
        engine.wait_logged("settings reloaded")
        self.assertNotIn("settings kept as they were", engine.process.output())
        self.assertEqual(engine.process.output().count(self.UNREADABLE), 1, "the one that is its own affair")

    UNREADABLE = "the `user` of smtp.ini cannot read this: changes are not taken until he can"

    @as_root
    def test_PRIV_1_root_gives_away_no_file_that_others_could_have_chosen(self):
        """Nothing but plain files of root's group is given to another group, and only where nobody else can put one."""
        engine = self.engine
        treasure, linked = self.world.directory / "treasure", self.world.directory / "linked"
        engine.set("smtp.ini", user="nobody", group="nogroup")
        engine.files["policy.yaml"] = "policies: []\n"
        engine.write()
        for file, text in ((treasure, "a.test\n"), (linked, "conditions: []\n")):
            file.write_text(text)
        os.link(treasure, engine.config / "host_list")
        os.symlink(linked, engine.config / "delivery.yaml")
        modes = {"host_list": 0o640, "delivery.yaml": 0o640, "connection.ini": 0o600, "log.ini": 0o660, "policy.yaml": 0o640}
        for name, mode in modes.items():
            (engine.config / name).chmod(mode)
        engine.start()
        for name in modes:
            given = name == "policy.yaml"
            self.assertEqual((engine.config / name).stat().st_gid, NOBODY.pw_gid if given else 0, name)
            if not given:
                engine.wait_logged(f"{self.UNREADABLE} file=config/{name}")
        self.deliver_one()
        self.assertEqual(engine.stop(), 0)
        os.chown(engine.config / "policy.yaml", 0, 0)
        for folder in (engine.config, engine.directory):
            folder.chmod(0o777)
            engine.start()
            engine.wait_logged(f"{self.UNREADABLE} file=config/policy.yaml")
            self.assertEqual((engine.config / "policy.yaml").stat().st_gid, 0)
            self.assertEqual(engine.stop(), 0)
            folder.chmod(0o755)

    @as_root
    def test_PRIV_1_root_follows_no_link_of_whom_it_becomes(self):
        """Before it is `user`, root opens files in folders of `user`, who could have put links there."""
        engine = self.engine
        engine.set("smtp.ini", user="nobody", group="nogroup").write()
        treasure = self.world.directory / "treasure"
        for folder, name in (("log", "events.jsonl"), ("queue", "lock"), ("queue", "clock"), ("queue", "crashes"), ("queue", "reserve.seg")):
            with self.subTest(name):
                treasure.write_text("root's\nand no end of line")
                (engine.directory / folder).mkdir(exist_ok=True)
                link = engine.directory / folder / name
                link.unlink(missing_ok=True)
                os.symlink(treasure, link)
                os.lchown(link, NOBODY.pw_uid, NOBODY.pw_gid)
                engine.start(wait=False)
                control = engine.directory / "run" / "control.sock"
                wait_for(lambda: control.exists() or not engine.process.running(), "the start, or its end")
                engine.process.stop()
                self.assertEqual(treasure.read_text(), "root's\nand no end of line")
                link.unlink(missing_ok=True)
        engine.start()
        self.deliver_one()

    @as_root
    def test_root_that_stays_root_is_warned(self):
        self.engine.start()
        self.engine.wait_logged("runs as root")

    @as_root
    def test_unknown_users_stop_the_start(self):
        for key in ("user", "group"):
            engine = self.world.engine(name=key)
            engine.set("smtp.ini", **{key: "nobody-knows-me"})
            engine.start(wait=False)
            self.assertEqual(engine.process.child.wait(PATIENCE), 78)
            engine.wait_logged(f"config/smtp.ini:2: {key}: this system has no {key} `nobody-knows-me`")

    def test_PRIV_1_works_without_privileges_or_systemd(self):
        engine = self.engine
        command = [self.program, "serve", engine.directory]
        engine.write()
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody:nogroup", engine.directory], check=True)
            command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
                       "--no-new-privs", "--", *command]
        environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        engine.process = self.world.spawn(command, self.world.directory / "engine.1.log", env=environment)
        engine.wait_until_serving()
        self.assertNotEqual(status_of(engine.process.pid)["Uid"].split()[1], "0")
        self.deliver_one()
        self.assertEqual(engine.stop(), 0)

    def crash(self, name, **settings):
        """The core file that a crash left, if any."""
        engine = self.world.engine(name=name)
        engine.set("smtp.ini", **settings)
        engine.write()
        folder = self.world.directory / f"{name}-cwd"
        folder.mkdir()

        def allow_core():
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        engine.process = self.world.spawn(
            [SLUICE, "serve", engine.directory], self.world.directory / f"{name}.1.log", cwd=folder, preexec_fn=allow_core)
        engine.wait_until_serving()
        limit = re.search(r"Max core file size +(\S+)", pathlib.Path(f"/proc/{engine.process.pid}/limits").read_text())[1]
        owner = os.stat(f"/proc/{engine.process.pid}/maps").st_uid
        os.kill(engine.process.pid, signal.SIGSEGV)
        engine.process.child.wait(PATIENCE)
        return limit, owner, [path for path in folder.iterdir() if path.stat().st_size > 0]

    def test_PRIV_2_no_core_file(self):
        pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()
        if "/" in pattern or pattern.startswith("|"):
            self.skipTest(f"core files go elsewhere: {pattern}")
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        if hard != resource.RLIM_INFINITY and os.geteuid() != 0:
            self.skipTest("core files are limited")
        limit, _, cores = self.crash("private")
        self.assertEqual((limit, cores), ("0", []))
        limit, _, cores = self.crash("talkative", core_dumps="true")
        self.assertEqual(limit, "unlimited")
        self.assertEqual(len(cores), 1)

    @as_root
    def test_PRIV_2_memory_is_closed_to_the_same_user(self):
        for wanted, readable in (("false", False), ("true", True)):
            engine = self.world.engine(name=f"dumps-{wanted}")
            engine.set("smtp.ini", user="nobody", group="nogroup", core_dumps=wanted)
            engine.start()
            look = subprocess.run(
                ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "cat", f"/proc/{engine.process.pid}/maps"],
                capture_output=True)
            self.assertEqual(look.returncode == 0, readable, look.stderr)

    def test_PRIV_2_open_secrets_are_reported(self):
        engine = self.engine
        engine.files["plugins"] = "relay\nauth/flat_file\n"
        engine.set("auth_flat_file.ini", "core", methods="PLAIN")
        engine.set("auth_flat_file.ini", "users", joe="not-to-be-seen")
        engine.write()
        secret = engine.config / "auth_flat_file.ini"
        for mode, reported in ((0o644, True), (0o640, False)):
            secret.chmod(mode)
            done = subprocess.run([SLUICE, "check", engine.directory], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertEqual("config/auth_flat_file.ini: holds a secret" in done.stdout, reported, done.stdout)
            self.assertNotIn("not-to-be-seen", done.stdout)


class Background(EndToEnd):
    """`daemonize`, the log file and the pid file."""

    def setUp(self):
        super().setUp()
        self.engine = self.world.engine()
        self.world.directory.chmod(0o755)
        self.folder = self.world.directory / "like-run"
        self.folder.mkdir(mode=0o755)

    def serve(self, **settings):
        """Starts it as a shell would; ends with the terminal's part."""
        self.engine.set("smtp.ini", daemonize="true", **settings).write()
        return subprocess.run([SLUICE, "serve", self.engine.directory], capture_output=True, text=True, timeout=PATIENCE)

    def test_a_log_file_that_cannot_be_opened_is_told_at_the_terminal(self):
        done = self.serve(daemon_log_file=self.folder / "absent" / "log")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{self.folder}/absent/log: No such file or directory", done.stderr)
        self.assertFalse((self.engine.directory / "run").exists(), "nothing was begun")

    def test_goes_to_the_background(self):
        log, pid_file = self.folder / "log", self.folder / "pid"
        done = self.serve(daemon_log_file=log, daemon_pid_file=pid_file)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        pid = int(wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n") and pid_file.read_text(), "the pid file"))
        try:
            wait_for(lambda: "[core] started" in log.read_text(), "the start in the log")
            self.assertEqual(os.readlink(f"/proc/{pid}/fd/0"), "/dev/null")
        finally:
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not pid_file.exists(), "the pid file to go")
        wait_for(lambda: "[core] stopped" in log.read_text(), "the end in the log")

    @as_root
    def test_the_pid_file_is_written_by_root_and_names_nobody_afterwards(self):
        engine, pid_file = self.engine, self.folder / "pid"
        engine.set("smtp.ini", user="nobody", group="nogroup", daemon_pid_file=pid_file)
        for _ in range(2):
            engine.start()
            self.assertEqual(pid_file.read_text(), f"{engine.process.pid}\n")
            engine.stop()
            self.assertEqual(pid_file.read_text(), "", "nobody may remove it there, but not leave a number either")
        treasure = self.folder / "treasure"
        treasure.write_text("root's")
        pid_file.unlink()
        os.symlink(treasure, pid_file)
        engine.start()
        engine.wait_logged("pid file not written")
        engine.stop()
        self.assertEqual(treasure.read_text(), "root's")


class Supervised(EndToEnd):
    """The engine under a supervisor that speaks systemd's protocol."""

    # Seconds that the supervisor waits for a sign of life; 40 makes the disk of FM-19 hang for two minutes.
    PERIOD = int(os.environ.get("SLUICE_WATCHDOG_SECONDS", "4"))

    def setUp(self):
        super().setUp()
        self.notices = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.path = self.world.directory / "notify"
        self.socket.bind(str(self.path))
        self.socket.settimeout(0.2)
        self.sink = self.world.sink()
        self.engine = self.world.engine().route("dst.test", self.sink.endpoint)
        self.engine.set("smtp.ini", shards="2")

    def start(self, wait=True, **environment):
        env = {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(self.PERIOD * 1_000_000), **environment}
        return self.engine.start(wait=wait, env=env)

    def receive(self):
        """Takes what the engine has said since."""
        with contextlib.suppress(TimeoutError):
            while True:
                self.notices.append(self.socket.recv(4096).decode())
        return self.notices

    def wait_notice(self, pattern, patience=PATIENCE):
        """The first notice from now on that matches."""
        seen = len(self.notices)
        return wait_for(
            lambda: next((notice for notice in self.receive()[seen:] if re.search(pattern, notice)), None), pattern,
            max(patience, 3 * self.PERIOD))

    def beats(self, count):
        for _ in range(count):
            self.wait_notice("^WATCHDOG=1$")

    def silence(self):
        """Fails unless no sign of life comes for longer than the supervisor would wait."""
        seen = len(self.receive())
        end = time.monotonic() + self.PERIOD * 1.5
        while time.monotonic() < end:
            self.assertNotIn("WATCHDOG=1", self.receive()[seen:])

    def hand_in(self, content):
        """A client that waits for the answer to its content."""
        client = Raw(self.engine.port)
        client.link.settimeout(max(PATIENCE, 10 * self.PERIOD))
        for line, code in (("MAIL FROM:<a@src.test>", 250), ("RCPT TO:<b@dst.test>", 250), ("DATA", 354)):
            self.assertEqual(client.ask(line)[0], code)
        client.send(content + ".\r\n")
        return client

    def test_tells_of_start_reload_and_stop(self):
        self.start(wait=False)
        self.wait_notice("^READY=1")
        self.assertTrue(port_answers(self.engine.port))
        self.assertEqual(self.engine.api("GET", "/health")[0], 200)
        self.assertTrue(self.notices[0].startswith("STATUS=reading the queue"), self.notices)
        (self.engine.config / "connection.ini").write_text("[headers]\nshow_version=false\n")
        self.assertRegex(self.wait_notice("^RELOADING=1"), r"^RELOADING=1\nMONOTONIC_USEC=[0-9]+\nSTATUS=")
        wait_for(lambda: self.receive()[-1].startswith(("READY=1", "WATCHDOG", "STATUS")), "the end of the reload")
        again = self.engine.config / "connection.ini"
        again.write_text("[headers]\nshow_version=true\n")
        wait_for(lambda: sum("READY=1" in notice for notice in self.receive()) >= 3, "another reload")
        self.beats(3)
        self.assertEqual(self.engine.stop(), 0)
        stopping = [number for number, notice in enumerate(self.receive()) if notice.startswith("STOPPING=1")]
        self.assertEqual(len(stopping), 1)
        self.assertNotIn("WATCHDOG=1", self.notices[stopping[0]:])

    def test_a_start_that_fails_is_never_ready(self):
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        self.engine.set("smtp.ini", listen=f"127.0.0.1:{taken.getsockname()[1]}")
        self.start(wait=False)
        self.assertEqual(self.engine.process.child.wait(PATIENCE), 1)
        self.assertFalse([notice for notice in self.receive() if "READY" in notice])

    def test_is_not_watched_for_somebody_else(self):
        self.start(WATCHDOG_PID="1", wait=False)
        self.wait_notice("^READY=1")
        self.silence()

    @contextlib.contextmanager
    def frozen(self, thread):
        """One thread stands still, and the others go on."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p]
        seize, interrupt, detach, wait_all = 0x4206, 0x4207, 17, 0x40000000
        if libc.ptrace(seize, thread, None, None) != 0 or libc.ptrace(interrupt, thread, None, None) != 0:
            self.skipTest(f"threads cannot be stopped here: {os.strerror(ctypes.get_errno())}")
        os.waitpid(thread, wait_all)
        try:
            yield
        finally:
            libc.ptrace(detach, thread, None, None)

    def hang(self, name, work=None):
        """A thread that hangs silences the engine and is named; when it goes on, so does all."""
        thread = threads_of(self.engine.process.pid)[f"sluice-{name}"]
        with self.frozen(thread):
            if work:
                work()
            self.wait_notice(f"^STATUS=no progress: .*{name}")
            self.silence()
        self.beats(2)
        self.engine.wait_logged(f"[ERROR] [-] [core] a thread makes no progress thread={name}")

    @as_root
    def test_each_thread_that_hangs_is_noticed(self):
        self.expects_errors = True
        self.start()
        self.beats(2)
        for name in ("core", "io-0", "io-1", "control"):
            with self.subTest(name):
                self.hang(name)

        def work():  # the writer may be idle as long as it likes, but not when something waits for it
            self.addCleanup(self.hand_in(self.message()).close)

        with self.subTest("spool"):
            self.hang("spool", work)
        self.sink.wait()
        errors = [line for line in self.engine.process.output().splitlines() if line.startswith("[ERROR]")]
        self.assertEqual(len(errors), 5, errors)
        self.assertTrue(self.engine.process.running())

    @as_root
    def test_FM_19_a_disk_that_hangs_does_not_end_the_engine(self):
        """Its file system is frozen for several times the watchdog's patience, in the middle of a message."""
        try:
            disk = LoopDisk(megabytes=400)
        except OSError as error:
            self.skipTest(f"loop mounts do not work here: {error}")
        self.addCleanup(disk.close)
        self.engine.files["queue_dir"] = f"{disk.mount_point}/queue\n"
        self.start()
        self.beats(2)
        submit(self.engine, "first@dst.test", self.message("first"))
        self.sink.wait(1)
        freeze, thaw = 0xC0045877, 0xC0045878
        folder = os.open(disk.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, freeze, 0)
            try:
                with self.hand_in(self.message("second")) as client:
                    self.wait_notice("^STATUS=waiting for a disk")
                    self.beats(3 * 4)  # three times its patience
                    self.engine.wait_logged("the disk does not answer")
                    self.assertEqual(self.engine.api("GET", "/health")[0], 200)
                    fcntl.ioctl(folder, thaw, 0)
                    self.assertEqual(client.reply()[0], 250)
            finally:
                with contextlib.suppress(OSError):
                    fcntl.ioctl(folder, thaw, 0)
        finally:
            os.close(folder)
        self.sink.wait(2)
        self.wait_notice("^STATUS=serving")
        self.assertFalse([notice for notice in self.notices if "no progress" in notice])
        self.assertEqual(self.engine.stop(), 0)


if __name__ == "__main__":
    unittest.main()
