"""Judges what a client sent to a server by what the server had offered: the same rules as src/peer/wire_check.h, for the peers
that are not ours. Works on the two recorded streams, so it needs nothing from the server itself."""

import contextlib
import re
import socket
import threading

KEYWORD_OF_VERB = {"STARTTLS": "STARTTLS", "AUTH": "AUTH", "BDAT": "CHUNKING"}
VERBS = {"EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "HELP", "EXPN", *KEYWORD_OF_VERB}
# Parameter: (keyword that offers it, by how much it lengthens the line).
PARAMETERS = {
    "MAIL": {"SIZE": ("SIZE", 26), "BODY": ("8BITMIME", 17), "SMTPUTF8": ("SMTPUTF8", 10), "AUTH": ("AUTH", 500),
             "RET": ("DSN", 9), "ENVID": ("DSN", 108), "REQUIRETLS": ("REQUIRETLS", 11)},
    "RCPT": {"NOTIFY": ("DSN", 29), "ORCPT": ("DSN", 507)}}
COMMAND_MAX, RESPONSE_MAX, TEXT_MAX = 512, 12_288, 998
PATH = re.compile(rb'^(?:MAIL FROM|RCPT TO):(<(?:"(?:\\.|[^"\\])*"|[^">])*>)((?: [^ ]+)*)$', re.I | re.S)


def replies_in(said):
    """The replies of a server: (code, lines). Ends at the first thing that is none."""
    lines = []
    for line in said.split(b"\r\n"):
        if not re.match(rb"^[2-5]\d\d(?:[ -]|$)", line):
            return
        lines.append(line[4:].decode("latin-1"))
        if line[3:4] != b"-":
            yield int(line[:3]), lines
            lines = []


def content_violations(content, stuffed, longest=TEXT_MAX):
    """Of whole lines of content: what is wrong with it."""
    found = []
    if re.search(rb"(?<!\r)\n|\r(?!\n)", content):
        found.append("bare CR or bare LF in content")
    if b"\0" in content:
        found.append("NUL in content")
    for line in content.split(b"\r\n"):
        if stuffed and line.startswith(b".") and not line.startswith(b".."):
            found.append(f"a line whose leading dot is not doubled: {line[:60]!r}")
        if len(line) - (stuffed and line.startswith(b".")) > longest:
            found.append(f"a line of {len(line)} octets")
    return found


class Judgement:
    """One connection, or the part of it before or after the TLS handshake."""

    def __init__(self, heard, said, greeted=True, longest=TEXT_MAX):
        self.heard, self.at, self.longest = heard, 0, longest
        self.replies = replies_in(said)
        if greeted:
            next(self.replies, None)
        self.offered, self.lmtp = None, False
        self.recipients, self.utf8, self.binary, self.chunks = 0, False, False, b""
        self.found = []
        while self.at < len(heard) and self.command():
            pass

    def next_line(self):
        end = self.heard.find(b"\n", self.at)
        if end < 0:
            return None
        line, self.at = self.heard[self.at:end + 1], end + 1
        if not line.endswith(b"\r\n") or re.search(rb"[\r\n\0]", line[:-2]):
            self.found.append(f"a line with other than CR LF: {line[:80]!r}")
        return line

    def command(self):
        """Judges the next command; False when nothing more can be said."""
        line = self.next_line()
        if line is None:
            return False
        verb = line.split(None, 1)[0].decode("latin-1").upper() if line.strip() else ""
        code, lines = next(self.replies, (0, []))
        if len(line) > self.line_max(verb):
            self.found.append(f"a command line of {len(line)} octets")
        if verb not in VERBS:
            self.found.append(f"no command: {line[:80]!r}")
        elif verb in KEYWORD_OF_VERB and not self.offers(KEYWORD_OF_VERB[verb]):
            self.found.append(f"a command that was not offered: {line[:80]!r}")
        if verb in ("EHLO", "LHLO", "HELO"):
            self.lmtp = verb == "LHLO"
            if code == 250:
                self.offered = [] if verb == "HELO" else [one.upper() for one in lines[1:]]
        elif verb == "MAIL":
            self.recipients, self.utf8, self.binary, self.chunks = 0, False, False, b""
            if self.offered is None:
                self.found.append("MAIL before EHLO")
            self.path(verb, line)
        elif verb == "RCPT":
            self.path(verb, line)
            self.recipients += code in (250, 251, 252)
        elif verb == "DATA":
            return self.data() if code == 354 else code != 0
        elif verb == "BDAT":
            return self.chunk(line)
        elif verb == "AUTH":
            while code == 334:
                if self.next_line() is None:
                    return False
                code, _ = next(self.replies, (0, []))
        elif verb == "STARTTLS" and code == 220 or verb == "QUIT":
            if self.at < len(self.heard) and verb == "QUIT":
                self.found.append(f"octets behind QUIT: {self.heard[self.at:self.at + 40]!r}")
            return False
        return True

    def offers(self, keyword):
        return any(one.split(" ")[0] == keyword for one in self.offered or [])

    def line_max(self, verb):
        if verb == "AUTH":
            return RESPONSE_MAX
        return COMMAND_MAX + sum(longer for keyword, longer in PARAMETERS.get(verb, {}).values() if self.offers(keyword))

    def path(self, verb, line):
        match = PATH.match(line.rstrip(b"\r\n"))
        if not match:
            self.found.append(f"no path in angle brackets: {line[:80]!r}")
            return
        for parameter in match.group(2).decode("latin-1").upper().split():
            name, _, value = parameter.partition("=")
            if not self.offers(PARAMETERS[verb].get(name, ("?", 0))[0]):
                self.found.append(f"a parameter that was not offered: {parameter}")
            self.utf8 = self.utf8 or name == "SMTPUTF8"
            self.binary = self.binary or value == "BINARYMIME"
        if not self.utf8 and any(octet > 127 for octet in match.group(1)):
            self.found.append(f"an address beyond ASCII without SMTPUTF8: {line[:80]!r}")

    def data(self):
        end = (b"\r\n" + self.heard[self.at:]).find(b"\r\n.\r\n")  # the first line may be the last
        if end < 0:  # cut off: whole lines can be judged
            self.found += content_violations(self.heard[self.at:self.heard.rfind(b"\r\n") + 2], True, self.longest)
            return False
        self.found += content_violations(self.heard[self.at:self.at + end], True, self.longest)
        self.at += end + 3
        for _ in range(self.recipients if self.lmtp else 1):
            next(self.replies, None)
        return True

    def chunk(self, line):
        words = line.split()
        if len(words) not in (2, 3) or not words[1].isdigit() or words[2:] not in ([], [b"LAST"]):
            self.found.append(f"BDAT without a size: {line[:60]!r}")
            return False
        size = int(words[1])
        self.chunks += self.heard[self.at:self.at + size]
        self.at += size
        if len(words) == 3 and self.at <= len(self.heard):
            if not self.binary:
                self.found += content_violations(self.chunks, False, self.longest)
                if self.chunks and not self.chunks.endswith(b"\r\n"):
                    self.found.append("content whose last line has no CR LF")
            for _ in range(self.recipients - 1 if self.lmtp else 0):
                next(self.replies, None)
        return self.at <= len(self.heard)


def violations(heard, said, **options):
    return Judgement(heard, said, **options).found


class Tap:
    """Stands before a server, passes every octet on, and judges what was sent when the test ends."""

    def __init__(self, port, address="127.0.0.1"):
        self.server = (address, port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.streams = []  # of each connection what was heard and what was said
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client):
        heard, said = bytearray(), bytearray()
        self.streams.append((heard, said))
        with client, contextlib.suppress(OSError), socket.create_connection(self.server) as server:
            back = threading.Thread(target=self.carry, args=(server, client, said), daemon=True)
            back.start()
            self.carry(client, server, heard)
            back.join()

    @staticmethod
    def carry(source, target, record):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                record += piece  # before it goes on, so that an answer never stands before its command
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self):
        """Ends the tap; what it found."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        return [f"on the wire: {one}" for heard, said in list(self.streams) for one in violations(bytes(heard), bytes(said))]
