"""A small world for one end-to-end test: an instance, its neighbours, and what they said."""

import contextlib
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
SLUICE = os.environ.get("SLUICE", str(ROOT / "build" / "ci" / "sluice"))
PATIENCE = float(os.environ.get("SLUICE_PATIENCE", "30"))


given_ports = set()  # nothing may listen on them yet, so binding alone does not tell


def free_port(address="127.0.0.1"):
    """A free port below those that the kernel gives to outgoing connections and to port 0: it stays free until used."""
    while True:
        port = random.randint(10_000, 32_000)
        if port in given_ports:
            continue
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address.strip("[]"), port))
            given_ports.add(port)
            return port


def wait_for(condition, what, patience=PATIENCE):
    """Returns the first true value of condition(); fails with `what` when patience ends."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience} s for {what}")
        time.sleep(0.02)


def port_answers(port, address="127.0.0.1"):
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


class Process:
    """A child process whose output goes to a file; ended by its own id."""

    def __init__(self, arguments, log, **options):
        self.log = pathlib.Path(log)
        self.file = self.log.open("ab")
        self.child = subprocess.Popen(
            [str(a) for a in arguments], stdout=self.file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options)

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def kill(self):
        """kill -9, and wait."""
        self.child.kill()
        self.child.wait()

    def stop(self, patience=40):
        if self.running():
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"did not stop in {patience} s: {self.child.args}")
        self.file.close()
        return self.child.returncode

    def output(self):
        return self.log.read_text(errors="replace")


class UnixHttp(http.client.HTTPConnection):
    """HTTP over the control socket of an instance."""

    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


class Engine:
    """One instance directory and the engine on it."""

    def __init__(self, world, name="engine", address="127.0.0.1"):
        self.world = world
        self.directory = world.directory / name
        self.config = self.directory / "config"
        self.config.mkdir(parents=True)
        self.address = address
        self.port = free_port(address)
        self.program = SLUICE
        self.process = None
        self.environment = {}
        self.events_read, self.events_read_to = [], {}
        self.starts = 0
        self.settings = {
            "smtp.ini": {"main": {"listen": f"{address}:{self.port}"}},
            "outbound.ini": {"main": {"local_mx_ok": "true"}},
            "relay.ini": {"relay": {"acl": "true"}},
            "log.ini": {"main": {"level": "info"}},
            "connection.ini": {},
        }
        self.files = {"me": "mx.sluice.test\n", "plugins": "relay\n", "relay_acl_allow": "127.0.0.0/8\n::1/128\n"}

    def set(self, file, section="main", **values):
        self.settings.setdefault(file, {}).setdefault(section, {}).update(values)
        return self

    def route(self, domain, nexthop):
        """All mail for the domain (or `any`) goes to nexthop."""
        self.set("relay.ini", "relay", dest_domains="true", force_routing="true")
        rule = json.dumps({"action": "accept", "nexthop": nexthop})
        return self.set("relay_dest_domains.ini", "domains", **{domain: rule})

    def write(self):
        for file, sections in self.settings.items():
            lines = []
            for section, values in sections.items():
                if section != "main":
                    lines.append(f"[{section}]")
                for key, value in values.items():
                    many = value if isinstance(value, list) else None
                    lines.extend(f"{key}[]={one}" for one in many) if many is not None else lines.append(f"{key}={value}")
            # Keys before any section belong to main, so main comes first.
            (self.config / file).write_text("\n".join(lines) + "\n")
        for file, text in self.files.items():
            (self.config / file).write_text(text)

    def start(self, wait=True, command=None, env=None):
        self.write()
        self.starts += 1
        arguments = (command or []) + [self.program, "serve", self.directory]
        log = self.world.directory / f"{self.directory.name}.{self.starts}.log"
        self.process = self.world.spawn(arguments, log, env={**os.environ, **self.environment, **(env or {})})
        if wait:
            self.wait_until_serving()
        return self

    def wait_until_serving(self):
        def serving():
            if not self.process.running():
                raise AssertionError("the engine ended:\n" + self.process.output()[-4000:])
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.api("GET", "/health")[0] in (200, 503)
            return False

        wait_for(serving, "the engine to serve")

    def stop(self):
        return self.process.stop()

    def restart_after_kill(self):
        self.process.kill()
        return self.start()

    def api(self, method, path, body=None, content_type="application/json", headers=None):
        link = UnixHttp(self.directory / "run" / "control.sock")
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            sent = {**(headers or {}), **({"Content-Type": content_type} if body is not None else {})}
            link.request(method, path, body, sent)
            reply = link.getresponse()
            text = reply.read()
            kind = reply.getheader("Content-Type", "")
            return reply.status, json.loads(text) if kind.startswith("application/json") else text.decode()
        finally:
            link.close()

    def cli(self, *arguments, check=True, input=None):
        done = subprocess.run(
            [SLUICE, *map(str, arguments), "-c", str(self.directory)], capture_output=True, text=True, input=input,
            timeout=PATIENCE * 2)
        if check and done.returncode != 0:
            raise AssertionError(f"sluice {arguments} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def events(self, kind=None, **members):
        folder = self.directory / "log"
        for file in sorted(folder.glob("events.jsonl.*"), key=lambda p: -int(p.suffix[1:])) + [folder / "events.jsonl"]:
            with contextlib.suppress(FileNotFoundError), file.open("rb") as lines:
                self.read_events(lines)
        return [event for event in self.events_read
                if kind in (None, event["event"]) and all(event.get(k) == v for k, v in members.items())]

    def read_events(self, lines):
        """What came since the last time. Whatever its name is now, a file is known by its first line."""
        first = lines.readline()
        lines.seek(self.events_read_to.setdefault(first, 0))
        for line in lines:
            if not line.endswith(b"\n"):  # still being written, or by a process that was killed
                break
            self.events_read_to[first] += len(line)
            with contextlib.suppress(json.JSONDecodeError):
                self.events_read.append(json.loads(line))

    def wait_event(self, kind, count=1, patience=PATIENCE, **members):
        def there():
            found = self.events(kind, **members)
            return found if len(found) >= count else None

        try:
            return wait_for(there, f"{count} x {kind} {members}", patience)
        except AssertionError as error:
            tail = self.process.output()[-3000:] if self.process else ""
            raise AssertionError(f"{error}; events: {self.events()[-8:]}\n{tail}") from None

    def wait_logged(self, text, count=1, patience=PATIENCE):
        """Until the log shows `text`: a thread of its own writes it, some time after what it tells of."""
        wait_for(lambda: self.process.output().count(text) >= count, f"{text!r} in the log", patience)

    def import_queue(self, folder):
        """As soon as the import that a start begins with is over; what the command said."""
        def tried():
            done = self.cli("queue", "import", folder, check=False)
            return None if "is running; wait for its end" in done.stderr else done

        done = wait_for(tried, f"the import of {folder}")
        assert done.returncode == 0, done.stderr
        return done

    def wait_recorded(self):
        """Until the journal has all that events told of: an event may be some milliseconds ahead of it, this answer is behind both."""
        code, answer = self.api("POST", "/v1/suspensions", {"id": "marker", "recipientdomain": "nowhere.test"})
        assert code in (200, 201), answer

    def wait_empty(self, patience=PATIENCE):
        wait_for(lambda: self.api("GET", "/v1/status")[1]["queue"]["items"] == 0, "an empty queue", patience)


class Sink:
    """`sluice sink` on a free port with a ledger."""

    def __init__(self, world, *arguments, address="127.0.0.1", port=None, name="sink"):
        world.sinks += 1
        self.ledger_file = world.directory / f"{name}{world.sinks}.ledger"
        self.address, self.port = address, port or free_port(address)
        self.process = world.spawn(
            [SLUICE, "sink", "--listen", f"{address}:{self.port}", "--ledger", self.ledger_file, *arguments],
            world.directory / f"{name}{world.sinks}.log")
        wait_for(lambda: "listening" in self.process.output() or not self.process.running(), "the sink to listen")
        assert self.process.running(), self.process.output()

    @property
    def endpoint(self):
        return f"{self.address}:{self.port}"

    def ledger(self):
        if not self.ledger_file.exists():
            return []
        lines = self.ledger_file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]  # the last one may be half written

    def wait(self, count=1, patience=PATIENCE):
        return wait_for(lambda: self.ledger() if len(self.ledger()) >= count else None, f"{count} messages", patience)

    def stop(self):
        """Ends the sink; whatever it saw that no client may send is a failure."""
        code = self.process.stop()
        assert code == 0, self.process.output()

    def violations(self):
        """What the sink reported, or what it died of; it has ended."""
        code, lines = self.process.child.returncode, self.process.output().splitlines()
        found = [line for line in lines if line.startswith("sink: violation")]
        died = code not in (0, 1, -signal.SIGKILL)
        return found + ([f"{self.process.log.name}: exit code {code}: {lines[-3:]}"] if died else [])


class World:
    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="sluice-e2e-"))
        self.processes, self.sinks, self.engines, self.taps, self.judges = [], 0, [], [], []

    def spawn(self, arguments, log, **options):
        process = Process(arguments, log, **options)
        self.processes.append(process)
        return process

    def engine(self, **options):
        engine = Engine(self, **options)
        self.engines.append(engine)
        return engine

    def sink(self, *arguments, **options):
        sink = Sink(self, *arguments, **options)
        self.judges.append(sink)
        return sink

    def tap(self, port, address="127.0.0.1"):
        """Where to connect instead, so that what reaches a server that is not ours is judged as well."""
        self.taps.append(wire.Tap(port, address))
        return self.taps[-1].endpoint

    def certificate(self, name="mx.sluice.test"):
        key, cert = self.directory / f"{name}.key", self.directory / f"{name}.crt"
        if not cert.exists():
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", cert],
                check=True, capture_output=True)
        return cert, key

    def close(self):
        failures = []
        for process in reversed(self.processes):
            if process.running():
                process.child.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.stop()
            except (AssertionError, ValueError) as error:
                failures.append(str(error))
        while self.judges:
            failures += self.judges.pop().violations()
        while self.taps:
            failures += self.taps.pop().close()
        for engine in self.engines:
            for log in self.directory.glob(f"{engine.directory.name}.*.log"):
                text = log.read_text(errors="replace")
                for line in text.splitlines():
                    if line.startswith(("[ERROR]", "[CRIT]", "[ALERT]", "[EMERG]")) or "assertion failed" in line \
                            or "Sanitizer" in line:
                        failures.append(f"{log.name}: {line}")
        return failures


class EndToEnd(unittest.TestCase):
    """Base of all end-to-end tests. An engine's line at error level fails the test, unless it says that it expects one."""

    expects_errors = False

    def setUp(self):
        self.world = World()
        self.addCleanup(self.world.close)  # also when the setUp of a derived class fails

    def tearDown(self):
        failures = self.world.close()
        if failures and not self.expects_errors:
            self.fail("\n".join(failures[:20]))
        shutil.rmtree(self.world.directory, ignore_errors=True)

    def message(self, subject="test", body="hello\r\n", sender="a@src.test", to="b@dst.test"):
        return f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\r\n{body}"
