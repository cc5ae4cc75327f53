"""The command tools/fault: runs rows, keeps their results, and writes the table of docs/operations/faults.md."""

import argparse
import concurrent.futures
import ctypes
import json
import os
import signal
import subprocess
import sys

import rig

RESULTS = rig.ROOT / "build" / "faults.jsonl"
RECORDED = rig.FOLDER / "results.json"
TABLE = rig.ROOT / "docs" / "operations" / "faults.md"
SHORT_SECONDS_MAX = 420
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
NOT_RUN = 77  # the exit code of a row that could not be run


def run_one(declared, options):
    """Runs a row in this process."""
    def end(number, frame):
        sys.exit(1)  # so that mounts and processes are cleaned up

    signal.signal(signal.SIGTERM, end)
    often = options.long or (options.cycles or 0) > declared.short
    result = rig.perform(declared, "long" if often else "short", options.cycles, options.seed)
    append(options.results, result)
    print(sentence(result), flush=True)
    for name, figure in result["figures"].items():
        print(f"    {name:28} {figure}")
    for reason in result["left_out"]:
        print("    not run:", reason)
    for finding in result["findings"][:40]:
        print("    FINDING", finding)
    return {"failed": 1, "not run": NOT_RUN}.get(result["state"], 0)


def sentence(result):
    return (f"{result['row']}: {result['state']}, {result['count']} {result['unit']}, {result['seconds']} s, "
            f"seed {result['seed']}")


def append(file, result):
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="utf-8") as out:
        out.write(json.dumps(result) + "\n")  # one write: several rows append at once


def run_many(rows, options):
    """Runs each row in a process of its own, several at once; those that want the machine for themselves at the end."""
    took = {result["row"]: result["seconds"] for result in recorded().values() if result["form"] == "short"}
    together = sorted((row for row in rows if not row.alone), key=lambda row: -took.get(row.row, 0))
    codes = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for code, report in pool.map(lambda row: run_apart(row, options), together):
            print(report, end="", flush=True)
            codes.append(code)
    for row in rows:
        if row.alone:
            code, report = run_apart(row, options)
            print(report, end="", flush=True)
            codes.append(code)
    not_run = codes.count(NOT_RUN)
    failed = sum(code not in (0, NOT_RUN) for code in codes)
    print(f"{len(codes) - failed - not_run} faults passed, {failed} failed, {not_run} not run")
    return 1 if failed else 0


def run_apart(declared, options):
    command = [sys.executable, rig.ROOT / "tools" / "fault", declared.row, "--results", options.results]
    command += ["--long"] if options.long else []
    command += ["--seed", str(options.seed)] if options.seed is not None else []
    command += ["--cycles", str(options.cycles)] if options.cycles else []
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        report, _ = child.communicate(timeout=None if options.long else SHORT_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGTERM)  # it cleans up
        report, _ = child.communicate()
        return 1, f"{report}{declared.row}: failed, still running after {SHORT_SECONDS_MAX} s\n"
    return child.returncode, report


def last_results(file):
    """The last result of each row and form."""
    if not file.exists():
        return {}
    with open(file, encoding="utf-8") as lines:
        results = [json.loads(line) for line in lines]
    return {(result["row"], result["form"]): result for result in results}


def recorded():
    if not RECORDED.exists():
        return {}
    return {(result["row"], result["form"]): result for result in json.loads(RECORDED.read_text())}


def record(options):
    """Keeps the last results. What a failed row found is for whoever runs it again."""
    known = recorded()
    known.update(last_results(options.results))
    lines = [json.dumps({name: value for name, value in known[key].items() if name != "findings"}) for key in sorted(known)]
    RECORDED.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return 0


HEAD = """\
# Faults

What was broken on purpose, and what became of it. Every row is one command; `tools/fault --short all` runs the short form of all,
which `make test` does, too. The rows are those of the fault matrix; how the rig works is said in `test/faults/README.md`.
A row *passed* when the ledgers of source, peers and notifications agree with every promise, and what the row asks for beyond
that was seen. What needs root, loop devices or a tool that is not there is *not run*, and says so. *Partly*: some of it was.

This page is written by `tools/fault --table` from `test/faults/results.json`, in which `tools/fault --record` keeps the last
results.

| row | fault | command | last result, long form | last result, short form | not covered |
|---|---|---|---|---|---|
"""


def cell(result):
    if result is None:
        return "–"
    figures = ", ".join(f"{name.replace('_', ' ')} {figure}" for name, figure in result["figures"].items())
    reasons = "".join(f"; not run: {reason}" for reason in result["left_out"])
    text = f"**{result['state']}** {result['date']}, {result['count']} {result['unit']}, {result['seconds']:.0f} s"
    return (text + (f" ({figures})" if figures else "") + reasons).replace("|", "\\|").replace("\n", " ")


def table(rows):
    known = recorded()
    lines = []
    for row in rows:
        short = known.get((row.row, "short"))
        lines.append(f"| {row.row} | {row.what} | `tools/fault {row.row} --long` | {cell(known.get((row.row, 'long')))} | "
                     f"{cell(short and {**short, 'figures': {}})} | {row.not_covered or '–'} |\n")
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(HEAD + "".join(lines))
    return 0


def keep_mounts_to_ourselves():
    """A namespace that some other process makes while a row runs would get a copy of each mount, and what is mounted anywhere does
    not go away: after a power cut the same dead file system would be there again."""
    libc = ctypes.CDLL(None)
    if os.geteuid() == 0 and libc.unshare(CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def main(usage):
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="the short form (unless --long is given)")
    form.add_argument("--long", action="store_true", help="as often as the matrix asks")
    parser.add_argument("--cycles", type=int, help="how often instead")
    parser.add_argument("--seed", type=int)
    parser.add_argument("-j", "--jobs", type=int, default=3, help="rows at once")
    parser.add_argument("--results", type=type(RESULTS), default=RESULTS, help="where results are appended as JSON lines")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    declared = rig.load_declarations()
    if options.list:
        for row in declared.values():
            print(f"{row.row}  {row.what}  ({row.short} {row.unit}, long {row.long})")
        return 0
    if options.record:
        return record(options)
    if options.table:
        return table(declared.values())
    if "all" in options.rows:
        return run_many(list(declared.values()), options)
    if unknown := set(options.rows) - set(declared):
        parser.error(f"no row {', '.join(sorted(unknown))}; see --list")
    if not options.rows:
        parser.error("a row, several, or all")
    if not os.access(os.environ["SLUICE"], os.X_OK):
        parser.error(f"{os.environ['SLUICE']} is not built")
    if len(options.rows) == 1:
        keep_mounts_to_ourselves()
        return run_one(declared[options.rows[0]], options)
    return run_many([declared[row] for row in options.rows], options)
