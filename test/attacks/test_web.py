"""Conformance 2.8 for what exists: the control port against browsers, guessers and smugglers; names; logs."""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import unittest
import urllib.parse

from attacks import Attack, octets, vectors
from clients import Raw
from world import PATIENCE, SLUICE, free_port

TABLE = vectors("web")
TOKEN = "correct-horse-battery-staple"


def listening(process):
    """(protocol, port) of each socket of the process to which a stranger may connect or send; needs its rights, or root's."""
    mine = set()
    for descriptor in pathlib.Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            mine.add(os.readlink(descriptor))
    waits = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}  # by the kernel's numbers of states
    found = set()  # each shard has a socket of its own for the same port
    for table, state in waits.items():
        for line in pathlib.Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            row = line.split()
            if row[3] == state and f"socket:[{row[9]}]" in mine:
                found.add((table, int(row[1].rpartition(":")[2], 16)))
    return found


class ControlPort(Attack):
    """The API on TCP with a token; nothing is delivered, so that what was queued stays."""

    def setUp(self):
        super().setUp()
        self.http_port = free_port()
        self.engine.set("http.ini", listen=f"127.0.0.1:{self.http_port}", token=TOKEN).set("outbound.ini", disabled="true")

    def raw(self, request, source="127.0.0.1"):
        """Statuses of all replies to these octets, until the port closes or has nothing more to say."""
        with socket.create_connection(("127.0.0.1", self.http_port), timeout=PATIENCE, source_address=(source, 0)) as link:
            link.sendall(request)
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_WR)
            said = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := link.recv(65536):
                    said += piece
        return [int(one.split(b" ")[1]) for one in said.split(b"\r\n") if one.startswith(b"HTTP/1.1 ")], said

    def request(self, method, path, body=b"", kind="application/json", token=TOKEN, **headers):
        lines = {"Host": "localhost", "Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close", **headers}
        if token is not None:
            lines["Authorization"] = f"Bearer {token}"
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items() if value is not None)
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body

    def status(self, *arguments, source="127.0.0.1", **options):
        return self.raw(self.request(*arguments, **options), source)[0]

    def resident(self):
        """KiB of memory of the engine."""
        status = pathlib.Path(f"/proc/{self.engine.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def inject(self):
        body = json.dumps({"from": "a@src.test", "to": ["b@dst.test"], "message": "Subject: x\n\nhello\n"}).encode()
        self.assertEqual(self.status("POST", "/v1/messages", body), [202])

    def routes(self, method):
        """Every path that answers this method, by the engine's own description, which a test compares with the code."""
        document = self.engine.api("GET", "/v1/openapi.json")[1]
        found = [re.sub(r"\{\w+\}", "1", path) for path, methods in document["paths"].items() if method in methods]
        self.assertGreater(len(found), 10)
        return found

    def test_WEB_1_no_GET_changes_anything(self):
        self.engine.start()
        self.inject()
        changing, readable = self.routes("post"), self.routes("get")
        for path in changing:
            for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PATCH"):
                if method == "GET" and path in readable:
                    continue  # asks what there is
                for codes in (self.status(method, path, b'{"all":true}'), self.status(method, path + "?all=true")):
                    self.assertTrue(codes and set(codes) <= {400, 404, 405}, (method, path, codes))
        # What a form or a plain script can send is refused for its type.
        for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            for path in changing:
                self.assertEqual(self.status("POST", path, b'{"all":true}', kind=kind or None), [415], (kind, path))
        self.assertEqual(self.queued(), 1)
        self.assertEqual(self.engine.stop(), 0)

    def test_WEB_1_a_page_of_another_site_gets_nothing(self):
        """DNS rebinding (Host) and cross-site requests (Origin), even with the token and the right type."""
        self.engine.start()
        self.inject()
        body = b'{"all":true}'
        for number, path in enumerate(self.routes("post")):
            stranger = f"127.0.1.{number + 1}"  # one each: who guesses too often is not listened to at all
            self.assertEqual(self.status("POST", path, body, token=None, source=stranger), [401], path)
            self.assertEqual(self.status("POST", path, body, Origin="http://evil.test"), [403], path)
            self.assertEqual(self.status("POST", path, body, Host="evil.test"), [421], path)
        for path in self.routes("get"):
            self.assertEqual(self.status("GET", path, Origin="http://evil.test"), [403], path)
        for host in TABLE["foreign_hosts"]:
            self.assertIn(self.status("POST", "/v1/queue/delete", body, Host=host), ([421], [400]), host)
        for origin in TABLE["foreign_origins"]:
            self.assertIn(self.status("POST", "/v1/queue/delete", body, Origin=origin), ([403], [400]), origin)
            self.assertIn(self.status("GET", "/v1/queue", Origin=origin), ([403], [400]), origin)
        self.assertEqual(self.queued(), 1)
        own = f"localhost:{self.http_port}"
        self.assertEqual(self.status("GET", "/v1/queue", Host=own, Origin=f"http://{own}"), [200])
        _, said = self.raw(self.request("GET", "/v1/queue"))
        self.assertNotIn(b"access-control-allow", said.lower())
        self.assertEqual(self.engine.stop(), 0)

    def test_WEB_1_tokens_cannot_be_guessed(self):
        """After twenty wrong ones an address is not listened to, not even with the right one; others are."""
        self.engine.start()
        codes = [code for number in range(25) for code in self.status("GET", "/v1/status", token=f"wrong-{number}")]
        self.assertEqual(codes, [401] * 20 + [429] * 5)
        self.assertEqual(self.status("GET", "/v1/status"), [429])
        self.assertEqual(self.status("GET", "/v1/status", source="127.0.0.2"), [200])
        self.assertEqual(self.engine.api("GET", "/health")[0], 200)  # the socket of the operator has no token
        self.assertNotIn("wrong-", self.engine.process.output())
        self.assertEqual(self.engine.stop(), 0)

    def test_WEB_1_no_request_hides_in_another(self):
        """Request smuggling: whatever two readers could cut differently is refused, and what follows is not obeyed."""
        self.engine.start()
        self.inject()
        hidden = self.request("POST", "/v1/queue/delete", b'{"all":true}')
        for row in TABLE["smuggling"]:
            with self.subTest(row["id"]):
                request = octets(row["request"]).replace(b"TOKEN", TOKEN.encode())
                codes, _ = self.raw(request + hidden)
                self.assertEqual(codes, [400], row["id"])
                self.assertEqual(self.queued(), 1)
        self.assertEqual(self.engine.stop(), 0)

    def test_WEB_1_requests_are_bounded(self):
        self.engine.set("connection.ini", "max", bytes="100000").start()
        huge = b'{"from":"a@src.test","to":["b@dst.test"],"message":"' + b"x" * 200_000 + b'"}'
        self.assertEqual(self.status("POST", "/v1/messages", huge), [413])
        self.assertEqual(self.status("POST", "/v1/queue/delete", b"[" * 90_000), [400])  # nesting
        self.assertEqual(self.status("POST", "/v1/queue/delete", b'{"a":' * 18_000), [400])
        self.assertIn(self.status("GET", "/" + "x" * 100_000), ([400], [413]))
        self.assertIn(self.status("GET", "/v1/status", X_Long="y" * 100_000), ([400], [413]))
        many = {f"X_{number}": "y" for number in range(5000)}
        self.assertIn(self.status("GET", "/v1/status", **many), ([400], [413]))
        announced = self.request("POST", "/v1/messages").replace(b"Content-Length: 0", b"Content-Length: 99999999999999999999")
        self.assertIn(self.raw(announced)[0], ([400], [413]))
        before = self.resident()
        chunked = self.request("POST", "/v1/messages", **{"Content-Length": None, "Transfer-Encoding": "chunked"})
        # What a chunk's size is followed by, and the fields behind the last chunk, have no length of their own.
        for rest in (b"2;" + b"x" * 5_000_000 + b"\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 350_000 + b"\r\n"):
            with contextlib.suppress(OSError):  # it closes while we speak
                self.assertIn(self.raw(chunked + rest)[0], ([], [400], [413]))
            self.assertLess(self.resident() - before, 16 * 1024)
        self.assertEqual(self.engine.api("GET", "/health")[0], 200)
        self.assertEqual(self.engine.stop(), 0)

    def test_WEB_1_it_listens_nowhere_unless_told(self):
        """A fresh instance has a socket for its owner and no port beside SMTP's."""
        fresh = self.world.engine(name="fresh")
        subprocess.run([SLUICE, "init", fresh.directory], check=True, capture_output=True)
        # A port that is free; and without core_dumps nobody but root could look at its descriptors.
        fresh.settings = {"smtp.ini": {"main": {"listen": f"127.0.0.1:{fresh.port}", "core_dumps": "true"}}}
        fresh.files = {}
        fresh.start()
        self.assertEqual(listening(fresh.process.pid), {("tcp", fresh.port)})
        self.assertEqual(fresh.stop(), 0)
        self.engine.set("smtp.ini", core_dumps="true").start()
        told = {("tcp", port) for port in (self.engine.port, self.secure_port, self.http_port)}
        self.assertEqual(listening(self.engine.process.pid), told)
        self.assertEqual(self.engine.stop(), 0)

    def test_WEB_1_LOG_1_whatever_was_queued_comes_back_as_json(self):
        """Subjects and header fields in any octets, markup and formulas: the answer parses and is never HTML."""
        self.engine.start()
        for subject in TABLE["subjects"]:
            content = b"Subject: " + octets(subject) + b"\r\nX-Other: \xff\xfe\r\n\r\nx\r\n"
            status, answer = self.engine.api("POST", "/v1/messages?from=a@src.test&to=b@dst.test", content, "message/rfc822")
            self.assertEqual(status, 202, answer)
            item = next(one["id"] for one in self.engine.api("GET", "/v1/queue")[1]["items"] if one["message"] == answer["id"])
            codes, said = self.raw(self.request("GET", f"/v1/queue/items/{item}"))
            self.assertEqual(codes, [200])
            head, _, body = said.partition(b"\r\n\r\n")
            self.assertIn(b"Content-Type: application/json", head)
            self.assertIn(b"nosniff", head)
            self.assertIn(b"default-src 'none'", head)
            json.loads(body.decode("utf-8"))
        codes, said = self.raw(self.request("GET", "/v1/queue?limit=100"))
        json.loads(said.partition(b"\r\n\r\n")[2].decode("utf-8"))
        self.assertEqual(self.engine.stop(), 0)

    def test_PATH_1_no_name_is_a_path(self):
        """Domains, tenants, ids and resources that look like paths: refused, or plain names; no file comes or goes."""
        self.engine.start()
        before = self.files()
        for name in TABLE["paths"]:
            quoted = urllib.parse.quote(octets(name), safe="%")
            for target in (f"/v1/queue/items/{quoted}", f"/{quoted}", f"/v1/{quoted}", f"/v1/queue?domain={quoted}"):
                codes, said = self.raw(self.request("GET", target))
                self.assertTrue(codes and codes[0] in (200, 400, 404, 413, 422), (target, codes))
                self.assertNotIn(b"root:", said)
            body = json.dumps({"from": "a@src.test", "to": ["b@dst.test"], "message": "x", "tenant": name}).encode()
            self.assertIn(self.status("POST", "/v1/messages", body), ([202], [422]))
            for command in ("hold", "release", "flush"):
                self.assertIn(self.status("POST", f"/v1/queue/{command}", json.dumps({"domain": name}).encode()), ([200], [422]))
        self.assertEqual(self.files(), before)
        self.assertEqual(self.engine.stop(), 0)

    def files(self):
        """All files of the instance, apart from the journal's own."""
        return {str(path) for path in self.engine.directory.rglob("*") if "/queue/" not in str(path)}


class Logs(Attack):
    def test_LOG_1_one_record_stays_one_line(self):
        """Line ends, colours, quotes, broken UTF-8 and a megabyte, in whatever a stranger can say: JSON and terminals bear it."""
        evil = [octets(one) for one in TABLE["evil"]] + [b"x" * 1_000_000]
        self.engine.set("log.ini", level="data").set("outbound.ini", disabled="true").set("connection.ini", "max", errors="1000").start()
        for one in evil:
            for command in (b"EHLO ", b"HELO ", b"MAIL FROM:<", b"RCPT TO:<", b"AUTH ", b"VRFY ", b"", b"MAIL FROM:<a@src.test> ENVID="):
                with self.subTest(one[:20], command=command), contextlib.suppress(OSError), Raw(self.engine.port) as client:
                    client.send(command + one + b"\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<" + one[:200] + b"@dst.test>\r\nQUIT\r\n")
                    client.rest()
            self.engine.api("POST", "/v1/messages?from=a@src.test&to=b@dst.test",
                            b"Subject: " + one.replace(b"\r", b" ").replace(b"\n", b" ").replace(b"\0", b" ")[:900] + b"\r\n\r\nx\r\n", "message/rfc822")
            self.engine.api("POST", "/v1/messages?from=" + urllib.parse.quote(one[:5000]) + "&to=b@dst.test", "x", "message/rfc822")
        self.assertEqual(self.engine.stop(), 0)
        for line in (self.engine.directory / "log" / "events.jsonl").read_text().splitlines():
            json.loads(line)
        for line in self.engine.process.output().splitlines():
            self.assertRegex(line, r"^\[[A-Z]+\] \[")
            self.assertTrue(line.isprintable(), line)
            self.assertLess(len(line), 20_000)

    def test_LOG_2_a_log_disk_that_is_full_stops_no_mail(self):
        """Standard output on /dev/full: every line is lost, every message goes out, and the end comes in time."""
        sink = self.world.sink()
        self.engine.route("any", sink.endpoint).set("log.ini", level="data").write()
        with open("/dev/full", "wb") as full:
            engine = subprocess.Popen([SLUICE, "serve", str(self.engine.directory)], stdout=full, stderr=subprocess.DEVNULL)
        try:
            self.engine.process = type("Running", (), {
                "running": lambda _: engine.poll() is None, "output": lambda _: "", "child": engine})()
            self.engine.wait_until_serving()
            for _ in range(50):
                self.assertEqual(self.by_json(b"Subject: x\n\nhello\n", "b@dst.test")[0], 202)
            sink.wait(50)
            engine.terminate()
            self.assertEqual(engine.wait(PATIENCE), 0)
        finally:
            engine.kill()
            engine.wait()
        self.assertTrue(os.access(self.engine.directory / "log" / "events.jsonl", os.R_OK))


if __name__ == "__main__":
    unittest.main()
