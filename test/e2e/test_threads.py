"""Everything at once, for a few seconds: what ThreadSanitizer is to look at. The mix is short, the checks are exact."""

import contextlib
import json
import random
import smtplib
import subprocess
import threading
import time
import unittest

from world import SLUICE, EndToEnd, wait_for

SECONDS = 5


class Busy(EndToEnd):
    def setUp(self):
        super().setUp()
        rules = ["rcpt%5=550 5.1.1 no", "rcpt%5=451 4.2.0 later", "dot%2=drop"]
        self.sink = self.world.sink("--threads", "2", *[word for rule in rules for word in ("--rule", rule)])
        self.told = self.world.sink(name="told")
        self.engine = self.world.engine().route("any", self.sink.endpoint).route("src.test", self.told.endpoint)
        self.engine.set("smtp.ini", shards=2).set("spool.ini", segment_bytes="1M").set("outbound.ini", temp_fail_intervals="5s*24")
        self.failures, self.stopping = [], threading.Event()

    def forever(self, work):
        """A thread that repeats `work` until the end; what it raises is a failure of the test."""
        def run():
            try:
                while not self.stopping.is_set():
                    work()
            except Exception as error:  # reported by the test, whatever it is
                self.failures.append(f"{work.__name__}: {error!r}")

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def expect(self, status, *wanted):
        if status not in wanted:
            raise AssertionError(f"status {status}, not {wanted}")

    def look(self):
        for path in ("/v1/status", "/metrics", "/v1/queue/stats", "/v1/queue?limit=50", "/v1/queue?recipient=u1&limit=5", "/health"):
            self.expect(self.engine.api("GET", path)[0], 200)
        time.sleep(0.02)

    def show(self):
        for item in self.engine.api("GET", "/v1/queue?limit=3")[1]["items"]:
            self.expect(self.engine.api("GET", "/v1/queue/items/" + item["id"])[0], 200, 404)
        time.sleep(0.01)

    def hold_and_release(self):
        domain = f"d{random.randrange(8)}.test"
        for command in ("hold", "release", "flush"):
            self.expect(self.engine.api("POST", f"/v1/queue/{command}", {"domain": domain})[0], 200)
        time.sleep(0.02)

    def inject(self):
        body = {"from": "a@src.test", "to": ["i@d1.test", "j@d2.test"], "message": self.message()}
        status, answer = self.engine.api("POST", "/v1/messages", body, headers={"Idempotency-Key": str(random.randrange(50))})
        self.expect(status, 200, 202)
        self.injected.add(answer["id"])

    def reload(self):
        self.engine.set("outbound.ini", destination_concurrency=random.choice([2, 20, 50]), enable_tls=random.choice(["true", "false"]))
        self.engine.set("log.ini", level=random.choice(["info", "notice", "debug"])).write()
        self.expect(self.engine.api("POST", "/v1/reload", {})[0], 200)
        time.sleep(0.5)

    def come_and_go(self):
        with contextlib.suppress(smtplib.SMTPException, OSError), smtplib.SMTP("127.0.0.1", self.engine.port, timeout=20) as client:
            client.ehlo("test")
            client.mail("a@src.test")
            client.rcpt("b@d3.test")
            if random.random() < 0.5:
                client.sock.close()

    def test_everything_at_once(self):
        self.engine.start()
        self.injected = set()
        source = self.world.directory / "source"
        blasts = [self.world.spawn(
            [SLUICE, "blast", "--target", f"127.0.0.1:{self.engine.port}", "--messages", "1000000", "--sessions", "4", "--rate", "200",
             "--to", f"u{number}-%n@d%d.test", "--domains", "8", "--recipients", "2", "--ledger", source, "--protocol", protocol,
             "--per-connection", "20", "--keep-going", "--from", "a@src.test"], self.world.directory / f"blast{number}.log")
            for number, protocol in enumerate(("plain", "pipelining", "chunking"))]
        works = [self.look, self.show, self.hold_and_release, self.inject, self.reload, self.come_and_go]
        threads = [self.forever(work) for work in works]
        self.stopping.wait(SECONDS)  # the length of the run
        self.stopping.set()
        for thread in threads:
            thread.join()
        # It stops in the middle of the load, starts again and finishes everything.
        self.assertEqual(self.engine.stop(), 0)
        for blast in blasts:
            blast.kill()
        self.assertEqual(self.failures, [])
        self.engine.set("log.ini", level="info").start()
        self.engine.cli("queue", "release", "--all")
        self.drain()
        self.engine.wait_empty()
        acked = {to for line in source.read_text().splitlines() for to in json.loads(line)["to"]}
        self.assertGreater(len(acked), 50)
        self.assertGreater(len(self.injected), 10)
        self.assertEqual(self.engine.stop(), 0)
        self.check_everybody_is_decided(acked)
        subprocess.run([SLUICE, "journal", "verify", self.engine.directory], check=True, capture_output=True)

    def check_everybody_is_decided(self, acked):
        events = self.engine.events()
        decided = {to for event in events if event["event"] in ("delivered", "bounced") for to in event["recipients"]}
        arrived = {to for line in self.sink.ledger() for to in line["to"]}
        for to in sorted(acked - decided)[:3]:
            known = [event for event in events if to in event.get("recipients", ())]
            self.fail(f"{to} was accepted and not decided; arrived: {to in arrived}; events: {known}")

    def drain(self):
        def empty():
            self.engine.api("POST", "/v1/queue/flush", {"all": True})
            return self.engine.api("GET", "/v1/status")[1]["queue"]["items"] == 0

        wait_for(empty, "an empty queue")


if __name__ == "__main__":
    unittest.main()
