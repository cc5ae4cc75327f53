"""How a fault is declared, and what runs while it is injected.

    @fault("FM-05", "power cut while mail is accepted", unit="cuts", short=4, long=100, needs=[needs.loop_mounts])
    def power_cuts(run):
        trial = PowerTrial(run.world(dead_disk=True), run.seed)
        ...

A function that returns has passed, unless it noted findings. It raises `NotRun` when the machine cannot do it, and calls
`run.left_out()` when it can do a part only: neither counts as passed.
"""

import contextlib
import dataclasses
import importlib
import pathlib
import random
import shutil
import subprocess
import sys
import time
import traceback
import typing
import unittest

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "e2e"), str(FOLDER.parent / "attacks")]

import world as e2e  # noqa: E402  (the folder is known only now)

DECLARED = {}


@dataclasses.dataclass(frozen=True)
class Fault:
    """One row of the fault matrix. `short` and `long` are how often it happens in either form, in `unit`s."""

    row: str
    what: str
    inject: typing.Callable
    unit: str
    short: int
    long: int
    needs: tuple
    not_covered: str
    alone: bool

    def why_not(self):
        return next((reason for need in self.needs if (reason := need())), None)


def fault(row, what, unit="runs", short=1, long=1, needs=(), not_covered="", alone=False):
    """Declares a row. `needs` are functions of needs.py; `not_covered` is what the table is to admit; a row that is `alone`
    has the machine for itself."""
    def declare(inject):
        assert row not in DECLARED, f"{row} is declared twice"
        DECLARED[row] = Fault(row, what, inject, unit, short, long, tuple(needs), not_covered, alone)
        return inject
    return declare


def load_declarations():
    """All rows, by id: every module faults_*.py of this folder declares some."""
    for file in sorted(FOLDER.glob("faults_*.py")):
        importlib.import_module(file.stem)
    return dict(sorted(DECLARED.items()))


class NotRun(Exception):
    """This machine cannot do it; the text says why."""


class Run:
    """One run of one fault: its numbers, what it used, what it found."""

    def __init__(self, row, form, count, seed, say=print):
        self.row, self.form, self.count, self.seed = row, form, count, seed
        self.random = random.Random(seed)
        self.figures, self.findings, self.omitted = {}, [], []
        self.say = say
        self.cleanup = contextlib.ExitStack()
        self.worlds = []

    @property
    def long(self):
        return self.form == "long"

    def find(self, sentence):
        self.findings.append(sentence)

    def expect(self, condition, sentence):
        if not condition:
            self.find(sentence)
        return condition

    def left_out(self, reason):
        """A part of the row was not run."""
        self.omitted.append(reason)

    def count_up(self, **figures):
        for name, figure in figures.items():
            self.figures[name] = self.figures.get(name, 0) + figure

    def highest(self, **figures):
        for name, figure in figures.items():
            self.figures[name] = max(self.figures.get(name, figure), figure)

    def defer(self, action, *arguments):
        """Called at the end, whatever happens; last come, first served."""
        self.cleanup.callback(action, *arguments)

    def world(self, expects_errors=False):
        """A world of its own. Engine lines at error level are findings, unless the fault is one that must be told."""
        world = e2e.World()
        self.worlds.append(world)
        self.defer(self.close_world, world, expects_errors)
        return world

    def close_world(self, world, expects_errors):
        complaints = world.close()
        if not expects_errors:
            self.findings.extend(complaints)

    def keep_busy(self, processes):
        """So many processes that only use the processors, until the end."""
        for _ in range(processes):
            child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            self.defer(child.wait)
            self.defer(child.kill)

    def unittests(self, *names):
        """Runs test cases by name, MODULE.Class[.test_name], from this folder or test/e2e. A skipped one is left out."""
        suite = unittest.defaultTestLoader.loadTestsFromNames(names)
        result = unittest.TestResult()
        suite.run(result)
        for case, text in result.failures + result.errors:
            self.find(f"{case.id()}: {text}")
        for case, reason in result.skipped:
            self.left_out(f"{case.id()}: {reason}")
        self.count_up(tests=result.testsRun - len(result.skipped))

    def close(self):
        try:
            self.cleanup.close()
        except Exception as error:  # cleaning up must not hide what was found
            self.find(f"cleaning up: {error!r}")
        for world in self.worlds:
            if self.findings:
                self.say(f"logs are kept in {world.directory}")
            else:
                shutil.rmtree(world.directory, ignore_errors=True)


def perform(declared, form, count=None, seed=None, say=print):
    """Runs a fault once; returns what became of it as a dictionary, the line of the results file."""
    seed = seed if seed is not None else random.SystemRandom().randrange(1 << 30)
    count = count or (declared.long if form == "long" else declared.short)
    run = Run(declared.row, form, count, seed, say)
    began = time.monotonic()
    state = None
    try:
        if reason := declared.why_not():
            raise NotRun(reason)
        declared.inject(run)
    except NotRun as reason:
        state = "not run"
        run.left_out(str(reason))
    except Exception:  # a failed expectation or a defect of the rig: either way the row has not passed
        run.find(traceback.format_exc())
    finally:
        run.close()
    if run.findings:
        state = "failed"
    elif state is None and run.omitted:
        state = "partly" if run.figures.get("tests", 1) else "not run"
    return {
        "row": declared.row, "form": form, "state": state or "passed", "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - began, 1), "count": count, "unit": declared.unit, "seed": seed,
        "figures": run.figures, "left_out": run.omitted, "findings": run.findings,
    }
