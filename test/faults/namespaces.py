"""Two hosts in network namespaces with a cable between them: peers can vanish without a word, as real ones do. Needs root."""

import contextlib
import ctypes
import functools
import itertools
import os
import subprocess

CLONE_NEWNET = 0x40000000
OURS, PREFIX = "198.51.100.1", 24  # documentation addresses (RFC 5737), known nowhere but in these namespaces
numbers = itertools.count(1)


def command(*words, check=True):
    return subprocess.run([str(word) for word in words], check=check, capture_output=True, text=True).stdout


@functools.lru_cache(None)
def why_not():
    """A sentence when namespaces do not work here."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        with contextlib.closing(Hosts()):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces do not work here: {error}"


class Hosts:
    """The engine's host, with the address OURS, and the host of all peers, with as many as it is told to have."""

    def __init__(self):
        name = f"sluice-{os.getpid()}-{next(numbers)}"
        self.engine_side, self.peer_side = f"{name}-e", f"{name}-p"
        self.made = []
        try:
            for side in (self.engine_side, self.peer_side):
                command("ip", "netns", "add", side)
                self.made.append(side)
                command("ip", "-n", side, "link", "set", "lo", "up")
            command("ip", "-n", self.engine_side, "link", "add", "cable", "type", "veth", "peer", "name", "cable",
                    "netns", self.peer_side)
            for side in self.made:
                command("ip", "-n", side, "link", "set", "cable", "up")
            self.add_ours(OURS)
            link = command("ip", "-n", self.peer_side, "-o", "link", "show", "cable")
            self.peer_mac = link.split("link/ether ")[1].split()[0]
        except BaseException:
            self.close()
            raise

    def close(self):
        for side in self.made:
            command("ip", "netns", "delete", side, check=False)

    @contextlib.contextmanager
    def inside(self, side):
        """What this thread opens and starts meanwhile belongs to that host; so do threads that begin here."""
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(path):
            with open(path, encoding="ascii") as namespace:
                if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {path}")

        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            enter(f"/run/netns/{side}")
            yield
        finally:
            enter(f"/proc/self/fd/{home}")
            os.close(home)

    def at_engine(self):
        return self.inside(self.engine_side)

    def at_peers(self):
        return self.inside(self.peer_side)

    def add_ours(self, address):
        command("ip", "-n", self.engine_side, "address", "add", f"{address}/{PREFIX}", "dev", "cable")

    def remove_ours(self, address):
        command("ip", "-n", self.engine_side, "address", "delete", f"{address}/{PREFIX}", "dev", "cable")

    def add_peer(self, address):
        command("ip", "-n", self.peer_side, "address", "add", f"{address}/{PREFIX}", "dev", "cable")

    def vanish(self, address):
        """The host of that address is gone: what is sent there disappears, and nothing ever comes back. Without the fixed
        neighbour the kernel would tell after a few seconds that nobody has the address."""
        command("ip", "-n", self.engine_side, "neighbour", "replace", address, "lladdr", self.peer_mac, "dev", "cable",
                "nud", "permanent")
        command("ip", "-n", self.peer_side, "address", "delete", f"{address}/{PREFIX}", "dev", "cable", check=False)

    def return_of(self, address):
        self.add_peer(address)

    def set_uplink(self, state):
        """The whole cable, "up" or "down"."""
        command("ip", "-n", self.peer_side, "link", "set", "cable", state)

    def set_ports(self, first, last):
        """The ports that the engine's host gives to outgoing connections."""
        with self.at_engine(), open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as file:
            file.write(f"{first} {last}")

    def counter(self, side, group, name):
        """A number of /proc/net/snmp of one side, such as ("Tcp", "OutRsts")."""
        with self.inside(side), open("/proc/thread-self/net/snmp", encoding="ascii") as file:
            rows = [line.split() for line in file if line.startswith(f"{group}:")]
        return int(rows[1][rows[0].index(name)])
