"""What an operator says to the engine: every command of the command line and every route of the API."""

import hashlib
import http.client
import json
import re
import socket
import subprocess
import unittest

from world import SLUICE, EndToEnd, free_port, wait_for

FAILED, USAGE, NOT_FOUND, UNAVAILABLE, BAD_CONFIG = 1, 2, 3, 69, 78


def sluice(*arguments, input=None, env=None):
    return subprocess.run([SLUICE, *map(str, arguments)], capture_output=True, text=True, input=input, timeout=60, env=env)


class Operator(EndToEnd):
    """An engine that delivers nothing yet, and a sink that waits."""

    def setUp(self):
        super().setUp()
        self.sink = self.world.sink()
        self.engine = self.world.engine().route("any", self.sink.endpoint).set("outbound.ini", disabled="true")

    def inject(self, to, sender="a@src.test", key=None, subject="test"):
        """Returns the id of the message."""
        words = ["--key", key] if key else []
        done = self.engine.cli(
            "inject", "-f", sender, "-t", to, "--json", *words, input=self.message(subject, sender=sender, to=to))
        return json.loads(done.stdout)["id"]

    def exit_code(self, code, *arguments, input=None):
        done = self.engine.cli(*arguments, check=False, input=input)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stdout}{done.stderr}")
        return done

    def json(self, *arguments):
        return json.loads(self.exit_code(0, *arguments, "--json").stdout)

    def listed(self, *filters):
        return sorted(to for item in self.json("queue", "list", *filters)["items"] for to in item["recipients"])

    def restart_delivering(self):
        self.engine.stop()
        self.engine.set("outbound.ini", disabled="false").start()


class InstanceCommands(EndToEnd):
    def test_init_makes_an_instance_that_is_good_and_never_overwrites(self):
        for words in (["init"], ["-i"]):
            directory = self.world.directory / f"made{len(words[0])}"
            done = sluice(*words, directory)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(sluice("check", directory).returncode, 0)
            me = directory / "config" / "me"
            me.write_text("mine.example.test\n")
            self.assertEqual(sluice(*words, directory).returncode, 0)
            self.assertEqual(me.read_text(), "mine.example.test\n")
            again = json.loads(sluice(*words, directory, "--json").stdout)
            self.assertEqual(again["created"], [])
            self.assertIn("config/me", again["kept"])

    def test_check_names_file_and_line_and_the_nearest_key(self):
        directory = self.world.directory / "instance"
        sluice("init", directory)
        (directory / "config" / "outbound.ini").write_text("connect_timeout=5\nconcurrency_max=lots\ndestination_concurency=3\n")
        done = sluice("check", directory)
        self.assertEqual(done.returncode, BAD_CONFIG)
        self.assertIn("outbound.ini:2", done.stdout)
        said = json.loads(sluice("check", directory, "--json").stdout)
        self.assertFalse(said["good"])
        by_line = {problem["line"]: problem for problem in said["problems"] if problem["file"].endswith("outbound.ini")}
        self.assertEqual(by_line[2]["severity"], "error")
        self.assertEqual(by_line[3]["suggestion"], "destination_concurrency")
        self.assertEqual(sluice("serve", directory).returncode, BAD_CONFIG)

    def test_help_and_version_everywhere(self):
        self.assertRegex(sluice("--version").stdout, r"^sluice \d+\.\d+")
        top = sluice("--help").stdout
        names = re.findall(r"^  (\w+) +\w", top[top.index("Subcommands:"):], re.M)
        self.assertGreaterEqual(set(names), {"serve", "init", "check", "status", "queue", "explain", "inject", "journal", "sink", "blast"})
        for name in names:
            done = sluice(name, "--help")
            self.assertEqual(done.returncode, 0, name)
            self.assertIn("Usage", done.stdout)
        for name in ("list", "stats", "show", "count", "shape", "buckets", "flush", "hold", "release", "delete", "bounce", "change", "jobs", "cancel"):
            self.assertEqual(sluice("queue", name, "--help").returncode, 0, name)

    def test_wrong_words_are_told_apart_from_failures(self):
        for words in (["frobnicate"], ["queue"], ["queue", "list", "--limit", "many"], ["inject", "-t", "b@dst.test"], ["queue", "show"]):
            self.assertEqual(sluice(*words, "-c", self.world.directory).returncode, USAGE, words)
        nobody = self.world.directory / "nobody"
        for words in (["status"], ["queue", "list"], ["queue", "stats"], ["queue", "flush"], ["reload"], ["--qlist"], ["--qstat"],
                      ["inject", "-f", "a@src.test", "-t", "b@dst.test"]):
            done = sluice(*words, "-c", nobody, input="")
            self.assertEqual(done.returncode, UNAVAILABLE, f"{words} {done.stderr}")
            self.assertIn("no engine is running", done.stderr)

    def test_sink_and_blast_print_json(self):
        port = free_port()
        sink = self.world.spawn([SLUICE, "sink", "--listen", f"127.0.0.1:{port}", "--count", "20", "--json"],
                                self.world.directory / "sink.log")
        wait_for(lambda: "listening" in sink.output(), "the sink")
        done = sluice("blast", "--target", f"127.0.0.1:{port}", "--messages", 20, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        said = json.loads(done.stdout)
        self.assertEqual((said["accepted"], said["lost"]), (20, 0))
        self.assertEqual(sink.child.wait(20), 0)
        self.assertEqual(json.loads(sink.output().splitlines()[-1])["messages"], 20)
        self.assertEqual(sluice("blast", "--target", f"127.0.0.1:{port}", "--messages", 1).returncode, FAILED)


class DeepQueue(Operator):
    """More items than one answer may have, and than the core is told about in one go."""

    COUNT = 2_500

    def setUp(self):
        super().setUp()
        self.engine.start()
        done = sluice("blast", "--target", f"127.0.0.1:{self.engine.port}", "--messages", self.COUNT, "--size", 200, "--domains", 5)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.everyone = {f"user{n}@d{n % 5}.test" for n in range(self.COUNT)}

    def pages(self, filters="", limit=600):
        """All answers, one after the other."""
        cursor, pages = "", []
        while not pages or cursor:
            status, page = self.engine.api("GET", f"/v1/queue?limit={limit}{filters}" + (f"&cursor={cursor}" if cursor else ""))
            self.assertEqual(status, 200, page)
            self.assertLessEqual(len(page["items"]), limit)
            pages.append([to for item in page["items"] for to in item["recipients"]])
            cursor = page.get("cursor", "")
        return pages

    def test_pages_together_show_each_item_once(self):
        for filters, expected in (
                ("", self.everyone), ("&domain=d3.test", {one for one in self.everyone if one.endswith("@d3.test")}),
                ("&recipient=user7", {one for one in self.everyone if one.startswith("user7")}), ("&state=held", set())):
            listed = [to for page in self.pages(filters) for to in page]
            self.assertEqual(len(listed), len(expected), filters)
            self.assertEqual(set(listed), expected, filters)

    def test_pages_pass_over_what_leaves_meanwhile(self):
        first = self.engine.api("GET", "/v1/queue?limit=600")[1]
        shown = {to for item in first["items"] for to in item["recipients"]}
        self.engine.cli("queue", "delete", "d1.test")
        rest, cursor = [], first["cursor"]
        while cursor:
            page = self.engine.api("GET", f"/v1/queue?limit=600&cursor={cursor}")[1]
            rest += [to for item in page["items"] for to in item["recipients"]]
            cursor = page.get("cursor", "")
        self.assertEqual(len(rest), len(set(rest)))
        self.assertEqual(set(rest), {one for one in self.everyone - shown if not one.endswith("@d1.test")})

    def test_the_command_line_goes_through_all_pages(self):
        self.assertEqual(set(self.listed("--limit", "0")), self.everyone)
        part = self.json("queue", "list", "--limit", "1500")
        self.assertEqual(len(part["items"]), 1500)
        rest = self.json("queue", "list", "--limit", "0", "--cursor", part["cursor"])
        self.assertNotIn("cursor", rest)
        both = {to for item in part["items"] + rest["items"] for to in item["recipients"]}
        self.assertEqual(both, self.everyone)
        table = self.exit_code(0, "queue", "list", "--limit", "0").stdout
        self.assertEqual(len(table.splitlines()), self.COUNT + 1)
        self.assertIn("--cursor", self.exit_code(0, "queue", "list").stderr)
        haraka = sluice("--qlist", "-c", self.engine.directory)
        self.assertEqual(len(haraka.stdout.splitlines()), self.COUNT)

    def test_a_cursor_does_not_outlive_the_engine(self):
        cursor = self.engine.api("GET", "/v1/queue?limit=5")[1]["cursor"]
        self.engine.stop()
        self.engine.start()
        status, body = self.engine.api("GET", f"/v1/queue?limit=5&cursor={cursor}")
        self.assertEqual((status, body["field"]), (422, "cursor"))

    def test_commands_for_all_reach_all_and_last(self):
        self.assertEqual(self.json("queue", "hold", "d2.test")["items"], self.COUNT // 5)
        self.assertEqual(self.json("queue", "hold", "--all")["items"], self.COUNT * 4 // 5)
        self.assertEqual(self.json("status")["queue"]["held"], self.COUNT)
        self.engine.restart_after_kill()
        self.assertEqual(self.json("status")["queue"]["held"], self.COUNT)
        self.assertEqual(self.json("queue", "release", "--all")["items"], self.COUNT)
        self.engine.restart_after_kill()
        queue = self.json("status")["queue"]
        self.assertEqual((queue["items"], queue["held"]), (self.COUNT, 0))
        self.assertEqual(self.json("queue", "delete", "--all")["items"], self.COUNT)
        self.engine.restart_after_kill()
        self.assertEqual(self.json("status")["queue"]["items"], 0)


class QueueCommands(Operator):
    def setUp(self):
        super().setUp()
        self.engine.start()
        self.one = self.inject("one@one.test", "alice@src.test", subject="first")
        self.two = self.inject("two@two.test", "bob@src.test")
        self.three = self.inject("three@two.test", "bob@src.test")

    def item(self, address):
        items = self.json("queue", "list", "--recipient", address)["items"]
        self.assertEqual(len(items), 1, items)
        return items[0]

    def test_status_says_what_the_engine_does(self):
        status = self.json("status")
        self.assertEqual(status["queue"]["items"], 3)
        self.assertTrue(status["accepting"])
        self.assertEqual(status["directory"], str(self.engine.directory))
        self.assertEqual(status["listeners"], [f"127.0.0.1:{self.engine.port}"])
        self.assertEqual(status["journal"]["live_messages"], 3)
        text = self.exit_code(0, "status").stdout
        self.assertRegex(text, r"queued items +3")
        self.assertRegex(text, r"accepting +yes")

    def test_list_by_every_filter(self):
        everyone = ["one@one.test", "three@two.test", "two@two.test"]
        self.assertEqual(self.listed(), everyone)
        self.assertEqual(self.listed("--domain", "TWO.test"), everyone[1:])
        self.assertEqual(self.listed("--sender", "alice"), everyone[:1])
        self.assertEqual(self.listed("--recipient", "three@"), ["three@two.test"])
        self.assertEqual(self.listed("--domain", "two.test", "--recipient", "one"), [])
        self.assertEqual(len(self.listed("--limit", "2")), 2)
        self.engine.cli("queue", "hold", "one.test")
        self.assertEqual(self.listed("--state", "held"), everyone[:1])
        self.assertEqual(self.listed("--state", "sending"), [])
        table = self.exit_code(0, "queue", "list").stdout
        self.assertEqual(len(table.splitlines()), 4)
        for words in (["--state", "asleep"], ["--cursor", "nonsense"], ["--cursor", "1-1"]):
            self.assertNotEqual(self.engine.cli("queue", "list", *words, check=False).returncode, 0, words)
        for limit in (0, 10001):
            self.assertEqual(self.engine.api("GET", f"/v1/queue?limit={limit}")[0], 422)

    def test_stats_count_by_domain(self):
        stats = self.json("queue", "stats")
        self.assertEqual(stats["items"], 3)
        by_domain = {one["domain"]: one for one in stats["domains"]}
        self.assertEqual(sum(by_domain["two.test"][state] for state in ("scheduled", "ready", "sending", "held")), 2)
        self.assertRegex(self.exit_code(0, "queue", "stats").stdout, r"two\.test")

    def test_show_prints_the_header_and_knows_what_is_not_there(self):
        item = self.item("one@one.test")
        self.assertTrue(item["id"].startswith(self.one))
        shown = self.json("queue", "show", item["id"])
        self.assertEqual((shown["sender"], shown["recipients"], shown["subject"]), ("alice@src.test", ["one@one.test"], "first"))
        self.assertIn("Subject: first\r\n", shown["headers"])
        self.assertIn("Received: ", shown["headers"])
        self.assertIn("Subject: first", self.exit_code(0, "queue", "show", item["id"]).stdout)
        gone = re.sub(r"\.\d+$", ".99", item["id"])
        self.exit_code(NOT_FOUND, "queue", "show", gone)
        self.exit_code(NOT_FOUND, "queue", "delete", gone)
        self.exit_code(FAILED, "queue", "show", "nonsense")

    def test_hold_and_release_by_item_by_domain_and_all(self):
        item = self.item("one@one.test")["id"]
        self.assertEqual(self.json("queue", "hold", item)["items"], 1)
        self.exit_code(NOT_FOUND, "queue", "hold", item)  # it is held already
        self.assertEqual(self.json("queue", "hold", "Two.test")["items"], 2)
        self.assertEqual(self.json("status")["queue"]["held"], 3)
        self.restart_delivering()
        self.assertEqual(self.json("status")["queue"]["held"], 3)
        self.assertEqual(self.json("queue", "flush")["items"], 0)  # a flush does not release
        self.assertEqual(self.json("queue", "release", item)["items"], 1)
        self.engine.wait_event("delivered", recipients=["one@one.test"])
        self.assertEqual(len(self.sink.ledger()), 1)
        self.assertEqual(self.json("queue", "release", "--all")["items"], 2)
        self.engine.wait_empty()
        self.assertEqual(len(self.sink.ledger()), 3)

    def test_delete_removes_for_good_without_a_word_to_the_sender(self):
        self.exit_code(FAILED, "queue", "delete")  # everything only when that is said
        self.exit_code(FAILED, "queue", "hold")
        self.exit_code(FAILED, "queue", "release")
        item = self.item("one@one.test")["id"]
        self.assertEqual(self.json("queue", "delete", item)["items"], 1)
        event = self.engine.wait_event("removed", recipients=["one@one.test"])[0]
        self.assertEqual((event["by"], event["sender"]), ("operator", "alice@src.test"))
        self.assertIn("1 items", self.exit_code(0, "queue", "hold", "two.test").stdout.replace("2 items", "1 items"))
        self.assertEqual(self.json("queue", "delete", "two.test")["items"], 2)
        self.engine.wait_event("removed", 3)
        wait_for(lambda: self.json("status")["journal"]["live_messages"] == 0, "an empty journal")
        self.engine.restart_after_kill()
        self.assertEqual(self.listed(), [])
        self.assertEqual(self.engine.events("accepted", sender=""), [], "nobody is told")

    def test_haraka_spellings(self):
        lines = self.exit_code(0, "--qlist").stdout.splitlines()
        self.assertEqual(len(lines), 3)
        for line in lines:
            self.assertRegex(line, r"^Q: \S+ rcpt:1 from:<\w+@src\.test> domain:<\w+\.test>$")
        self.assertIn("queue_count: 3", self.exit_code(0, "--qstat").stdout)
        self.exit_code(0, "--qunstick", "one.test")
        self.exit_code(0, "--qunstick")
        self.assertEqual(self.json("--qdelete", "two.test")["items"], 2)
        self.assertEqual(self.listed(), ["one@one.test"])
        self.exit_code(0, "--qempty")
        self.assertEqual(self.listed(), [])

    def test_dash_c_alone_serves(self):
        self.engine.stop()
        process = self.world.spawn([SLUICE, "-c", self.engine.directory], self.world.directory / "engine.c.log")
        self.engine.process = process
        self.engine.wait_until_serving()
        self.assertEqual(len(self.listed()), 3)
        self.assertEqual(process.stop(), 0)

    def test_show_request_prints_what_is_sent(self):
        done = self.exit_code(0, "queue", "hold", "one.test", "--show-request")
        self.assertRegex(done.stderr, r"curl --unix-socket .*control\.sock.* 'http://localhost/v1/queue/hold'")
        self.assertIn('{"domain":"one.test"}', done.stderr)

    def test_what_show_request_prints_can_be_repeated(self):
        """By a shell, with every octet of the message, and under the same key: nothing is queued a second time."""
        file = self.world.directory / "message"
        file.write_bytes("From: a@src.test\r\nSubject: it's $HOME `here`\r\n\r\nEND\r\n'quoted' \\ %s\r\nEND\r\n\r\n".encode())
        for key in ((), ("--key", "o'clock; \"$(date)\"")):
            queued = self.exit_code(0, "inject", "-f", "o'hara@src.test", "-t", "x@x.test", *key, "--show-request", file)
            again = subprocess.run(["sh", "-c", queued.stderr], capture_output=True, text=True)
            reply = json.loads(again.stdout)
            self.assertEqual(reply["repeated"], bool(key), queued.stderr)
        self.assertEqual(len(self.listed("--domain", "x.test")), 3)
        done = self.exit_code(0, "queue", "list", "--show-request")
        again = subprocess.run(["sh", "-c", done.stderr], capture_output=True, text=True)
        self.assertEqual(len(json.loads(again.stdout)["items"]), 6)
        self.restart_delivering()
        sent = hashlib.sha256(file.read_bytes().partition(b"\r\n\r\n")[2]).hexdigest()
        bodies = [entry["body_sha256"] for entry in self.sink.wait(6)]
        self.assertEqual(bodies.count(sent), 3)

    def test_journal_dump_and_verify_read_a_running_instance(self):
        dumped = self.exit_code(0, "journal", "dump", self.engine.directory).stdout.splitlines()
        messages = [record for record in map(json.loads, dumped) if self.one in json.dumps(record)]
        self.assertEqual(len(messages), 1)
        verified = self.json("journal", "verify", self.engine.directory)
        self.assertTrue(verified["sound"])
        self.assertEqual(verified["messages"], 3)
        self.assertRegex(self.exit_code(0, "journal", "verify", self.engine.directory).stdout, "3 messages: sound")

    def test_inject_from_a_file_and_refusals(self):
        file = self.world.directory / "message"
        file.write_text("From: a@src.test\nSubject: file\n\nline ends of Unix\n")
        self.exit_code(0, "inject", "-f", "", "-t", "x@x.test", "-t", "y@x.test", file)
        self.assertEqual(self.listed("--domain", "x.test"), ["x@x.test", "y@x.test"])
        for words in (["-f", "a@src.test", "-t", "no address"], ["-f", "@", "-t", "b@dst.test"]):
            done = self.exit_code(FAILED, "inject", *words, file)
            self.assertRegex(done.stderr, "to|from")
        self.exit_code(FAILED, "inject", "-f", "a@src.test", "-t", "b@dst.test", self.world.directory / "missing")

    def test_an_idempotency_key_queues_once_also_after_a_kill(self):
        first = self.inject("k@key.test", key="order 4711")
        self.assertEqual(self.inject("k@key.test", key="order 4711"), first)
        self.engine.restart_after_kill()
        self.assertEqual(self.inject("k@key.test", key="order 4711"), first)
        self.assertNotEqual(self.inject("k@key.test", key="order 4712"), first)
        self.assertEqual(len(self.listed("--domain", "key.test")), 2)
        said = self.engine.cli("inject", "-f", "a@src.test", "-t", "k@key.test", "--key", "order 4711", input=self.message())
        self.assertIn("already queued", said.stdout)


class Routes(Operator):
    """The HTTP API: what it answers, and what it refuses."""

    def post(self, path, body, **more):
        return self.engine.api("POST", path, body, **more)

    def raw(self, octets, port=None):
        """The status of a request sent octet by octet as given."""
        link = socket.create_connection(("127.0.0.1", port)) if port else socket.socket(socket.AF_UNIX)
        with link:
            if not port:
                link.connect(str(self.engine.directory / "run" / "control.sock"))
            link.settimeout(20)
            link.sendall(octets)
            reply = b""
            while b"\r\n" not in reply:
                more = link.recv(4096)
                if not more:
                    break
                reply += more
        return int(reply.split()[1]) if reply else 0

    def test_openapi_lists_exactly_the_routes_that_answer(self):
        self.engine.start()
        ident = self.inject("one@one.test")
        document = self.engine.api("GET", "/v1/openapi.json")[1]
        self.assertEqual(document["openapi"][:2], "3.")
        listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
        self.assertGreaterEqual(len(listed), 13)
        for method, path in sorted(listed):
            item = path.replace("{id}", ident + ".1")
            status, body = self.engine.api(method, item, {} if method == "POST" else None)
            self.assertNotIn(status, (405, 500), f"{method} {path}: {body}")
            self.assertNotEqual(body, {"error": "no such resource"}, f"{method} {path}")
            declared = document["paths"][path][method.lower()]["responses"]
            if method == "GET":
                self.assertIn(str(status), declared, f"{method} {path}")
            # The other method is not served there.
            other = "POST" if method == "GET" else "GET"
            if (other, path) not in listed:
                self.assertIn(self.engine.api(other, item, {} if other == "POST" else None)[0], (404, 405), f"{other} {path}")
        served = set()
        for name in ("routes.cc", "queue_routes.cc", "memory_routes.cc", "plugin_routes.cc", "import_routes.cc"):
            with open(__file__.replace("test/e2e/test_control.py", f"src/control/{name}"), encoding="utf-8") as source:
                served |= set(re.findall(r'"(/(?:v1/[\w./]+|health|metrics))"', source.read()))
        documented = {re.sub(r"\{.*", "", path) for _, path in listed}
        self.assertEqual(served, documented)

    def test_every_query_parameter_that_is_declared_is_taken(self):
        self.engine.start()
        self.inject("one@one.test")
        self.inject("two@one.test")
        document = self.engine.api("GET", "/v1/openapi.json")[1]
        values = {"limit": "5", "state": "held", "where": "age%3E2h", "cursor": self.engine.api("GET", "/v1/queue?limit=1")[1]["cursor"]}
        for parameter in document["paths"]["/v1/queue"]["get"]["parameters"]:
            if "$ref" in parameter:
                parameter = document["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
            path = f"/v1/queue?{parameter['name']}={values.get(parameter['name'], 'x')}"
            self.assertEqual(self.engine.api("GET", path)[0], 200, path)
        status, body = self.engine.api("GET", "/v1/queue?sort=up")
        self.assertEqual((status, body["field"]), (422, "sort"))

    def test_selections_are_strict(self):
        self.engine.start()
        self.inject("one@one.test")
        for body in ({}, {"all": False}, {"domain": ""}, {"all": True, "domain": "one.test"}, {"item": "x"}, {"item": 7},
                     {"domain": None}, {"domains": ["one.test"]}, {"all": "true"}):
            status, answer = self.post("/v1/queue/delete", body)
            self.assertEqual(status, 422, f"{body}: {answer}")
        self.assertEqual(self.listed(), ["one@one.test"])

    def test_bodies_that_are_not_what_they_should_be(self):
        self.engine.start()
        for path in ("/v1/queue/flush", "/v1/messages", "/v1/reload"):
            for text in ("", "{", "[1]", "nonsense", '{"a":1}}', "\x00"):
                self.assertEqual(self.post(path, text)[0], 400, f"{path} {text!r}")
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
                self.assertEqual(self.post(path, '{"all": true}', content_type=kind)[0], 415, f"{path} {kind}")
        self.assertEqual(self.post("/v1/queue/flush", '{"all":true}', content_type="Application/JSON; charset=utf-8")[0], 200)
        deep = "[" * 100000
        self.assertEqual(self.post("/v1/messages", deep)[0], 400)

    def test_injection_names_the_field_at_fault(self):
        self.engine.start()
        good = {"from": "a@src.test", "to": ["b@dst.test"], "message": "Subject: x\r\n\r\nbody\r\n"}
        status, answer = self.post("/v1/messages", good)
        self.assertEqual((status, answer["repeated"]), (202, False))
        for change, word in (({"to": []}, "to"), ({"to": "b@dst.test"}, "to"), ({"to": [7]}, "to"), ({"from": "no address"}, "from"),
                             ({"from": 3}, "from"), ({"to": ["b@"]}, "to"), ({"priority": 8}, "priority"), ({"color": "red"}, "color"),
                             ({"message": 1}, "message"), ({"from": "a@src.test\r\nRCPT TO:<x@y.test>"}, "from")):
            status, answer = self.post("/v1/messages", {**good, **change})
            self.assertIn(status, (400, 422), f"{change}: {answer}")
            self.assertIn(word, json.dumps(answer), change)
        self.assertEqual(len(self.listed()), 1)

    def test_injection_needs_sender_recipients_and_message(self):
        self.engine.start()
        good = {"from": "a@src.test", "to": ["b@dst.test"], "message": "Subject: x\r\n\r\nbody\r\n"}
        for missing in ("to", "from", "message"):
            status, answer = self.post("/v1/messages", {key: value for key, value in good.items() if key != missing})
            self.assertIn(status, (400, 422), f"without {missing}: {answer}")
        status, answer = self.post("/v1/messages?to=b%40dst.test", self.message(), content_type="message/rfc822")
        self.assertIn(status, (400, 422), f"without from: {answer}")
        self.assertEqual(self.listed(), [])

    def test_a_wrong_field_is_a_422_as_the_description_says(self):
        self.engine.start()
        good = {"from": "a@src.test", "to": ["b@dst.test"], "message": "Subject: x\r\n\r\nbody\r\n"}
        for change in ({"color": "red"}, {"to": [7]}, {"priority": 8}):
            self.assertEqual(self.post("/v1/messages", {**good, **change})[0], 422, change)

    def test_what_was_injected_can_be_seen_at_once(self):
        self.engine.start()
        good = {"from": "a@src.test", "to": ["b@dst.test"], "message": "Subject: x\r\n\r\nbody\r\n"}
        for number in range(200):
            status, answer = self.post("/v1/messages", good)
            self.assertEqual(status, 202)
            status, _ = self.engine.api("GET", f"/v1/queue/items/{answer['id']}.1")
            self.assertEqual(status, 200, f"injection {number} was confirmed but its item is not there")

    def test_percent_escapes(self):
        self.engine.start()
        path = "/v1/messages?from=a%2Btag%40src.test&to=%22b%20c%22%40dst.test"
        self.assertEqual(self.post(path, self.message(), content_type="message/rfc822")[0], 202)
        found = "/v1/queue?recipient=%22b%20c%22&sender=a%2Btag"
        item = wait_for(lambda: self.engine.api("GET", found)[1]["items"], "the item")[0]
        self.assertEqual((item["sender"], item["recipients"]), ("a+tag@src.test", ['"b c"@dst.test']))
        for path in ("/v1/queue?domain=%", "/v1/queue?domain=%4", "/v1/queue?domain=%zz", "/v1/%gg"):
            self.assertEqual(self.engine.api("GET", path)[0], 400, path)
        self.assertEqual(self.engine.api("GET", "/v1/%73tatus")[0], 200)
        # An escape that makes a line end must not make a command of the SMTP dialogue.
        status = self.post("/v1/messages?from=a%40src.test%0d%0aDATA&to=b%40dst.test", "x", content_type="message/rfc822")[0]
        self.assertIn(status, (400, 422))

    def test_a_message_over_the_limit_is_413(self):
        self.engine.set("connection.ini", "max", bytes="100k").start()
        big = self.message() + "x" * 70 + ("\r\n" + "y" * 70) * 3000
        path = "/v1/messages?from=a%40src.test&to=b%40dst.test"
        self.assertEqual(self.post(path, big, content_type="message/rfc822")[0], 413)
        self.assertEqual(self.listed(), [])

    def test_oversize_is_413_and_what_is_not_http_is_400(self):
        self.engine.start()
        self.assertEqual(self.raw(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"), 413)
        self.assertEqual(self.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20000 + b"\r\n\r\n"), 413)
        for nonsense in (b"hello\r\n\r\n", b"GET health HTTP/1.1\r\n\r\n", b"POST /v1/reload HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                         b"POST /v1/reload HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
                         b"POST /v1/reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
            self.assertEqual(self.raw(nonsense), 400, nonsense)
        self.assertEqual(self.raw(b"DELETE /v1/queue HTTP/1.1\r\nHost: x\r\n\r\n"), 405)
        self.assertEqual(self.engine.api("GET", "/nothing")[0], 404)
        self.assertEqual(self.engine.api("GET", "/health")[0], 200)

    def test_two_requests_in_one_packet_are_answered_in_order(self):
        self.engine.start()
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.engine.directory / "run" / "control.sock"))
            link.settimeout(20)
            link.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            text = b""
            while more := link.recv(65536):
                text += more
        self.assertEqual(re.findall(rb"^HTTP/1.1 (\d+)", text, re.M), [b"200", b"404"])

    def test_metrics_parse_and_count(self):
        self.engine.start()
        self.inject("one@one.test")
        text = self.engine.api("GET", "/metrics")[1]
        values, kinds = {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.assertNotIn(name, kinds, "one TYPE line a metric")
                kinds[name] = kind
            elif line and not line.startswith("#"):
                match = re.fullmatch(r"([a-zA-Z_:][\w:]*)(\{[a-z_]+=\"[^\"]*\"(?:,[a-z_]+=\"[^\"]*\")*\})? (\S+)", line)
                self.assertIsNotNone(match, line)
                values[match[1] + (match[2] or "")] = float(match[3])
                self.assertIn(re.sub(r"_(bucket|sum|count)$", "", match[1]) if match[1] not in kinds else match[1], kinds, line)
        self.assertEqual(values["sluice_accepted_messages_total"], 1)
        self.assertEqual(values["sluice_queue_items"], 1)
        self.assertEqual(values["sluice_accepting"], 1)
        buckets = [value for name, value in values.items() if name.startswith("sluice_delivery_seconds_bucket")]
        self.assertEqual(buckets, sorted(buckets))
        # Every metric of the reference page is there, and no other; those of plugins are in test_plugin_tools.
        with open(__file__.replace("test/e2e/test_control.py", "docs/reference/metrics.md"), encoding="utf-8") as page:
            named = set()
            for line in page:
                if not line.startswith("| `"):
                    continue
                cell = re.findall(r"`([^`]+)`", line.split("|")[1])
                first = cell[0].partition("{")[0]
                stem = "sluice_queue" if first == "sluice_queue_items" else "sluice_journal" if first.startswith("sluice_journal") else first
                named |= {first} | {stem + one for one in cell[1:] if one.startswith("_")} | {one for one in cell[1:] if one.startswith("sluice")}
        self.assertEqual(set(kinds), {name for name in named if not name.startswith("sluice_plugin")})


class OverTcp(Operator):
    TOKEN = "correct-horse-battery-staple"

    def setUp(self):
        super().setUp()
        self.http_port = free_port()
        self.engine.set("http.ini", listen=f"127.0.0.1:{self.http_port}", token=self.TOKEN).start()

    def ask(self, path="/v1/status", method="GET", **headers):
        link = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=20)
        try:
            link.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                link.putheader(name, value)
            link.endheaders()
            return link.getresponse().status
        finally:
            link.close()

    def test_only_the_token_opens_it(self):
        bearer = f"Bearer {self.TOKEN}"
        self.assertEqual(self.ask(Authorization=bearer), 200)
        self.assertEqual(self.ask(Authorization="bearer " + self.TOKEN), 200)  # RFC 9110: schemes have no case
        for wrong in ("", self.TOKEN, "Bearer ", bearer[:-1], bearer + "x", "Basic " + self.TOKEN, bearer.upper()):
            self.assertEqual(self.ask(Authorization=wrong), 401, wrong)
        for path in ("/v1/status", "/metrics", "/v1/queue", "/health", "/nothing"):
            self.assertEqual(self.ask(path), 401, path)
        self.assertNotIn(self.TOKEN, self.engine.process.output())

    def test_a_foreign_host_name_is_refused(self):
        bearer = f"Bearer {self.TOKEN}"
        for ours in ("localhost", f"localhost:{self.http_port}", "127.0.0.1", f"[::1]:{self.http_port}", "mx.sluice.test", "MX.sluice.test:1"):
            self.assertEqual(self.ask(Host=ours, Authorization=bearer), 200, ours)
        for foreign in ("evil.test", "evil.test:80", "localhost.evil.test", "127.0.0.1.evil.test", "x@localhost"):
            self.assertEqual(self.ask(Host=foreign, Authorization=bearer), 421, foreign)

    def test_the_token_changes_at_once(self):
        self.engine.set("http.ini", token="another-horse-battery-staple").write()
        wait_for(lambda: self.ask(Authorization="Bearer another-horse-battery-staple") == 200, "the new token", 3)
        self.assertEqual(self.ask(Authorization=f"Bearer {self.TOKEN}"), 401)

    def test_listening_beyond_loopback_needs_a_token(self):
        self.engine.stop()
        (self.engine.config / "http.ini").write_text(f"listen=0.0.0.0:{self.http_port}\n")
        self.assertIn("config/http.ini:1", sluice("check", self.engine.directory).stdout)
        # It starts, as a Haraka instance must, but is not served there.
        self.engine.settings.pop("http.ini")
        self.engine.start()
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.http_port), timeout=5)

    def test_the_socket_belongs_to_the_owner_alone(self):
        mode = (self.engine.directory / "run" / "control.sock").stat().st_mode
        self.assertEqual(mode & 0o777, 0o600)


if __name__ == "__main__":
    unittest.main()
