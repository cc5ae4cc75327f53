"""Trials: an engine under load dies again and again, then the judge compares the ledgers. The faults of test/faults use it."""

import os
import random
import subprocess
import time

from journals import Journal
from judge import Ambiguity, Judge, Load
from world import SLUICE, wait_for


def now_ms():
    return time.time_ns() // 1_000_000


class Trial:
    """An engine under load between a source and peers that refuse, defer and drop; it dies again and again."""

    # How long before its death what the engine learned may still be unrecorded. The journal tells whether it was; this bounds only
    # how long a busy machine may take for a sync.
    WINDOW_MS = 5000
    LOADS = [("small", 700, 1), ("middle", 4000, 3), ("large", 70000, 2)]

    RULES = ["rcpt%5=550 5.1.1 no such user", "rcpt%10=451 4.2.0 later", "dot%1.5=drop", "dot%1.5=drop-after"]

    def __init__(self, world, rate=250, seed=None, window_ms=None, rules=None):
        self.world = world
        self.seed = seed if seed is not None else random.SystemRandom().randrange(1 << 30)
        self.random = random.Random(self.seed)
        self.ambiguity = Ambiguity(window_ms or self.WINDOW_MS)
        self.dsn_folder = world.directory / "dsn"
        self.dsn_folder.mkdir()
        rules = self.RULES if rules is None else rules
        self.peer = world.sink("--seed", str(self.seed), *[word for rule in rules for word in ("--rule", rule)], name="peer")
        self.dsn_peer = world.sink("--dir", self.dsn_folder, name="dsn")
        self.engine = world.engine().route("src.test", self.dsn_peer.endpoint).route("any", self.peer.endpoint)
        self.queue = self.engine.directory / "queue"
        self.engine.set("outbound.ini", temp_fail_intervals="5s*24")
        self.engine.set("spool.ini", segment_bytes="4M")  # small ones: rotation and reclaiming happen all the time
        rates = {"small": 0.6, "middle": 0.3, "large": 0.1}
        self.loads = [Load(name, size, rate * rates[name], recipients) for name, size, recipients in self.LOADS]
        self.sources = []
        self.cuts = []
        self.others = set()
        self.figures = {"seed": self.seed, "deaths": 0, "recovery_ms_max": 0, "journals_verified": 0}

    def keep_queue_in(self, folder):
        self.queue = folder / "queue"
        self.engine.files["queue_dir"] = f"{self.queue}\n"

    def measure_bodies(self):
        """What each body hashes to when nothing stands between source and sink."""
        mirror = self.world.sink(name="mirror")
        for load in self.loads:
            ledger = self.world.directory / "mirror.source"
            subprocess.run([SLUICE, "blast", *load.arguments(mirror.endpoint, 1, ledger)], check=True, capture_output=True)
            load.body_sha256 = wait_for(mirror.ledger, "the mirror")[-1]["body_sha256"]
        mirror.stop()

    def start_sources(self):
        for load in self.loads:
            load.ledger = self.world.directory / f"{load.name}.source"
            target = f"127.0.0.1:{self.engine.port}"
            self.sources.append(self.world.spawn(
                [SLUICE, "blast", *load.arguments(target, 100_000_000, load.ledger), "--keep-going", "--rate", str(load.rate),
                 "--sessions", "6"], self.world.directory / f"{load.name}.log"))

    def stop_sources(self):
        for source in self.sources:
            source.kill()

    def acked(self):
        return sum(os.path.getsize(load.ledger) for load in self.loads if os.path.exists(load.ledger))

    def verify_journal(self, folder=None):
        folder = folder or self.queue
        done = subprocess.run([SLUICE, "journal", "verify", folder], capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(
                f"after death {self.figures['deaths']}: journal verify -> {done.returncode}\n{done.stdout}{done.stderr}")
        self.figures["journals_verified"] += 1
        return folder

    def look_after_death(self):
        """What a crash left is sound, and says whose outcome it knows."""
        self.ambiguity.left_undecided(Journal.undecided(Journal(self.verify_journal()).records()))

    def starts_again(self):
        """What comes from now on does not come from the dead engine."""
        self.ambiguity.starts_again(now_ms())

    def start_engine(self):
        self.starts_again()
        began = time.monotonic()
        self.engine.start()
        self.figures["recovery_ms_max"] = max(self.figures["recovery_ms_max"], int((time.monotonic() - began) * 1000))

    def linger(self, *range):
        """When something breaks is chance: that is the test, nothing is waited for here."""
        time.sleep(self.random.uniform(*range))

    def let_work(self):
        """Some time under load, at least until the source got further answers."""
        before = self.acked()
        self.linger(0.05, 0.8)
        wait_for(lambda: self.acked() > before, "the load to be accepted")

    def kill_engine(self):
        self.ambiguity.died(now_ms())
        self.engine.process.kill()
        self.figures["deaths"] += 1

    def start_until_killed(self, command, killed=lambda: False, patience=6):
        """Starts the engine under a `command` that kills it, or that shows in killed() when to do so. Tells whether it came to
        that while patience lasted; afterwards it is dead anyhow."""
        self.starts_again()
        self.engine.start(wait=False, command=command)
        # The end of the wait is a death at a random time.
        end = time.monotonic() + patience
        while time.monotonic() < end and self.engine.process.running() and not killed():
            time.sleep(0.005)
        came_to_it = not self.engine.process.running() or killed()
        self.kill_engine()
        return came_to_it

    def kill_while_starting(self):
        """A second death within the recovery of the first."""
        self.starts_again()
        self.engine.start(wait=False)
        time.sleep(self.random.uniform(0, 0.15))
        self.kill_engine()

    def begin(self):
        self.measure_bodies()
        self.start_engine()
        self.start_sources()

    def run_kills(self, count):
        self.begin()
        while self.figures["deaths"] < count:
            self.let_work()
            self.kill_engine()
            self.look_after_death()
            if self.figures["deaths"] < count and self.random.random() < 0.2:
                self.kill_while_starting()
                self.look_after_death()
            self.start_engine()
        return self.finish()

    def finish(self):
        self.let_work()
        self.stop_sources()
        self.recount()
        queued = self.drain()
        self.check_counters(queued)
        code = self.engine.stop()
        events = self.engine.events()  # complete only now
        self.verify_journal()
        for sink in (self.peer, self.dsn_peer):
            sink.stop()
        judge = Judge(self.loads, self.peer.ledger(), self.dsn_peer.ledger(), self.dsn_folder, queued, self.ambiguity, events,
                      self.cuts, self.others)
        verdict = judge.verdict()
        if code != 0:
            verdict.findings.append(f"the engine ended with {code}")
        verdict.figures = {**self.figures, **verdict.figures}
        return verdict

    def recount(self):
        """What the engine counts is what is found on disk: nothing moves, the engine dies, and there must be as much."""
        def queue():
            return self.engine.api("GET", "/v1/status")[1]

        def at_rest():
            self.engine.api("POST", "/v1/queue/hold", {"all": True})
            status = queue()
            return status["queue"]["items"] == status["queue"]["held"] and status["journal"]["waiting_bytes"] == 0

        wait_for(at_rest, "everything to be held")
        before = queue()
        self.kill_engine()
        self.look_after_death()
        self.start_engine()
        after = queue()
        for count in (lambda status: status["queue"]["items"], lambda status: status["queue"]["held"],
                      lambda status: status["journal"]["live_messages"]):
            if count(before) != count(after):
                raise AssertionError(f"counted {before['queue']} {before['journal']}, found {after['queue']} {after['journal']}")
        self.figures["recounted_items"] = before["queue"]["items"]
        self.engine.api("POST", "/v1/queue/release", {"all": True})

    def drain(self, patience=90):
        """Tries everything at once, again and again; returns the recipients that are left."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            status = self.engine.api("GET", "/v1/status")[1]
            if status["queue"]["items"] == 0:
                return []
            self.engine.api("POST", "/v1/queue/flush", {"all": True})
            time.sleep(0.25)
        items = self.engine.api("GET", "/v1/queue?limit=10000")[1]["items"]
        return [to for item in items for to in item["recipients"]]

    def check_counters(self, queued):
        """The queue's counters agree with what the journal holds."""
        def agree():
            status = self.engine.api("GET", "/v1/status")[1]
            return bool(queued) or (status["queue"]["items"] == 0 and status["journal"]["live_messages"] == 0)

        wait_for(agree, "queue and journal to be empty together", 10)


class PowerTrial(Trial):
    """The same, but the disk loses power, too."""

    def __init__(self, world, disk, **options):
        super().__init__(world, **options)
        self.disk = disk
        self.keep_queue_in(disk.mount_point)
        self.engine.set("spool.ini", reserve_bytes="4M", free_bytes_min="16M")

    def cut(self):
        """Cuts the power. The engine then runs on a dead disk for a moment."""
        self.ambiguity.died(now_ms())
        cut = self.disk.cut_power()
        time.sleep(self.random.uniform(0, 0.2))
        self.engine.process.kill()
        self.cuts.append(cut)
        self.figures["deaths"] += 1
        self.disk.unmount()
        self.disk.mount()

    def starts_again(self):
        super().starts_again()
        if self.cuts:
            self.cuts[-1].over()

    def run_cuts(self, count, second_cut=0.2):
        """`second_cut` is the part of the cuts that are followed by another within the recovery."""
        self.begin()
        while self.figures["deaths"] < count:
            self.let_work()
            self.cut()
            self.look_after_death()
            if self.random.random() < second_cut:
                self.starts_again()
                self.engine.start(wait=False)
                time.sleep(self.random.uniform(0, 0.15))
                self.cut()
                self.look_after_death()
            self.start_engine()
        return self.finish()

    def close(self):
        self.disk.close()
