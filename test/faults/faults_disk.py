"""The disk fails, fills up, is slow or hangs: FM-10 to FM-12, FM-14 to FM-19."""

import os
import contextlib
import os
import pwd
import re
import time

import needs
from clients import submit
from disks import EXT4, QUOTA, LoopDisk, ServedDisk, SmallDisk
from faults_kill import judge
from journals import whole_lines
from rig import fault
from trial import Trial, now_ms
from world import wait_for

# What a client may be told while the disk does not work; 503 is what was pipelined behind a refused MAIL.
REFUSALS = {"451 4.3.0", "452 4.3.1", "503 5.5.1"}


def trial_on(run, folder, **settings):
    """A trial whose journal is in `folder`, which breaks: the engine must say so, at error level."""
    trial = Trial(run.world(expects_errors=True), seed=run.seed)
    trial.keep_queue_in(folder)
    trial.engine.set("spool.ini", segment_bytes="1M", reserve_bytes="4M", free_bytes_min="12M", **settings)
    return trial


def healthy(engine):
    return engine.api("GET", "/health")[0] == 200


def check_refusals(run, engine, wanted):
    """The clients were told `wanted`, and nothing but what a disk that does not work may cause."""
    replies = {event["reply"][:9] for event in engine.events("refused")}
    run.expect(wanted in replies, f"nobody was answered {wanted}, only {replies}")
    run.expect(replies <= REFUSALS, f"other refusals: {replies - REFUSALS}")


def check_alarm(run, trial, words):
    """Somebody was told."""
    logs = "".join(file.read_text(errors="replace") for file in trial.world.directory.glob("engine.*.log"))
    told = [line for line in logs.splitlines() if line.startswith("[ERROR] [-] [spool]")]
    run.expect(any(word in line for line in told for word in words), f"no error line with {words}, only {told[:3]}")
    run.figures["alarms"] = len(told)


# ---- single calls that fail


def run_traced(run, trial, calls, inject):
    """A trial in which the kernel's answer to some calls is an error, several times while the load lasts. Returns the trace."""
    trace = run.worlds[-1].directory / "strace.out"
    trial.measure_bodies()
    trial.engine.start(command=["strace", "-D", "-f", "-q", "-y", "-s", "0", "-o", trace, "-e", f"trace={calls}", "-e",
                                f"inject={inject}"])
    trial.start_sources()

    def injected():
        return trace.read_text(errors="replace").count("(INJECTED)")

    wait_for(lambda: injected() >= run.count, f"{run.count} injected errors", 60 + 5 * run.count)
    wait_for(lambda: healthy(trial.engine), "accepting again")
    run.figures["errors_injected"] = injected()
    text = trace.read_text(errors="replace")
    judge(run, trial.finish())
    return text


def check_never_written_again(run, trace):
    """After a failed sync nothing more is written to that file and it is not synced again, until it is gone."""
    failed = set()
    for call in whole_lines(trace):
        if match := re.match(r" *(pwritev|pwrite64|fdatasync)\(\d+<([^>]+)>.*\) += (.*)", call):
            name, path, answer = match.groups()
            run.expect(path not in failed, f"{path} was used after its sync failed: {call}")
            if name == "fdatasync" and "EIO" in answer:
                failed.add(path)
    run.figures["segments_abandoned"] = len(failed)


@fault("FM-10", "fdatasync fails with EIO once, again and again", unit="failed syncs", short=3, long=60, needs=[needs.strace])
def failed_syncs(run):
    trial = trial_on(run, run.world().directory)
    trace = run_traced(run, trial, "pwritev,pwrite64,fdatasync", f"fdatasync:error=EIO:when={run.random.randint(30, 60)}+40")
    check_never_written_again(run, trace)
    check_alarm(run, trial, ["the journal cannot be written: fdatasync"])
    if run.long:  # so often that some of them met messages
        check_refusals(run, trial.engine, "451 4.3.0")
        run.unittests("test_disk.FailedSync")
    else:
        run.unittests("test_disk.FailedSync.test_FM_10_a_sync_that_fails_once_answers_451_and_nothing_is_lost_or_doubled")


def refuse_writes(run, error, sentence):
    """Some of the journal's writes are answered with `error`, which means that there is no room: for now."""
    trial = trial_on(run, run.world().directory)
    run_traced(run, trial, "pwritev", f"pwritev:error={error}:when={run.random.randint(40, 60)}+60")
    check_refusals(run, trial.engine, "452 4.3.1")
    check_alarm(run, trial, [sentence])


@fault("FM-15", "no space within one message", unit="failed writes", short=3, long=60, needs=[needs.strace])
def no_space_within_a_message(run):
    refuse_writes(run, "ENOSPC", "No space left on device")
    run.unittests("test_disk.FailedSync.test_FM_15_no_space_inside_a_message_answers_452_and_leaves_nothing")


# ---- a device that fails


def mounted(disk):
    """The loop device below may still hold what it could not write."""
    try:
        disk.mount()
        return True
    except OSError:
        return False


def remount_and_restart(trial, disk):
    """A journaling file system is read-only after the first failure of its journal; only mounting it anew helps."""
    trial.kill_engine()
    disk.unmount()
    wait_for(lambda: mounted(disk), "the file system to be mounted again")
    trial.look_after_death()
    trial.start_engine()


@contextlib.contextmanager
def unwritable(run, trial, for_good):
    """What is checked while nothing can be written: nothing is accepted, what is queued is delivered, the engine lives. `yield`
    comes with a backlog, and breaks the disk."""
    engine = trial.engine
    set_outbound(engine, False)
    trial.let_work()
    trial.let_work()
    if for_good:
        trial.ambiguity.died(now_ms())  # no outcome can be recorded from now on
    yield
    wait_for(lambda: not healthy(engine), "the engine to notice")
    acked, delivered = trial.acked(), len(engine.events("delivered"))
    engine.wait_event("refused", len(engine.events("refused")) + 3)
    set_outbound(engine, True)
    engine.wait_event("delivered", delivered + 20)
    run.count_up(delivered_meanwhile=len(engine.events("delivered")) - delivered)
    run.expect(engine.process.running(), "the engine ended")
    run.expect(trial.acked() == acked, "mail was accepted while nothing could be written")


@fault("FM-11", "all writes of the device fail for a while, on ext4 and on a file system without a journal", unit="seconds of EIO",
       short=2, long=60, needs=[needs.served_disk],
       not_covered="ext4 with a journal does not recover from it by itself: it is mounted anew, and the engine restarted")
def failing_writes(run):
    for make, recovers in ((EXT4, False), ((*EXT4, "-O", "^has_journal"), True)):
        disk = ServedDisk(make=make)
        run.defer(disk.close)
        trial = trial_on(run, disk.mount_point)
        trial.begin()
        trial.let_work()
        with contextlib.ExitStack() as failure:
            with unwritable(run, trial, not recovers):
                failure.enter_context(disk.failing("writes"))
            time.sleep(run.count)  # the fault itself
        if recovers:
            wait_for(lambda engine=trial.engine: healthy(engine), "accepting again")
            trial.let_work()
            run.count_up(recovered_by_itself=1)
        else:
            remount_and_restart(trial, disk)
        judge(run, trial.finish())
        check_refusals(run, trial.engine, "452 4.3.1")
        check_alarm(run, trial, ["the journal cannot be written"])


@fault("FM-12", "the body of a kept message cannot be read", unit="rounds", short=1, long=10, needs=[needs.served_disk])
def failing_reads(run):
    disk = ServedDisk()
    run.defer(disk.close)
    world = run.world(expects_errors=True)
    sink = world.sink()
    engine = world.engine().route("any", sink.endpoint)
    engine.files["queue_dir"] = f"{disk.mount_point}/queue\n"
    engine.set("spool.ini", segment_bytes="4M", reserve_bytes="4M", free_bytes_min="12M")
    engine.set("outbound.ini", temp_fail_intervals="5s*24")
    for number in range(run.count):
        keep_unread(engine, disk, number)
        engine.start()
        with disk.failing("reads"):
            set_outbound(engine, True)
            wait_for(lambda: len(unreadable(engine)) == 20, "all of them to be told unreadable")
            # Others go on: what comes now is in memory.
            inject(engine, f"fresh{number}@dst.test", 100)
            engine.wait_event("delivered", recipients=[f"fresh{number}@dst.test"])
        run.count_up(messages_unreadable=20)
        while engine.api("GET", "/v1/status")[1]["queue"]["items"]:
            engine.api("POST", "/v1/queue/flush", {"all": True})
            time.sleep(0.1)
        run.expect(engine.stop() == 0, "the engine did not end well")
        taken = [to for line in sink.ledger() for to in line["to"]]
        wanted = [f"kept{round_number}.{n}@dst.test" for round_number in range(number + 1) for n in range(20)]
        wanted += [f"fresh{round_number}@dst.test" for round_number in range(number + 1)]
        run.expect(sorted(taken) == sorted(wanted), f"delivered {len(taken)} of {len(wanted)}")


def unreadable(engine):
    """The items that were tried in vain because of the disk, as an operator sees them."""
    items = engine.api("GET", "/v1/queue?limit=1000")[1]["items"]
    return [item for item in items if "Input/output error" in item.get("problem", "") and item["attempts"] > 0]


def inject(engine, to, size):
    text = "From: <a@src.test>\r\nSubject: x\r\n\r\n" + ("y" * 70 + "\r\n") * (size // 72)
    return engine.cli("inject", "-f", "a@src.test", "-t", to, input=text, check=False)


def set_outbound(engine, on):
    engine.set("outbound.ini", disabled="false" if on else "true").write()
    engine.cli("reload")


def keep_unread(engine, disk, number):
    """Messages in a sealed segment of which no octet is in the kernel's memory."""
    engine.set("outbound.ini", disabled="true").start()
    for n in range(20):
        assert inject(engine, f"kept{number}.{n}@dst.test", 60_000).returncode == 0
    engine.stop()
    disk.unmount()
    disk.mount()


# ---- a full disk


def fill_again_and_again(run, trial, fill, empty):
    """The disk fills up under load and gets room again. While it is full, what is delivered is recorded: a death in between makes
    no second copy."""
    trial.begin()
    engine = trial.engine
    for _ in range(run.count):
        trial.let_work()
        set_outbound(engine, False)  # a backlog, of which no segment can be given back
        fill()
        wait_for(lambda: not healthy(engine), "the engine to notice")
        engine.wait_event("refused", len(engine.events("refused")) + 3)
        delivered = len(engine.events("delivered"))
        set_outbound(engine, True)
        engine.wait_event("delivered", delivered + 20)
        run.count_up(delivered_while_full=len(engine.events("delivered")) - delivered, times_full=1)
        if run.random.random() < 0.3:
            trial.kill_engine()
            trial.look_after_death()
            trial.start_engine()
        empty()
        wait_for(lambda: healthy(engine), "accepting again")
    judge(run, trial.finish())
    check_refusals(run, engine, "452 4.3.1")
    check_alarm(run, trial, ["the disk is full", "bytes of disk are free", "No space left on device", "quota"])


@fault("FM-14", "no space left on the disk", unit="times full", short=1, long=40, needs=[needs.memory_mounts])
def full_disk(run):
    disk = SmallDisk(96)
    run.defer(disk.close)
    trial = trial_on(run, disk.folder)
    fill_again_and_again(run, trial, disk.fill, disk.empty)
    run.unittests("test_disk.FullDisk.test_FM_14_SZ_2_low_space_refuses_before_data_and_accepts_again",
                  "test_disk.FullDisk.test_FM_14_on_a_full_disk_deliveries_go_on_and_are_recorded")


@fault("FM-16", "no inodes left on the disk", unit="times full", short=1, long=20, needs=[needs.loop_mounts],
       not_covered="a disk that stays full until the reserve is used up: outcomes wait in memory then")
def no_inodes(run):
    disk = LoopDisk(128, (*EXT4, "-N", "64"))
    run.defer(disk.close)
    trial = trial_on(run, disk.mount_point)
    fillers = disk.mount_point / "fillers"

    def fill():
        fillers.mkdir(exist_ok=True)
        for number in range(64):
            try:
                (fillers / str(number)).touch(exist_ok=False)
            except OSError:
                return

    def empty():
        for file in list(fillers.iterdir()):
            file.unlink()

    fill_again_and_again(run, trial, fill, empty)


@fault("FM-17", "the file system becomes read-only; the quota is exceeded", unit="times", short=1, long=10,
       needs=[needs.loop_mounts, needs.strace],
       not_covered="where the kernel has no quotas, its answer EDQUOT to writes is made up")
def read_only(run):
    disk = LoopDisk(128)
    run.defer(disk.close)
    trial = trial_on(run, disk.mount_point)
    trial.begin()
    for _ in range(run.count):
        trial.let_work()
        with unwritable(run, trial, True):
            # Open files keep a file system writable for whoever asks kindly; this is what ext4 does by itself after an error.
            disk.run("mount", "-o", "remount,abort", disk.mount_point)
        remount_and_restart(trial, disk)
    judge(run, trial.finish())
    check_refusals(run, trial.engine, "452 4.3.1")
    check_alarm(run, trial, ["the journal cannot be written"])
    run.unittests("test_disk.FullDisk.test_FM_17_a_read_only_spool_is_refused_at_start_with_a_sentence")
    if needs.quota():  # says why not
        refuse_writes(run, "EDQUOT", "Disk quota exceeded")
    else:
        exceed_quota(run)


def exceed_quota(run):
    """The engine runs as a user whose quota is used up, then raised."""
    disk = LoopDisk(128, QUOTA, options=("usrquota",))
    run.defer(disk.close)
    trial = trial_on(run, disk.mount_point)
    user = pwd.getpwnam("nobody")
    os.chown(disk.mount_point, user.pw_uid, user.pw_gid)

    def limit(megabytes):
        disk.run("setquota", "-u", "nobody", "0", megabytes << 10, "0", "0", disk.mount_point)

    limit(64)
    as_nobody(trial, user)
    fill_again_and_again(run, trial, lambda: limit(8), lambda: limit(64))


def as_nobody(trial, user):
    """From now on the engine runs as this user: limits do not bind root."""
    folder = trial.world.directory
    folder.chmod(0o755)
    start = trial.engine.start

    def start_as_user(**options):
        trial.engine.write()
        for path in (trial.engine.directory, *trial.engine.directory.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        return start(command=["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"], **options)

    trial.engine.start = start_as_user


# ---- a slow disk


@fault("FM-18", "every sync takes 50 ms, then 500 ms", unit="seconds of load at each", short=5, long=60, needs=[needs.strace],
       not_covered="slow reads")
def slow_disk(run):
    trial = trial_on(run, run.world().directory)
    trial.engine.route("probe.test", run.worlds[0].sink(name="probe").endpoint)
    trial.others.add("probe@probe.test")
    trial.begin()
    for delay in (50, 500):
        trial.kill_engine()
        trial.look_after_death()
        trial.starts_again()
        trial.engine.start(command=["strace", "-D", "-f", "-q", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e",
                                    f"inject=fdatasync,fsync:delay_exit={delay}000"])
        trial.let_work()
        delivered, end = len(trial.engine.events("delivered")), time.monotonic() + run.count
        answers = 0
        while time.monotonic() < end:
            began = time.monotonic()
            submit(trial.engine, "probe@probe.test", "Subject: probe\r\n\r\nx\r\n", sender="probe@src.test")
            run.highest(**{f"answer_s_max_at_{delay}_ms": round(time.monotonic() - began, 2)})
            answers += 1
        run.figures[f"answers_at_{delay}_ms"] = answers
        run.expect(len(trial.engine.events("delivered")) > delivered, f"nothing was delivered with {delay} ms a sync")
        run.expect(run.figures[f"answer_s_max_at_{delay}_ms"] < 60, "clients waited for more than a minute")
    judge(run, trial.finish())


@fault("FM-19", "the disk hangs", unit="seconds", short=5, long=120, needs=[needs.served_disk])
def hanging_disk(run):
    disk = ServedDisk()
    run.defer(disk.close)
    trial = trial_on(run, disk.mount_point)
    trial.begin()
    trial.let_work()
    with disk.hanging():
        pid = trial.engine.process.pid
        time.sleep(run.count)  # the fault itself
        run.expect(trial.engine.process.running() and trial.engine.process.pid == pid, "the engine ended")
        began = time.monotonic()
        trial.engine.api("GET", "/health")
        run.figures["health_answer_s"] = round(time.monotonic() - began, 2)
    wait_for(lambda: healthy(trial.engine), "accepting again")
    trial.let_work()
    judge(run, trial.finish())
