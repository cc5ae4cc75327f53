"""What scale scenarios are made of: an engine with any settings, sinks, loads, and figures with their targets."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import statistics
import subprocess
import time

import machine
import peers

KIB = 1024


class Lost(Exception):
    """A message is missing, or came twice, or was not accepted, or came as no message may come."""


@dataclasses.dataclass
class Figure:
    """One result. `met` is None where nothing is demanded."""
    what: str
    value: str
    target: str = ""
    met: bool | None = None


class Report:
    def __init__(self):
        self.figures = []

    def add(self, what, value, unit="", most=None, least=None, digits=1):
        """Notes a number, and its target when it has one."""
        target, met = "", None
        if most is not None:
            target, met = f"at most {most:g}", value <= most
        if least is not None:
            target, met = f"at least {least:g}", value >= least
        self.figures.append(Figure(what, f"{value:,.{digits}f} {unit}".strip(), target, met))
        print("  " + self.line(self.figures[-1]), flush=True)

    @staticmethod
    def line(figure):
        verdict = {None: "", True: "met", False: "MISSED"}[figure.met]
        return f"{figure.what:<66} {figure.value:>22}  {figure.target:<16} {verdict}".rstrip()


class Engine(peers.Sluice):
    """Sluice with settings of a scenario: `routes` maps domains to next hops, `any` is for all others; `files` are further
    lines of configuration by file and section, or whole files by their name."""

    def __init__(self, folder, routes, files=None, environment=None):
        self.routes, self.files = routes, files or {}
        pathlib.Path(folder).mkdir(parents=True)
        super().__init__(folder, 0, True, environment or {})

    def configure(self):
        sections = {
            ("smtp.ini", "main"): {"listen": f"127.0.0.1:{self.port}", "force_shutdown_timeout": "2s"},
            ("relay.ini", "relay"): {"acl": "true", "force_routing": "true"},
            ("log.ini", "main"): {"level": "warn"},
            ("relay_dest_domains.ini", "domains"): {
                name: json.dumps({"action": "accept", "nexthop": hop}) for name, hop in self.routes.items()},
        }
        for place, lines in self.files.items():
            if isinstance(place, str):
                self.write(f"config/{place}", lines)
            else:
                sections.setdefault(place, {}).update(lines)
        self.write("config/me", "relay.bench.test\n")
        self.write("config/plugins", "relay\nauth/flat_file\ntls\n")
        self.write("config/relay_acl_allow", "127.0.0.0/8\n")
        texts = {}
        for (file, section), lines in sections.items():
            body = "".join(f"{key}={value}\n" for key, value in lines.items())
            texts[file] = texts.get(file, "") + f"[{section}]\n{body}"
        for file, text in texts.items():
            self.write(f"config/{file}", text)
        for name in ("queue", "log", "run"):
            (self.folder / name).mkdir()

    def queue(self):
        return self.status()["queue"]

    def settled(self):
        """Whether nothing is under way and no fresh body is in memory."""
        queue = self.queue()
        return queue["ready"] == 0 and queue["sending"] == 0 and queue["fresh_bytes"] == 0

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.output.close()

    def resident_kib(self):
        return resident_kib(self.pid)

    def spool_bytes(self):
        return sum(entry.stat().st_blocks * 512 for entry in os.scandir(self.folder / "queue") if entry.is_file())


def resident_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise OSError("no VmRSS")


def forget_cache(folder):
    """Writes the files of a folder out and drops them from the page cache: what a machine that just started has."""
    for entry in os.scandir(folder):
        if not entry.is_file():
            continue
        fd = os.open(entry.path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


class Lab:
    """One scenario's folder and children. Used as `with Lab(...) as lab`: everything that it started ends."""

    def __init__(self, options, folder):
        self.options, self.folder = options, pathlib.Path(folder)
        self.program = str(pathlib.Path(options.program).resolve())
        peers.Sluice.program = self.program
        self.report = Report()
        self.ends = contextlib.ExitStack()
        self.names = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.close()

    def path(self, name):
        self.names += 1
        return self.folder / f"{name}{self.names}"

    def engine(self, routes, files=None, environment=None):
        engine = Engine(self.path("engine"), routes, files, environment)
        self.ends.callback(engine.stop)
        return engine

    def sink(self, listen, *options, rules=()):
        """A sink on these endpoints, which ends with the lab and judges what it was sent."""
        command = [self.program, "--json", "sink", *options]
        command += [word for one in listen for word in ("--listen", one)]
        command += [word for rule in rules for word in ("--rule", rule)]
        started = []
        self.ends.callback(judge, started)  # comes after its end
        started.append(self.child(command, "sink", listening=listen))
        return started[0]

    def child(self, command, name, listening=()):
        output = self.path(name + "-output")
        with output.open("wb") as file:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        child.output = output
        self.ends.callback(end, child)
        for endpoint in listening:
            host, port = endpoint.rsplit(":", 1)
            machine.wait_for(lambda: child.poll() is not None or machine.listens(host, int(port)), f"the {name} at {endpoint}")
        if child.poll() is not None:
            raise peers.Unavailable(f"the {name} ended: {output.read_text(errors='replace').strip()[-300:]}")
        return child

    def load_command(self, engine, messages, **options):
        command = [self.program, "--json", "blast", "--target", f"127.0.0.1:{engine.port}", "--messages", str(messages)]
        for key, value in options.items():
            command += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
        return command

    def load(self, engine, messages, **options):
        """Sends and waits for the answers. What the load generator reports."""
        done = subprocess.run(
            self.load_command(engine, messages, **options), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Lost(f"the load was not accepted whole: {(done.stdout + done.stderr).strip()[-300:]}")
        return json.loads(done.stdout)

    def measured_load(self, engine, messages, **options):
        """The same until nothing is under way any more: (accepted a second, CPU of the engine for a message in us)."""
        cpu = machine.cpu_seconds(engine.pid)
        report = self.load(engine, messages, **options)
        settle(engine)
        return report["per_second"], (machine.cpu_seconds(engine.pid) - cpu) / messages * 1e6


def settle(engine, patience=240):
    machine.wait_for(engine.settled, "the queue to settle", patience, 0.05)


def steady_resident_kib(engine, patience=30):
    """Resident memory when it does not fall any more: the allocator gives freed pages back after a while."""
    least, since = engine.resident_kib(), time.monotonic()
    end = since + patience
    while time.monotonic() < end and time.monotonic() - since < 6:
        time.sleep(0.5)
        now = engine.resident_kib()
        if now < least * 0.995:
            least, since = now, time.monotonic()
    return least


def sink_counts(child):
    """Ends a sink; what it took."""
    end(child)
    text = child.output.read_text(errors="replace")
    return json.loads(text[text.index("{"):])


def end(child):
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def judge(sinks):
    """What these sinks, which have ended, saw that no client may send ends the scenario."""
    for sink in sinks:
        text = sink.output.read_text(errors="replace")
        if sink.returncode == 1 and "{" in text:
            raise Lost(f"the sink saw what no client may send: {json.loads(text[text.index('{'):])['first_violations'][:3]}")


def timed_ms(act):
    """(milliseconds, what act() returns)."""
    start = time.perf_counter()
    result = act()
    return (time.perf_counter() - start) * 1000, result


def percentile(values, fraction):
    ordered = sorted(values)
    return ordered[round(fraction * (len(ordered) - 1))]


median = statistics.median
