"""What the operating system knows: CPU time and memory of a family of processes, other load, and the machine's class."""

import contextlib
import os
import pathlib
import platform
import random
import socket
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    """A free port below those that the kernel gives to outgoing connections: it stays free until used."""
    while True:
        port = random.randint(10_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(condition, what, patience=60.0, pause=0.02):
    """Returns when condition() is true; raises TimeoutError when patience ends."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience:.0f} s for {what}")
        time.sleep(pause)


def greets(port):
    """Whether an SMTP server answers there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as link:
        return link.recv(64).startswith(b"220")
    return False


def listens(host, port):
    """Whether a connection is taken there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


def _stat(pid):
    """The fields of /proc/PID/stat from the state on, or None when the process is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2:].split()


def family(root):
    """The process and all its descendants that live now."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(entry)):
            parents[int(entry)] = int(fields[1])
    found, fresh = {root}, {root}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def cpu_seconds(root):
    """User and system time of the family, those included who ended and were waited for."""
    total = 0
    for pid in family(root):
        if fields := _stat(pid):
            total += sum(int(ticks) for ticks in fields[11:15])
    return total / TICK


def own_cpu_seconds(pid):
    """User and system time of this process alone, without its children."""
    fields = _stat(pid)
    return sum(int(ticks) for ticks in fields[11:13]) / TICK if fields else 0.0


def memory_mib(root):
    """Proportional set size of the family: pages that processes share count once."""
    total = 0
    for pid in family(root):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def busy_seconds():
    """CPU time that all processors together were not idle, steal included."""
    fields = [int(f) for f in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


def filesystem(path):
    """The type of the file system that holds `path`."""
    out = subprocess.run(["df", "--output=fstype", str(path)], capture_output=True, text=True, check=False)
    return (out.stdout.split() or ["unknown"])[-1]


def describe(spool):
    """The class of this machine, without names of hosts or paths."""
    model = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    flush = time_of_flush(spool)
    return (f"{os.cpu_count()} cores ({model}), {pages / 2**30:.0f} GiB, Linux {platform.release().split('-')[0]}, "
            f"spool on {filesystem(spool)}, one 4 KiB write + fdatasync {flush:.2f} ms")


def time_of_flush(folder):
    """Median milliseconds of a small write with its fdatasync."""
    path = pathlib.Path(folder) / "flush-probe"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    times = []
    for i in range(100):
        start = time.perf_counter()
        os.pwrite(fd, b"x" * 4096, i * 4096)
        os.fdatasync(fd)
        times.append((time.perf_counter() - start) * 1000)
    os.close(fd)
    path.unlink()
    return sorted(times)[len(times) // 2]
