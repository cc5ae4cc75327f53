"""The process dies, stops, is stopped or replaced: FM-01 to FM-04, FM-22, FM-47."""

import os
import shutil
import signal
import time

import needs
from clients import Raw
from rig import fault
from trial import Trial
from world import SLUICE, wait_for


def judge(run, verdict, bounces=True):
    """Takes over what the judge found. A run in which nothing happened proves nothing."""
    run.findings.extend(verdict.findings)
    for figure, value in verdict.figures.items():
        if figure.endswith("_max"):
            run.highest(**{figure: value})
        elif figure != "seed":
            run.count_up(**{figure: value})
    for figure, least in (("acked", 30), ("bounced_with_dsn", 1 if bounces else 0), ("deferrals", 1)):
        run.expect(verdict.figures[figure] >= least, f"only {verdict.figures[figure]} {figure}: too little happened")
    run.expect(verdict.figures["still_queued"] == 0, f"{verdict.figures['still_queued']} recipients are still queued")


@fault("FM-01", "kill -9 at random times under load, some within the recovery of the one before", unit="kills", short=6, long=500,
       not_covered="a restart with 100,000 queued is timed by FM-50 (with more)")
def kills(run):
    judge(run, Trial(run.world(), seed=run.seed).run_kills(run.count))


# What the engine asks of the kernel when mail comes in, is kept and goes out, and about how often within the first seconds.
CALLS = {"pwritev": 120, "fdatasync": 120, "fsync": 6, "rename": 4, "unlink": 4, "ftruncate": 3, "fallocate": 2, "openat": 60,
         "sendmsg": 300, "recvmsg": 300}
@fault("FM-02", "kill -9 exactly before or after a system call, the n-th of its kind", unit="kills", short=4, long=200,
       needs=[needs.strace])
def kills_at_system_calls(run):
    trial = Trial(run.world(), seed=run.seed)
    trial.engine.set("spool.ini", segment_bytes="1M")  # rotation and reclaiming every second
    trial.begin()
    trial.kill_engine()
    trial.look_after_death()
    kinds = [(call, moment) for moment in ("before", "after") for call in CALLS]
    run.random.shuffle(kinds)
    for cycle in range(run.count):
        call, moment = kinds[cycle % len(kinds)]
        when = run.random.randint(1, CALLS[call])
        trace = run.worlds[0].directory / "strace.out"
        trace.unlink(missing_ok=True)
        strace = ["strace", "-D", "-f", "-q", "-o", trace, "-e", f"trace={call}", "-e"]
        if moment == "before":  # the signal comes when the call is entered, and the kernel does not begin it
            met = trial.start_until_killed([*strace, f"inject={call}:signal=KILL:when={when}"])
        else:  # the call is over, but its caller does not learn it for a while
            met = trial.start_until_killed(
                [*strace, f"inject={call}:delay_exit=5000000:when={when}"],
                lambda trace=trace: trace.exists() and "(DELAYED)" in trace.read_text(errors="replace"))
        run.count_up(**{f"killed_{moment}" if met else "call_not_reached": 1})
        trial.look_after_death()
        if cycle % 4 == 3:  # between deaths it must come to work
            trial.start_engine()
            trial.let_work()
            trial.kill_engine()
            trial.look_after_death()
    trial.start_engine()
    judge(run, trial.finish())
    # On a busy machine an engine under strace does not come to the later ones in its time.
    run.expect(run.figures.get("killed_before", 0) + run.figures.get("killed_after", 0) >= run.count / 4,
               "few of the chosen calls were reached")


@fault("FM-03", "SIGTERM under load", unit="stops", short=3, long=40,
       not_covered="extra copies are excused only where the peer lost the answer")
def stops(run):
    trial = Trial(run.world(), seed=run.seed)
    trial.engine.set("smtp.ini", force_shutdown_timeout="10s")
    trial.begin()
    for _ in range(run.count):
        trial.let_work()
        stop(run, trial)
        trial.start_engine()
    # No death is noted: whatever comes twice without a lost answer is a finding.
    judge(run, trial.finish())
    run.expect(run.figures["stop_seconds_max"] < 25, "a stop took longer than its limit")


def stop(run, trial):
    """The engine ends in order, and leaves a sound journal."""
    idle = Raw(trial.engine.port)
    began = time.monotonic()
    code = trial.engine.stop()
    run.highest(stop_seconds_max=round(time.monotonic() - began, 1))
    run.expect(code == 0, f"the engine ended with {code}")
    run.expect(421 in idle.rest(), "a client that waited was not told 421")
    trial.verify_journal()


@fault("FM-47", "the program is replaced under load and restarted, as an upgrade does", unit="upgrades", short=2, long=30,
       not_covered="a version that writes another journal: there is one so far (FM-21 reads its saved spool)")
def upgrades(run):
    trial = Trial(run.world(), seed=run.seed)
    trial.engine.set("smtp.ini", force_shutdown_timeout="10s")
    program = run.worlds[0].directory / "sluice"
    trial.engine.program = program
    install(program, number=0)
    trial.begin()
    for number in range(run.count):
        trial.let_work()
        install(program, number + 1)  # while the old one runs
        trial.let_work()
        stop(run, trial)
        trial.start_engine()
        running = os.stat(f"/proc/{trial.engine.process.pid}/exe").st_ino
        run.expect(running == program.stat().st_ino, "it is not the new program that runs")
    judge(run, trial.finish())
    run.expect(run.figures["stop_seconds_max"] < 25, "a stop took longer than its limit")


def install(program, number):
    """Puts another file there in one step, as a package manager does. The octets behind the end of the program mean nothing."""
    new = program.with_suffix(".new")
    shutil.copy(SLUICE, new)
    with new.open("ab") as file:
        file.write(b"build %d\n" % number)
    os.replace(new, program)


@fault("FM-04", "SIGSTOP under load, then SIGCONT", unit="seconds stopped", short=8, long=60)
def pauses(run):
    trial = Trial(run.world(), seed=run.seed)
    trial.begin()
    trial.let_work()
    engine = trial.engine
    deferred = len(engine.wait_event("deferred", 20))
    engine.process.child.send_signal(signal.SIGSTOP)
    time.sleep(run.count)  # the fault itself
    engine.process.child.send_signal(signal.SIGCONT)
    delivered = len(engine.events("delivered"))
    engine.wait_event("deferred", deferred + 50)
    engine.wait_event("delivered", delivered + 100)
    check_schedules(run, engine.events())
    judge(run, trial.finish())
    false = [event for event in engine.events("bounced") if not event["reply"].startswith("550 5.1.1")]
    run.expect(not false, f"bounced without the peer's refusal: {false[:3]}")


def check_schedules(run, events):
    """No attempt comes before the time that the one before said: a pause is no reason for a storm."""
    due = {}
    for event in events:
        key = (event.get("item"), tuple(event.get("recipients", ())))
        if event["event"] == "deferred":
            if key in due and event["time"] < due[key]:
                run.find(f"tried again before {due[key]}: {event}")
            due[key] = event["next"]
    run.figures["deferrals_checked"] = len(due)


@fault("FM-22", "two instances on one spool, or on one instance directory")
def two_instances(run):
    run.unittests("test_disk.OneInstance")
