"""What operators do with a deep queue: filter, count, explain, and act on many at once, while mail flows and over kill -9."""

import json
import threading
import unittest

from world import EndToEnd, free_port, wait_for

POLICY = """policies:
- name: narrow
  fields: [recipientdomain]
  conditions:
  - if: { recipientdomain: narrow.test }
    then: { concurrency: 1 }
"""


class Desk(EndToEnd):
    """Domains that are down, so that mail stays: fifteen hundred items of three tenants."""

    DOMAINS = [f"d{n}.down.test" for n in range(5)]
    EACH = 300

    def setUp(self):
        super().setUp()
        self.sink = self.world.sink()
        self.engine = self.world.engine().route("alive.test", self.sink.endpoint)
        self.engine.set("outbound.ini", temp_fail_intervals="1h,2h,4h", retry_jitter="false")
        for domain in self.DOMAINS:
            self.engine.route(domain, f"127.0.0.1:{free_port()}")
        self.engine.files["policy.yaml"] = POLICY

    def inject(self, to, tenant="", sender="a@src.test", subject="test"):
        body = {"from": sender, "to": [to], "message": f"Subject: {subject}\r\n\r\nx\r\n", "tenant": tenant}
        status, answer = self.engine.api("POST", "/v1/messages", body)
        self.assertEqual(status, 202, answer)
        return answer["id"]

    def fill(self):
        """Returns the ids of the messages by domain, all of which were tried once and wait for an hour."""
        ids = {domain: [] for domain in self.DOMAINS}
        jobs = [(domain, n) for n in range(self.EACH) for domain in self.DOMAINS]
        lock = threading.Lock()

        def work():
            while True:
                with lock:
                    if not jobs:
                        return
                    domain, n = jobs.pop()
                one = self.inject(f"u{n}@{domain}", tenant=["red", "green", "blue"][n % 3], sender=f"s{n % 10}@src.test")
                with lock:
                    ids[domain].append(one)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: self.stats()["scheduled"] == self.EACH * len(self.DOMAINS), "every item to be deferred")
        return ids

    def stats(self):
        return self.engine.api("GET", "/v1/queue/stats")[1]

    def json(self, *arguments):
        return json.loads(self.engine.cli(*arguments, "--json").stdout)

    def groups(self, *arguments):
        return {tuple(group["key"]): group for group in self.json("queue", "count", *arguments)["groups"]}

    def left(self):
        """Ids of all queued messages."""
        return {item["message"] for item in self.json("queue", "list", "--limit", 0)["items"]}


class Questions(Desk):
    def test_filters_groups_and_the_shape_agree_with_the_list(self):
        self.engine.start()
        self.fill()
        by_domain = self.groups("--by", "domain")
        self.assertEqual({key[0]: group["items"] for key, group in by_domain.items()}, dict.fromkeys(self.DOMAINS, self.EACH))
        by_two = self.groups("--by", "tenant,domain", "--where", "domain=d0.down.test,d1.down.test")
        self.assertEqual(len(by_two), 6)
        for group in by_two.values():
            listed = self.json("queue", "list", "--limit", 0, "--where", group["where"])["items"]
            self.assertEqual(len(listed), group["items"], group["where"])
        # Every item was refused by a closed port: the last reply says so, and groups by it.
        replies = self.groups("--by", "replycode")
        self.assertEqual(sum(group["items"] for group in replies.values()), self.EACH * len(self.DOMAINS))
        self.assertIn("refused", next(iter(replies))[0])
        # What only the message knows.
        mine = self.groups("--by", "domain", "--where", "sender=s3@src.test subject=test attempts=1 next<=1h")
        self.assertEqual(sum(group["items"] for group in mine.values()), self.EACH * len(self.DOMAINS) // 10)
        shape = self.json("queue", "shape", "--by", "tenant")
        self.assertEqual(sum(shape["total"]["ages"]), self.EACH * len(self.DOMAINS))
        self.assertEqual(sum(shape["total"]["nexts"]), self.EACH * len(self.DOMAINS))
        table = self.engine.cli("queue", "shape", "--by", "tenant", "--next").stdout
        self.assertIn("NEXT<=1h", table)
        self.assertIn("green", table)

    def test_what_is_wrong_with_a_filter_is_said(self):
        self.engine.start()
        done = self.engine.cli("queue", "list", "--where", "domian=x", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("did you mean `domain`?", done.stderr)
        status, answer = self.engine.api("GET", "/v1/queue/groups?by=tenat")
        self.assertEqual((status, answer["field"]), (422, "tenat"))
        status, answer = self.engine.api("POST", "/v1/queue/jobs", {"action": "delete", "where": "age>2x"})
        self.assertEqual((status, answer["field"]), (422, "age"))
        self.assertNotEqual(self.engine.cli("queue", "delete", check=False).returncode, 0)

    def test_explain_names_the_policy_that_blocks(self):
        slow = self.world.sink("--rule", "dot=delay 60000")
        self.engine.route("narrow.test", slow.endpoint).start()
        first = self.inject("a@narrow.test")
        wait_for(lambda: self.stats()["sending"] == 1, "the first one to be sent")
        second = self.inject("b@narrow.test")
        wait_for(lambda: self.stats()["ready"] == 1, "the second one to wait")
        said = self.engine.cli("explain", second).stdout
        self.assertIn("is ready: it waits for capacity", said)
        self.assertIn("is blocked by the policy narrow: all its sessions are taken", said)
        self.assertIn("narrow[recipientdomain=narrow.test]: 1 session", said)
        self.assertIn("policy.yaml line 5", said)
        self.assertIn("1 of 1 session in use", said)
        sending = self.engine.cli("explain", first + ".1").stdout
        self.assertIn(f"is being sent to {slow.endpoint}", sending)
        domain = self.engine.cli("explain", "narrow.test").stdout
        self.assertIn("wait at narrow[recipientdomain=narrow.test]", domain)
        bucket = self.engine.cli("explain", "narrow[recipientdomain=narrow.test]").stdout
        self.assertIn("Nothing that needs a new session may start there", bucket)
        values = self.json("explain", second)["explanations"][0]
        self.assertEqual(values["place"]["candidates"][0]["blocked_by"], "narrow[recipientdomain=narrow.test]")
        waiting = self.json("queue", "buckets", "--waiting")["buckets"]
        self.assertEqual([(b["policy"], b["used"], b["waiting"], b["blocked"]) for b in waiting], [("narrow", 1, 1, "concurrency")])
        self.assertEqual(self.engine.cli("explain", "nobody.test", check=False).returncode, 3)
        slow.process.kill()


class Bulk(Desk):
    def test_exactly_the_matching_ones_are_deleted_while_mail_flows(self):
        self.engine.start()
        ids = self.fill()
        where = "domain=d0.down.test,d1.down.test tenant=red"
        dry = self.json("queue", "delete", "--where", where, "--dry-run")["matched"]
        red = len([n for n in range(self.EACH) if n % 3 == 0])
        self.assertEqual(dry, 2 * red)
        self.assertEqual(self.stats()["scheduled"], self.EACH * len(self.DOMAINS))
        goes = {item["message"] for item in self.json("queue", "list", "--limit", 0, "--where", where)["items"]}
        before = self.left()
        flowing = threading.Thread(target=lambda: [self.inject("x@alive.test") for _ in range(50)])
        flowing.start()
        job = self.json("queue", "delete", "--where", where)
        flowing.join()
        self.assertEqual((job["state"], job["done"], job["matched"]), ("done", dry, dry))
        self.sink.wait(50)
        wait_for(lambda: self.left() == before - goes, "exactly the others to be left")
        removed = {event["message"] for event in self.engine.wait_event("removed", dry)}
        self.assertEqual(removed, goes)
        self.assertLessEqual(goes, set(ids["d0.down.test"]) | set(ids["d1.down.test"]))
        # And after a restart.
        self.engine.restart_after_kill()
        self.assertEqual(self.left(), before - goes)

    def test_a_kill_in_the_middle_leaves_each_item_done_or_not(self):
        self.engine.start()
        self.fill()
        before = self.left()
        where = "domain=d1.down.test,d2.down.test,d3.down.test"
        goes = {item["message"] for item in self.json("queue", "list", "--limit", 0, "--where", where)["items"]}
        self.engine.cli("queue", "delete", "--where", where, "--background")
        wait_for(lambda: self.stats()["items"] < len(before), "the job to begin")
        self.engine.restart_after_kill()
        left = self.left()
        self.assertLessEqual(before - goes, left)
        self.assertLessEqual(left, before)
        # What a job said was done is done; the rest can be done again.
        self.assertEqual(self.json("queue", "jobs")["jobs"], [])
        self.assertEqual(self.json("queue", "delete", "--where", where)["done"], len(left & goes))
        self.assertEqual(self.left(), before - goes)

    def test_changes_and_holds_outlive_a_kill(self):
        self.engine.start()
        self.fill()
        self.engine.cli("queue", "change", "--where", "domain=d0.down.test", "--tenant", "violet", "--priority", 6, "--job", "moved")
        self.engine.cli("queue", "hold", "--where", "domain=d0.down.test")
        self.engine.cli("queue", "hold", "--where", "domain=d4.down.test tenant=red")
        self.engine.restart_after_kill()
        moved = self.groups("--by", "tenant,priority,job,state", "--where", "domain=d0.down.test")
        self.assertEqual({key: group["items"] for key, group in moved.items()}, {("violet", "6", "moved", "held"): self.EACH})
        self.engine.cli("queue", "release", "--where", "tenant=violet")
        self.engine.restart_after_kill()
        moved = self.groups("--by", "tenant,state", "--where", "priority=6")
        self.assertEqual(list(moved), [("violet", "scheduled")])
        # Replies are those of the journal.
        self.assertIn("refused", next(iter(self.groups("--by", "replycode")))[0])

    def test_bounced_items_tell_their_senders(self):
        self.engine.route("src.test", self.sink.endpoint).start()
        self.fill()
        self.engine.cli("queue", "bounce", "--where", "domain=d0.down.test sender=s1@src.test", "--reason", "this campaign was a mistake")
        count = self.EACH // 10
        told = self.sink.wait(count)
        self.assertEqual(len(told), count)
        self.assertEqual({(one["from"], tuple(one["to"])) for one in told}, {("", ("s1@src.test",))})
        bounced = self.engine.wait_event("bounced", count)
        self.assertTrue(all("554 5.7.1 this campaign was a mistake" in event["reply"] for event in bounced), bounced[0])
        self.assertEqual(self.stats()["scheduled"], self.EACH * len(self.DOMAINS) - count)

    def test_a_job_can_be_cancelled_and_in_flight_mail_is_dealt_with_later(self):
        slow = self.world.sink("--rule", "dot=delay 3000")
        self.engine.route("narrow.test", slow.endpoint).start()
        self.inject("a@narrow.test")
        wait_for(lambda: self.stats()["sending"] == 1, "it to be sent")
        job = self.json("queue", "hold", "--where", "domain=narrow.test")
        self.assertEqual(job["done"], 1)
        slow.wait(1)
        wait_for(lambda: self.stats()["items"] == 0, "the attempt to decide it")
        status, answer = self.engine.api("POST", "/v1/queue/jobs/99/cancel", {})
        self.assertEqual(status, 404, answer)
        jobs = self.engine.cli("queue", "jobs").stdout
        self.assertIn("domain=narrow.test", jobs)


if __name__ == "__main__":
    unittest.main()
