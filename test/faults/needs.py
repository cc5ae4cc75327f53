"""What a fault asks of the machine. Each function returns a sentence when that is not there, else nothing."""

import contextlib
import functools
import os
import shutil
import subprocess
import unittest

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def tool(name):
    """A need: this program."""
    return functools.partial(_tool, name)


def _tool(name):
    return None if shutil.which(name, path=PATH) else f"{name} is not installed"


def root():
    return None if os.geteuid() == 0 else "needs root"


@functools.lru_cache(None)
def memory_mounts():
    from disks import SmallDisk
    return root() or _possible(lambda: SmallDisk(1), "mounts do not work here")


@functools.lru_cache(None)
def loop_mounts():
    from disks import LoopDisk
    return root() or _tool("mkfs.ext4") or _possible(lambda: LoopDisk(16), "loop mounts do not work here")


@functools.lru_cache(None)
def xfs():
    from disks import XFS, LoopDisk
    return root() or _tool("mkfs.xfs") or _possible(lambda: LoopDisk(320, XFS), "xfs on a loop mount does not work here")


@functools.lru_cache(None)
def reflinks():
    """Snapshots of an image: an xfs with reflink, and a loop mount within."""
    return xfs() or loop_mounts()


@functools.lru_cache(None)
def quota():
    from disks import QUOTA, LoopDisk

    def limited():
        disk = LoopDisk(32, QUOTA, options=("usrquota",))
        try:
            disk.run("setquota", "-u", "nobody", "0", "1024", "0", "0", disk.mount_point)
        except OSError:
            disk.close()
            raise
        return disk
    return root() or _tool("setquota") or _tool("setpriv") or _possible(limited, "quotas do not work here")


@functools.lru_cache(None)
def served_disk():
    from disks import ServedDisk
    missing = root() or _tool("nbdkit") or _tool("nbdfuse") or loop_mounts()
    return missing or _possible(lambda: ServedDisk(16), "nbdfuse does not work here")


@functools.lru_cache(None)
def strace():
    if reason := _tool("strace"):
        return reason
    done = subprocess.run(["strace", "-D", "-q", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"strace does not work here: {done.stderr.strip()}"


def network_namespaces():
    import namespaces
    return _tool("ip") or namespaces.why_not()


def plugins():
    """Node, and what plugins and their host are made of."""
    from plugin_home import node_modules
    try:
        node_modules()
    except unittest.SkipTest as reason:
        return str(reason)
    return None


def own_clock():
    import clocks
    return clocks.why_not()


def _possible(make, sentence):
    try:
        with contextlib.closing(make()):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{sentence}: {error}"
