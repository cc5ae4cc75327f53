"""One trial: a fresh peer, a sink, a load, and what was measured. Everything that it starts, it ends."""

import contextlib
import dataclasses
import json
import mmap
import os
import pathlib
import re
import resource
import signal
import statistics
import subprocess
import time

import machine

DRAIN_PATIENCE = 90  # seconds for the queue to become empty
WARM_UP_SECONDS = 0.5


class Lost(Exception):
    """A message is missing, or came twice, or was not accepted, or came as no message may come."""


@dataclasses.dataclass
class Figures:
    """Of one round. Rates are messages a second."""
    messages: int
    accepted_rate: float    # until the last 250 to the load
    rate: float             # until the queue is empty, everything delivered
    cpu_us: float           # of the peer, for a message
    first_us: float         # of that its first process, without its children
    p50_ms: float           # MAIL to the 250 of the content, of the first stream; 0: the tool does not tell
    p99_ms: float
    syncs: float            # fsync and fdatasync, for a message
    memory_mib: float       # of the peer when the last message was accepted
    tools_cpu_us: float     # load and sink, for a message
    other_load: float       # share of all processors that neither peer nor tools used


class Shim:
    """The preloaded library and the counter that it shares."""

    def __init__(self, folder):
        self.library = folder / "slow_sync.so"
        self.path = folder / "syncs"
        source = pathlib.Path(__file__).resolve().parent / "slow_sync.c"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(self.library), str(source), "-ldl"], check=True)
        self.path.write_bytes(bytes(8))
        self.path.chmod(0o666)
        with self.path.open("r+b") as file:
            self.shared = mmap.mmap(file.fileno(), 8)

    def count(self):
        return int.from_bytes(self.shared[:8], "little")

    def environment(self, slow_us):
        return {"LD_PRELOAD": str(self.library), "SYNC_COUNT_FILE": str(self.path), "SLOW_SYNC_US": str(slow_us)}


class Sink:
    """Takes everything, and judges how it comes, except where smtp-sink stands in for it; recipients() ends it."""

    def __init__(self, program, scenario, folder, ledger):
        self.port = machine.free_port()
        self.output = folder / "sink-output"
        self.scenario = scenario
        if scenario.tools == "postfix":
            command = ["smtp-sink", "-c", "-m", "2000", f"127.0.0.1:{self.port}", "1000"]
            if os.geteuid() == 0:
                command[1:1] = ["-u", "nobody"]
        else:
            command = [program, "--json", "sink", "--listen", f"127.0.0.1:{self.port}"]
            command += [word for rule in scenario.sink_rules for word in ("--rule", rule)]
            command += ["--ledger", str(ledger)] if ledger else []
        with self.output.open("wb") as output:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        machine.wait_for(lambda: machine.greets(self.port), "the sink")

    def recipients(self):
        """Ends the sink; how many recipients it took in all."""
        self.stop()
        text = self.output.read_text(errors="replace")
        if self.scenario.tools == "postfix":  # a running counter of messages, which have one recipient each
            return int((re.findall(r"\d+", text) or ["0"])[-1])
        counts = json.loads(text[text.index("{"):])
        if counts["violations"]:
            raise Lost(f"the sink saw what no client may send: {counts['first_violations'][:3]}")
        return counts["recipients"]

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            self.child.wait()


class Trial:
    """A peer between load and sink. Used as `with Trial(...) as trial`."""

    def __init__(self, peer, scenario, program, shim, folder, ledgers=False):
        self.scenario, self.program, self.shim = scenario, program, shim
        self.folder = pathlib.Path(folder)
        self.ledger = self.folder / "given.jsonl" if ledgers else None
        self.sent = 0
        self.expected = 0
        self.loads = 0
        server_folder = self.folder / "peer"
        server_folder.mkdir(mode=0o755)
        self.sink = Sink(program, scenario, self.folder, self.folder / "taken.jsonl" if ledgers else None)
        try:
            environment = shim.environment(scenario.flush_us)
            self.server = peer(server_folder, self.sink.port, scenario.deliver, environment)
        except BaseException:
            self.sink.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop()
        self.sink.stop()

    # ---- the load --------------------------------------------------------------------------------------------------

    def load_command(self, stream, messages):
        target = f"127.0.0.1:{self.server.port}"
        if self.scenario.tools == "postfix":
            return ["smtp-source", "-s", str(stream.sessions), "-m", str(messages), "-l", str(stream.size), "-d",
                    "-f", "blast@src.test", "-t", "user@d0.test", target]
        sessions = min(stream.sessions, messages)
        self.loads += 1
        command = [self.program, "--json", "blast", "--target", target, "--messages", str(messages),
                   "--sessions", str(sessions), "--size", str(stream.size), "--recipients", str(stream.recipients),
                   "--domains", str(stream.domains), "--to", stream.to, "--protocol", self.scenario.protocol,
                   "--id-prefix", f"load{self.loads}-"]
        return command + (["--ledger", str(self.ledger)] if self.ledger else [])

    def load(self, messages):
        """Sends about so many messages and waits until each was answered. Returns how many, and (p50, p99) in ms."""
        counts = self.scenario.counts(messages)
        children = []
        for stream, count in zip(self.scenario.streams, counts):
            children.append(subprocess.Popen(
                self.load_command(stream, count), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True))
        outputs = [child.communicate()[0] for child in children]
        for child, output in zip(children, outputs):
            if child.returncode != 0:
                raise Lost(f"the load was not accepted whole: {output.strip()[-300:]}")
        self.sent += sum(counts)
        self.expected += self.scenario.deliveries(messages)
        if self.scenario.tools == "postfix":
            return sum(counts), (0.0, 0.0)
        latency = json.loads(outputs[0])["latency_ms"]
        return sum(counts), (latency["p50"], latency["p99"])

    def drain(self):
        """Waits until everything is delivered, or, where nothing is to be, kept."""
        done = self.server.empty if self.scenario.deliver else lambda: self.server.queued() >= self.sent
        try:
            machine.wait_for(done, "the queue to settle", DRAIN_PATIENCE, 0.01)
        except TimeoutError:
            raise Lost(f"{DRAIN_PATIENCE} s after the load something is still not delivered") from None

    def warm_up(self):
        """Lets compilers, caches and connections settle. Returns messages a second."""
        messages = 200
        while True:
            start = time.monotonic()
            count, _ = self.load(messages)
            if not self.scenario.sink_rules:  # where the sink defers, waiting for retries would count as work
                self.drain()
            elapsed = time.monotonic() - start
            if elapsed >= WARM_UP_SECONDS:
                return count / elapsed
            messages *= 4

    def measure(self, seconds):
        """One round of about so long."""
        messages = max(200, round(self.warm_up() * seconds))
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours = time.process_time()
        syncs, busy = self.shim.count(), machine.busy_seconds()
        cpu, sink_cpu = machine.cpu_seconds(self.server.pid), machine.cpu_seconds(self.sink.child.pid)
        first = machine.own_cpu_seconds(self.server.pid)
        start = time.monotonic()

        count, (p50, p99) = self.load(messages)
        accepted = time.monotonic() - start
        memory = machine.memory_mib(self.server.pid)
        self.drain()

        elapsed = time.monotonic() - start
        cpu = machine.cpu_seconds(self.server.pid) - cpu
        first = machine.own_cpu_seconds(self.server.pid) - first
        sink_cpu = machine.cpu_seconds(self.sink.child.pid) - sink_cpu
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        tools = sink_cpu + ended.ru_utime + ended.ru_stime - usage.ru_utime - usage.ru_stime
        other = machine.busy_seconds() - busy - cpu - tools - (time.process_time() - ours)
        figures = Figures(
            messages=count, accepted_rate=count / accepted, rate=count / elapsed, cpu_us=cpu / count * 1e6,
            first_us=first / count * 1e6, p50_ms=p50, p99_ms=p99, syncs=(self.shim.count() - syncs) / count, memory_mib=memory, tools_cpu_us=tools / count * 1e6,
            other_load=max(0.0, other / (elapsed * (os.cpu_count() or 1))))
        self.check_counts()
        return figures

    # ---- nothing lost ----------------------------------------------------------------------------------------------

    def check_counts(self):
        """Compares what the sink took with what it had to take. Ends the sink."""
        if not self.scenario.deliver:
            kept = self.server.queued()
            if kept != self.sent:
                raise Lost(f"{self.sent} messages were accepted and {kept} are kept")
            return
        taken = self.sink.recipients()
        if taken != self.expected:
            raise Lost(f"{self.expected} deliveries were due and {taken} came")

    def prove(self, messages):
        """Sends with ledgers on both sides: each message must come once to each recipient, whatever the totals say."""
        self.load(messages)
        self.drain()
        self.sink.recipients()
        given = deliveries(self.ledger)
        taken = deliveries(self.folder / "taken.jsonl")
        missing = [one for one in given if one not in taken]
        twice = [one for one, times in taken.items() if times > 1]
        if missing or twice or len(given) != self.expected:
            raise Lost(f"of {self.expected} deliveries {len(missing)} are missing and {len(twice)} came twice")


def deliveries(path):
    """How often each (message, recipient) stands in a ledger."""
    found = {}
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            for to in entry["to"]:
                key = (entry["id"], to)
                found[key] = found.get(key, 0) + 1
    return found


def medians(rounds):
    """The median of each figure."""
    return Figures(**{
        field.name: statistics.median(getattr(one, field.name) for one in rounds)
        for field in dataclasses.fields(Figures)})
