"""What the attack suite adds to the world of the end-to-end tests: vectors from files, and every way into the engine."""

import concurrent.futures
import contextlib
import fcntl
import json
import os
import pathlib
import socket
import ssl
import struct
import sys
import termios

LONG = os.environ.get("SLUICE_LONG") == "1"  # attacks at the size that the conformance suite asks for, which takes minutes
FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "e2e"))

from clients import Raw  # noqa: E402, the path comes first
from peers import certificate_for  # noqa: E402
from world import EndToEnd, free_port, wait_for  # noqa: E402


def vectors(name):
    """The vectors of one section. A string stands for octets, one for each character up to U+00FF."""
    return json.loads((FOLDER / "vectors" / f"{name}.json").read_text())


def octets(text):
    return text.encode("latin-1")


def at_once(function, rows, workers=8):
    """function(*row) for every row, several at a time: they wait more than they work. The first error is raised."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return [future.result() for future in [pool.submit(function, *row) for row in rows]]


def long_or(full, short):
    """How many: as the conformance suite asks, or what every run of the tests has time for."""
    return full if LONG else short


def wait_until_read(link):
    """Returns when everything sent has reached the other side, so that what follows comes in a segment of its own."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    unsent = struct.pack("i", 0)
    wait_for(lambda: struct.unpack("i", fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, unsent))[0] == 0, "the segment to arrive")


class Attack(EndToEnd):
    """An engine with every way in: SMTP in clear, STARTTLS, implicit TLS, the API, the command line."""

    def setUp(self):
        super().setUp()
        self.engine = self.world.engine()
        self.secure_port = free_port()
        cert, key = certificate_for(self.world, "mx.sluice.test")
        self.engine.files["plugins"] += "tls\n"
        self.engine.set("tls.ini", cert=cert, key=key)
        self.engine.set(
            "smtp.ini", listen=f"127.0.0.1:{self.engine.port},127.0.0.1:{self.secure_port}", smtps_port=self.secure_port)

    def client(self, channel="clear", **options):
        """A client that has said EHLO: in clear, after STARTTLS, or on the port that begins with TLS."""
        if channel == "implicit":
            client = Raw(self.secure_port, **{**options, "greet": None})
            client.link = ssl._create_unverified_context().wrap_socket(client.link)
            client.reply()
            client.ask("EHLO client.test")
            return client
        client = Raw(self.engine.port, **options)
        if channel == "starttls":
            client.starttls()
            client.ask("EHLO client.test")
        return client

    def queued(self):
        return self.engine.api("GET", "/v1/status")[1]["queue"]["items"]

    # ---- the ways in: each takes content and the recipient, and says whether the message was accepted --------------------

    def by_data(self, channel, content, to, behind=b""):
        """Codes of all replies after 354. `content` ends as it likes; QUIT follows it at once."""
        with self.client(channel) as client:
            client.send(f"MAIL FROM:<a@src.test> BODY=8BITMIME\r\nRCPT TO:<{to}>\r\nDATA\r\n")
            codes = [code for code, _ in client.replies(3)]
            assert codes == [250, 250, 354], codes
            with contextlib.suppress(OSError):  # a session that refuses may close while we speak
                client.send(content + behind + b"QUIT\r\n")
            return client.rest()

    def by_chunks(self, channel, content, to, size=None):
        with self.client(channel) as client:
            client.send(f"MAIL FROM:<a@src.test> BODY=8BITMIME\r\nRCPT TO:<{to}>\r\n")
            client.replies(2)
            pieces = [content[at:at + size] for at in range(0, len(content), size)] if size else [content]
            wire = b"".join(b"BDAT %d%s\r\n" % (len(one), b" LAST" if at + 1 == len(pieces) else b"") + one
                            for at, one in enumerate(pieces))
            with contextlib.suppress(OSError):
                client.send(wire + b"QUIT\r\n")
            return client.rest()

    def by_json(self, content, to):
        body = {"from": "a@src.test", "to": [to], "message": content.decode("utf-8", "replace")}
        return self.engine.api("POST", "/v1/messages", body)

    def by_http(self, content, to):
        return self.engine.api("POST", f"/v1/messages?from=a@src.test&to={to}", content, "message/rfc822")

    def by_cli(self, content, to):
        file = self.world.directory / f"{to}.eml"
        file.write_bytes(content)
        return self.engine.cli("inject", "-f", "a@src.test", "-t", to, file, check=False).returncode
