"""What the rows of several modules share: messages by the API, peers of test/e2e that expect a test case, and what was recorded."""

import collections
import contextlib
import ctypes
import os
import socket
import struct
import threading

from world import PATIENCE, wait_for


class Bench:
    """Stands for the test case that peers of test/e2e belong to."""

    def __init__(self, run):
        self.run = run

    def addCleanup(self, action, *arguments):
        self.run.defer(action, *arguments)


def message(subject="test", body="hello\r\n", sender="a@src.test", to="b@dst.test"):
    return f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\r\n{body}"


def inject(engine, to, content=None, sender="a@src.test"):
    """Queues a message by the API, which needs no network; returns its id."""
    recipients = [to] if isinstance(to, str) else list(to)
    status, answer = engine.api(
        "POST", "/v1/messages", {"from": sender, "to": recipients, "message": content or message(to=recipients[0])})
    assert status == 202, (status, answer)
    return answer["id"]


def queued(engine):
    return engine.api("GET", "/v1/status")[1]["queue"]


def recipients_of(engine, kind, **members):
    """How often each recipient is in events of this kind."""
    return collections.Counter(to for event in engine.events(kind, **members) for to in event["recipients"])


def wait_delivered(engine, recipients, patience=PATIENCE):
    """Every one of them was delivered; says which was not."""
    wanted = set(recipients)
    try:
        wait_for(lambda: wanted <= set(recipients_of(engine, "delivered")), "deliveries", patience)
    except AssertionError:
        missing = wanted - set(recipients_of(engine, "delivered"))
        raise AssertionError(f"after {patience} s {len(missing)} of {len(wanted)} are not delivered: {sorted(missing)[:5]}; "
                             f"queue {queued(engine)}; {engine.events()[-3:]}") from None


def expect_no_failure(run, engine, but=()):
    """Nobody's mail was given up, nobody was told so."""
    for kind in ("bounced", "expired", "removed"):
        found = [event for event in engine.events(kind) if event.get("domain") not in but]
        run.expect(not found, f"{len(found)} x {kind}: {found[:2]}")


def cpu_seconds(pid):
    """Processor time that a process has used so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Proxy:
    """Passes TCP connections on to a server; `fate(connection_number)` may give each a number of octets from the server after
    which it is reset."""

    def __init__(self, run, server, fate):
        self.server, self.fate = server, fate
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.count, self.resets, self.lock, self.closed = 0, 0, threading.Lock(), False
        run.defer(self.close)
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    def close(self):
        self.closed = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        while not self.closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.count += 1
                octets = self.fate(self.count)
            threading.Thread(target=self.carry, args=(client, octets), daemon=True).start()

    def carry(self, client, octets):
        try:
            server = socket.create_connection(self.server, timeout=PATIENCE)
        except OSError:
            client.close()
            return
        threading.Thread(target=self.pump, args=(client, server), daemon=True).start()
        passed = 0
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if octets is not None and passed + len(data) > octets:
                    client.sendall(data[: octets - passed])
                    self.reset(client)
                    break
                passed += len(data)
                client.sendall(data)
        for link in (client, server):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def pump(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def reset(self, link):
        """Taking the peer away from a connected socket sends RST at once, also while another thread reads from it."""
        with self.lock:
            self.resets += 1
        nobody = struct.pack("=H14x", socket.AF_UNSPEC)
        ctypes.CDLL(None).connect(link.fileno(), nobody, len(nobody))
