"""Enemies: clients, servers and operators' neighbours that take more than their share, and moments that come badly."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import unittest

import attacks  # noqa: F401, makes the world importable
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
        found = self.engine.api("GET", "/v1/queue?recipient=needle@dst.test")[1]["items"]
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
        self.assertIn("cannot listen on", self.engine.process.output())

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
