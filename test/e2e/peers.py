"""Real neighbours for the engine: Postfix, Dovecot, knot, aiosmtpd, and a server that follows a script line by line."""

import contextlib
import email
import email.policy
import ipaddress
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import warnings

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, SMTP

import wire
from world import PATIENCE, free_port, port_answers, wait_for

POSTFIX_DAEMONS = "/usr/lib/postfix/sbin"
NOBODY = 65534


def program(name):
    """Path of an installed program; the test fails when its package is missing."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")
    if not found:
        raise AssertionError(f"{name} is not installed; see packages.txt")
    return found


def parse(content):
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    return email.message_from_bytes(content, policy=email.policy.default)


def certificate_for(world, *names):
    """A self-signed certificate with these names and addresses as its only subjects: (certificate, key)."""
    stem = names[0].replace(":", "_")
    key, cert = world.directory / f"{stem}.key.pem", world.directory / f"{stem}.cert.pem"
    if not cert.exists():
        alternatives = ",".join(f"IP:{n}" if is_address(n) else f"DNS:{n}" for n in names)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/O=test", "-addext", f"subjectAltName={alternatives}", "-keyout", key, "-out", cert],
            check=True, capture_output=True)
    return cert, key


def is_address(text):
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(text)
        return True
    return False


def server_tls(cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def shared_port(addresses):
    """A port that is free on every one of these addresses."""
    while True:
        port = free_port(addresses[0])
        with contextlib.ExitStack() as held:
            try:
                for address in addresses:
                    family = socket.AF_INET6 if ":" in address else socket.AF_INET
                    probe = held.enter_context(socket.socket(family))
                    probe.bind((address, port))
            except OSError:
                continue
        return port


class SmtpSink:
    """smtp-sink of Postfix on a free port; its messages are files."""

    def __init__(self, world, *arguments):
        self.port = free_port()
        self.directory = world.directory / f"smtp-sink.{self.port}"
        self.directory.mkdir(mode=0o777)
        os.chmod(world.directory, 0o755)
        os.chmod(self.directory, 0o777)
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.process = world.spawn(
            [program("smtp-sink"), *user, *arguments, "-d", f"{self.directory}/m.", f"127.0.0.1:{self.port}", "200"],
            world.directory / f"smtp-sink.{self.port}.log")
        wait_for(lambda: port_answers(self.port), "smtp-sink to listen")
        self.endpoint = world.tap(self.port)

    def messages(self):
        """What came, complete or not: smtp-sink writes its own X- lines first, then the content."""
        return [path.read_text(errors="replace") for path in sorted(self.directory.iterdir())]

    def wait(self, count, marker):
        """`marker` ends every body, so a file that holds it is complete."""
        return wait_for(
            lambda: self.messages() if sum(marker in one for one in self.messages()) >= count else None,
            f"{count} messages in smtp-sink")


class Postfix:
    """A whole Postfix with configuration and queue of its own; delivers to maildirs of virtual users."""

    def __init__(self, world, users, cert=None, key=None, extra=()):
        os.chmod(world.directory, 0o755)
        self.directory = world.directory / "postfix"
        self.port = free_port()
        for name in ("conf", "queue", "data", "mail"):
            (self.directory / name).mkdir(parents=True)
        os.chown(self.directory / "mail", NOBODY, NOBODY)
        shutil.chown(self.directory / "data", "postfix")
        domains = " ".join(sorted({user.split("@")[1] for user in users}))
        boxes = ",".join(f"{user}={user}/" for user in users)
        settings = [
            "compatibility_level = 3.6", f"queue_directory = {self.directory}/queue",
            f"data_directory = {self.directory}/data", "command_directory = /usr/sbin",
            f"daemon_directory = {POSTFIX_DAEMONS}", "mail_owner = postfix", "setgid_group = postdrop",
            "inet_interfaces = 127.0.0.1", "inet_protocols = ipv4", "myhostname = peer.test", "mydestination =",
            f"virtual_mailbox_domains = {domains}", f"virtual_mailbox_base = {self.directory}/mail",
            f"virtual_mailbox_maps = inline:{{{boxes}}}", f"virtual_uid_maps = static:{NOBODY}",
            f"virtual_gid_maps = static:{NOBODY}", "virtual_minimum_uid = 1", "alias_maps =", "alias_database =",
            f"maillog_file = {self.directory}/maillog", "maillog_file_prefixes = /tmp, /var, " + str(world.directory),
            "smtpd_relay_restrictions = reject_unauth_destination", *extra]
        if cert:
            settings += ["smtpd_tls_security_level = may", f"smtpd_tls_cert_file = {cert}", f"smtpd_tls_key_file = {key}",
                         "smtpd_tls_received_header = yes"]
        services = [
            f"127.0.0.1:{self.port} inet n - n - - smtpd", "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr",
            "rewrite unix - - n - - trivial-rewrite", "bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce", "verify unix - - n - 1 verify", "virtual unix - n n - - virtual",
            "error unix - - n - - error", "retry unix - - n - - error", "proxymap unix - - n - - proxymap",
            "anvil unix - - n - 1 anvil", "tlsmgr unix - - n 1000? 1 tlsmgr", "postlog unix-dgram n - n - 1 postlogd"]
        conf = self.directory / "conf"
        (conf / "main.cf").write_text("\n".join(settings) + "\n")
        (conf / "master.cf").write_text("\n".join(services) + "\n")
        self.make_queue()
        self.process = world.spawn([f"{POSTFIX_DAEMONS}/master", "-c", conf, "-s"], self.directory / "master.log")
        wait_for(lambda: port_answers(self.port), "Postfix to listen")
        self.endpoint = world.tap(self.port)

    def make_queue(self):
        """What `postfix check` would create, which takes two seconds for it."""
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "private",
                     "public", "saved", "trace"):
            folder = self.directory / "queue" / name
            folder.mkdir(mode=0o700)
            shutil.chown(folder, "postfix", "postdrop" if name in ("maildrop", "public") else None)
        (self.directory / "queue" / "maildrop").chmod(0o730)
        (self.directory / "queue" / "public").chmod(0o710)
        (self.directory / "queue" / "pid").mkdir(mode=0o755)

    def mailbox(self, user):
        folder = self.directory / "mail" / user / "new"
        return [parse(path.read_bytes()) for path in sorted(folder.iterdir())] if folder.exists() else []

    def log(self):
        file = self.directory / "maillog"
        return file.read_text() if file.exists() else ""


class Dovecot:
    """Dovecot's LMTP server on a TCP port and a Unix socket; its users have maildirs."""

    def __init__(self, world, users, password="", mechanisms="plain"):
        os.chmod(world.directory, 0o755)
        self.directory = world.directory / "dovecot"
        for name in ("run", "mail"):
            (self.directory / name).mkdir(parents=True)
        os.chown(self.directory / "mail", NOBODY, NOBODY)
        self.port, self.socket = free_port(), self.directory / "lmtp.sock"
        self.login_socket = self.directory / "login.sock"  # where Postfix asks about passwords
        (self.directory / "users").write_text(
            "".join(f"{user}:{{PLAIN}}{password}::::{self.directory}/mail/{user}::\n" for user in users))
        (self.directory / "dovecot.conf").write_text(f"""
base_dir = {self.directory}/run
log_path = {self.directory}/dovecot.log
protocols = lmtp
listen = 127.0.0.1
ssl = no
first_valid_uid = 1
mail_location = maildir:{self.directory}/mail/%u
userdb {{
  driver = passwd-file
  args = {self.directory}/users
  default_fields = uid={NOBODY} gid={NOBODY}
}}
passdb {{
  driver = passwd-file
  args = {self.directory}/users
}}
auth_mechanisms = {mechanisms}
service anvil {{
  chroot =
}}
service auth {{
  unix_listener {self.login_socket} {{
    mode = 0666
  }}
}}
service lmtp {{
  user = root
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self.port}
  }}
  unix_listener {self.socket} {{
    mode = 0666
  }}
}}
""")
        self.process = world.spawn(
            [program("dovecot"), "-c", self.directory / "dovecot.conf", "-F"], self.directory / "main.log")
        wait_for(lambda: port_answers(self.port), "Dovecot to listen")

    def mailbox(self, user):
        folder = self.directory / "mail" / user / "new"
        return [parse(path.read_bytes()) for path in sorted(folder.iterdir())] if folder.exists() else []


def logins_by(dovecot):
    """Settings that make Postfix ask this Dovecot who may log in."""
    return (
        "smtpd_sasl_auth_enable = yes", "smtpd_sasl_type = dovecot", f"smtpd_sasl_path = {dovecot.login_socket}",
        "smtpd_sasl_security_options = noanonymous", "smtpd_client_restrictions = permit_sasl_authenticated, reject")


class Knot:
    """An authoritative name server. `zones` maps a zone to its records; None is a zone that fails to load (SERVFAIL)."""

    def __init__(self, world, zones):
        self.directory = world.directory / "knot"
        self.directory.mkdir()
        self.port = free_port()
        lines = [
            "server:", f"  listen: 127.0.0.1@{self.port}", f"  rundir: {self.directory}", "  udp-workers: 1",
            "  tcp-workers: 1", "  background-workers: 1", "log:", "  - target: stdout", "    any: info", "database:",
            f"  storage: {self.directory}", "zone:"]
        self.serial = 1
        for zone, records in zones.items():
            lines += [f"  - domain: {zone}", f"    storage: {self.directory}", f"    file: {zone}.zone"]
            if records is not None:
                self.write(zone, records)
        (self.directory / "knot.conf").write_text("\n".join(lines) + "\n")
        self.process = world.spawn(
            [program("knotd"), "-c", self.directory / "knot.conf"], world.directory / "knot.log")
        loaded = sum(records is not None for records in zones.values())
        wait_for(lambda: self.process.output().count("loaded, serial") >= loaded, "knot to load its zones")

    def write(self, zone, records):
        head = f"$ORIGIN {zone}.\n$TTL 300\n@ SOA ns hostmaster {self.serial} 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n"
        (self.directory / f"{zone}.zone").write_text(head + records.strip() + "\n")

    def change(self, zone, records):
        """The zone has these records from now on."""
        self.serial += 1
        self.write(zone, records)
        self.process.child.send_signal(signal.SIGHUP)
        wait_for(lambda: f"-> {self.serial}," in self.process.output() or f"serial {self.serial}," in self.process.output()
                 or f"-> {self.serial}" in self.process.output(), "knot to load the zone again")

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"


class Redis:
    """A server of Redis that keeps nothing."""

    def __init__(self, world):
        self.port = free_port()
        world.spawn(
            [program("redis-server"), "--bind", "127.0.0.1", "--port", self.port, "--save", "", "--dir", world.directory],
            world.directory / "redis.log")
        wait_for(lambda: port_answers(self.port), "Redis to listen")

    @property
    def settings(self):
        """As Haraka's plugins want to be told of it."""
        return {"host": "127.0.0.1", "port": self.port, "database": 0}

    def ask(self, *words):
        """The answer to a command as text; empty when there is nothing."""
        done = subprocess.run(
            [program("redis-cli"), "-p", str(self.port), *map(str, words)], capture_output=True, text=True, check=True,
            timeout=PATIENCE)
        return done.stdout.strip()


class Mailbox:
    """Keeps what an aiosmtpd server takes, as aiosmtpd's handlers do."""

    def __init__(self):
        self.envelopes = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802, the name that aiosmtpd looks for
        envelope.tls = session.ssl is not None
        envelope.login = session.auth_data
        envelope.peer = session.peer
        self.envelopes.append(envelope)
        return "250 2.0.0 taken"


class Aiosmtpd:
    """A server of aiosmtpd in a thread of its own."""

    def __init__(self, test, tls=None, login=None, host="127.0.0.1", **options):
        self.mailbox = Mailbox()
        self.port = free_port()

        def authenticate(server, session, envelope, mechanism, data):
            if mechanism not in ("PLAIN", "LOGIN"):
                return AuthResult(success=False, handled=False)
            given = (data.login.decode(), data.password.decode())
            return AuthResult(success=given == login, handled=False, auth_data=given[0])

        if login:
            options.update(authenticator=authenticate, auth_required=True, auth_require_tls=tls is not None)

        class Server(Controller):
            def factory(self):
                warnings.simplefilter("ignore")  # it warns of AUTH without TLS, which is what some tests are about
                return SMTP(self.handler, hostname="aio.test", ident="aiosmtpd", tls_context=tls, **options)

        self.controller = Server(self.mailbox, hostname=host, port=self.port)
        self.controller.start()
        test.addCleanup(self.controller.stop)
        self.endpoint = test.world.tap(self.port)

    def wait(self, count=1):
        return wait_for(
            lambda: self.mailbox.envelopes if len(self.mailbox.envelopes) >= count else None, f"{count} messages in aiosmtpd")


class Scripted:
    """A server that answers as it is told and remembers every line.

    `script` maps a verb, `greeting` or `dot`, or "VERB argument-part", to a reply, a list of replies used in turn (the last
    one stays), a function of the line, or None: close without an answer. With lmtp the line of `dot` is that of the recipient.
    One that `hangs_up` closes after a 421.
    """

    def __init__(self, test, script=None, ehlo=("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"), tls=None, lmtp=False,
                 address="127.0.0.1", port=None, unix=None, hangs_up=False):
        self.script, self.hangs_up = dict(script or {}), hangs_up
        self.ehlo, self.tls, self.lmtp = ehlo, tls, lmtp
        self.sessions = []  # one list of lines for each connection
        self.longest_line = 998  # of content
        self.open_links = self.busiest = 0  # most connections at once
        self.resumed = []  # for each handshake, whether it continued an earlier session
        self.streams = []  # for each connection what was heard and said, in clear and then inside TLS
        self.messages = []  # (sender line, recipient lines, content) of each message that was complete
        self.address, self.lock, self.closed = address, threading.Lock(), False
        if unix:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(unix))
        else:
            self.listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((address, port or 0))
            self.port = self.listener.getsockname()[1]
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()
        test.addCleanup(self.close)

    @property
    def endpoint(self):
        return f"{self.address}:{self.port}"

    def close(self):
        self.closed = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        if found := self.violations():
            raise AssertionError(f"on the wire: {found[:5]}")

    def violations(self):
        """What came that no client may send: see wire.py."""
        return [one for streams in list(self.streams) for number, (heard, said) in enumerate(streams)
                for one in wire.violations(bytes(heard), bytes(said), greeted=number == 0, longest=self.longest_line)]

    def accept(self):
        while not self.closed:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            link.settimeout(PATIENCE * 2)
            threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def reply(self, verb, line="", ordinary="250 2.0.0 ok"):
        with self.lock:
            for key, value in self.script.items():
                word, _, part = key.partition(" ")
                if word != verb or part.lower() not in line.lower():
                    continue
                if isinstance(value, list):
                    value = value.pop(0) if len(value) > 1 else value[0]
                break
            else:
                return ordinary
        return value(line) if callable(value) else value  # a function may take its time: others go on

    def serve(self, link):
        lines, streams = [], [(bytearray(), bytearray())]
        with self.lock:
            self.sessions.append(lines)
            self.streams.append(streams)
            self.open_links += 1
            self.busiest = max(self.busiest, self.open_links)
        with contextlib.ExitStack() as links:  # the socket, and the TLS one that may take its place
            links.callback(link.close)
            with contextlib.suppress(OSError, ssl.SSLError, Closed):
                self.converse(link, lines, links, streams)
            with self.lock:
                self.open_links -= 1

    def converse(self, link, lines, links, streams):
        reader = link.makefile("rb")

        def say(text):
            if text is None:
                raise Closed
            octets = text.encode("latin-1") + b"\r\n" if text else b""
            streams[-1][1].extend(octets)
            link.sendall(octets)
            if self.hangs_up and text.startswith("421"):
                raise Closed

        sender, recipients, chunks = "", [], b""
        say(self.reply("greeting", ordinary="220 scripted.test ESMTP"))
        while line := reader.readline():
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            streams[-1][0].extend(line)
            lines.append(text)
            verb = text.split(" ")[0].upper()
            if verb in ("EHLO", "LHLO"):
                words = ["scripted.test", *self.ehlo, *(["STARTTLS"] if self.tls and not isinstance(link, ssl.SSLSocket) else [])]
                say(self.reply(verb, text, "\r\n".join(
                    f"250{'-' if i + 1 < len(words) else ' '}{word}" for i, word in enumerate(words))))
            elif verb == "STARTTLS":
                answer = self.reply(verb, text, "220 2.0.0 go ahead")
                say(answer)
                if answer.startswith("220"):
                    link = self.tls.wrap_socket(link, server_side=True)
                    links.callback(link.close)
                    self.resumed.append(link.session_reused)
                    reader = link.makefile("rb")
                    streams.append((bytearray(), bytearray()))
            elif verb == "AUTH":
                say(self.reply(verb, text, "235 2.7.0 welcome"))
            elif verb == "DATA":
                answer = self.reply(verb, text, "354 go ahead" if recipients else "503 5.5.1 no recipients")
                say(answer)
                if answer.startswith("354"):
                    self.take(reader, say, sender, recipients, streams[-1][0])
                    sender, recipients = "", []
            elif verb == "BDAT":
                say(self.reply(verb, text, ""))  # a script may close or refuse before the octets are read
                size, last = int(text.split()[1]), text.upper().endswith(" LAST")
                self.reply("body", ordinary="")
                chunk = reader.read(size)
                streams[-1][0].extend(chunk)
                if len(chunk) < size:
                    raise Closed
                chunks += chunk
                if not last:
                    say(self.reply("chunk", text, "250 2.0.0 go on"))
                    continue
                self.messages.append((sender, list(recipients), chunks))
                sender, recipients, chunks = "", [], b""
                say(self.reply("dot", "", "250 2.0.0 taken"))
            elif verb == "RCPT":
                answer = self.reply(verb, text, "250 2.1.5 ok")
                recipients += [text] if answer and answer.startswith("25") else []
                say(answer)
            elif verb == "QUIT":
                say(self.reply(verb, text, "221 2.0.0 bye"))
                return
            else:
                answer = self.reply(verb, text)
                sender = text if verb == "MAIL" else sender
                recipients = [] if verb in ("MAIL", "RSET") else recipients
                say(answer)

    def take(self, reader, say, sender, recipients, heard):
        self.reply("body", ordinary="")  # a script may stop reading here
        content = b""
        while (line := reader.readline()) != b".\r\n":
            if not line:
                raise Closed
            heard.extend(line)
            content += line[1:] if line.startswith(b".") else line
        heard.extend(line)
        self.messages.append((sender, list(recipients), content))
        for recipient in recipients if self.lmtp else [""]:
            say(self.reply("dot", recipient, "250 2.0.0 taken"))

    def commands(self, verb):
        """Every line that begins with the verb, in the order of connections."""
        return [line for session in list(self.sessions) for line in list(session) if line.upper().startswith(verb)]

    def wait(self, count=1):
        return wait_for(
            lambda: self.messages if len(self.messages) >= count else None, f"{count} messages in the scripted server")


class Closed(Exception):
    """The script says: close now."""


class Reports:
    """Where bounces arrive: a sink whose messages are read as delivery status notifications."""

    def __init__(self, world):
        self.directory = world.directory / f"reports{world.sinks}"
        self.directory.mkdir()
        self.sink = world.sink("--dir", self.directory)

    @property
    def endpoint(self):
        return self.sink.endpoint

    def all(self):
        files = sorted(self.directory.glob("*.eml"), key=lambda path: int(path.stem))
        # The ledger's line is written after the file, so as many files as lines are complete.
        return [Report(path.read_bytes(), line) for path, line in zip(files, self.sink.ledger())]

    def wait(self, count=1):
        return wait_for(lambda: self.all() if len(self.all()) >= count else None, f"{count} notifications")


class Report:
    """One notification, taken apart by Python's own parser (RFC 3462, RFC 3464)."""

    def __init__(self, content, ledger):
        self.raw, self.envelope = content, ledger
        self.message = parse(content)
        self.parts = list(self.message.iter_parts())
        blocks = list(self.parts[1].iter_parts()) if len(self.parts) > 1 else []
        self.fields = blocks[0] if blocks else None
        self.recipients = {block["Final-Recipient"].split(";")[1].strip(): block for block in blocks[1:]}

    @property
    def text(self):
        part = self.parts[0]
        return part.get_content() if part.get_content_type() == "text/plain" else part.get_body(("plain",)).get_content()
