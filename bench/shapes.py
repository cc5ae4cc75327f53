"""Unusual shapes of load: B-05, B-15, B-16 and B-18 of the conformance suite."""

import os
import pathlib
import time

import lab as labs
import links
import machine

MIB = 1024 * 1024


def domains(lab):
    """B-05: 20,000 domains with 5 messages each, on 8 sinks, against as many messages for one domain."""
    count = max(500, 20_000 * lab.options.items // 1_000_000)
    hops = [f"127.0.0.1:{machine.free_port()}" for _ in range(8)]
    sinks = [lab.sink([hop]) for hop in hops]
    routes = {f"d{n}.test": hops[n % 8] for n in range(count)}
    engine = lab.engine({**routes, "any": hops[0]})
    base = engine.resident_kib()
    results = {}
    for name, spread in (("one domain", 1), (f"{count:,} domains", count)) * 3:
        rate, cpu = until_delivered(lab, engine, 5 * count, spread)
        results.setdefault(name, []).append((rate, cpu))
        if spread > 1:
            grown = engine.resident_kib() - base
    for name, rounds in results.items():
        lab.report.add(f"{name}: delivered a second", labs.median([rate for rate, _ in rounds]), "/s", digits=0)
        lab.report.add(f"{name}: CPU for a message", labs.median([cpu for _, cpu in rounds]), "us")
    lab.report.add("resident memory for a domain just served, all included", grown * 1024 / count, "octets", digits=0)
    delivered = sum(labs.sink_counts(sink)["messages"] for sink in sinks)
    if delivered != 30 * count:
        raise labs.Lost(f"{30 * count} messages were accepted and {delivered} came")


def until_delivered(lab, engine, messages, spread):
    start, cpu = time.monotonic(), machine.cpu_seconds(engine.pid)
    lab.load(engine, messages, sessions=50, domains=spread, size=4096)
    machine.wait_for(engine.empty, "the queue to become empty", 240, 0.01)
    return messages / (time.monotonic() - start), (machine.cpu_seconds(engine.pid) - cpu) / messages * 1e6


def written_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise OSError("no write_bytes")


class Peak:
    """The largest resident memory of a process; the kernel keeps it."""

    def __init__(self, engine):
        self.engine = engine
        pathlib.Path(f"/proc/{engine.pid}/clear_refs").write_text("5")  # begins anew
        self.base = engine.resident_kib()

    def grown_mib(self):
        for line in pathlib.Path(f"/proc/{self.engine.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return (int(line.split()[1]) - self.base) / 1024
        raise OSError("no VmHWM")


def large(lab):
    """B-15: messages of 25 MB, 8 sessions."""
    size, sessions = 24 * MIB, 8
    messages = max(16, 200 * lab.options.items // 1_000_000)
    sink = f"127.0.0.1:{machine.free_port()}"
    child = lab.sink([sink])
    engine = lab.engine({"any": sink})
    peak, start = Peak(engine), time.monotonic()
    cpu, written = machine.cpu_seconds(engine.pid), written_bytes(engine.pid)
    report = lab.load(engine, messages, sessions=sessions, size=size)
    machine.wait_for(engine.empty, "the queue to become empty", 280, 0.02)
    took = time.monotonic() - start
    total = messages * size
    lab.report.add(f"{messages} messages of 24 MiB: accepted", total / MIB / report["seconds"], "MiB/s")
    lab.report.add(f"{messages} messages of 24 MiB: until delivered", total / MIB / took, "MiB/s")
    lab.report.add("CPU for a MiB", (machine.cpu_seconds(engine.pid) - cpu) * 1e6 / (total / MIB), "us", digits=0)
    lab.report.add("octets written for one received", (written_bytes(engine.pid) - written) / total, most=1.1, digits=3)
    # Each session holds one body while it comes; fresh ones wait for their delivery under fresh_bytes_max (256 MiB), and what is
    # on its way out is held by its session.
    lab.report.add("resident memory grew by at most", peak.grown_mib(), "MiB", most=1024, digits=0)
    engine.stop()
    taken = labs.sink_counts(child)
    if taken["messages"] != messages:
        raise labs.Lost(f"{messages} messages were accepted and {taken['messages']} came")


def fanout(lab):
    """B-16: one message of 1 MiB for 10,000 recipients, in one domain and over 1,000."""
    for spread in (1, 1000):
        sink = f"127.0.0.1:{machine.free_port()}"
        child = lab.sink([sink])
        engine = lab.engine({"any": sink})
        peak, start = Peak(engine), time.monotonic()
        before = engine.status()["journal"]["appended_bytes"]
        report = lab.load(engine, 1, sessions=1, size=MIB, recipients=10_000, domains=spread)
        name = f"10,000 recipients in {spread:,} domain{'s' if spread > 1 else ''}"
        lab.report.add(f"{name}: accepted after", report["seconds"], "s", digits=2)
        machine.wait_for(engine.empty, "the queue to become empty", 240, 0.01)
        lab.report.add(f"{name}: all delivered after", time.monotonic() - start, "s", digits=2)
        journal = engine.status()["journal"]["appended_bytes"] - before
        lab.report.add(f"{name}: journal, of which the body once is 1", journal / MIB, "MiB", most=4, digits=2)
        lab.report.add(f"{name}: resident memory grew by at most", peak.grown_mib(), "MiB", most=256)
        engine.stop()
        taken = labs.sink_counts(child)
        lab.report.add(f"{name}: transactions", taken["messages"], digits=0)
        if taken["recipients"] != 10_000:
            raise labs.Lost(f"{name}: {taken['recipients']} came")


def fairness(lab):
    """B-18: messages for a destination that hardly answers, and 100 a second for 100 others: are those slower for it?"""
    backlog = lab.options.items // 2
    taken = lab.path("taken")
    quick, tarpit = (f"127.0.0.1:{machine.free_port()}" for _ in range(2))
    lab.sink([quick], "--ledger", str(taken))
    lab.sink([tarpit], rules=("mail=delay 5000", "rcpt=delay 5000"))
    loaded, free = (lab.engine({"any": quick, "tarpit.test": tarpit}) for _ in range(2))
    lab.load(loaded, backlog, sessions=32, to="user%n@tarpit.test", size=4096)
    os.sync()  # or the backlog's dirty pages are written during the first round
    with_it, without = [], []
    for n in range(6):
        for engine, into, name in ((loaded, with_it, "with"), (free, without, "without")):
            into += links.latencies_ms(lab, engine, taken, f"{name}{n}", 800, 100)
    queue = loaded.queue()
    lab.report.add("messages for the tarpit still queued", queue["items"], digits=0)
    for fraction, most in ((0.5, None), (0.99, 1.2)):
        a, b = labs.percentile(with_it, fraction), labs.percentile(without, fraction)
        lab.report.add(f"p{fraction * 100:.0f} until delivered, without the tarpit", b, "ms", digits=2)
        lab.report.add(f"p{fraction * 100:.0f} until delivered, with it", a, "ms", digits=2)
        lab.report.add(f"p{fraction * 100:.0f}, ratio", a / b, most=most, digits=2)
