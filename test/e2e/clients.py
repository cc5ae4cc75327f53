"""Clients of the engine: swaks, Postfix's smtp-source, and a bare socket for what no decent client would send."""

import contextlib
import smtplib
import socket
import ssl
import subprocess

from peers import program
from world import PATIENCE


def swaks(*arguments, check=True):
    """Runs swaks; returns its exit code and what it printed."""
    done = subprocess.run(
        [program("swaks"), "--timeout", str(int(PATIENCE)), *map(str, arguments)], capture_output=True, text=True,
        timeout=PATIENCE * 2)
    text = done.stdout + done.stderr
    if check and done.returncode != 0:
        raise AssertionError(f"swaks {arguments} -> {done.returncode}\n{text}")
    return done.returncode, text


def smtp_source(*arguments):
    done = subprocess.run(
        [program("smtp-source"), *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE * 2)
    if done.returncode != 0:
        raise AssertionError(f"smtp-source {arguments} -> {done.returncode}\n{done.stdout}{done.stderr}")


class Raw:
    """Octets out, replies in."""

    def __init__(self, port, address="127.0.0.1", source=None, greet="client.test"):
        self.link = socket.create_connection((address, port), timeout=PATIENCE, source_address=source and (source, 0))
        self.left = b""
        if greet:
            assert self.reply()[0] == 220
            assert self.ask(f"EHLO {greet}")[0] == 250

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.link.close()

    def starttls(self):
        assert self.ask("STARTTLS")[0] == 220
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.link = context.wrap_socket(self.link)

    def send(self, octets):
        self.link.sendall(octets.encode() if isinstance(octets, str) else octets)

    def line(self):
        """The next line without its CR LF; empty when the link has ended."""
        while b"\n" not in self.left:
            try:
                more = self.link.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                rest, self.left = self.left, b""
                return rest.decode("latin-1")
            self.left += more
        line, _, self.left = self.left.partition(b"\n")
        return line.decode("latin-1").rstrip("\r")

    def reply(self):
        """Code and text of one reply; (0, "") when the link has ended."""
        lines = []
        while True:
            line = self.line()
            if not line:
                return 0, ""
            lines.append(line[4:])
            if line[3:4] != "-":
                return int(line[:3]), "\n".join(lines)

    def ask(self, line):
        self.send(line.encode() + b"\r\n" if isinstance(line, str) else line + b"\r\n")
        return self.reply()

    def replies(self, count):
        return [self.reply() for _ in range(count)]

    def rest(self):
        """Codes of all replies until the link ends."""
        codes = []
        while (code := self.reply()[0]) != 0:
            codes.append(code)
        return codes


def submit(engine, recipients, content, sender="a@src.test", mail_options=(), rcpt_options=None):
    """One transaction; `rcpt_options` maps a recipient to its parameters. Every recipient must be accepted."""
    if isinstance(content, str):
        content = content.encode()
    with smtplib.SMTP("127.0.0.1", engine.port, local_hostname="client.test", timeout=PATIENCE) as client:
        client.ehlo()
        client.command_encoding = "utf-8"
        code, text = client.mail(sender, list(mail_options))
        assert code == 250, (code, text)
        for recipient in [recipients] if isinstance(recipients, str) else recipients:
            code, text = client.rcpt(recipient, list((rcpt_options or {}).get(recipient, ())))
            assert code == 250, (recipient, code, text)
        code, text = client.data(content)
        assert code == 250, (code, text)
