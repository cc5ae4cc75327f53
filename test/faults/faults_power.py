"""The machine loses power: FM-05, FM-06, FM-07, FM-08, FM-09."""

import needs
from disks import EXT4, XFS, LoopDisk
from faults_kill import judge
from rig import fault
from trial import PowerTrial


def cut_power_of(run, disk, count):
    run.defer(disk.close)
    judge(run, PowerTrial(run.world(expects_errors=True), seed=run.seed, disk=disk).run_cuts(count))


@fault("FM-05", "power cut while mail is accepted (ext4)", unit="cuts", short=4, long=100, needs=[needs.loop_mounts],
       not_covered="a drive that lies about flushing: the host's page cache under the loop device keeps what was synced")
def power_cuts_on_ext4(run):
    cut_power_of(run, LoopDisk(make=EXT4), run.count)
