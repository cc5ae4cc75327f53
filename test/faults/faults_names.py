"""Names cannot be resolved, or slowly: FM-39 to FM-41."""

import time

from bench import expect_no_failure, inject, queued, recipients_of, wait_delivered
from names import NXDOMAIN, SERVFAIL, SILENCE, Names
from rig import fault
from world import wait_for

PATIENCE = 120


def engine_asking(run, names, **settings):
    engine = run.worlds[-1].engine()
    engine.set("net-utils.ini", "dns", servers=names.endpoint, timeout="1000", cache_ttl_max="1", cache_ttl_min="0")
    engine.set("outbound.ini", **{"retry_jitter": "false", **settings})
    return engine


@fault("FM-39", "every name server answers SERVFAIL, then none answers at all", unit="seconds", short=6, long=600)
def no_names(run):
    world = run.world()
    sink = world.sink()
    mood = {"answer": SERVFAIL}

    def answer(name, kind):
        if mood["answer"] != "well":
            return mood["answer"]
        return {"MX": [f"10 mx.{name}."], "A": ["127.0.0.1"]}.get(kind, [])

    names = Names(run, answer)
    engine = engine_asking(run, names, smtp_port=sink.port, temp_fail_intervals="5s*1000").start()
    domains = 30
    everybody = [f"r{i}@d{i % domains}.test" for i in range(2 * domains)]
    for to in everybody:
        inject(engine, to)
    for kind, trouble in (("servfail", SERVFAIL), ("silence", SILENCE)):
        mood["answer"] = trouble
        names.questions.clear()
        before, began = len(engine.events("deferred")), time.monotonic()
        wait_for(lambda: len(engine.events("deferred")) >= before + 2 * len(everybody), f"two rounds of {kind}", PATIENCE)
        while time.monotonic() - began < run.count / 2:  # the fault lasts so long: that is the test
            time.sleep(0.5)
        rounds = (len(engine.events("deferred")) - before) / len(everybody)
        asked = sum(names.questions.values()) / domains / max(rounds, 1)
        run.figures[f"questions_for_a_try_{kind}"] = round(asked, 1)
        run.expect(asked < 40, f"{asked:.0f} questions for one name and one try")
    run.expect({event["status"] for event in engine.events("deferred")} == {"4.4.3"},
               f"another status than 4.4.3: {[e for e in engine.events('deferred') if e['status'] != '4.4.3'][:2]}")
    expect_no_failure(run, engine)
    run.expect(queued(engine)["items"] == len(everybody), "something left the queue")

    mood["answer"] = "well"
    engine.cli("queue", "flush")
    wait_delivered(engine, everybody, PATIENCE)
    expect_no_failure(run, engine)
    run.count_up(deferrals=sum(recipients_of(engine, "deferred").values()))


@fault("FM-40", "half the names take 5 s to resolve", unit="names", short=60, long=400)
def slow_names(run):
    world = run.world()
    sink = world.sink()

    def answer(name, kind):
        return {"MX": [f"10 mx.{name}."], "A": ["127.0.0.1"]}.get(kind, [])

    names = Names(run, answer, delay=lambda name: 5 if "slow" in name else 0)
    engine = engine_asking(run, names, smtp_port=sink.port, temp_fail_intervals="5s*1000")
    engine.set("net-utils.ini", "dns", timeout="30000", cache_ttl_max="300").start()
    slow = [f"b@s{i}.slow.test" for i in range(run.count // 2)]
    quick = [f"b@q{i}.quick.test" for i in range(run.count // 2)]
    for pair in zip(slow, quick):
        for to in pair:
            inject(engine, to)
    wait_delivered(engine, quick, PATIENCE)
    run.expect(not any(to in recipients_of(engine, "delivered") for to in slow[-len(slow) // 2:]),
               "the quick names were not quicker than the slow ones")
    waited = sorted(event["age_ms"] for event in engine.events("delivered") if ".quick." in event["recipients"][0])
    run.figures.update(quick_median_ms=waited[len(waited) // 2], quick_max_ms=waited[-1])
    run.expect(waited[-1] < 5000, f"a quick name took {waited[-1]} ms")
    wait_delivered(engine, slow, PATIENCE)
    expect_no_failure(run, engine)


@fault("FM-41", "a name that exists is denied for a while", unit="names", short=5, long=50,
       not_covered="an optional second question before the bounce: the answer is believed, as RFC 5321 asks")
def denied_names(run):
    world = run.world()
    sink = world.sink()
    mood = {"deny": True}

    def answer(name, kind):
        if mood["deny"]:
            return NXDOMAIN
        return {"MX": [f"10 mx.{name}."], "A": ["127.0.0.1"]}.get(kind, [])

    names = Names(run, answer)
    engine = engine_asking(run, names, smtp_port=sink.port)
    engine.set("net-utils.ini", "dns", cache_ttl_max="1").route("src.test", sink.endpoint).start()
    denied = [f"b@d{i}.test" for i in range(run.count)]
    for to in denied:
        inject(engine, to)
    wait_for(lambda: set(recipients_of(engine, "bounced")) == set(denied), "the bounces", PATIENCE)
    run.expect({event["status"] for event in engine.events("bounced")} == {"5.1.2"}, "another status than 5.1.2")
    mood["deny"] = False

    def believed_again():
        inject(engine, "late@d0.test")
        return "late@d0.test" in recipients_of(engine, "delivered")

    # The denial may be remembered for as long as it said, a second here.
    wait_for(believed_again, "the name to be known again", PATIENCE)
