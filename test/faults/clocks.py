"""A wall clock that can be set for one process, by a preloaded library. (libfaketime asks for memory when it is asked for the time,
and the engine's allocator asks for the time before it has any.)"""

import functools
import os
import pathlib
import shutil
import struct
import subprocess
import time

SOURCE = pathlib.Path(__file__).with_name("wallclock.c")
COMPILERS = ("cc", "gcc", "clang", "clang-19")


def compiler():
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


@functools.lru_cache(None)
def why_not():
    """A sentence when the clock of a process cannot be set here."""
    return None if compiler() else "there is no C compiler for the library that sets the clock"


class WallClock:
    def __init__(self, world, name="wallclock"):
        self.library, self.file = world.directory / f"{name}.so", world.directory / name
        subprocess.run([compiler(), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", self.library, SOURCE], check=True)
        self.set(0)

    def set(self, seconds):
        """So far from the true time, from now on, also for who runs already."""
        fd = os.open(self.file, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(fd, struct.pack("q", seconds * 10**9), 0)
        os.close(fd)

    def set_to(self, moment):
        """`moment` in seconds of the epoch; tells how far that is from the true time."""
        offset = int(moment - time.time())
        self.set(offset)
        return offset

    @property
    def environment(self):
        return {"LD_PRELOAD": str(self.library), "WALLCLOCK_OFFSET": str(self.file)}
