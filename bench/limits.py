"""What queue policies cost, and how exact they are: B-19 of the conformance suite, and relaying with and without them."""

import bisect
import collections
import json
import statistics
import time

import lab as labs
import machine

MANY = {("outbound.ini", "main"): {"concurrency_max": "5000", "destination_concurrency": "500"}}

# The two policies of the documentation's first page, with limits that hold nothing up: what they cost is to ask them.
WIDE = """- fields:
  - localip
  - remotemx:
      gsuite: ['*.google.com', '*.googlemail.com', '*.smtp.goog']
  conditions:
  - if: {remotemx: '#gsuite'}
    then: {concurrency: 10, rate: 50}
  default: {concurrency: 400, rate: 1000000}
- fields:
  - localip
  - remotemx:
      o365: ['*.protection.outlook.com']
  - remoteip
  conditions:
  - if: {remotemx: '#o365'}
    then: {concurrency: 10, rate: 30}
  default: {concurrency: 400, rate: 1000000}
"""


def policies(lab):
    """Relaying to one domain under two policies that limit nothing here, in turns with an engine without policies."""
    count = max(5_000, 60_000 * lab.options.items // 1_000_000)
    sink = f"127.0.0.1:{machine.free_port()}"
    child = lab.sink([sink])
    engines = {"without": lab.engine({"any": sink}, MANY), "with": lab.engine({"any": sink}, {**MANY, "policy.yaml": WIDE})}
    rates, costs = collections.defaultdict(list), collections.defaultdict(list)
    for turn in range(8):
        for name, engine in engines.items():
            rate, cpu = relay(lab, engine, count)
            if turn > 0:  # the first load of an engine makes its segments
                rates[name].append(rate)
                costs[name].append(cpu)
    for name in engines:
        lab.report.add(f"{name} policies: delivered a second", labs.median(rates[name]), "/s", digits=0)
        lab.report.add(f"{name} policies: CPU for a message", labs.median(costs[name]), "us")
    pairs = [one / other for one, other in zip(rates["with"], rates["without"])]
    lab.report.add("rate with against without, median of the turns", labs.median(pairs), least=0.9, digits=2)
    taken = labs.sink_counts(child)["messages"]
    if taken != 16 * count:
        raise labs.Lost(f"{16 * count} messages were accepted and {taken} came")


def relay(lab, engine, count):
    start, cpu = time.monotonic(), machine.cpu_seconds(engine.pid)
    lab.load(engine, count, sessions=50, size=4096)
    machine.wait_for(engine.empty, "the queue to become empty", 240, 0.005)
    return count / (time.monotonic() - start), (machine.cpu_seconds(engine.pid) - cpu) / count * 1e6


def throttle(lab):
    """B-19: 50 destinations with rates of 2 to 400 a second, all with more mail than they may have."""
    rates = {f"d{n}.test": round(2 * 200 ** (n / 49)) for n in range(50)}
    conditions = "".join(
        f"  - if: {{recipientdomain: {domain}}}\n    then: {{rate: {rate}, concurrency: {max(4, rate // 2)}}}\n"
        for domain, rate in rates.items())
    policy = "- fields: [recipientdomain]\n  conditions:\n" + conditions
    ledger = lab.path("taken")
    sink = f"127.0.0.1:{machine.free_port()}"
    lab.sink([sink], "--ledger", str(ledger), rules=("data=delay 20",))
    engine = lab.engine({"any": sink}, {("outbound.ini", "main"): {**MANY["outbound.ini", "main"], "disabled": "true"}, "policy.yaml": policy})
    for domain, rate in rates.items():
        lab.load(engine, rate * 30, sessions=16, to=f"user%n@{domain}", size=1024)
    settings = engine.folder / "config" / "outbound.ini"
    settings.write_text(settings.read_text().replace("disabled=true", "disabled=false"))
    engine.ask("POST", "/v1/reload", {})
    cpu = machine.cpu_seconds(engine.pid)
    time.sleep(2)
    begin = time.monotonic_ns() // 1000
    time.sleep(15)
    end = time.monotonic_ns() // 1000
    cpu = (machine.cpu_seconds(engine.pid) - cpu) / 17 * 100
    times = taken_times(ledger)
    errors, bursts, longs = [], [], []
    for domain, rate in rates.items():
        here = times[domain]
        taken = bisect.bisect_left(here, end) - bisect.bisect_left(here, begin)
        errors.append(abs(taken / (end - begin) * 1e6 / rate - 1))
        bursts.append(fullest(here, 1_000_000) / rate)
        longs.append(fullest(here, 10_000_000) / rate / 10)
    total = sum(rates.values())
    lab.report.add(f"50 rates, {total:,} a second together: error of the rate, mean", statistics.mean(errors) * 100, "%", digits=2)
    lab.report.add("error of the rate, worst", max(errors) * 100, "%", digits=2)
    lab.report.add("error of the rate, of those over 50 a second, worst",
                   max(error for error, rate in zip(errors, rates.values()) if rate > 50) * 100, "%", most=2, digits=2)
    lab.report.add("fullest second as the sink saw it, against the rate: worst", max(bursts), digits=2)
    lab.report.add("fullest ten seconds, against the rate: worst", max(longs), most=1.02, digits=3)
    lab.report.add("CPU of the engine meanwhile", cpu, "%")


def fullest(times, window):
    """The most within any stretch of `window` us."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


def taken_times(ledger):
    """By domain: when its messages were taken, in us, in order."""
    times = collections.defaultdict(list)
    with open(ledger, encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            times[entry["to"][0].rpartition("@")[2].strip(">")].append(entry["steady_us"])
    for one in times.values():
        one.sort()
    return times
