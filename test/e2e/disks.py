"""File systems that a test may fill, break and take away. They need root and mounts; `why_not()` says when there are none."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

from judge import PowerCut
from world import wait_for

# ioctl of ext4 and xfs: _IOR('X', 125, __u32), and its flag that drops the file system's own journal as well.
SHUTDOWN, WITHOUT_FLUSHING = 0x8004587D, 2

EXT4 = ("mkfs.ext4", "-q", "-F")
XFS = ("mkfs.xfs", "-q", "-f")  # 300 MB and more


class SmallDisk:
    """A small file system in memory that can be filled. Needs root."""

    def __init__(self, megabytes):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-disk-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", self.folder], check=True, capture_output=True)
        self.filler = self.folder / "filler"

    @staticmethod
    def why_not():
        """A sentence when this machine cannot do it, else nothing."""
        if os.geteuid() != 0:
            return "mounts need root"
        try:
            SmallDisk(1).close()
        except (OSError, subprocess.CalledProcessError) as error:
            return f"mounts do not work here: {error}"
        return None

    def fill(self, leave=0):
        """Fills the disk so that `leave` octets are free."""
        with self.filler.open("ab") as file:
            while (size := min(1 << 16, shutil.disk_usage(self.folder).free - leave)) > 0:
                try:
                    file.write(b"x" * size)
                    file.flush()
                except OSError:
                    return

    def empty(self):
        self.filler.unlink()

    def remount(self, mode):
        subprocess.run(["mount", "-o", f"remount,{mode}", self.folder], check=True, capture_output=True)

    def close(self):
        subprocess.run(["umount", self.folder], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class LoopDisk:
    """A file system of its own whose power can be cut: what was not synced is gone. Needs root and loop devices."""

    def __init__(self, megabytes=256, make=EXT4):
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
        """Returns the PowerCut that began. Drops dirty pages and the uncommitted journal of the file system, at once: what `xfs_io -c shutdown` asks for."""
        folder = os.open(self.mount_point, os.O_RDONLY)
        try:
            cut = PowerCut.now()
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING))
        finally:
            os.close(folder)
        return cut
