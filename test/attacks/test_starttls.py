"""Conformance 2.2: nothing said before a TLS handshake counts inside, on either side, and a bad peer costs only time."""

import base64
import contextlib
import functools
import os
import pathlib
import socket
import ssl
import subprocess
import threading
import time
import unittest

from attacks import Attack, vectors
from clients import Raw
from peers import certificate_for, server_tls
from unruly_tls import UnrulyTls
from world import PATIENCE

VECTORS = pathlib.Path(__file__).parent / "vectors"
TABLE = vectors("starttls")
FLOOD = 60_000  # KeyUpdates, six times what is borne
LOGIN = base64.b64encode(b"\0u@src.test\0secret").decode()


class ServerSide(Attack):
    def setUp(self):
        super().setUp()
        self.engine.set("outbound.ini", disabled="true")

    def end_clean(self, accepted=0):
        self.assertEqual(len(self.engine.events("accepted")), accepted)
        self.assertEqual(self.engine.stop(), 0)

    def handshake(self, client):
        context = ssl._create_unverified_context()
        client.link = context.wrap_socket(client.link)
        client.left = b""

    def test_TLS_I1_TLS_I2_what_came_in_clear_is_not_part_of_what_comes_inside(self):
        """Whole commands, and the beginning of one, in the segment of STARTTLS: refused, or forgotten."""
        self.engine.start()
        for said in TABLE["behind_starttls"]:
            with self.subTest(said), Raw(self.engine.port) as client:
                client.send("STARTTLS\r\n" + said)
                code, _ = client.reply()
                if code != 220:
                    self.assertGreaterEqual(code, 500)
                    self.assertEqual([one for one in client.rest() if one < 400], [])
                    continue
                try:
                    self.handshake(client)
                except (ssl.SSLError, OSError):
                    continue  # closed, which is as good
                # The first thing to be answered inside is what is said inside.
                self.assertEqual(client.ask("OM:<a@src.test>")[0] // 100, 5)
                self.assertEqual(client.ask("NOOP")[0], 250)
                self.assertEqual(client.ask("MAIL FROM:<a@src.test>")[0], 503)
        self.end_clean()

    def test_TL_1_everything_begins_anew_inside(self):
        self.engine.start()
        with Raw(self.engine.port) as client:
            client.starttls()
            self.assertEqual(client.ask("MAIL FROM:<a@src.test>")[0], 503)
            code, text = client.ask("EHLO client.test")
            self.assertEqual(code, 250)
            self.assertNotIn("STARTTLS", text)
            self.assertEqual(client.ask("STARTTLS")[0], 503)
        self.end_clean()

    def test_TLS_I3_a_session_before_the_handshake_is_forgotten(self):
        """Login, sender and recipients said in clear mean nothing inside."""
        self.engine.files["relay_acl_allow"] = "198.51.100.7/32\n"
        self.engine.files["plugins"] += "auth/flat_file\n"
        self.engine.set("auth_flat_file.ini", "core", methods="PLAIN")
        self.engine.set("auth_flat_file.ini", "users", **{"u@src.test": "secret"})
        self.engine.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(client.ask(f"AUTH PLAIN {LOGIN}")[0], 235)
            client.ask("MAIL FROM:<u@src.test>")
            self.assertEqual(client.ask("RCPT TO:<v@victim.test>")[0], 250)
            code, _ = client.ask("STARTTLS")
            if code == 220:
                self.handshake(client)
                self.assertEqual(client.ask("DATA")[0], 503)
                client.ask("EHLO client.test")
                client.ask("MAIL FROM:<u@src.test>")
                self.assertEqual(client.ask("RCPT TO:<v@victim.test>")[0] // 100, 5)
            else:
                self.assertEqual(code, 503)
        self.end_clean()

    def test_TLS_I8_neither_renegotiation_nor_compression_nor_early_data(self):
        self.engine.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(client.ask("STARTTLS")[0], 220)
            self.handshake(client)
            self.assertIsNone(client.link.compression())
        # R asks for a renegotiation, which TLS 1.2 still knows.
        talk = self.s_client("-tls1_2", "-legacy_renegotiation", said=b"R\nNOOP\n")
        self.assertIn(b"RENEGOTIATING", talk)
        self.assertIn(b"no renegotiation", talk.partition(b"RENEGOTIATING")[2])
        self.end_clean()

    def test_TLS_I8_early_data_is_never_taken(self):
        """Tickets promise none, and what is sent with a handshake all the same is no command."""
        self.engine.start()
        session, early = self.world.directory / "session.pem", self.world.directory / "early"
        early.write_bytes(b"EHLO early.test\r\nMAIL FROM:<early@src.test>\r\n")
        self.s_client("-tls1_3", "-sess_out", session, said=b"NOOP\r\n")
        if session.exists():
            told = subprocess.run(["openssl", "sess_id", "-in", session, "-noout", "-text"], capture_output=True, text=True, check=True).stdout
            self.assertIn("TLSv1.3", told)
            self.assertNotRegex(told, r"Max Early Data: [1-9]")
            said = self.s_client("-tls1_3", "-sess_in", session, "-early_data", early, said=b"NOOP\r\n")
            self.assertNotIn(b"Early data was accepted", said)
            self.assertNotIn(b"early.test", said)
        self.end_clean()

    def test_TLS_I10_a_client_that_only_changes_keys(self):
        """It is closed, and a client of the same thread is greeted at once meanwhile."""
        self.engine.set("smtp.ini", shards="1")
        self.engine.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(client.ask("STARTTLS")[0], 220)
            with UnrulyTls(client.link) as tls:
                flood = tls.key_updates(FLOOD)
                ended = threading.Event()

                def pour():
                    with contextlib.suppress(OSError):
                        client.link.sendall(flood)
                        while client.link.recv(65536):
                            pass
                    ended.set()

                threading.Thread(target=pour, daemon=True).start()
                longest = 0
                deadline = time.monotonic() + PATIENCE
                while not ended.is_set() and time.monotonic() < deadline:
                    began = time.monotonic()
                    Raw(self.engine.port).close()
                    longest = max(longest, time.monotonic() - began)
                self.assertTrue(ended.is_set(), "the client may go on for ever")
                self.assertLess(longest, 1)
        self.end_clean()

    def s_client(self, *options, said):
        """What OpenSSL's client shows of a session in which it says this after the banner."""
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.secure_port}", "-crlf", *options]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output = b""
        try:
            while b"\n220 " not in output and (piece := client.stdout.read1(65536)):
                output += piece
            output += client.communicate(said, PATIENCE)[0]
        finally:
            client.kill()
            client.wait()
        return output


class Server:
    """A neighbour that says what the test says, octet by octet, and writes down what it hears."""

    def __init__(self, test, converse):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.converse, self.heard, self.links = converse, [], []
        threading.Thread(target=self.accept, daemon=True).start()
        test.addCleanup(self.close)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for link in self.links:
            with contextlib.suppress(OSError):
                link.close()

    def accept(self):
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            self.links.append(link)
            threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def serve(self, link):
        with contextlib.suppress(OSError, ssl.SSLError, StopIteration):
            link.settimeout(PATIENCE)
            self.converse(self, link)
        with contextlib.suppress(OSError):
            link.close()

    def line(self, link):
        """One command; the end of the link ends the conversation."""
        text = b""
        while not text.endswith(b"\n"):
            octet = link.recv(1)
            if not octet:
                raise StopIteration
            text += octet
        self.heard.append(text)
        return text

    def take_all(self, link, ehlo=b"250 mx.test\r\n"):
        """Answers everything as a plain server does."""
        while True:
            verb = self.line(link)[:4].upper()
            link.sendall({b"EHLO": ehlo, b"HELO": b"250 mx.test\r\n", b"DATA": b"354 go\r\n", b"QUIT": b"221 bye\r\n"}.get(
                verb, b"250 ok\r\n"))
            if verb == b"DATA":
                while self.line(link) != b".\r\n":
                    pass
                link.sendall(b"250 taken\r\n")


class ClientSide(Attack):
    """The engine delivers to neighbours that cheat at STARTTLS."""

    def setUp(self):
        super().setUp()
        self.engine.set("outbound.ini", enable_tls="true", helo_timeout="3", greeting_timeout="3", temp_fail_intervals="1h*10")
        self.tls = server_tls(*certificate_for(self.world, "127.0.0.1"))

    def deliver_to(self, *conversations):
        """One server for each of them, at `d0.test`, `d1.test` and so on; a message goes to each."""
        servers = [Server(self, converse) for converse in conversations]
        for number, server in enumerate(servers):
            self.engine.route(f"d{number}.test", server.endpoint)
        self.engine.start()
        for number in range(len(servers)):
            status, answer = self.by_json(b"Subject: x\n\nhello\n", f"b@d{number}.test")
            self.assertEqual(status, 202, answer)
        return servers

    def force_tls(self):
        self.engine.set("tls.ini", "outbound", force_tls_hosts=",".join(f"d{number}.test" for number in range(10)))

    def greet(self, server, link, ehlo=b"250-mx.test\r\n250 STARTTLS\r\n"):
        link.sendall(b"220 mx.test\r\n")
        server.line(link)
        link.sendall(ehlo)
        return server.line(link)

    def test_TLS_I4_octets_behind_220_are_no_reply_inside(self):
        """In the segment of 220 they never become the reply to EHLO inside TLS."""
        inside = [[] for _ in TABLE["behind_220"]]

        def converse(number, server, link):
            if self.greet(server, link) != b"STARTTLS\r\n":
                return
            link.sendall(b"220 go\r\n" + TABLE["behind_220"][number].encode())
            with self.tls.wrap_socket(link, server_side=True) as secured:
                inside[number].append(server.line(secured))
                secured.sendall(b"250-mx.test\r\n250 8BITMIME\r\n")
                inside[number].append(server.line(secured))
                secured.sendall(b"421 later\r\n")

        servers = self.deliver_to(*(functools.partial(converse, number) for number in range(len(inside))))
        for number, server in enumerate(servers):
            with self.subTest(TABLE["behind_220"][number]):
                self.engine.wait_event("deferred", domain=f"d{number}.test")
                for line in server.heard + inside[number]:
                    self.assertNotRegex(line, b"AUTH|SIZE|SMTPUTF8")
                self.assertTrue(not inside[number] or inside[number][0].startswith(b"EHLO"), inside[number])
        self.assertEqual(self.engine.stop(), 0)

    def test_TLS_I5_what_was_offered_in_clear_is_not_used_inside(self):
        inside = []

        def converse(server, link):
            self.greet(server, link, b"250-mx.test\r\n" + b"".join(b"250-%s\r\n" % one.encode() for one in TABLE["offers"]) +
                       b"250 STARTTLS\r\n")
            link.sendall(b"220 go\r\n")
            with self.tls.wrap_socket(link, server_side=True) as secured:
                server.heard = inside
                server.take_all(secured)

        self.deliver_to(converse)
        self.engine.wait_event("delivered")
        text = b"".join(inside)
        self.assertRegex(inside[0], b"^EHLO")
        self.assertNotRegex(text, b"AUTH|SIZE=|SMTPUTF8|BODY=|RET=|BDAT|NOTIFY")
        self.assertEqual(self.engine.stop(), 0)

    def test_TLS_I6_starttls_taken_away_or_refused(self):
        """Opportunistic: in clear, and the event says so. Forced: deferred, and nothing is said in clear."""
        def converse(reply, server, link):
            if reply == "":
                link.sendall(b"220 mx.test\r\n")
            elif self.greet(server, link) == b"STARTTLS\r\n":
                link.sendall(reply.encode())
            server.take_all(link)

        for forced in (False, True):
            if forced:
                self.force_tls()
            servers = self.deliver_to(*(functools.partial(converse, reply) for reply in TABLE["refusals"]))
            for number, server in enumerate(servers):
                with self.subTest(TABLE["refusals"][number], forced=forced):
                    event = self.engine.wait_event("deferred" if forced else "delivered", domain=f"d{number}.test")[0]
                    mail = [line for line in server.heard if line.startswith(b"MAIL")]
                    self.assertEqual(len(mail), 0 if forced else 1, server.heard)
                    self.assertFalse(event.get("tls"))
            self.assertEqual(self.engine.stop(), 0)

    def test_TLS_I7_a_peer_that_never_finishes_the_handshake(self):
        """220 and then clear text, nothing, or an octet now and then: given up at the deadline of the phase."""
        ended = threading.Event()
        self.addCleanup(ended.set)

        def plain(server, link):
            link.sendall(b"220 go\r\n")
            link.sendall(b"250 this is no handshake\r\n" * 10)
            ended.wait()

        def silence(server, link):
            link.sendall(b"220 go\r\n")
            ended.wait()

        def slowly(server, link):
            link.sendall(b"220 go\r\n")
            link.recv(10_000)
            for octet in b"\x16\x03\x03\x10\x00" + bytes(4096):
                link.sendall(bytes([octet]))
                if ended.wait(0.5):
                    return

        def converse(manner, server, link):
            if self.greet(server, link) == b"STARTTLS\r\n":
                manner(server, link)

        self.force_tls()
        self.engine.set("outbound.ini", helo_timeout="1")
        manners = (plain, silence, slowly)
        servers = self.deliver_to(*(functools.partial(converse, manner) for manner in manners))
        for number, server in enumerate(servers):
            with self.subTest(manners[number].__name__):
                self.engine.wait_event("deferred", domain=f"d{number}.test")
                self.assertFalse([line for line in server.heard if line.startswith(b"MAIL")])
        self.assertEqual(self.engine.stop(), 0)

    def test_TLS_I10_a_server_that_only_changes_keys(self):
        """Instead of the reply to EHLO inside: the link is given up long before the deadline."""
        pair = certificate_for(self.world, "127.0.0.1")

        def converse(server, link):
            if self.greet(server, link) == b"STARTTLS\r\n":
                link.sendall(b"220 go\r\n")
                with UnrulyTls(link, pair) as tls:
                    link.sendall(tls.key_updates(FLOOD))
                    while link.recv(65536):
                        pass

        self.engine.set("outbound.ini", helo_timeout="60")
        self.deliver_to(converse)
        event = self.engine.wait_event("deferred", domain="d0.test")[0]
        self.assertIn("says nothing", event["reply"])
        self.assertEqual(self.engine.stop(), 0)

    def certificate_of_a_megabyte(self):
        cert, key, config = (self.world.directory / f"huge.{end}" for end in ("pem", "key", "cnf"))
        config.write_text("[req]\ndistinguished_name=d\n[d]\n[x]\nnsComment=" + "x" * 1_000_000 + "\n")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             "/CN=127.0.0.1", "-config", config, "-extensions", "x", "-keyout", key, "-out", cert], check=True, capture_output=True)
        return cert, key

    def chain_of_a_hundred(self):
        """One certificate and a hundred that have nothing to do with it."""
        cert, key = certificate_for(self.world, "127.0.0.1")
        other, _ = certificate_for(self.world, "other.test")
        chain = self.world.directory / "chain.pem"
        chain.write_text(cert.read_text() + other.read_text() * 100)
        return chain, key

    def key_of_16_kbit(self):
        """The largest that OpenSSL works with. Making one takes half a minute of CPU, so it is kept."""
        cert, key = self.world.directory / "large.cert.pem", VECTORS / "rsa16384.key.pem"
        subprocess.run(["openssl", "req", "-x509", "-key", key, "-days", "2", "-subj", "/CN=127.0.0.1", "-out", cert],
                       check=True, capture_output=True)
        return cert, key

    def test_TLS_I9_enormous_certificates(self):
        """A certificate of 1 MB, a chain of a hundred, a key of 16 kbit: bounded, never trusted, and others are served meanwhile."""
        def converse(tls, server, link):
            if self.greet(server, link) == b"STARTTLS\r\n":
                link.sendall(b"220 go\r\n")
                with tls.wrap_socket(link, server_side=True) as secured:
                    server.take_all(secured)

        made = (self.certificate_of_a_megabyte, self.chain_of_a_hundred, self.key_of_16_kbit)
        chains = [server_tls(*make()) for make in made]
        self.force_tls()
        servers = self.deliver_to(*(functools.partial(converse, tls) for tls in chains))
        for number, server in enumerate(servers):
            self.engine.wait_event("deferred", domain=f"d{number}.test")
            self.assertFalse([line for line in server.heard if line.startswith(b"MAIL")])
        self.assertEqual(self.engine.api("GET", "/health")[0], 200)
        self.assertLess(cpu_seconds(self.engine.process.pid), 3, "three handshakes, and the start")
        self.assertEqual(self.engine.stop(), 0)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    unittest.main()
