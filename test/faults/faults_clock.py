"""The wall clock is wrong or set: FM-27."""

import datetime
import email.utils
import subprocess

import needs
from bench import Bench, expect_no_failure, inject, queued, recipients_of, wait_delivered
from clocks import WallClock
from peers import Reports, Scripted
from rig import fault
from world import wait_for

HOUR, DAY = 3600, 86400
PATIENCE = 120
# The last one leads behind 2038, where seconds of 32 bits end.
JUMPS = {"ten days on": 10 * DAY, "ten days back": -10 * DAY, "an hour on": HOUR, "twenty years on": 20 * 365 * DAY}


class Waiting:
    """An engine whose mail for later.test waits for an hour, and for soon.test for some seconds, under a clock that can be set."""

    def __init__(self, run):
        self.run, self.world = run, run.world()
        self.clock = WallClock(self.world)
        self.reports = Reports(self.world)
        self.mood = {"reply": "450 4.2.0 later"}
        self.later = Scripted(Bench(run), {"RCPT": lambda _: self.mood["reply"]})
        self.soon = Scripted(Bench(run), {"RCPT": lambda _: self.mood["reply"]})
        self.sink = self.world.sink()
        self.engine = self.world.engine()
        # The second interval of soon.test is never reached: it is delivered at the second try.
        self.engine.set("outbound.ini", temp_fail_intervals="1h*99", retry_jitter="false", queue_lifetime="5d")
        self.engine.route("later.test", self.later.endpoint).route("src.test", self.reports.endpoint).route("any", self.sink.endpoint)
        self.waiting = [f"r{i}@later.test" for i in range(run.count)]
        self.ids = []

    def start(self, command=None):
        self.engine.start(env=self.clock.environment, command=command)

    def send_waiting(self):
        self.ids += [inject(self.engine, to) for to in self.waiting]
        wait_for(lambda: len(recipients_of(self.engine, "deferred")) == len(self.waiting), "the deferrals", PATIENCE)
        self.tries = len(self.later.commands("RCPT"))

    def wall(self, offset):
        return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=offset)

    def expect_near(self, date, offset, what, slack=60):
        apart = abs((date - self.wall(offset)).total_seconds())
        self.run.expect(apart < slack, f"{what} is {apart:.0f} s from the wall clock: {date}")

    def expect_calm(self, when):
        """Nothing expired, nothing was tried early, everything still waits for an hour at most."""
        queue = queued(self.engine)
        self.run.expect(queue["scheduled"] == len(self.waiting), f"{when}: the queue is {queue}")
        tries = len(self.later.commands("RCPT"))
        self.run.expect(tries == self.tries, f"{when}: {tries - self.tries} tries before their time")
        for kind in ("expired", "bounced"):
            self.run.expect(not self.engine.events(kind), f"{when}: {len(self.engine.events(kind))} x {kind}")

    def expect_due_within(self, offset, seconds, when):
        """What people are shown of the queue follows the wall clock to the second: due in an hour at most, arrived just now."""
        items = self.engine.api("GET", "/v1/queue?limit=1000")[1]["items"]
        self.run.expect(len(items) == len(self.waiting), f"{when}: {len(items)} items are listed")
        for item in items:
            due = (datetime.datetime.fromisoformat(item["next"]) - self.wall(offset)).total_seconds()
            age = (self.wall(offset) - datetime.datetime.fromisoformat(item["arrival"])).total_seconds()
            self.run.expect(0 < due <= seconds + 1 and -5 < age < 900, f"{when}: due in {due:.0f} s, {age:.0f} s old")

    def deliver_one(self, offset, when):
        """New mail passes, and its dates are those of the wall clock."""
        before = len(self.sink.ledger())
        name = f"now{before}@any.test"
        self.ids.append(inject(self.engine, name))
        wait_delivered(self.engine, [name], PATIENCE)
        event = self.engine.events("delivered")[-1]
        self.expect_near(datetime.datetime.fromisoformat(event["time"]), offset, f"{when}: the time of an event")
        self.run.expect(event["age_ms"] < 60_000, f"{when}: new mail is {event['age_ms']} ms old")


def dates_of(content):
    """Of the newest Received field, and of Date, of a message as its peer got it."""
    fields = content.split(b"\r\n\r\n")[0].decode().replace("\r\n\t", " ").replace("\r\n ", " ").split("\r\n")
    received = next(field for field in fields if field.startswith("Received:"))
    return email.utils.parsedate_to_datetime(received.rpartition(";")[2].strip())


@fault("FM-27", "the wall clock jumps, while the engine runs and while it does not; it is absurd at the start", unit="messages",
       short=20, long=300, needs=[needs.own_clock],
       not_covered="HOLDUNTIL (RFC 4865), which the engine does not know; a jump of the kernel's own clock: the clock of the process is set")
def clock_jumps(run):
    jumps_while_running(run)
    restarts_under_another_clock(run)
    absurd_first_start(run)


def jumps_while_running(run):
    waiting = Waiting(run)
    keeper = Scripted(Bench(run))
    refuser = Scripted(Bench(run), {"RCPT": "550 5.1.1 nobody"})
    waiting.engine.route("keeper.test", keeper.endpoint).route("refused.test", refuser.endpoint)
    waiting.engine.set("log.ini", timestamps="true")
    waiting.start()
    waiting.send_waiting()
    for number, (name, offset) in enumerate(JUMPS.items()):
        waiting.clock.set(offset)
        waiting.deliver_one(offset, name)
        inject(waiting.engine, f"k{number}@keeper.test")
        waiting.expect_near(dates_of(keeper.wait(number + 1)[-1][2]), offset, f"{name}: Received")
        inject(waiting.engine, f"r{number}@refused.test")
        report = waiting.reports.wait(number + 1)[-1]
        waiting.expect_near(email.utils.parsedate_to_datetime(report.message["Date"]), offset, f"{name}: Date of the notification")
        waiting.expect_near(email.utils.parsedate_to_datetime(report.fields["Arrival-Date"]), offset, f"{name}: Arrival-Date")
        last = list(report.recipients.values())[0]["Last-Attempt-Date"]
        waiting.expect_near(email.utils.parsedate_to_datetime(last), offset, f"{name}: Last-Attempt-Date")
        waiting.expect_due_within(offset, HOUR, name)
        queue = queued(waiting.engine)
        run.expect(queue["scheduled"] == len(waiting.waiting), f"{name}: the queue is {queue}")
        run.expect(len(waiting.later.commands("RCPT")) == waiting.tries, f"{name}: tried before its time")
        run.expect(not waiting.engine.events("expired"), f"{name}: mail expired")
        run.expect(len(recipients_of(waiting.engine, "bounced")) == number + 1, f"{name}: mail bounced")
        run.count_up(jumps=1)
    waiting.mood["reply"] = "250 ok"
    waiting.engine.cli("queue", "flush")
    wait_delivered(waiting.engine, waiting.waiting, PATIENCE)
    run.expect(len(waiting.ids) == len(set(waiting.ids)), "an id was given twice")


def restarts_under_another_clock(run):
    """The same machine, then one that was started anew: then only its clock can say how long it was away."""
    waiting = Waiting(run)
    waiting.start()
    waiting.send_waiting()
    other_boot = waiting.world.directory / "boot_id"
    other_boot.write_text("11111111-2222-3333-4444-555555555555\n")
    anew = ["unshare", "--mount", "sh", "-c", f"mount --bind {other_boot} /proc/sys/kernel/random/boot_id && exec \"$@\"", "sh"]
    commands = {"the same machine": None}
    if needs.root() is None and subprocess.run([*anew, "true"], capture_output=True).returncode == 0:
        commands["a machine started anew"] = anew
    else:
        run.left_out("a start of the machine, which takes root and a mount namespace")
    for machine, command in commands.items():
        for name, offset in {**JUMPS, "1970": None}.items():
            waiting.engine.stop() if run.random.random() < 0.5 else waiting.engine.process.kill()
            waiting.clock.set(offset) if offset is not None else waiting.clock.set_to(DAY)
            if command is not None:  # each time another machine
                other_boot.write_text(f"11111111-2222-3333-4444-{run.random.randrange(10**12):012d}\n")
            waiting.start(command)
            when = f"{machine}, {name}"
            # A machine that was away for an hour by its clock was away for an hour: what was due by then is tried, and waits again.
            trusted = command is not None and offset is not None and offset > 0
            if trusted:
                wait_for(lambda: len(waiting.later.commands("RCPT")) > waiting.tries, f"{when}: what is due", PATIENCE)
                wait_for(lambda: queued(waiting.engine)["scheduled"] == len(waiting.waiting), f"{when}: rest", PATIENCE)
                waiting.tries = len(waiting.later.commands("RCPT"))
            waiting.expect_calm(when)
            if offset is not None:
                waiting.deliver_one(offset, when)
                items = waiting.engine.api("GET", "/v1/queue?limit=1000")[1]["items"]
                due = [(datetime.datetime.fromisoformat(item["next"]) - waiting.wall(offset)).total_seconds() for item in items]
                run.expect(all(-5 < seconds <= HOUR + 1 for seconds in due), f"{when}: due in {min(due):.0f} to {max(due):.0f} s")
            run.count_up(restarts=1)
    waiting.mood["reply"] = "250 ok"
    waiting.engine.cli("queue", "flush")
    wait_delivered(waiting.engine, waiting.waiting, PATIENCE)
    run.expect(len(waiting.ids) == len(set(waiting.ids)), "an id was given twice")
    expect_no_failure(run, waiting.engine)


def absurd_first_start(run):
    """A machine without a clock of its own: its first mail is of 1970, then it learns the time, then it is started anew."""
    waiting = Waiting(run)
    waiting.clock.set_to(DAY)
    waiting.start()
    waiting.send_waiting()
    waiting.clock.set(0)
    waiting.expect_due_within(0, HOUR, "the clock was set right")
    waiting.expect_calm("the clock was set right")
    waiting.engine.process.kill()
    waiting.start()
    waiting.expect_calm("started with the right time")
    waiting.expect_due_within(0, HOUR, "started with the right time")
    waiting.mood["reply"] = "250 ok"
    waiting.engine.cli("queue", "flush")
    wait_delivered(waiting.engine, waiting.waiting, PATIENCE)
    expect_no_failure(run, waiting.engine)
    run.count_up(absurd_starts=1)
