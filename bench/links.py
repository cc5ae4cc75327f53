"""Many connections: B-10, B-11, DoS-1 and B-07 of the conformance suite."""

import base64
import contextlib
import json
import select
import socket
import ssl
import subprocess
import time

import lab as labs
import machine

PATIENT = {("smtp.ini", "main"): {"inactivity_timeout": "1h", "connections_max": "15900"}}
USER, PASSWORD = "ann@src.test", "a-long-password"


class Crowd:
    """Clients that have said EHLO, and logged in or not, and are then silent. Used as `with Crowd(...) as crowd`."""

    def __init__(self, port, count, log_in=False, tls=None):
        self.port, self.log_in, self.tls = port, log_in, tls
        self.links = []
        try:
            for n in range(count):
                self.links.append(self.arrive(n))
        except BaseException:
            self.leave()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def leave(self):
        for link in self.links:
            with contextlib.suppress(OSError):
                link.close()

    def arrive(self, number):
        # From several addresses: to find a free port among many taken ones would take the kernel of the client long.
        source = (f"127.0.0.{10 + number % 8}", 0)
        link = socket.create_connection(("127.0.0.1", self.port), timeout=60, source_address=source)
        expect(link, b"220")
        say(link, b"EHLO crowd.test", b"250")
        if self.tls:
            say(link, b"STARTTLS", b"220")
            link = self.tls.wrap_socket(link)
            say(link, b"EHLO crowd.test", b"250")
        if self.log_in:
            secret = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
            say(link, b"AUTH PLAIN " + secret, b"235")
        return link


def expect(link, code):
    answer = b""
    while not answer.endswith(b"\n") or answer.split(b"\n")[-2][3:4] == b"-":
        more = link.recv(4096)
        if not more:
            raise labs.Lost("a client was hung up on")
        answer += more
    if not answer.startswith(code):
        raise labs.Lost(f"a client was told {answer[:80]!r}")


def say(link, line, code):
    link.sendall(line + b"\r\n")
    expect(link, code)


def arrival_ms(port):
    """Median time of one more client until it is greeted."""
    times = []
    for _ in range(50):
        start = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port), timeout=60, source_address=("127.0.0.9", 0)) as link:
            expect(link, b"220")
            times.append((time.perf_counter() - start) * 1000)
            say(link, b"QUIT", b"221")
    return labs.median(times)


def certificate(lab):
    """A self-signed ECDSA P-256 certificate: (certificate file, key file)."""
    key, cert = lab.path("key"), lab.path("cert")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "7",
         "-subj", "/CN=relay.bench.test", "-keyout", key, "-out", cert], check=True, capture_output=True)
    return str(cert), str(key)


def careless_tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def idle_in(lab):
    """B-11: idle inbound connections, logged in and not, and inside TLS."""
    cert, key = certificate(lab)
    files = {
        **PATIENT, ("auth_flat_file.ini", "core"): {"methods": "PLAIN"}, ("auth_flat_file.ini", "users"): {USER: PASSWORD},
        ("tls.ini", "main"): {"cert": cert, "key": key, "requestCert": "false"}}
    kinds = (("not logged in", lab.options.links, False, None, 16), ("logged in", lab.options.links, True, None, 16),
             ("TLS", lab.options.links // 5, False, careless_tls(), None))
    for name, count, log_in, tls, most in kinds:
        engine = lab.engine({"any": f"127.0.0.1:{machine.free_port()}"}, files)
        with Crowd(engine.port, 100, log_in, tls):
            pass
        base, alone = engine.resident_kib(), arrival_ms(engine.port)
        with Crowd(engine.port, count, log_in, tls):
            grown = engine.resident_kib() - base
            lab.report.add(f"{count:,} idle clients, {name}: resident memory each", grown / count, "KiB", most=most)
            lab.report.add(f"{count:,} idle clients, {name}: one more is greeted after", arrival_ms(engine.port), "ms", digits=2)
            lab.report.add("  alone", alone, "ms", digits=2)
            cpu = machine.cpu_seconds(engine.pid)
            time.sleep(5)
            lab.report.add(f"{count:,} idle clients, {name}: CPU", (machine.cpu_seconds(engine.pid) - cpu) / 5 * 100, "%", digits=2)
            if engine.status()["connections_in"] < count:
                raise labs.Lost("idle clients were hung up on")
        engine.stop()


def slow_out(lab):
    """B-10: outbound connections to destinations that take a minute for each answer to MAIL; others are unaffected."""
    count, sinks, domains = lab.options.links, 3, 30
    ports = [machine.free_port() for _ in range(sinks)]
    addresses = [f"127.0.0.{2 + n}:{ports[n % sinks]}" for n in range(2 * sinks)]
    slow = [lab.sink([a for a in addresses if a.endswith(f":{port}")], rules=("mail=delay 60000",)) for port in ports]
    routes = {f"slow{n}.test": addresses[n % len(addresses)] for n in range(domains)}
    taken = lab.path("taken")
    quick = f"127.0.0.1:{machine.free_port()}"
    lab.sink([quick], "--ledger", str(taken))
    routes["any"] = quick
    limits = {("outbound.ini", "main"): {
        "concurrency_max": str(count + 500), "destination_concurrency": str(count // domains), "temp_fail_intervals": "1d*5"}}
    engine = lab.engine(routes, limits)
    alone = latencies_ms(lab, engine, taken, "alone", 200, 40)
    base = engine.resident_kib()
    lab.load(engine, count, sessions=32, domains=domains, to="user%n@slow%d.test", size=4096)
    start = time.monotonic()
    machine.wait_for(lambda: engine.queue()["sessions"] >= count, f"{count} connections", 55)
    lab.report.add(f"{count:,} slow connections: open after the last 250", time.monotonic() - start, "s")
    lab.report.add(f"{count:,} slow connections: resident memory each, bodies of 4 KiB included", (engine.resident_kib() - base) / count,
                   "KiB", most=32)
    busy = latencies_ms(lab, engine, taken, "busy", 200, 40)
    for name, values in (("alone", alone), (f"beside {count:,} slow connections", busy)):
        lab.report.add(f"another destination, {name}: until delivered, p50", labs.percentile(values, 0.5), "ms", digits=2)
        lab.report.add(f"another destination, {name}: until delivered, p99", labs.percentile(values, 0.99), "ms", digits=2)
    # Each carries one message; all must arrive.
    cpu, start = machine.cpu_seconds(engine.pid), time.monotonic()
    machine.wait_for(lambda: engine.queue()["items"] == 0, "the slow deliveries", 240, 0.1)
    lab.report.add("then all delivered after", time.monotonic() - start, "s")
    lab.report.add("CPU of the engine meanwhile", (machine.cpu_seconds(engine.pid) - cpu) / (time.monotonic() - start) * 100, "%")
    delivered = sum(labs.sink_counts(sink)["messages"] for sink in slow)
    if delivered != count:
        raise labs.Lost(f"{count} messages were accepted and {delivered} came")


def latencies_ms(lab, engine, taken, name, messages, rate, domains=100, to="user%n@quick%d.test"):
    """Sends on schedule; how long each message took from its intended time until the sink had it."""
    given = lab.path("given")
    lab.load(engine, messages, sessions=20, rate=rate, domains=domains, to=to, size=4096, ledger=given, id_prefix=name + "-")
    due = stamps(given, name)
    machine.wait_for(lambda: len(stamps(taken, name)) >= messages, "the deliveries on schedule", 60, 0.2)
    came = stamps(taken, name)
    return [(came[one] - at) / 1000 for one, at in due.items()]


def stamps(ledger, prefix):
    """By message id: the time in a ledger, in us."""
    found = {}
    with contextlib.suppress(FileNotFoundError), open(ledger, encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n") and f'"{prefix}-' in line:
                entry = json.loads(line)
                found[entry["id"]] = entry["steady_us"]
    return found


def slowloris(lab):
    """DoS-1: clients that send one octet of a command now and then; the deadline is the command's, not the octet's."""
    count, seconds = min(5000, lab.options.links), 30
    taken = lab.path("taken")
    quick = f"127.0.0.1:{machine.free_port()}"
    lab.sink([quick], "--ledger", str(taken))
    files = {("smtp.ini", "main"): {"inactivity_timeout": f"{seconds}s", "connections_max": "15900"}}
    engine = lab.engine({"any": quick}, files)
    alone = latencies_ms(lab, engine, taken, "alone", 200, 40)
    with Crowd(engine.port, 100):
        pass
    base = engine.resident_kib()
    with Crowd(engine.port, count) as crowd:
        start = time.monotonic()
        left, rounds = list(crowd.links), 0
        busy = []
        while left and time.monotonic() - start < 4 * seconds:
            drip(left)
            rounds += 1
            if rounds == 1:
                grown = engine.resident_kib() - base
                busy = latencies_ms(lab, engine, taken, "busy", 200, 40)
            time.sleep(3)
            left = [link for link in left if not hung_up(link)]
        lab.report.add(f"{count:,} slow clients: resident memory each", grown / count, "KiB", most=16)
        lab.report.add(f"{count:,} slow clients: left after {rounds} octets each", len(left), digits=0, most=0)
        lab.report.add(f"{count:,} slow clients: all sent away after", time.monotonic() - start, "s", most=2.5 * seconds)
    for name, values in (("alone", alone), ("meanwhile", busy)):
        lab.report.add(f"mail of others, {name}: until delivered, p99", labs.percentile(values, 0.99), "ms", digits=2)


def drip(links):
    for link in links:
        with contextlib.suppress(OSError):
            link.send(b"N")


def hung_up(link):
    """Whether the server has said 421 and closed."""
    readable, _, _ = [link], None, None
    poll = select.poll()
    poll.register(link, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        while link.recv(4096):
            if not poll.poll(0):
                return False
    except OSError:
        pass
    return True


def tls(lab):
    """B-07: STARTTLS with TLS 1.3 and an ECDSA P-256 certificate, one way at a time: what it costs the engine."""
    cert, key = certificate(lab)
    messages = max(200, 20_000 * lab.options.items // 1_000_000)
    server = {("tls.ini", "main"): {"cert": cert, "key": key, "requestCert": "false"}}
    variants = (("in clear, 1 message a connection", None, True, 1), ("(a) 1 message a connection, no resumption", True, False, 1),
                ("(b) 1 message a connection, resumption", True, True, 1), ("(c) 50 messages a connection", True, True, 50),
                ("in clear, 50 messages a connection", None, True, 50))
    for name, secure, resume, each in variants:
        words = ["--cert", cert, "--key", key] if secure else []
        sink = f"127.0.0.1:{machine.free_port()}"
        child = lab.sink([sink], *words, *([] if resume else ["--no-resumption"]))
        engine = lab.engine({"any": sink}, {("outbound.ini", "main"): {"messages_per_connection": str(each)}})
        lab.measured_load(engine, 200, sessions=20, size=4096)
        rate, cpu = lab.measured_load(engine, messages, sessions=20, size=4096)
        lab.report.add(f"out, {name}: CPU for a message", cpu, "us")
        lab.report.add(f"out, {name}: accepted a second", rate, "/s", digits=0)
        engine.stop()
        if labs.sink_counts(child)["messages"] != messages + 200:
            raise labs.Lost(f"out, {name}: not every message came")
    for name, secure, resume, each in variants:
        engine = lab.engine({"any": f"127.0.0.1:{machine.free_port()}"}, {**server, ("outbound.ini", "main"): {"disabled": "true"}})
        words = {"sessions": 20, "size": 4096, "per_connection": each, **({"starttls": True} if secure else {}),
                 **({} if resume else {"no_resumption": True})}
        lab.load(engine, 200, **words)
        cpu = machine.cpu_seconds(engine.pid)
        rate = lab.load(engine, messages, **words)["per_second"]
        lab.report.add(f"in, {name}: CPU for a message", (machine.cpu_seconds(engine.pid) - cpu) / messages * 1e6, "us")
        lab.report.add(f"in, {name}: accepted a second", rate, "/s", digits=0)
        engine.stop()
