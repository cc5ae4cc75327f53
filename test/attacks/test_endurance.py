"""Enemies: clients, servers and operators' neighbours that take more than their share, and moments that come badly."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import threading
import time
import unittest

from attacks import long_or  # first, for it makes the world importable
from world import SLUICE, EndToEnd, free_port, wait_for

TOKEN = "a-token-of-sixteen-and-more"


def read_all(link):
    """Everything until the other side closes."""
    text = b""
    with contextlib.suppress(OSError):
        while piece := link.recv(65536):
            text += piece
    return text


class Attacks(EndToEnd):
    def setUp(self):
        super().setUp()
        self.engine = self.world.engine()

    def to_sink(self):
        sink = self.world.sink()
        self.engine.route("any", sink.endpoint)
        return sink

    def keep_all(self):
        """Nothing is delivered: what comes in stays queued."""
        self.engine.set("outbound.ini", disabled="true")
        return self.engine

    def on_tcp(self):
        port = free_port()
        self.engine.set("http.ini", listen=f"127.0.0.1:{port}", token=TOKEN)
        return port

    def inject(self, to, key=None):
        message = {"from": "a@src.test", "to": [to], "message": "Subject: x\r\n\r\nhello\r\n"}
        return self.engine.api("POST", "/v1/messages", message, headers={"Idempotency-Key": key} if key else None)

    def items(self):
        return {d["domain"]: d for d in self.engine.api("GET", "/v1/queue/stats")[1]["domains"]}


class Clients(Attacks):
    def test_DoS_4_a_client_that_only_chats_is_sent_away(self):
        self.engine.start()
        with socket.create_connection(("127.0.0.1", self.engine.port), timeout=10) as link:
            link.recv(1000)
            sender = threading.Thread(target=self.chat, args=(link,))
            sender.start()
            said = read_all(link)
            sender.join()
        self.assertIn(b"\r\n421 4.7.0 Too many commands without a message", said[-200:])

    @staticmethod
    def chat(link):
        with contextlib.suppress(OSError):
            link.sendall(b"EHLO x.test\r\n" + b"NOOP\r\nRSET\r\nVRFY x\r\n" * 1000)

    def test_DoS_8_clients_cannot_take_every_descriptor(self):
        sink = self.to_sink()
        self.engine.start(command=["prlimit", "--nofile=200:200"])
        links = []
        try:
            for _ in range(400):
                links.append(socket.create_connection(("127.0.0.1", self.engine.port), timeout=10))
            greetings = [link.recv(3) for link in links]
            self.assertEqual(set(greetings), {b"220", b"421"})
            self.assertEqual(self.inject("b@dst.test")[0], 202)
            sink.wait(1)
        finally:
            for link in links:
                link.close()


class SlowAndLarge(Attacks):
    """Clients and servers that take time and memory; somebody else is served all the while."""

    def serves_others(self, sink, count):
        self.assertEqual(self.inject("other@dst.test")[0], 202)
        sink.wait(count)

    def resident(self):
        """KiB of memory of the engine."""
        status = (pathlib.Path("/proc") / str(self.engine.process.pid) / "status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def test_DoS_1_an_octet_now_and_then_does_not_buy_time(self):
        """The deadline is that of the command, so it ends however often an octet comes; 5,000 of them (200) disturb nobody."""
        count = long_or(5000, 200)
        sink = self.to_sink()
        self.engine.set("smtp.ini", inactivity_timeout=str(long_or(20, 3)), connections_per_client_max="0").start()
        self.serves_others(sink, 1)
        before = self.resident()
        links = {}
        for number in range(count):
            link = socket.create_connection(("127.0.0.1", self.engine.port), timeout=30, source_address=(f"127.0.2.{number % 250 + 1}", 0))
            links[link.fileno()] = link
        watched = select.epoll()
        for number, link in links.items():
            link.recv(1000)
            watched.register(number, select.EPOLLIN)
        self.assertLess((self.resident() - before) / count, 16 if count > 1000 else 1000)
        self.serves_others(sink, 2)
        ended, end = {}, time.monotonic() + 90
        while len(ended) < count and time.monotonic() < end:
            for number, link in links.items():
                if number not in ended:
                    with contextlib.suppress(OSError):
                        link.send(b"N")
            for number, _ in watched.poll(0.5):
                watched.unregister(number)
                ended[number] = b""
                with contextlib.suppress(OSError):
                    ended[number] = links[number].recv(1000)
        self.assertEqual(len(ended), count)
        self.assertEqual({said[:3] for said in ended.values()}, {b"421"})
        self.serves_others(sink, 3)
        for link in links.values():
            link.close()

    def test_DoS_2_a_command_without_an_end_takes_no_memory(self):
        """A gigabyte on one line (64 MB)."""
        sink = self.to_sink()
        self.engine.start()
        self.serves_others(sink, 1)
        before = self.resident()
        for head in (b"", b"EHLO ", b"MAIL FROM:<", b"AUTH PLAIN "):
            with socket.create_connection(("127.0.0.1", self.engine.port), timeout=30) as link:
                link.recv(1000)
                with contextlib.suppress(OSError):
                    link.sendall(head)
                    for _ in range(long_or(1000, 64)):
                        link.sendall(b"x" * 1_000_000)
                    self.assertLess(self.resident() - before, 8 * 1024)
                    link.sendall(b"\r\nQUIT\r\n")
                self.assertNotIn(b"250", read_all(link))
        self.serves_others(sink, 2)

    def test_DoS_3_headers_and_parts_without_number(self):
        """A header of 500 MB (50), a million fields (200,000), 10,000 parts, parts 10,000 deep: refused or delivered, in linear time."""
        sink = self.to_sink()
        self.engine.set("outbound.ini", eight_bit="downgrade").start()
        nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(10_000))
        parts = b"".join(b"--b\r\nContent-Type: text/plain\r\n\r\n\xc3\xbc\r\n" for _ in range(10_000)) + b"--b--\r\n"
        contents = {
            "one field": (b"X: " + b"y" * 900 + b"\r\n" + (b" " + b"y" * 900 + b"\r\n") * long_or(550_000, 55_000) + b"\r\nbody\r\n", False),
            "fields": (b"X: y\r\n" * long_or(1_000_000, 200_000) + b"\r\nbody\r\n", False),
            "parts": (b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + parts, True),
            "nested": (b"MIME-Version: 1.0\r\n" + nested + b"\xc3\xbc\r\n", True)}
        taken = 0
        for name, (content, good) in contents.items():
            with self.subTest(name):
                codes = self.by_data(content)
                self.assertEqual(codes[0] // 100, 2 if good else 5, codes)
                taken += good
        sink.wait(taken)
        self.serves_others(sink, taken + 1)

    def by_data(self, content):
        with socket.create_connection(("127.0.0.1", self.engine.port), timeout=60) as link:
            with link.makefile("rb") as lines:
                lines.readline()
                link.sendall(b"HELO x.test\r\nMAIL FROM:<a@src.test>\r\n")
                lines.readline(), lines.readline()
                link.sendall(b"RCPT TO:<b@dst.test>\r\nDATA\r\n")
                lines.readline()
                self.assertTrue(lines.readline().startswith(b"354"))
                link.sendall(content + b".\r\nQUIT\r\n")
                return [int(line[:3]) for line in lines]

    def against(self, converse):
        """What becomes of mail for a neighbour with these manners; mail for another goes out all the while."""
        server = socket.create_server(("127.0.0.1", 0))
        ended = threading.Event()

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    threading.Thread(target=talk, args=(link,), daemon=True).start()

        def talk(link):
            with link, contextlib.suppress(OSError):
                converse(link, ended)

        threading.Thread(target=serve, daemon=True).start()
        sink = self.to_sink()
        self.engine.route("bad.test", f"127.0.0.1:{server.getsockname()[1]}")
        self.engine.set("outbound.ini", temp_fail_intervals="1h*10", greeting_timeout="4", helo_timeout="4", block_timeout="4",
                        dot_timeout="4", mail_timeout="4", rcpt_timeout="4", data_timeout="4").start()
        before = self.resident()
        self.inject("b@bad.test")
        self.serves_others(sink, 1)
        event = self.engine.wait_event("deferred")[0]
        self.assertLess(self.resident() - before, 32 * 1024)
        ended.set()
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        self.assertEqual(event["domain"], "bad.test")
        return event

    def test_DoS_5_a_greeting_without_an_end(self):
        def converse(link, ended):
            while not ended.is_set():
                link.sendall(b"220-welcome " + b"x" * 400 + b"\r\n")

        self.against(converse)

    def test_DoS_5_a_reply_to_EHLO_without_an_end(self):
        def converse(link, ended):
            link.sendall(b"220 mx.test\r\n")
            link.recv(1000)
            while not ended.is_set():
                link.sendall(b"250-EXTENSION\r\n" * 100)

        self.against(converse)

    def test_DoS_5_a_line_without_an_end(self):
        def converse(link, ended):
            link.sendall(b"220 ")
            while not ended.is_set():
                link.sendall(b"x" * 100_000)

        self.against(converse)

    def test_DoS_5_a_reply_octet_by_octet(self):
        def converse(link, ended):
            for octet in b"220 " + b"x" * 10_000:
                link.sendall(bytes([octet]))
                if ended.wait(0.3):
                    return

        self.against(converse)

    def test_DoS_6_a_server_that_never_reads_the_content(self):
        def converse(link, ended):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.sendall(b"220 mx.test\r\n")
            for reply in (b"250 mx.test\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                link.recv(1000)
                link.sendall(reply)
            ended.wait()

        self.large = True
        self.against(converse)

    large = False

    def inject(self, to, key=None):
        if not (self.large and to.endswith("bad.test")):
            return super().inject(to, key)
        text = "Subject: x\r\n\r\n" + ("y" * 76 + "\r\n") * 100_000
        return self.engine.api("POST", f"/v1/messages?from=a@src.test&to={to}", text, "message/rfc822")

    def test_DoS_9_a_dead_destination_with_a_long_queue_holds_up_nobody(self):
        """A million recipients (10,000) of a destination that refuses connections, all due at once again and again."""
        count = long_or(1_000_000, 10_000)
        sink = self.to_sink()
        dead = free_port()
        self.engine.route("dead.test", f"127.0.0.1:{dead}").set("outbound.ini", temp_fail_intervals="5s*1000").start()
        subprocess.run(
            [SLUICE, "blast", "--target", f"127.0.0.1:{self.engine.port}", "--messages", str(count), "--size", "300", "--sessions", "20",
             "--to", "u%n@dead.test"], check=True, capture_output=True)
        for number in range(20):
            began = time.monotonic()
            self.inject(f"u{number}@dst.test")
            sink.wait(number + 1)
            self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(self.engine.api("GET", "/v1/status")[1]["queue"]["items"], count)


class ControlApi(Attacks):
    def test_the_body_of_a_stranger_is_not_waited_for(self):
        port = self.on_tcp()
        self.engine.start()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            link.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n")
            self.assertTrue(read_all(link).startswith(b"HTTP/1.1 401 "))

    def test_a_refused_request_with_a_small_body_keeps_its_connection(self):
        port = self.on_tcp()
        self.engine.start()
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for authorization, status in (("Bearer wrong", 401), (f"Bearer {TOKEN}", 422)):
            link.request("POST", "/v1/queue/delete", "{}", {"Content-Type": "application/json", "Authorization": authorization})
            reply = link.getresponse()
            reply.read()
            self.assertEqual(reply.status, status)
        link.close()

    def test_strangers_on_tcp_leave_the_operator_his_socket(self):
        port = self.on_tcp()
        self.engine.start()
        links = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(1100)]
        self.assertEqual(self.engine.api("GET", "/health")[0], 200)
        for link in links:
            link.close()

    def test_who_opens_connections_and_asks_nothing_keeps_nobody_out(self):
        """On the socket as on TCP the one that has waited longest for its request makes room, and no other."""
        port = self.on_tcp()
        self.engine.start()
        control = str(self.engine.directory / "run" / "control.sock")

        def tcp():
            return socket.create_connection(("127.0.0.1", port), timeout=10)

        def local():
            link = socket.socket(socket.AF_UNIX)
            link.connect(control)
            link.settimeout(10)
            return link

        half = b"POST /v1/queue/flush HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
        for connect in (tcp, local):
            with self.subTest(connect.__name__), contextlib.ExitStack() as links:
                first = links.enter_context(connect())
                for number in range(1100):
                    link = links.enter_context(connect())
                    link.sendall((b"", half, half + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{")[number % 3])
                self.assertEqual(read_all(first), b"", "it waited longest")
                started = time.monotonic()
                with connect() as operator:
                    operator.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\nConnection: close\r\n\r\n")
                    self.assertTrue(read_all(operator).startswith(b"HTTP/1.1 200 "))
                self.assertLess(time.monotonic() - started, 5)
                link.settimeout(0.2)
                with self.assertRaises(TimeoutError):
                    link.recv(1)

    def test_a_client_that_asks_first_is_told_to_go_on(self):
        port = self.on_tcp()
        self.engine.start()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            link.sendall(
                b"POST /v1/queue/delete HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + TOKEN.encode() +
                b"\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n")
            self.assertTrue(link.recv(100).startswith(b"HTTP/1.1 100 "))
            link.sendall(b"{}")
            self.assertTrue(read_all(link).startswith(b"HTTP/1.1 422 "))

    def test_the_same_key_at_the_same_time_queues_one_message(self):
        self.keep_all().start()
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(self.inject("b@dst.test", "key"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({status for status, _ in answers}, {200, 202})
        self.assertEqual(len({reply["id"] for _, reply in answers}), 1)
        self.assertEqual(self.items()["dst.test"]["ready"], 1)

    def test_a_filter_finds_the_last_of_many(self):
        self.keep_all().start()
        subprocess.run(
            [SLUICE, "blast", "--target", f"127.0.0.1:{self.engine.port}", "--messages", "21000", "--size", "200"],
            check=True, capture_output=True)
        self.inject("needle@dst.test")
        found, cursor = [], ""
        while cursor is not None:  # pages may be empty before the last one
            page = self.engine.api("GET", f"/v1/queue?recipient=needle@dst.test&cursor={cursor}")[1]
            found, cursor = found + page["items"], page.get("cursor")
        self.assertEqual([item["recipients"] for item in found], [["needle@dst.test"]])

    def test_what_the_operator_did_survives_a_crash(self):
        self.keep_all().start()
        for number in range(30):
            self.inject(f"b@gone{number % 2}.test")
        for domain, command in (("gone0.test", "delete"), ("gone1.test", "hold")):
            self.assertEqual(self.engine.api("POST", f"/v1/queue/{command}", {"domain": domain}), (200, {"items": 15}))
        self.engine.restart_after_kill()
        self.assertEqual(list(self.items()), ["gone1.test"])
        self.assertEqual(self.items()["gone1.test"]["held"], 15)


class Servers(Attacks):
    def test_LOG_1_a_hostile_reply_stays_one_line(self):
        reply = "550 5.1.1 \x1b[31m\0\r,\"\\ \x85 \u2028 \u202e {\"event\":\"delivered\"}".encode() + b" \xff\xfe\r\n"
        server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.refuse_all, args=(server, reply), daemon=True).start()
        self.engine.route("any", f"127.0.0.1:{server.getsockname()[1]}").start()
        self.inject("b@dst.test")
        self.engine.wait_event("bounced")
        text = (self.engine.directory / "log" / "events.jsonl").read_text()
        for line in text.splitlines():  # which takes every line end that Unicode knows
            json.loads(line)
        for line in self.engine.process.output().splitlines():
            self.assertRegex(line, r"^\[[A-Z]+\] \[")
            self.assertTrue(line.isprintable(), line)
        server.close()

    @staticmethod
    def refuse_all(server, reply):
        with contextlib.suppress(OSError):
            while True:
                link, _ = server.accept()
                with link, link.makefile("rb") as lines:
                    link.sendall(b"220 mx.test\r\n")
                    for line in lines:
                        link.sendall(reply if line.startswith(b"RCPT") else b"250 ok\r\n")


class BadMoments(Attacks):
    def test_a_port_that_is_taken_ends_the_start(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            self.engine.set("http.ini", listen=f"127.0.0.1:{other.getsockname()[1]}").start(wait=False)
            wait_for(lambda: not self.engine.process.running(), "the start to fail")
        self.assertEqual(self.engine.process.child.returncode, 1)
        self.engine.wait_logged("cannot listen on")

    def test_LOG_2_output_that_nobody_reads_stops_neither_mail_nor_the_end(self):
        sink = self.to_sink()
        self.engine.set("log.ini", level="protocol").write()
        unread, output = os.pipe()
        engine = subprocess.Popen([SLUICE, "serve", str(self.engine.directory)], stdout=output, stderr=subprocess.DEVNULL)
        os.close(output)
        try:
            # A pipe holds 64 KiB; what these say is more.
            wait_for(lambda: (self.engine.directory / "run" / "control.sock").exists(), "the control socket")
            for _ in range(200):
                self.assertEqual(self.inject("b@dst.test")[0], 202)
            sink.wait(200)
            engine.send_signal(signal.SIGTERM)
            self.assertEqual(engine.wait(15), 0)
        finally:
            engine.kill()
            engine.wait()
            os.close(unread)

    def test_LOG_1_no_line_continues_one_that_a_crash_cut_short(self):
        log = self.engine.directory / "log"
        log.mkdir()
        (log / "events.jsonl").write_text('{"event":"accepted"}\n{"event":"deliv')
        self.keep_all().start()
        self.inject("b@dst.test")
        self.engine.wait_event("accepted", 2)
        for line in (log / "events.jsonl").read_text().splitlines():
            json.loads(line)


if __name__ == "__main__":
    unittest.main()
