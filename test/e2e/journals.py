"""A journal as `sluice journal` reads it, and what the engine had written to it but not synced."""

import dataclasses
import json
import re
import subprocess

from world import SLUICE


@dataclasses.dataclass
class Tail:
    """Writes to one file that no sync followed."""

    file: str
    extents: list

    @property
    def sectors(self):
        return sum(-(-(end - start) // 512) for start, end in self.extents)

    def covers(self, file, offset):
        return file == self.file and any(start <= offset < end for start, end in self.extents)


WRITE = re.compile(r"pwrite(?:v|64)\(\d+<([^>]+)>, .*, (\d+)\) = (\d+)$")
SYNC = re.compile(r"fdatasync\(\d+<([^>]+)>\) += (0|\?)")


def whole_lines(trace):
    """The calls of a trace; those that others interrupted are put together again."""
    begun = {}
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        if " <unfinished ...>" in call:
            call, _, rest = call.partition(" <unfinished ...>")
            begun[thread] = call
            if not rest:
                continue
            call, rest = begun.pop(thread) + rest, ""
        elif match := re.match(r" *<\.\.\. \w+ resumed>", call):
            call = begun.pop(thread, "") + call[match.end():]
        yield call
    yield from (call + ") = ?" for call in begun.values())


def tail_of(trace):
    """The Tail that a trace of pwritev, pwrite64 and fdatasync ends with; the engine was killed at its last sync."""
    unsynced, last = {}, ""
    for line in whole_lines(trace):
        if match := WRITE.search(line):
            path, offset, length = match.group(1), int(match.group(2)), int(match.group(3))
            unsynced.setdefault(path, []).append((offset, offset + length))
        elif match := SYNC.search(line):
            if match.group(2) == "0":
                unsynced.pop(match.group(1), None)
            else:
                last = match.group(1)
    return Tail(last.rpartition("/")[2], unsynced.get(last, []))


class Journal:
    """The segments in one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.verified = None

    def command(self, what):
        return subprocess.run([SLUICE, "journal", what, self.folder], capture_output=True, text=True, errors="replace")

    def records(self, but=None):
        """Every record as a line of JSON, without where it stands; not those that begin in the Tail `but`."""
        found = set()
        for line in self.command("dump").stdout.splitlines():
            record = json.loads(line)
            if "type" not in record or (but and but.covers(record["file"], record["offset"])):
                continue
            found.add(json.dumps({name: value for name, value in record.items() if name not in ("file", "offset")}))
        return found

    def sound(self):
        self.verified = self.command("verify")
        return self.verified.returncode == 0

    def expect_sound(self, run):
        run.expect(self.sound(), f"journal verify: {self.verified.stdout}{self.verified.stderr}")

    @staticmethod
    def undecided(records):
        """The recipients without an outcome."""
        messages, decided = {}, {}
        for record in map(json.loads, records):
            if record["type"] == "message":
                messages[record["id"]] = record["recipients"]
            elif record["type"] == "outcome":
                decided.setdefault(record["item"].partition(".")[0], set()).update(record["recipients"])
            elif record["type"] == "decided":
                decided.setdefault(record["id"], set()).update(record["recipients"])
        return {to for ident, every in messages.items() for place, to in enumerate(every)
                if place not in decided.get(ident, ())}
