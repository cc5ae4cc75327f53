#!/usr/bin/env python3
"""The judge: was anything lost, doubled, altered or invented? (conformance 4.3)

Three ledgers are compared. The *source* ledger holds each message that was answered 250, written by the client after the
answer. The *sink* ledger holds each message that a peer took, written before the peer answers. The *DSN* ledger holds the
notifications that came to the sender. `judge()` reads them and returns findings; none means that every promise was kept.

As a command it runs the long forms:  ledger.py --kills 200   or   ledger.py --power-cuts 300
"""

import argparse
import bisect
import collections
import contextlib
import dataclasses
import datetime
import email
import email.policy
import fcntl
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from world import SLUICE, World, wait_for

SENDER = "blast@src.test"
DOMAINS = 20
# An outcome that was not yet recorded when the engine died is repeated. This is how long before its death that may be.
UNRECORDED_MS = 500
# Lines of the event file that a killed engine had not yet written.
EVENTS_BUFFERED_MS = 1500
# ioctl of ext4 and xfs: _IOR('X', 125, __u32), and its flag that drops the file system's own journal as well.
SHUTDOWN, WITHOUT_FLUSHING = 0x8004587D, 2


def milliseconds(text):
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def now_ms():
    return time.time_ns() // 1_000_000


def load_ledger(file):
    if not os.path.exists(file):
        return []
    with open(file, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


@dataclasses.dataclass
class Load:
    """One kind of message, so that a body can be told from another: `name` begins ids and addresses, `size` is the body's."""

    name: str
    size: int
    rate: float
    recipients: int = 1
    body_sha256: str = ""
    ledger: str = ""

    def arguments(self, target, messages, ledger):
        return ["--target", target, "--from", SENDER, "--to", self.name + "%n@d%d.test", "--domains", str(DOMAINS),
                "--recipients", str(self.recipients), "--size", str(self.size), "--id-prefix", self.name + "-",
                "--messages", str(messages), "--ledger", ledger]

    def recipients_of(self, ident):
        """The addresses of a message, or None when no such message can have been sent."""
        prefix, _, number = ident.rpartition("-")
        if prefix != self.name or not number.isdigit():
            return None
        first = int(number) * self.recipients
        return [f"{self.name}{n}@d{n % DOMAINS}.test" for n in range(first, first + self.recipients)]


class Ambiguity:
    """When the engine died. What a peer took just before may come again, once for each death."""

    def __init__(self):
        self.deaths = []

    def died(self, began_ms, ended_ms):
        self.deaths.append((began_ms - UNRECORDED_MS, ended_ms + 20))

    def excuses(self, copy):
        """How many further copies this one excuses: its answer was never sent, or the engine died with it unrecorded."""
        if copy["answer"] == "":
            return 1
        at = bisect.bisect_right(self.deaths, (copy["at"], float("inf"))) - 1
        # Deaths can follow each other within one window.
        return 1 if any(begin <= copy["at"] <= end for begin, end in self.deaths[max(0, at - 4):at + 1]) else 0

    def near_death(self, at, before_ms):
        return any(begin + UNRECORDED_MS - before_ms <= at <= end for begin, end in self.deaths)


class Notifications:
    """The DSNs that came: by recipient, which messages said what."""

    def __init__(self, sink_ledger, folder):
        self.by_recipient = collections.defaultdict(set)
        self.returned = {}
        self.copies = collections.defaultdict(list)
        for number, line in enumerate(sink_ledger, 1):
            with open(os.path.join(folder, f"{number}.eml"), "rb") as file:
                message = email.message_from_binary_file(file, policy=email.policy.SMTP)
            self.copies[line["message_id"]].append(line)
            for address, action in self.recipients(message):
                self.by_recipient[address].add((line["message_id"], action))
                self.returned[address] = self.original_id(message)

    @staticmethod
    def recipients(message):
        for part in message.walk():
            if part.get_content_type() != "message/delivery-status":
                continue
            for block in part.get_payload():
                if block["Final-Recipient"]:
                    yield block["Final-Recipient"].partition(";")[2].strip(), block["Action"].strip()

    @staticmethod
    def original_id(message):
        for part in message.walk():
            if part.get_content_type() == "message/rfc822":
                return part.get_payload(0)["X-Ledger-Id"]
            if part.get_content_type() == "text/rfc822-headers":
                return email.message_from_string(part.get_content())["X-Ledger-Id"]
        return None


@dataclasses.dataclass
class Verdict:
    findings: list
    figures: dict


class Judge:
    """Reads all ledgers once; each check appends sentences to `findings`."""

    def __init__(self, loads, sink_lines, dsn_lines, dsn_folder, queued, ambiguity, events, doubtful=()):
        self.loads = {load.name: load for load in loads}
        self.findings = []
        self.ambiguity = ambiguity
        self.queued = set(queued)
        self.events = events
        self.doubtful = doubtful
        self.doubtful_and_gone = 0
        self.acked = {}
        for load in loads:
            for line in load_ledger(load.ledger):
                for to in line["to"]:
                    self.acked[to] = line["id"]
        self.copies = collections.defaultdict(list)
        for line in sink_lines:
            line["at"] = milliseconds(line["time"])
            self.check_identity(line)
            for to in line["to"]:
                self.copies[to].append(line)
        for line in dsn_lines:
            line["at"] = milliseconds(line["time"])
        self.dsn = Notifications(dsn_lines, dsn_folder)

    def check_identity(self, line):
        """Only what was sent arrives, to whom it was sent, as it was sent."""
        load = self.loads.get(line["id"].rpartition("-")[0])
        meant = load.recipients_of(line["id"]) if load else None
        if meant is None:
            self.findings.append(f"arrived but never sent: {line}")
        elif not set(line["to"]) <= set(meant):
            self.findings.append(f"{line['id']} went to {line['to']}, not to {meant}")
        elif line["body_sha256"] != load.body_sha256:
            self.findings.append(f"{line['id']}: the body changed ({line['size']} octets)")
        elif line["from"] != SENDER:
            self.findings.append(f"{line['id']}: the sender changed: {line['from']}")

    def check_nothing_lost(self):
        for to, ident in self.acked.items():
            if to in self.copies or to in self.dsn.by_recipient or to in self.queued:
                continue
            if to in self.doubtful:
                self.doubtful_and_gone += 1
            else:
                self.findings.append(f"lost: {ident} to {to} was answered 250")

    def check_copies(self, copies, what):
        extra = len(copies) - 1
        excused = sum(self.ambiguity.excuses(copy) for copy in copies[:-1])
        if extra > excused:
            times = [f"{copy['time']} {copy['answer']!r}" for copy in copies]
            self.findings.append(f"{what}: {extra} extra copies, {excused} excused: {times}")
        return extra

    def check_notifications(self):
        for to, said in self.dsn.by_recipient.items():
            ident = self.dsn.returned[to]
            load = self.loads.get((ident or "").rpartition("-")[0])
            if load is None or to not in (load.recipients_of(ident) or []):
                self.findings.append(f"a DSN names {to} and returns {ident}")
            if len(said) != 1:
                times = [f"{self.dsn.copies[message][0]['time']} {message}" for message, _ in sorted(said)]
                self.findings.append(f"{len(said)} different DSNs for {to}: {times}; {self.deaths_near(to)}")
            if any(action != "failed" for _, action in said):
                self.findings.append(f"DSN for {to}: {sorted(said)}")
            certain = [copy for copy in self.copies.get(to, []) if not self.ambiguity.excuses(copy)]
            if certain:
                message = sorted(said)[0][0]
                self.findings.append(f"{to} got the message at {certain[0]['time']}, and a DSN was sent at "
                                     f"{self.dsn.copies[message][0]['time']}; {self.deaths_near(to)}")

    def deaths_near(self, to):
        """For whoever looks into a finding: when the engine died about that time."""
        message = sorted(self.dsn.by_recipient[to])[0][0]
        at = self.dsn.copies[message][0]["at"]
        near = [(begin + UNRECORDED_MS - at, end - at) for begin, end in self.ambiguity.deaths if abs(begin - at) < 3000]
        return f"the engine died (ms from the first DSN): {near}"

    def check_duplicates_were_announced(self):
        """A lost answer is logged as a possible duplicate, unless the log's last lines died with the engine."""
        announced = {to for event in self.events if event["event"] == "possible_duplicate" for to in event["recipients"]}
        for to, copies in self.copies.items():
            lost = [copy for copy in copies if copy["answer"] == "" and
                    not self.ambiguity.near_death(copy["at"], EVENTS_BUFFERED_MS)]
            if lost and to not in announced:
                self.findings.append(f"no possible_duplicate event for {to}, whose answer was lost at {lost[0]['time']}")

    def check_outcomes_agree(self):
        """The event log knows one final outcome of a recipient, except that one which was not recorded comes again."""
        for event in self.events:
            if event["event"] == "delivered":
                for to in event["recipients"]:
                    if to not in self.copies and not to == SENDER:
                        self.findings.append(f"the log says delivered, no peer took it: {to}")

    def verdict(self):
        self.check_nothing_lost()
        extra = sum(self.check_copies(copies, to) for to, copies in self.copies.items())
        extra_dsn = sum(self.check_copies(copies, f"DSN {ident}") for ident, copies in self.dsn.copies.items())
        self.check_notifications()
        self.check_duplicates_were_announced()
        self.check_outcomes_agree()
        lost_answers = sum(1 for copies in self.copies.values() for copy in copies if copy["answer"] == "")
        figures = {
            "acked": len(self.acked),
            "delivered": len(self.copies),
            "delivered_but_not_acked": len(set(self.copies) - set(self.acked)),
            "bounced_with_dsn": len(self.dsn.by_recipient),
            "still_queued": len(self.queued),
            "doubtful_and_gone": self.doubtful_and_gone,
            "extra_copies": extra,
            "extra_dsn_copies": extra_dsn,
            "answers_lost_by_peers": lost_answers,
            "possible_duplicate_events": sum(event["event"] == "possible_duplicate" for event in self.events),
            "deferrals": sum(event["event"] == "deferred" for event in self.events),
            "unrecorded_ms_max": self.unrecorded_age(),
        }
        return Verdict(self.findings, figures)

    def unrecorded_age(self):
        """How long before a death the oldest copy was taken that came again because of that death."""
        worst = 0
        for copies in self.copies.values():
            for copy in copies[:-1]:
                if copy["answer"] != "":
                    ages = [begin + UNRECORDED_MS - copy["at"] for begin, end in self.ambiguity.deaths
                            if begin <= copy["at"] <= end]
                    worst = max([worst, *ages])
        return worst


class Trial:
    """An engine under load between a source and peers that refuse, defer and drop; it dies again and again."""

    LOADS = [("small", 700, 1), ("middle", 4000, 3), ("large", 70000, 2)]

    def __init__(self, world, rate=250, seed=None):
        self.world = world
        self.seed = seed if seed is not None else random.SystemRandom().randrange(1 << 30)
        self.random = random.Random(self.seed)
        self.ambiguity = Ambiguity()
        self.dsn_folder = world.directory / "dsn"
        self.dsn_folder.mkdir()
        rules = ["rcpt%5=550 5.1.1 no such user", "rcpt%10=451 4.2.0 later", "dot%1.5=drop", "dot%1.5=drop-after"]
        self.peer = world.sink("--seed", str(self.seed), *[word for rule in rules for word in ("--rule", rule)], name="peer")
        self.dsn_peer = world.sink("--dir", self.dsn_folder, name="dsn")
        self.engine = world.engine().route("src.test", self.dsn_peer.endpoint).route("any", self.peer.endpoint)
        self.engine.set("outbound.ini", temp_fail_intervals="5s*24")
        self.engine.set("spool.ini", segment_bytes="4M")  # small ones: rotation and reclaiming happen all the time
        rates = {"small": 0.6, "middle": 0.3, "large": 0.1}
        self.loads = [Load(name, size, rate * rates[name], recipients) for name, size, recipients in self.LOADS]
        self.sources = []
        self.doubtful = set()
        self.figures = {"seed": self.seed, "deaths": 0, "recovery_ms_max": 0, "journals_verified": 0}

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
        folder = folder or self.engine.directory
        done = subprocess.run([SLUICE, "journal", "verify", folder], capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"after death {self.figures['deaths']}: journal verify -> {done.returncode}\n{done.stdout}{done.stderr}")
        self.figures["journals_verified"] += 1

    def start_engine(self):
        began = time.monotonic()
        self.engine.start()
        self.figures["recovery_ms_max"] = max(self.figures["recovery_ms_max"], int((time.monotonic() - began) * 1000))

    def let_work(self):
        """Some time under load, at least until the source got further answers."""
        before = self.acked()
        time.sleep(self.random.uniform(0.05, 0.8))  # when it dies is chance: that is the test, nothing is waited for here
        wait_for(lambda: self.acked() > before, "the load to be accepted")

    def kill_engine(self):
        began = now_ms()
        self.engine.process.kill()
        self.ambiguity.died(began, now_ms())
        self.figures["deaths"] += 1

    def kill_while_starting(self):
        """A second death within the recovery of the first."""
        self.engine.start(wait=False)
        time.sleep(self.random.uniform(0, 0.15))
        self.kill_engine()

    def run_kills(self, count):
        self.measure_bodies()
        self.start_engine()
        self.start_sources()
        while self.figures["deaths"] < count:
            self.let_work()
            self.kill_engine()
            self.verify_journal()
            if self.figures["deaths"] < count and self.random.random() < 0.2:
                self.kill_while_starting()
                self.verify_journal()
            self.start_engine()
        return self.finish()

    def finish(self):
        self.let_work()
        self.stop_sources()
        queued = self.drain()
        self.check_counters(queued)
        events = self.engine.events()
        code = self.engine.stop()
        self.verify_journal()
        for sink in (self.peer, self.dsn_peer):
            sink.stop()
        judge = Judge(self.loads, self.peer.ledger(), self.dsn_peer.ledger(), self.dsn_folder, queued, self.ambiguity, events,
                      self.doubtful)
        verdict = judge.verdict()
        if code != 0:
            verdict.findings.append(f"the engine ended with {code}")
        verdict.figures = {**self.figures, **verdict.figures}
        return verdict

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


class LoopDisk:
    """A file system of its own whose power can be cut: what was not synced is gone. Needs root and loop devices."""

    def __init__(self, megabytes=256, make=("mkfs.ext4", "-q", "-F")):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-disk-"))
        self.image, self.mount_point = self.folder / "disk.img", self.folder / "disk"
        self.mount_point.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(megabytes << 20)
        self.run(*make, self.image)
        self.mount()

    @staticmethod
    def run(*arguments):
        done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"{arguments}: {done.stderr.strip()}")

    @staticmethod
    def why_not():
        """A sentence when this machine cannot do it, else nothing."""
        if os.geteuid() != 0:
            return "loop mounts need root"
        for tool in ("mkfs.ext4", "mount", "umount"):
            if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
                return f"{tool} is not installed"
        try:
            LoopDisk(16).close()
        except OSError as error:
            return f"loop mounts do not work here: {error}"
        return None

    def mount(self):
        self.run("mount", "-o", "loop", self.image, self.mount_point)

    def unmount(self):
        wait_for(self.try_unmount, "umount", 10)

    def close(self):
        self.try_unmount()
        shutil.rmtree(self.folder, ignore_errors=True)

    def try_unmount(self):
        with contextlib.suppress(OSError):
            self.run("umount", self.mount_point)
            return True
        return False

    def cut_power(self):
        """Drops dirty pages and the uncommitted journal of the file system, at once: what `xfs_io -c shutdown` asks for."""
        folder = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING))
        finally:
            os.close(folder)


class PowerTrial(Trial):
    """The same, but the disk loses power, too."""

    def __init__(self, world, rate=250, seed=None):
        super().__init__(world, rate, seed)
        self.disk = LoopDisk()
        self.queue = self.disk.mount_point / "queue"
        self.engine.files["queue_dir"] = f"{self.queue}\n"
        self.engine.set("spool.ini", reserve_bytes="4M", free_bytes_min="16M")

    def cut(self):
        """Cuts the power. The cut itself takes a millisecond, in which the kernel may still call a sync good whose transaction
        it then drops; a real machine would not live to tell. Answers of that moment are therefore in doubt, no others."""
        before = self.ledger_sizes()
        began = now_ms()
        self.disk.cut_power()
        time.sleep(0.02)  # answers that were on their way
        self.note_doubtful(before, self.ledger_sizes())
        # The engine now runs on a dead disk for a moment: it must not acknowledge anything.
        time.sleep(self.random.uniform(0, 0.2))
        self.engine.process.kill()
        self.ambiguity.died(began, now_ms())
        self.figures["deaths"] += 1
        self.disk.unmount()
        self.disk.mount()

    def ledger_sizes(self):
        return {load.name: os.path.getsize(load.ledger) for load in self.loads}

    def note_doubtful(self, before, after):
        for load in self.loads:
            with open(load.ledger, "rb") as file:
                file.seek(before[load.name])
                for line in file.read(after[load.name] - before[load.name]).splitlines():
                    self.doubtful.update(json.loads(line)["to"])

    def run_cuts(self, count):
        self.measure_bodies()
        self.start_engine()
        self.start_sources()
        for _ in range(count):
            self.let_work()
            self.cut()
            self.verify_journal()
            if self.random.random() < 0.2:  # a second cut within the recovery of the first
                self.engine.start(wait=False)
                time.sleep(self.random.uniform(0, 0.15))
                self.cut()
                self.verify_journal()
            self.start_engine()
        return self.finish()

    def verify_journal(self, folder=None):
        super().verify_journal(self.queue)

    def close(self):
        self.disk.close()


def report(verdict, out=sys.stdout):
    for name, figure in verdict.figures.items():
        print(f"{name:28} {figure}", file=out)
    for finding in verdict.findings[:40]:
        print("FINDING", finding, file=out)
    print("clean" if not verdict.findings else f"{len(verdict.findings)} findings", file=out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0, help="kill -9 cycles")
    parser.add_argument("--power-cuts", type=int, default=0, help="power cuts of a loop-mounted disk; needs root")
    parser.add_argument("--rate", type=float, default=250, help="messages a second")
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    if not options.kills and not options.power_cuts:
        parser.error("--kills or --power-cuts")
    world = World()
    print(f"in {world.directory}", flush=True)
    trial = None
    try:
        if options.power_cuts:
            if reason := LoopDisk.why_not():
                print(f"not possible: {reason}")
                return 2
            trial = PowerTrial(world, options.rate, options.seed)
            verdict = trial.run_cuts(options.power_cuts)
        else:
            trial = Trial(world, options.rate, options.seed)
            verdict = trial.run_kills(options.kills)
    finally:
        complaints = world.close()
        if options.power_cuts and trial:
            complaints = []  # a dead disk makes error lines
            trial.close()
    verdict.findings.extend(complaints)
    report(verdict)
    if not verdict.findings:
        shutil.rmtree(world.directory, ignore_errors=True)
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main())
