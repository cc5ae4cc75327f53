"""File systems that a test may fill, break and take away. They need root and mounts: `needs.py` of the fault rig tells."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

from judge import PowerCut
from world import wait_for

# ioctl of ext4 and xfs: _IOR('X', 125, __u32), and its flag that drops the file system's own journal as well.
SHUTDOWN, WITHOUT_FLUSHING = 0x8004587D, 2
# ioctl of xfs and btrfs: _IOW(0x94, 9, int).
CLONE = 0x40049409

EXT4 = ("mkfs.ext4", "-q", "-F")
QUOTA = (*EXT4, "-O", "quota")
XFS = ("mkfs.xfs", "-q", "-f")  # 300 MB and more


class SmallDisk:
    """A small file system in memory that can be filled. Needs root."""

    def __init__(self, megabytes):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-disk-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", self.folder], check=True, capture_output=True)
        self.filler = self.folder / "filler"

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

    def __init__(self, megabytes=256, make=EXT4, folder=None, options=()):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-disk-", dir=folder))
        self.image, self.mount_point = self.folder / "disk.img", self.folder / "disk"
        self.mount_point.mkdir()
        try:
            self.make_image(megabytes)
            self.run(*make, self.image)
            self.mount(*options)
        except OSError:
            self.close()
            raise

    def make_image(self, megabytes):
        with open(self.image, "wb") as image:
            image.truncate(megabytes << 20)

    @staticmethod
    def run(*arguments):
        done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"{arguments[0]}: {done.stderr.strip().partition(chr(10))[0]}")

    def mount(self, *options):
        # `rw`: mount would take a read-only file system for want of a better one.
        self.run("mount", "-o", ",".join(("loop", "rw", *options)), self.image, self.mount_point)

    def unmount(self):
        wait_for(self.try_unmount, "umount", 10)

    def close(self):
        self.try_unmount()
        shutil.rmtree(self.folder, ignore_errors=True)

    def try_unmount(self):
        return self.try_run("umount", self.mount_point)

    @staticmethod
    def try_run(*arguments):
        with contextlib.suppress(OSError):
            LoopDisk.run(*arguments)
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

    def snapshot(self, target):
        """A copy of the image as it is at this instant, as after a power cut: what `cp --reflink` asks of the file system below."""
        with open(self.image, "rb") as source, open(target, "xb") as copy:
            fcntl.ioctl(copy, CLONE, source.fileno())


class ServedDisk(LoopDisk):
    """A file system on a block device that nbdkit serves, and which fails or hangs on command. Needs root and FUSE."""

    def __init__(self, megabytes=200, make=EXT4):
        super().__init__(megabytes, make)

    def make_image(self, megabytes):
        self.served = self.folder / "served"
        self.served.mkdir()
        self.image = self.served / "disk"
        with open(self.folder / "nbd.log", "wb") as log:
            self.server = subprocess.Popen(
                ["nbdfuse", self.image, "--command", "nbdkit", "-s", "--exit-with-parent", "memory", f"{megabytes}M",
                 "--filter=pause", f"pause-control={self.folder / 'pause'}",
                 "--filter=error", "error=EIO",
                 "error-pread-rate=100%", f"error-pread-file={self.folder / 'reads-fail'}",
                 "error-pwrite-rate=100%", f"error-pwrite-file={self.folder / 'writes-fail'}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: self.image.exists() or self.server.poll() is not None, "the served disk")
        if self.server.poll() is not None:
            raise OSError("nbdfuse: " + (self.folder / "nbd.log").read_text())

    @contextlib.contextmanager
    def failing(self, what):
        """All "reads" or all "writes" of the device fail meanwhile."""
        flag = self.folder / f"{what}-fail"
        flag.touch()
        try:
            yield
        finally:
            flag.unlink()

    @contextlib.contextmanager
    def hanging(self):
        """No request is answered meanwhile."""
        self.tell_pause(b"p")
        try:
            yield
        finally:
            self.tell_pause(b"r")

    def tell_pause(self, command):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.folder / "pause"))
            link.sendall(command)
            answer = link.recv(1)
            assert answer == command.upper(), answer

    def close(self):
        self.try_unmount()
        if hasattr(self, "server"):
            self.server.send_signal(signal.SIGINT)  # it unmounts itself
            try:
                self.server.wait(10)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
            subprocess.run(["umount", "-l", self.served], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)
