"""Something runs out, or a reader of ours does not read: FM-20, FM-23, FM-25, FM-45, FM-46, FM-51."""

import contextlib
import json
import os
import pathlib
import re
import socket
import threading
import time

import needs
from bench import Bench, cpu_seconds, expect_no_failure, inject, message, queued, recipients_of, wait_delivered
from clients import Raw
from disks import SmallDisk
from peers import Scripted
from rig import NotRun, fault
from world import wait_for

PATIENCE = 120


def whole_lines(run, file, what):
    """Every line is one JSON object, none continues another; returns them."""
    events = []
    for line in file.read_text(errors="replace").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            run.find(f"{what}: not a whole line: {line[:200]}")
    return events


@fault("FM-20", "the file system of the logs is full", unit="messages", short=200, long=5000, needs=[needs.memory_mounts])
def log_disk_full(run):
    world = run.world()
    disk = SmallDisk(4)
    run.defer(disk.close)
    sink = world.sink()
    engine = world.engine().route("any", sink.endpoint)
    engine.set("log.ini", level="protocol").set("outbound.ini", temp_fail_intervals="1h*9")
    (engine.directory / "log").symlink_to(disk.folder)
    disk_log = disk.folder / "stdout.log"
    # The output of the engine goes to the full disk, too.
    engine.start(command=["sh", "-c", f"exec \"$@\" >> {disk_log} 2>&1", "sh"])
    inject(engine, "before@dst.test")
    engine.wait_event("delivered")
    disk.fill()
    everybody = [f"r{i}@d{i % 9}.test" for i in range(run.count)]
    for to in everybody:
        inject(engine, to)
    sink.wait(1 + run.count, PATIENCE)
    wait_for(lambda: queued(engine)["items"] == 0, "an empty queue", PATIENCE)
    run.expect(not any(event.get("recipients") == [everybody[-1]] for event in engine.events("delivered")),
               "the disk was not full after all")
    disk.empty()

    def told_again():
        inject(engine, "after@dst.test")
        return recipients_of(engine, "delivered")["after@dst.test"] > 0

    wait_for(told_again, "events to be written again", PATIENCE)
    events = whole_lines(run, disk.folder / "events.jsonl", "events.jsonl")
    run.expect(any(event["event"] == "lines_lost" for event in events), "no line says that lines were lost")
    run.expect(engine.stop() == 0, "the engine did not end well")
    copies = [to for line in sink.ledger() for to in line["to"] if to in set(everybody)]
    run.expect(len(copies) == len(set(copies)) == run.count, f"{len(copies)} copies of {run.count} messages")
    complaints = [line for line in disk_log.read_text(errors="replace").splitlines() if line.startswith(("[ERROR]", "[CRIT]"))]
    run.findings.extend(complaints)


@fault("FM-45", "nobody reads the events: no reader, then one that stops; the log's reader, too", unit="messages", short=300, long=20000,
       not_covered="a webhook, which the engine does not have yet")
def nobody_reads(run):
    world = run.world()
    sink = world.sink()
    engine = world.engine().route("any", sink.endpoint)
    engine.set("outbound.ini", temp_fail_intervals="1h*9")
    (engine.directory / "log").mkdir()
    pipe = engine.directory / "log" / "events.jsonl"
    os.mkfifo(pipe)
    engine.start()  # with no reader at all
    everybody = [f"{'x' * 50}{i}@d{i % 9}.{'y' * 60}.{'z' * 60}.test" for i in range(run.count)]
    half = run.count // 2

    def pass_on(recipients):
        before, began = len(sink.ledger()), time.monotonic()
        for to in recipients:
            inject(engine, to)
        sink.wait(before + len(recipients), PATIENCE + run.count / 20)
        wait_for(lambda: queued(engine)["items"] == 0, "an empty queue", PATIENCE)
        return time.monotonic() - began

    # A pipe holds 64 KiB, less than these events are: whoever writes to it waits.
    run.figures["no_reader_ms"] = int(pass_on(everybody[:half]) * 1000)
    lines, stop = [], threading.Event()

    def read():
        with open(pipe, encoding="utf-8") as reader:
            for line in reader:
                lines.append(line)
                if stop.is_set():
                    return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    # What waited for the reader comes now: nothing of it was lost, it fitted in the buffer.
    wait_for(lambda: sum('"event":"delivered"' in line for line in lines) >= half, "the events of the first half", PATIENCE)
    stop.set()
    inject(engine, "wake@dst.test")
    reader.join(PATIENCE)
    run.expect(not reader.is_alive(), "the reader did not end")
    run.figures["reader_gone_ms"] = int(pass_on(everybody[half:]) * 1000)
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            json.loads(line)
            continue
        run.find(f"not a whole line: {line[:200]}")
    began = time.monotonic()
    run.expect(engine.stop() == 0, "the engine did not end well")
    run.expect(time.monotonic() - began < 30, "the end waited for a reader")
    copies = [to for line in sink.ledger() for to in line["to"]]
    run.expect(len(copies) == len(set(copies)) == run.count + 1, f"{len(copies)} copies of {run.count + 1} messages")
    run.unittests("test_endurance.BadMoments.test_LOG_2_output_that_nobody_reads_stops_neither_mail_nor_the_end")


class MemoryGroup:
    """A control group with a limit, of version 1 or 2."""

    def __init__(self, megabytes):
        own = pathlib.Path("/proc/self/cgroup").read_text()
        version1 = re.search(r"^\d+:memory:(.*)$", own, re.M)
        version2 = re.search(r"^0::(.*)$", own, re.M)
        if version1:
            base, file, peak = pathlib.Path("/sys/fs/cgroup/memory" + version1[1]), "memory.limit_in_bytes", "memory.max_usage_in_bytes"
        elif version2:
            base, file, peak = pathlib.Path("/sys/fs/cgroup" + version2[1]), "memory.max", "memory.peak"
        else:
            raise NotRun("no control groups for memory here")
        self.folder, self.peak = base / f"sluice-fault-{os.getpid()}", peak
        try:
            self.folder.mkdir()
            (self.folder / file).write_text(str(megabytes << 20))
        except OSError as error:
            self.close()
            raise NotRun(f"no control group for memory can be made: {error}") from None

    def command(self):
        return ["sh", "-c", f"echo $$ > {self.folder}/cgroup.procs && exec \"$@\"", "sh"]

    def kills(self):
        for name in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(OSError):
                return sum(int(line.split()[1]) for line in (self.folder / name).read_text().splitlines()
                           if line.startswith("oom_kill "))
        return 0

    def close(self):
        with contextlib.suppress(OSError):
            self.folder.rmdir()


@fault("FM-23", "the memory of its control group ends: large messages from many clients at once", unit="seconds", short=6, long=120,
       needs=[needs.root])
def memory_limit(run):
    limit = 320
    group = MemoryGroup(limit)
    run.defer(group.close)
    world = run.world()  # ended before the group is removed
    sink = world.sink()
    engine = world.engine().route("any", sink.endpoint)
    engine.set("outbound.ini", temp_fail_intervals="1h*9", destination_concurrency="4")
    engine.start(command=group.command())
    body = (b"x" * 76 + b"\r\n") * (20_000_000 // 78)
    end = time.monotonic() + run.count
    answers, lock = {}, threading.Lock()
    acked = []

    def count(answer):
        with lock:
            answers[answer] = answers.get(answer, 0) + 1

    def client(number):
        """Sends as fast as it may; what it is told counts."""
        sent = 0
        while time.monotonic() < end:
            sent += 1
            to = f"c{number}n{sent}@d{number}.test"
            try:
                with Raw(engine.port) as link:
                    for line, wanted in (("MAIL FROM:<a@src.test>", 250), (f"RCPT TO:<{to}>", 250), ("DATA", 354)):
                        code = link.ask(line)[0]
                        if code != wanted:
                            break
                    else:
                        link.send(f"Subject: {number}\r\n\r\n".encode() + body + b".\r\n")
                        code = link.reply()[0]
                        if code == 250:
                            acked.append(to)
                    count(code)
                    if code != 250:
                        time.sleep(0.1)
            except (OSError, AssertionError):
                count("closed")
                time.sleep(0.1)

    clients = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(30)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(PATIENCE + run.count)
    run.expect(engine.process.running(), "the engine is dead")
    run.expect(group.kills() == 0, f"the kernel killed {group.kills()} processes of the group")
    refused = sum(count for code, count in answers.items() if code in (452, 421))
    run.figures.update(accepted=answers.get(250, 0), refused=refused, closed=answers.get("closed", 0),
                       peak_mb=int((group.folder / group.peak).read_text()) >> 20, limit_mb=limit)
    run.expect(refused > 0, f"nothing was refused: {answers}")
    run.expect(set(answers) <= {250, 452, 421, "closed"}, f"answers: {answers}")
    wait_delivered(engine, acked, PATIENCE + run.count)
    # Memory is given back, and then mail is accepted again.
    wait_for(lambda: engine.api("GET", "/v1/status")[1]["accepting"], "it to accept again", PATIENCE)
    inject(engine, "after@dst.test")
    wait_delivered(engine, ["after@dst.test"], PATIENCE)
    expect_no_failure(run, engine)


@fault("FM-25", "no descriptors are left: 200 in all, more clients and more destinations than that", unit="messages", short=300, long=3000)
def no_descriptors(run):
    world = run.world()
    sink = world.sink("--rule", "dot=delay 100")
    engine = world.engine().route("any", sink.endpoint)
    engine.set("outbound.ini", temp_fail_intervals="5s*1000", pool_timeout="5", destination_concurrency="40")
    engine.start(command=["sh", "-c", "ulimit -n 200 && exec \"$@\"", "sh"])
    everybody = [f"r{i}@d{i % 60}.test" for i in range(run.count)]
    links = []
    run.defer(lambda: [link.close() for link in links])
    for _ in range(260):
        link = socket.socket()
        link.setblocking(False)
        link.connect_ex(("127.0.0.1", engine.port))
        links.append(link)
    wait_for(lambda: engine.api("GET", "/v1/status")[1]["connections_in"] >= 100, "clients to take what they may", PATIENCE)
    # The operator's socket works, and so does the journal.
    for to in everybody[: run.count // 2]:
        inject(engine, to)
    used, began = cpu_seconds(engine.process.pid), time.monotonic()
    descriptors = 0
    while time.monotonic() - began < 2:  # a spinning listener shows in the processor time of a while
        descriptors = max(descriptors, len(os.listdir(f"/proc/{engine.process.pid}/fd")))
        time.sleep(0.05)
    share = (cpu_seconds(engine.process.pid) - used) / (time.monotonic() - began)
    run.figures.update(cpu_percent=round(share * 100), descriptors_max=descriptors)
    run.expect(share < 0.6, f"the engine uses {share:.0%} of a processor")
    run.expect(descriptors <= 190, f"{descriptors} of 200 descriptors were in use: nothing was kept back")
    wait_delivered(engine, everybody[: run.count // 2], PATIENCE)
    for link in links:
        link.close()
    wait_for(lambda: engine.api("GET", "/v1/status")[1]["connections_in"] == 0, "the clients to be gone", PATIENCE)

    # Without clients, more deliveries than descriptors.
    for to in everybody[run.count // 2:]:
        inject(engine, to)
    with Raw(engine.port) as client:  # a client is served again
        run.expect(client.ask("NOOP")[0] == 250, "no client is served any more")
    wait_delivered(engine, everybody, PATIENCE)
    expect_no_failure(run, engine)
    run.count_up(deferrals=len(engine.events("deferred")))
    copies = [to for line in sink.ledger() for to in line["to"]]
    run.expect(len(copies) == len(set(copies)) == run.count, f"{len(copies)} copies of {run.count} messages")


@fault("FM-46", "a broken file is loaded while mail passes", unit="reloads", short=5, long=100)
def broken_reload(run):
    run.unittests("test_reload.LiveReload.test_a_broken_file_keeps_the_old_settings_and_names_the_line",
                  "test_reload.LiveReload.test_reload_of_a_broken_file_is_a_failure_of_the_command")
    from faults_kill import judge
    from trial import Trial
    trial = Trial(run.world(), seed=run.seed)
    trial.begin()
    engine = trial.engine
    for number in range(run.count):
        trial.let_work()
        (engine.config / "outbound.ini").write_text("concurrency_max=many\ntemp_fail_intervals=[\n")
        told = engine.cli("reload", check=False)
        run.expect(told.returncode != 0 and "outbound.ini" in told.stdout + told.stderr,
                   f"reload of a broken file: {told.returncode} {told.stdout}{told.stderr}")
        trial.let_work()
        engine.write()
        run.expect(engine.cli("reload", check=False).returncode == 0, "reload of a good file failed")
    judge(run, trial.finish())


@fault("FM-51", "a message that crashes the engine whenever it is handled", unit="poisons", short=1, long=5, needs=[needs.strace],
       not_covered="a client whose content crashes the engine before it was accepted: it is told nothing, and comes again")
def poison(run):
    for number in range(run.count):
        one_poison(run, number)


def one_poison(run, number):
    """The crash is a SIGSEGV that the kernel gives the thread that reads the poisoned message: strace injects it there."""
    world = run.world(expects_errors=True)  # the quarantine is told at error level
    mood = {"reply": "450 4.2.0 later"}
    peer = Scripted(Bench(run), {"RCPT": lambda _: mood["reply"]})
    engine = world.engine(name=f"engine{number}").route("any", peer.endpoint)
    engine.set("outbound.ini", temp_fail_intervals="1h*99")
    engine.start()
    innocent = inject(engine, "innocent@good.test")
    poisoned = inject(engine, "victim@poison.test", content=message(to="victim@poison.test", body="boom\r\n"))
    wait_for(lambda: len(engine.events("deferred")) == 2, "both to wait", PATIENCE)

    def crash():
        """The reading of the poison, for its second attempt, ends the process."""
        trace = world.directory / f"strace.{engine.starts}"
        tracer = world.spawn(["strace", "-f", "-q", "-o", trace, "-p", engine.process.pid, "-e", "trace=pread64",
                              "-e", "inject=pread64:signal=SEGV:when=1"], world.directory / "strace.log")
        wait_for(lambda: attached(engine.process.pid), "strace to attach", PATIENCE)
        engine.cli("queue", "flush", "poison.test", check=False)
        wait_for(lambda: not engine.process.running(), "the crash", PATIENCE)
        tracer.child.wait(30)
        run.count_up(crashes=1)

    def crash_by_kill():
        engine.process.kill()

    def state_of(address):
        items = engine.api("GET", "/v1/queue?limit=100")[1]["items"]
        found = [item for item in items if address in item["domain"]]
        return found[0] if found else None

    for crashes in range(1, 4):
        crash()
        run.expect((engine.directory / "queue" / "crashes").read_text().splitlines() == [poisoned] * crashes,
                   f"after {crashes} crashes the file of crashes says otherwise")
        engine.start()
        held = state_of("poison")["state"] == "held"
        run.expect(held == (crashes == 3), f"after {crashes} crashes held={held}")
        if crashes < 3:  # a kill is no crash of ours
            crash_by_kill()
            engine.start()
            run.expect(state_of("poison")["state"] == "scheduled", "a kill was counted as a crash")
    item = state_of("poison")
    run.expect("quarantine" in item.get("problem", ""), f"no reason is shown: {item}")
    engine.wait_logged("a message is held")
    mood["reply"] = "250 ok"
    engine.cli("queue", "flush")
    wait_delivered(engine, ["innocent@good.test"], PATIENCE)
    run.expect(not recipients_of(engine, "delivered")["victim@poison.test"], "the poison was handled all the same")
    engine.restart_after_kill()
    run.expect(state_of("poison")["state"] == "held", "the quarantine ended with the process")
    engine.cli("queue", "release", "poison.test")  # the operator has mended the cause
    engine.cli("queue", "flush", "poison.test")
    wait_delivered(engine, ["victim@poison.test"], PATIENCE)
    engine.wait_empty()
    run.expect(len(peer.messages) == 2, f"{len(peer.messages)} copies of 2 messages")
    run.expect(innocent != poisoned, "one id for two messages")
    expect_no_failure(run, engine)


def attached(pid):
    """Whether every thread has its tracer."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            if re.search(r"^TracerPid:\s+0$", (task / "status").read_text(), re.M):
                return False
    return True
