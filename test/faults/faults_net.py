"""The network fails: peers that vanish, reset or are deaf, answers that are lost, no uplink, no source: FM-32 to FM-35, FM-38, FM-49."""

import time

import needs
from bench import Proxy, cpu_seconds, expect_no_failure, inject, queued, recipients_of, wait_delivered
from namespaces import OURS, Hosts
from peers import Knot
from rig import fault
from world import wait_for

FINE, DEAD, DEAF, SECOND_SOURCE = "198.51.100.10", "198.51.100.11", "198.51.100.12", "198.51.100.2"
PORT = 2525
PATIENCE = 90


def hosts_of(run, *peers):
    hosts = Hosts()
    run.defer(hosts.close)
    for address in peers:
        hosts.add_peer(address)
    return hosts


def engine_of(run, **settings):
    engine = run.worlds[-1].engine() if run.worlds else run.world().engine()
    engine.set("outbound.ini", **{"temp_fail_intervals": "5s*1000", "retry_jitter": "false", **settings})
    return engine


def sink_at(run, hosts, address, *arguments, port=PORT):
    with hosts.at_peers():
        return run.worlds[-1].sink(*arguments, address=address, port=port)


def start_inside(hosts, engine):
    with hosts.at_engine():
        return engine.start()


@fault("FM-32", "half-open: the peer's host vanishes, with the connection idle, and while its answer is awaited", unit="cycles",
       short=1, long=20, needs=[needs.network_namespaces])
def the_host_vanishes(run):
    run.world()
    hosts = hosts_of(run, FINE, DEAD)
    held = sink_at(run, hosts, DEAD, "--rule", "dot=delay 600000")
    # Of a whole message in one flight nobody could say whether it was taken; DATA waits for an answer first.
    sink = sink_at(run, hosts, FINE, "--no-chunking")
    engine = engine_of(run, connect_timeout="2", mail_timeout="2", dot_timeout="3", pool_timeout="300", temp_fail_intervals="1h*9",
                       concurrency_max="2", destination_concurrency="1")
    engine.route("idle.test", sink.endpoint).route("busy.test", held.endpoint)
    start_inside(hosts, engine)
    for cycle in range(run.count):
        inject(engine, f"first{cycle}@idle.test")
        wait_delivered(engine, [f"first{cycle}@idle.test"])
        wait_for(lambda: queued(engine)["idle_sessions"] == 1, "the kept connection")
        inject(engine, f"held{cycle}@busy.test")
        wait_for(lambda: queued(engine)["sending"] == 1, "the message to be on its way")

        hosts.vanish(FINE)
        hosts.vanish(DEAD)
        began = time.monotonic()
        inject(engine, f"second{cycle}@idle.test")
        # The limits are 2 s for the kept connection, 2 s for a new one, and 3 s for the answer to the dot.
        engine.wait_event("deferred", cycle + 1, domain="idle.test", patience=PATIENCE)
        engine.wait_event("deferred", cycle + 1, domain="busy.test", patience=PATIENCE)
        run.highest(noticed_ms=int((time.monotonic() - began) * 1000))
        run.expect(time.monotonic() - began < 30, "a vanished host took longer than half a minute")
        wait_for(lambda: queued(engine)["sending"] == 0, "the slots to be free again")
        run.expect(len(engine.events("possible_duplicate", domain="busy.test")) == cycle + 1,
                   "an answer that never came was not told as a possible duplicate")
        run.expect(not engine.events("possible_duplicate", domain="idle.test"),
                   "a connection that was dead before the message counts as a possible duplicate")

        hosts.return_of(FINE)
        hosts.return_of(DEAD)
        engine.cli("queue", "flush", "idle.test")
        wait_delivered(engine, [f"second{cycle}@idle.test"])
        engine.cli("queue", "delete", "busy.test")
    copies = [to for line in sink.ledger() for to in line["to"]]
    run.expect(len(copies) == len(set(copies)) == 2 * run.count, f"{len(copies)} copies of {2 * run.count} messages")
    expect_no_failure(run, engine, but=["busy.test"])


@fault("FM-33", "a storm of resets: 30 % of connections are reset at a random octet", unit="messages", short=150, long=3000)
def reset_storm(run):
    world = run.world()
    sink = world.sink()
    proxy = Proxy(run, (sink.address, sink.port), lambda _: run.random.randint(0, 400) if run.random.random() < 0.3 else None)
    engine = engine_of(run, temp_fail_intervals="5s*1000", pool_timeout="0", messages_per_connection="3",
                       destination_concurrency="10")
    engine.route("any", proxy.endpoint).start()
    everybody = [f"r{i}@d{i % 20}.test" for i in range(run.count)]
    for to in everybody:
        inject(engine, to)
    wait_delivered(engine, everybody, patience=PATIENCE + run.count / 10)
    engine.wait_empty()
    run.count_up(connections=proxy.count, resets=proxy.resets, deferrals=sum(recipients_of(engine, "deferred").values()))
    run.expect(proxy.resets >= run.count / 40, f"only {proxy.resets} resets: too little happened")
    expect_no_failure(run, engine)
    count_copies(run, engine, sink, everybody)


def count_copies(run, engine, sink, everybody):
    """Everybody has one copy, and one more at most for each possible duplicate that was told."""
    copies = {to: 0 for to in everybody}
    for line in sink.ledger():
        for to in line["to"]:
            copies[to] += 1
    told = recipients_of(engine, "possible_duplicate")
    wrong = {to: count for to, count in copies.items() if not 1 <= count <= 1 + told[to]}
    run.expect(not wrong, f"copies that nobody told of: {dict(list(wrong.items())[:5])}")
    run.count_up(copies=sum(copies.values()), possible_duplicates=sum(told.values()))
    return copies, told


@fault("FM-34", "the peer takes the message and its answer to the dot is lost", unit="messages", short=100, long=2000)
def the_answer_is_lost(run):
    world = run.world()
    sink = world.sink("--seed", str(run.seed), "--rule", "dot%20=drop-after")
    engine = engine_of(run, temp_fail_intervals="5s*1000").route("any", sink.endpoint).start()
    everybody = [f"r{i}@d{i % 10}.test" for i in range(run.count)]
    for to in everybody:
        inject(engine, to)
    wait_delivered(engine, everybody, patience=PATIENCE + run.count / 10)
    engine.wait_empty()
    copies, told = count_copies(run, engine, sink, everybody)
    run.expect(all(copies[to] == 1 + told[to] for to in everybody),
               "not exactly one further copy for each answer that was lost")
    run.expect(sum(told.values()) >= run.count / 20, f"only {sum(told.values())} answers were lost: too little happened")
    expect_no_failure(run, engine)


ZONE = f"""
fine A {FINE}
dead A {DEAD}
deaf A {DEAF}
*.equal MX 10 fine
*.equal MX 10 dead
*.equal MX 10 deaf
*.ordered MX 10 deaf
*.ordered MX 20 dead
*.ordered MX 30 fine
"""


@fault("FM-35", "of three MX hosts one refuses, one swallows everything, one is fine", unit="domains", short=20, long=400,
       needs=[needs.network_namespaces, needs.tool("knotd")])
def one_of_three_is_fine(run):
    world = run.world()
    hosts = hosts_of(run, FINE, DEAD)
    hosts.vanish(DEAF)
    sink = sink_at(run, hosts, FINE)
    with hosts.at_engine():
        knot = Knot(world, {"mx.test": ZONE})
    engine = engine_of(run, connect_timeout="5", smtp_port=PORT, unhealthy_for="600", temp_fail_intervals="1h*9", pool_timeout="0")
    engine.set("net-utils.ini", "dns", servers=knot.endpoint)
    start_inside(hosts, engine)

    def send(kind, number):
        everybody = [f"b@{kind}{number}x{i}.{kind}.mx.test" for i in range(run.count)]
        before = [hosts.counter(hosts.peer_side, "Tcp", "OutRsts"), hosts.counter(hosts.peer_side, "Ip", "InAddrErrors")]
        began = time.monotonic()
        for to in everybody:
            inject(engine, to)
        wait_delivered(engine, everybody, patience=PATIENCE)
        run.highest(**{f"{kind}_{number}_ms": int((time.monotonic() - began) * 1000)})
        return (hosts.counter(hosts.peer_side, "Tcp", "OutRsts") - before[0],
                hosts.counter(hosts.peer_side, "Ip", "InAddrErrors") - before[1], time.monotonic() - began)

    for kind in ("equal", "ordered"):
        send(kind, "first")
        refused, swallowed, took = send(kind, "second")
        run.expect(refused == 0, f"{kind}: the dead host was called {refused} times more")
        run.expect(swallowed <= 2, f"{kind}: {swallowed} packets more to the deaf host")
        run.expect(took < 30, f"{kind}: it took {took:.0f} s although both are known to be dead")
    run.expect(not engine.events("deferred"), f"deferred, although one host is fine: {engine.events('deferred')[:2]}")
    expect_no_failure(run, engine)
    copies = [to for line in sink.ledger() for to in line["to"]]
    run.expect(len(copies) == len(set(copies)) == 4 * run.count, f"{len(copies)} copies of {4 * run.count} messages")


@fault("FM-38", "the uplink is down: no host and no name server answers", unit="seconds", short=8, long=1800,
       needs=[needs.network_namespaces, needs.tool("knotd")])
def no_uplink(run):
    world = run.world()
    hosts = hosts_of(run, FINE)
    sink = sink_at(run, hosts, FINE)
    with hosts.at_engine():
        knot = Knot(world, {"mx.test": "*.names MX 10 fine\nfine A " + FINE})
    # A name server beyond the cable: the resolver gets no answer either.
    relay = hosts_relay(run, hosts, knot)
    engine = engine_of(run, connect_timeout="2", smtp_port=PORT, temp_fail_intervals="5s*1000", queue_lifetime="3d")
    engine.set("net-utils.ini", "dns", servers=f"{FINE}:{relay}", timeout="1000", cache_ttl_max="1")
    engine.route("address.test", f"{FINE}:{PORT}")
    start_inside(hosts, engine)
    inject(engine, "before@a.names.mx.test")
    wait_delivered(engine, ["before@a.names.mx.test"])

    hosts.set_uplink("down")
    everybody = [f"r{i}@d{i}.names.mx.test" for i in range(60)] + [f"r{i}@address.test" for i in range(60)]
    for to in everybody:
        inject(engine, to)
    wait_for(lambda: len(recipients_of(engine, "deferred")) == len(everybody), "everything to be deferred", PATIENCE)
    used, began = cpu_seconds(engine.process.pid), time.monotonic()
    while time.monotonic() - began < run.count:  # the fault lasts so long: that is the test
        time.sleep(min(1, run.count))
        run.expect(queued(engine)["items"] == len(everybody), "the queue changed while nothing can be delivered")
    share = (cpu_seconds(engine.process.pid) - used) / (time.monotonic() - began)
    run.figures["cpu_percent"] = round(share * 100, 1)
    run.expect(share < 0.3, f"the engine uses {share:.0%} of a processor while there is no network")
    expect_no_failure(run, engine)

    hosts.set_uplink("up")
    wait_delivered(engine, everybody, patience=PATIENCE)
    engine.wait_empty()
    expect_no_failure(run, engine)
    copies = [to for line in sink.ledger() for to in line["to"]]
    run.expect(len(copies) == len(set(copies)) == 1 + len(everybody), f"{len(copies)} copies of {len(everybody)} messages")
    run.count_up(deferrals=sum(recipients_of(engine, "deferred").values()))


def hosts_relay(run, hosts, knot):
    """A port of the peers' host on which the name server answers, too: knot listens at home only."""
    from names import Forwarder
    with hosts.at_peers():
        listener = Forwarder.listen(FINE)
    with hosts.at_engine():
        forwarder = Forwarder(listener, ("127.0.0.1", knot.port))
    run.defer(forwarder.close)
    return forwarder.port


@fault("FM-49", "a source address is gone, all are, or its ports run out", unit="messages", short=60, long=1000,
       needs=[needs.network_namespaces])
def no_source(run):
    world = run.world()
    hosts = hosts_of(run, FINE)
    hosts.add_ours(SECOND_SOURCE)
    sink = sink_at(run, hosts, FINE)
    slow = sink_at(run, hosts, FINE, "--rule", "dot=delay 300", port=PORT + 1)
    engine = world.engine()
    engine.files["outbound.ini"] = (
        "local_mx_ok=true\ntemp_fail_intervals=1h*9\npool_timeout=0\ndestination_concurrency=40\nunhealthy_for=600\n"
        f"[outbound_ipv4]\n{OURS}\n{SECOND_SOURCE}\n")
    engine.route("slow.test", slow.endpoint).route("any", sink.endpoint)
    start_inside(hosts, engine)

    began = time.monotonic()

    def send(name, domain=None):
        run.figures[f"{name}_from_ms"] = int((time.monotonic() - began) * 1000)
        everybody = [f"{name}{i}@{domain or f'd{i % 7}.test'}" for i in range(run.count)]
        for to in everybody:
            inject(engine, to)
        return everybody

    def sources(everybody):
        wanted = set(everybody)
        return {event["local"].rpartition(":")[0] for event in engine.events("delivered") if wanted & set(event["recipients"])}

    both = send("both")
    wait_delivered(engine, both, PATIENCE)
    run.expect(sources(both) == {OURS, SECOND_SOURCE}, f"the pool is not used: {sources(both)}")

    hosts.remove_ours(SECOND_SOURCE)
    one = send("one")
    wait_delivered(engine, one, PATIENCE)  # at once: the next try by the schedule is in an hour
    run.expect(sources(one) == {OURS}, f"sent from {sources(one)}, but one address is gone")
    engine.wait_logged("a local address cannot be used")

    hosts.remove_ours(OURS)
    none = send("none")
    wait_for(lambda: queued(engine)["scheduled"] == len(none), "the queue to rest", PATIENCE)
    run.expect(not engine.events("deferred"), "the missing source was counted as a failure of the mail")
    hosts.add_ours(OURS)
    engine.cli("queue", "flush")
    wait_delivered(engine, none, PATIENCE)

    hosts.set_ports(50000, 50007)
    few = send("few", "slow.test")
    # Eight ports of one address are eight connections; who gets none rests.
    wait_for(lambda: queued(engine)["scheduled"] > 0, "ports to run out", PATIENCE)
    hosts.set_ports(32768, 60999)
    engine.cli("queue", "flush")
    wait_delivered(engine, few, PATIENCE)
    run.expect(not engine.events("deferred"), f"the destination paid for our ports: {engine.events('deferred')[:2]}")
    expect_no_failure(run, engine)
    run.expect(len(sink.ledger()) == 3 * run.count and len(slow.ledger()) == run.count,
               f"{len(sink.ledger())} + {len(slow.ledger())} copies of {4 * run.count} messages")
