"""A deep queue: B-12, B-13 and B-18 of the conformance suite."""

import os
import threading
import time

import lab as labs
import links
import machine

BLOCK = 20_000  # messages of one measured load
NEVER = {("outbound.ini", "main"): {"temp_fail_intervals": "1d*5", "retry_jitter": "false", "unhealthy_for": "1h"}}


def nobody():
    """An endpoint at which nothing listens."""
    return f"127.0.0.1:{machine.free_port()}"


def deep(lab):
    """B-12 and B-13: a million messages for a destination that is down; then the engine is killed and starts again."""
    items = lab.options.items
    sink = lab.sink([f"127.0.0.1:{machine.free_port()}"])
    live = sink.args[sink.args.index("--listen") + 1]
    routes = {"any": nobody(), "live.test": live}
    engine, fresh = lab.engine(routes, NEVER), lab.engine(routes, NEVER)
    base = engine.resident_kib()
    load = {"sessions": 32, "domains": 100, "size": 4096}
    for one in (engine, fresh):
        lab.load(one, 2000, **load)
        labs.settle(one)
    for depth in (items // 4, items // 2, items):
        missing = depth - engine.queue()["items"]
        if missing > 0:
            lab.load(engine, missing, **load)
            labs.settle(engine)
        compare(lab, engine, fresh, load, depth)
    measure_depth(lab, engine, base)
    restart(lab, engine)
    command_everything(lab, engine)


def compare(lab, engine, fresh, load, depth):
    """The rate of the deep queue against that of one nearly empty, in turns: what else the machine does concerns both."""
    rates, shallow, cpu, shallow_cpu = [], [], [], []
    for _ in range(3):
        for one, into, cost in ((engine, rates, cpu), (fresh, shallow, shallow_cpu)):
            rate, us = lab.measured_load(one, BLOCK // 2, **load)
            into.append(rate)
            cost.append(us)
    add = lab.report.add
    add(f"{depth:,} queued: accepted a second", labs.median(rates), "/s", digits=0)
    add(f"{depth:,} queued: rate against an almost empty queue", labs.median(rates) / labs.median(shallow), least=0.9, digits=2)
    add(f"{depth:,} queued: CPU for a message, with its failed attempt", labs.median(cpu), "us")
    add(f"{depth:,} queued: CPU against an almost empty queue", labs.median(cpu) / labs.median(shallow_cpu), digits=2)


def measure_depth(lab, engine, base):
    add = lab.report.add
    queue = engine.queue()
    items = queue["items"]
    resident = labs.steady_resident_kib(engine)
    add("resident memory", resident / 1024, "MiB")
    add("resident memory for a queued item beyond the empty process", (resident - base) * 1024 / items, "octets", most=200)
    add("disk for a message of 4 KiB", engine.spool_bytes() / items, "octets", digits=0)
    cpu = machine.cpu_seconds(engine.pid)
    time.sleep(10)
    add("idle CPU", (machine.cpu_seconds(engine.pid) - cpu) / 10 * 100, "%", most=0.5, digits=2)
    for path in ("/v1/status", "/v1/queue/stats", "/v1/queue?limit=100", "/v1/queue?limit=100&domain=d7.test", "/v1/queue?limit=10000"):
        times = [labs.timed_ms(lambda: engine.ask("GET", path))[0] for _ in range(3)]
        add(f"GET {path}", labs.median(times), "ms")


def command_everything(lab, engine):
    """Holds and releases everything; how long does the core answer nobody else meanwhile?"""
    for command in ("hold", "release"):
        longest, stop = [0.0], threading.Event()

        def probe():
            while not stop.is_set():
                longest[0] = max(longest[0], labs.timed_ms(engine.status)[0])

        watcher = threading.Thread(target=probe)
        watcher.start()
        before = engine.resident_kib()
        took, answer = labs.timed_ms(lambda: engine.ask("POST", f"/v1/queue/{command}", {"all": True}))
        stop.set()
        watcher.join()
        lab.report.add(f"{command} all {answer['items']:,} items", took / 1000, "s")
        lab.report.add(f"{command} all: longest answer of the core to somebody else", longest[0], "ms", most=100)
        lab.report.add(f"{command} all: resident memory grew by", (engine.resident_kib() - before) / 1024, "MiB")


def restart(lab, engine):
    queued = engine.queue()["items"]
    for cache, forget in (("cold", True), ("warm", False)):
        engine.kill()
        if forget:
            labs.forget_cache(engine.folder / "queue")
        took, _ = labs.timed_ms(engine.start)
        spent = machine.cpu_seconds(engine.pid)
        lab.report.add(f"kill -9, {cache} cache: start to first greeting", took / 1000, "s", most=3, digits=2)
        lab.report.add(f"kill -9, {cache} cache: CPU until then", spent, "s", digits=2)
        if engine.queue()["items"] != queued:
            raise labs.Lost(f"{queued} items were queued before the restart and {engine.queue()['items']} after")
        first, _ = labs.timed_ms(lambda: lab.load(engine, 1, to="first@live.test"))
        waited, _ = labs.timed_ms(lambda: machine.wait_for(lambda: engine.queue()["items"] == queued, "a delivery", pause=0.002))
        lab.report.add(f"kill -9, {cache} cache: first message until delivered", first + waited, "ms")
    resident = labs.steady_resident_kib(engine)
    lab.report.add("after the restart: resident memory for a queued item, all included", resident * 1024 / queued, "octets")


QUESTIONS = {
    "100 items of one domain": "/v1/queue?limit=100&where=domain%3Dd7.test",
    "groups by domain": "/v1/queue/groups?by=domain",
    "groups by domain and state, of those older than a second": "/v1/queue/groups?by=domain,state&where=age%3E1s",
    "explain a domain": "/v1/explain?what=d7.test",
}


def operate(lab):
    """A deep queue in use: mail flows to 100 other destinations while an operator asks, and deletes half of the queue by filter."""
    quick, taken = f"127.0.0.1:{machine.free_port()}", lab.path("taken")
    lab.sink([quick], "--ledger", str(taken))
    routes = {"any": quick} | {f"d{n}.test": nobody() for n in range(100)}
    engine = lab.engine(routes, NEVER)
    lab.load(engine, lab.options.items, sessions=32, domains=100, size=4096)
    labs.settle(engine)
    os.sync()
    add = lab.report.add
    for what, path in QUESTIONS.items():
        times = [labs.timed_ms(lambda path=path: engine.ask("GET", path))[0] for _ in range(5)]
        add(f"{what}", labs.median(times), "ms")
    alone = links.latencies_ms(lab, engine, taken, "alone", 1500, 100)
    queued, sizes = engine.queue()["items"], []
    half = {"action": "delete", "where": "domain=" + ",".join(f"d{n}.test" for n in range(50))}
    matched = engine.ask("POST", "/v1/queue/jobs", {**half, "dry_run": True})["matched"]

    def delete():
        start = time.monotonic()
        job = engine.ask("POST", "/v1/queue/jobs", half)["job"]
        while (state := engine.ask("GET", f"/v1/queue/jobs/{job}"))["state"] == "running":
            sizes.append(state["done"])
            time.sleep(0.2)
        sizes.append(state["done"])
        took.append(time.monotonic() - start)

    took = []
    worker = threading.Thread(target=delete)
    worker.start()
    meanwhile = links.latencies_ms(lab, engine, taken, "meanwhile", 1500, 100)
    worker.join()
    if sizes[-1] != matched or engine.queue()["items"] != queued - matched:
        raise labs.Lost(f"{matched} items matched, {sizes[-1]} were deleted, {queued - engine.queue()['items']} are gone")
    add("deleted by filter", matched, digits=0)
    add("took", took[0], "s")
    add("different counts seen while it ran", len(set(sizes)), least=3, digits=0)
    for fraction in (0.5, 0.99):
        add(f"other mail meanwhile, p{fraction * 100:.0f}", labs.percentile(meanwhile, fraction), "ms", digits=2)
        add(f"other mail alone, p{fraction * 100:.0f}", labs.percentile(alone, fraction), "ms", digits=2)
