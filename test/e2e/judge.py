"""The judge: was anything lost, doubled, altered or invented? (conformance 4.3)

Three ledgers are compared. The *source* ledger holds each message that was answered 250, written by the client after the
answer, with the instant at which it read it. The *sink* ledger holds each message that a peer took, written before the peer answers. The *DSN* ledger holds the
notifications that came to the sender. `Judge` reads them and returns findings; none means that every promise was kept.
"""

import bisect
import collections
import dataclasses
import datetime
import email
import email.policy
import json
import os
import time

SENDER = "blast@src.test"
DOMAINS = 20
# Lines of the event file that a killed engine had not yet written.
EVENTS_BUFFERED_MS = 1500


def milliseconds(text):
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


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


@dataclasses.dataclass
class Death:
    """The engine died, or could record nothing any more, at `at`; it was started again at `over`. `undecided` are the recipients
    of whom its journal then knew no outcome; None when nobody looked."""

    at: float
    over: float = float("inf")
    undecided: set = None


class Ambiguity:
    """When the engine died. What a peer took before may come again, once for each death, when its outcome stood not yet in the
    journal; `window_ms` is how long recording it may take at most. So may what a busy peer took from its socket until the
    engine was started again: only the dead one can have sent it."""

    def __init__(self, window_ms):
        self.window_ms = window_ms
        self.deaths = []

    def died(self, at_ms):
        """Also: nothing could be recorded from then on."""
        self.deaths.append(Death(at_ms))

    def left_undecided(self, recipients):
        """What the journal says after the last death."""
        for death in self.open_ended():
            death.undecided = recipients

    def starts_again(self, at_ms):
        for death in self.open_ended():
            death.over = at_ms

    def open_ended(self):
        return [death for death in self.deaths[-2:] if death.over == float("inf")]

    def near(self, at):
        """The deaths that a copy taken at this time may have come before."""
        first = bisect.bisect_left(self.deaths, at, key=lambda death: death.over)
        for death in self.deaths[first:]:
            if death.at - self.window_ms > at:
                return
            yield death

    def excuses(self, copy, to=None):
        """How many further copies this one excuses: its answer was never sent, or the engine died with it unrecorded."""
        if copy["answer"] == "":
            return 1
        return int(any(to is None or death.undecided is None or to in death.undecided for death in self.near(copy["at"])))

    def near_death(self, at, before_ms):
        return any(death.at - before_ms <= at <= death.over for death in self.deaths)


@dataclasses.dataclass
class PowerCut:
    """From the call that cut the power until the engine was started again. What it called durable in between may
    be lost: the kernel may call a sync good whose transaction it then drops; a real machine would not live to tell. An answer that
    the client read before the call must not be lost."""

    called_ns: int  # monotonic, as `read_ns` of the source ledger
    called_ms: int  # of the wall clock, as the ledgers of the sinks
    over_ns: int = 0
    over_ms: int = 0

    @staticmethod
    def now():
        return PowerCut(time.monotonic_ns(), time.time_ns() // 1_000_000)

    def over(self):
        """Unless it was over before."""
        if self.over_ns:
            return
        self.over_ns, self.over_ms = time.monotonic_ns(), time.time_ns() // 1_000_000

    def covers_answer(self, line):
        return self.called_ns < line["read_ns"] <= self.over_ns

    def covers_copy(self, line):
        return self.called_ms <= line["at"] <= self.over_ms


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

    def __init__(self, loads, sink_lines, dsn_lines, dsn_folder, queued, ambiguity, events, cuts=(), others=()):
        self.loads = {load.name: load for load in loads}
        self.findings = []
        self.ambiguity = ambiguity
        self.queued = set(queued)
        self.events = events
        self.cuts = cuts
        self.others = {SENDER, *others}  # recipients of mail that is in no ledger
        self.doubtful_and_gone = []  # how long after the call that cut the power they were answered, in ms
        self.acked = {}
        for load in loads:
            for line in load_ledger(load.ledger):
                for to in line["to"]:
                    self.acked[to] = line
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
        for to, line in self.acked.items():
            if to in self.copies or to in self.dsn.by_recipient or to in self.queued:
                continue
            cut = next((cut for cut in self.cuts if cut.covers_answer(line)), None)
            if cut:
                self.doubtful_and_gone.append((line["read_ns"] - cut.called_ns) / 1e6)
            else:
                before = [(cut.called_ns - line["read_ns"]) / 1e6 for cut in self.cuts if cut.called_ns >= line["read_ns"]]
                when = f", {min(before):.3f} ms before a cut" if before else ""
                self.findings.append(f"lost: {line['id']} to {to} was answered 250{when}")

    def check_copies(self, copies, what, to=None):
        extra = len(copies) - 1
        excused = sum(self.ambiguity.excuses(copy, to) for copy in copies[:-1])
        if extra > excused:
            times = [f"{copy['time']} {copy['answer']!r}" for copy in copies]
            self.findings.append(f"{what}: {extra} extra copies, {excused} excused: {times}")
        return extra

    def check_notifications(self):
        for to, every in self.dsn.by_recipient.items():
            said = {one for one in every if not self.in_doubt(one[0])} or every
            ident = self.dsn.returned[to]
            load = self.loads.get((ident or "").rpartition("-")[0])
            if load is None or to not in (load.recipients_of(ident) or []):
                self.findings.append(f"a DSN names {to} and returns {ident}")
            if len(said) != 1:
                times = [f"{self.dsn.copies[message][0]['time']} {message}" for message, _ in sorted(said)]
                self.findings.append(f"{len(said)} different DSNs for {to}: {times}; {self.deaths_near(to)}")
            if any(action != "failed" for _, action in said):
                self.findings.append(f"DSN for {to}: {sorted(said)}")
            if self.in_doubt(sorted(said)[0][0]):
                continue
            certain = [copy for copy in self.copies.get(to, []) if not self.ambiguity.excuses(copy, to)]
            if certain:
                message = sorted(said)[0][0]
                self.findings.append(f"{to} got the message at {certain[0]['time']}, and a DSN was sent at "
                                     f"{self.dsn.copies[message][0]['time']}; {self.deaths_near(to)}")

    def in_doubt(self, message):
        """The DSN went out while the power failed: it was called durable and then dropped."""
        return any(cut.covers_copy(self.dsn.copies[message][0]) for cut in self.cuts)

    def deaths_near(self, to):
        """For whoever looks into a finding: when the engine died about that time."""
        message = sorted(self.dsn.by_recipient[to])[0][0]
        at = self.dsn.copies[message][0]["at"]
        near = [(death.at - at, death.over - at) for death in self.ambiguity.deaths if abs(death.at - at) < 5000]
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
                    if to not in self.copies and to not in self.others:
                        self.findings.append(f"the log says delivered, no peer took it: {to}")

    def verdict(self):
        self.check_nothing_lost()
        extra = sum(self.check_copies(copies, to, to) for to, copies in self.copies.items())
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
            "doubtful_and_gone": len(self.doubtful_and_gone),
            "doubtful_ms_max": round(max(self.doubtful_and_gone, default=0), 3),
            "extra_copies": extra,
            "extra_dsn_copies": extra_dsn,
            "answers_lost_by_peers": lost_answers,
            "possible_duplicate_events": sum(event["event"] == "possible_duplicate" for event in self.events),
            "deferrals": sum(event["event"] == "deferred" for event in self.events),
            "unrecorded_ms_max": self.unrecorded_age(),
        }
        return Verdict(self.findings, figures)

    def unrecorded_age(self):
        """How long before a death a copy was taken, at most, that came again because of that death."""
        worst = 0
        for copies in self.copies.values():
            for copy in copies[:-1]:
                ages = [max(0, death.at - copy["at"]) for death in self.ambiguity.near(copy["at"])]
                if copy["answer"] != "" and ages:
                    worst = max(worst, min(ages))
        return worst
