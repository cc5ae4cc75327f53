"""The machine loses power: FM-05, FM-06, FM-09."""

import needs
from disks import EXT4, XFS, LoopDisk
from faults_kill import judge
from rig import fault
from trial import PowerTrial

HONEST_DRIVE = "a drive that lies about flushing: the page cache under the loop device keeps what was synced"


def cut_power(run, make, count, **shape):
    """Cuts the power of a disk under load `count` times; figures are added up over several calls."""
    disk = LoopDisk(320, make)
    run.defer(disk.close)
    trial = PowerTrial(run.world(expects_errors=True), disk, seed=run.seed)
    verdict = trial.run_cuts(count, **shape)
    judge(run, verdict)
    return verdict


def cut_power_of_both(run, **shape):
    cut_power(run, EXT4, run.count, **shape)
    if reason := needs.xfs():
        run.left_out(f"xfs: {reason}")
    else:
        cut_power(run, XFS, run.count, **shape)


@fault("FM-05", "power cut while mail is accepted and delivered, on ext4 and on xfs", unit="cuts of each", short=3, long=100,
       needs=[needs.loop_mounts], not_covered=HONEST_DRIVE)
def power_cuts(run):
    cut_power_of_both(run)


@fault("FM-06", "power cut while a backlog is delivered, the processors kept busy by others, on ext4 and on xfs",
       unit="cuts of each", short=3, long=100, needs=[needs.loop_mounts], not_covered=HONEST_DRIVE)
def power_cuts_on_a_busy_machine(run):
    run.keep_busy(4)
    cut_power_of_both(run)


@fault("FM-09", "a second power cut within a second of the start after the first, while segments rotate and are reclaimed",
       unit="cuts of each", short=4, long=60, needs=[needs.loop_mounts], not_covered=HONEST_DRIVE)
def power_cuts_within_recovery(run):
    cut_power_of_both(run, second_cut=1.0)
