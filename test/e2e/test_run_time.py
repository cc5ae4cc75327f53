"""Conditions and suspensions that an operator sets while the engine runs: obeyed, shown, undone, and kept over any death."""

import json
import re

from world import EndToEnd, wait_for

NOT_FOUND, FAILED, USAGE, BAD_CONFIG = 3, 1, 2, 78
PER_DOMAIN = """- name: domains
  fields: [{recipientdomain: {big: ['*.big.test']}}]
  default: {concurrency: 5}
- name: hosts
  fields: [remotemx]
"""


class RunTime(EndToEnd):
    def setUp(self):
        super().setUp()
        self.sink = self.world.sink()
        self.engine = self.world.engine().route("any", self.sink.endpoint)
        self.engine.files["policy.yaml"] = PER_DOMAIN

    def inject(self, count=1, domain="x.test"):
        for number in range(count):
            to = f"u{number}@{domain}"
            self.engine.cli("inject", "-f", "a@src.test", "-t", to, input=self.message(f"to {domain}", to=to))

    def json(self, *arguments):
        return json.loads(self.engine.cli(*arguments, "--json").stdout)

    def suspensions(self):
        return {one["id"]: one for one in self.json("suspend", "list")["suspensions"]}

    def conditions(self):
        return {one["id"]: one for one in self.json("policy", "list")["conditions"]}

    def ready(self):
        return self.json("queue", "stats")["ready"]

    def refused(self, code, *arguments):
        done = self.engine.cli(*arguments, check=False)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stdout}{done.stderr}")
        return done.stderr

    def test_a_suspension_holds_mail_and_survives_kill_9(self):
        self.engine.start()
        added = self.json("suspend", "add", "--if", "recipientdomain=x.test", "--reason", "they asked", "--author", "me", "--property", "k=v")
        # The journal has it; what events.jsonl has not written yet would be lost.
        wait_for(lambda: self.engine.events("suspension", id=added["id"]), "the event")
        self.engine.restart_after_kill()
        self.inject(3)
        self.inject(2, "y.test")
        self.sink.wait(2)
        wait_for(lambda: self.ready() == 3, "the mail to be ready")
        self.assertEqual(len(self.sink.ledger()), 2)
        said = self.suspensions()[added["id"]]
        self.assertEqual((said["reason"], said["author"], said["in_force"], said["lanes"], said["from"]), ("they asked", "me", True, 1, "run time"))
        self.assertEqual(said["properties"], {"k": "v"})
        tried = self.engine.cli("suspend", "add", "--if", "recipientdomain=*.test", "--dry-run").stdout
        self.assertEqual(tried, "matches 3 waiting messages\n")
        self.assertEqual(list(self.suspensions()), [added["id"]])
        self.engine.cli("suspend", "delete", added["id"], "--reason", "over", "--author", "her")
        self.sink.wait(5)
        self.engine.wait_empty()
        # Events may be lost with a process that is killed; what they tell of is not.
        removed = self.engine.wait_event("suspension", id=added["id"], change="removed")[0]
        self.assertEqual((removed["by"], removed["reason"], removed["definition"]["author"]), ("her", "over", "me"))
        self.engine.restart_after_kill()
        self.assertEqual(self.suspensions(), {})

    def test_a_condition_is_obeyed_and_survives_kill_9(self):
        self.engine.start()
        self.engine.cli("policy", "add", "--id", "slow", "--if", "recipientdomain=#big", "--rate", "3/600", "--class", "back_off", "--ttl", "1h",
                        "--tag", "t", "--reason", "421 4.7.28")
        self.engine.restart_after_kill()
        slow = self.conditions()["slow"]
        self.assertEqual((slow["class"], slow["limits"], slow["match"], slow["policy"][:6]), ("back_off", "3 per 600 s", "recipientdomain #big", "policy"))
        self.assertFalse(slow["idle"])
        self.assertRegex(slow["expires"], r"^20\d\d-")
        for number in range(6):
            self.inject(1, f"d{number}.big.test")
        self.inject(3, "x.test")
        # A token comes every 200 seconds: one message of the group passes.
        self.sink.wait(4)
        wait_for(lambda: self.ready() == 5, "the rest to wait")
        self.assertEqual(self.conditions()["slow"]["buckets"], 1)
        tried = self.engine.cli("policy", "add", "--if", "recipientdomain=#big", "--concurrency", "1", "--dry-run").stdout
        self.assertEqual(tried, "matches 1 bucket, 5 waiting messages\n")
        self.engine.cli("policy", "delete", "slow")
        self.sink.wait(9)
        self.engine.wait_empty()
        self.engine.restart_after_kill()
        self.assertEqual(self.conditions(), {})

    def test_what_says_the_same_is_renewed_and_an_id_is_replaced(self):
        self.engine.start()
        first = self.json("policy", "add", "--if", "recipientdomain=x.test", "--rate", "10/60")
        again = self.json("policy", "add", "--if", "recipientdomain=X.test", "--rate", "5/60", "--rate", "100/3600")
        self.assertEqual((first["updated"], again["updated"], again["id"]), (False, True, first["id"]))
        self.assertEqual([one["limits"] for one in self.conditions().values()], ["5 per 60 s, 100 per 3600 s"])
        self.json("policy", "add", "--id", first["id"], "--if", "remotemx=mx.other.test", "--concurrency", "2", "--connect-interval", "0.5")
        self.assertEqual([one["limits"] for one in self.conditions().values()], ["2 sessions, a new session every 0.5 s"])
        table = self.engine.cli("policy", "list").stdout.splitlines()
        self.assertRegex(table[0], r"^ID +CLASS +MATCH +LIMITS +UNTIL +BUCKETS +BY +REASON$")
        self.assertIn("remotemx mx.other.test", table[1])
        self.assertEqual([one["change"] for one in self.engine.events("condition")], ["added", "updated", "updated"])
        one = self.json("suspend", "add", "--if", "tenantid=t", "--ttl", "60")
        two = self.json("suspend", "add", "--if", "tenantid=t", "--ttl", "600")
        self.assertEqual((two["id"], two["updated"]), (one["id"], True))

    def test_both_end_by_themselves_also_while_the_engine_is_down(self):
        self.engine.start()
        self.engine.cli("suspend", "add", "--id", "short", "--if", "recipientdomain=x.test", "--ttl", "1.5")
        self.engine.cli("policy", "add", "--id", "short", "--if", "recipientdomain=x.test", "--concurrency", "1", "--ttl", "0.3")
        self.inject(2)
        self.engine.wait_event("condition", id="short", change="expired")
        self.engine.restart_after_kill()
        self.engine.wait_event("suspension", id="short", change="expired")
        self.sink.wait(2)
        self.assertEqual((self.suspensions(), self.conditions()), ({}, {}))

    def test_a_leak_lets_the_others_pass(self):
        self.engine.start()
        self.engine.cli("suspend", "add", "--id", "leak", "--all", "--percent", "80")
        status, reply = self.engine.api("GET", "/v1/suspensions")
        self.assertEqual((status, reply["suspensions"][0]["percent"]), (200, 80))
        count = 200
        for number in range(count):
            self.assertEqual(self.engine.api("POST", "/v1/messages", {
                "from": "a@src.test", "to": [f"u{number}@x.test"], "message": self.message("leak")})[0], 202)
        wait_for(lambda: self.ready() + len(self.sink.ledger()) == count, "all to be decided")
        passed = len(self.sink.ledger())
        self.assertTrue(15 <= passed <= 70, passed)
        self.engine.cli("suspend", "delete", "leak")
        self.sink.wait(count)

    def test_the_file_is_obeyed_and_reloaded(self):
        self.engine.files["suspend.yaml"] = "- {recipientdomain: x.test, reason: maintenance}\n"
        self.engine.start()
        self.inject(1)
        wait_for(lambda: self.ready() == 1, "the mail to wait")
        self.assertEqual(self.suspensions()["line 1"]["from"], "suspend.yaml")
        self.assertIn("stands in suspend.yaml", self.refused(FAILED, "suspend", "delete", "line 1"))
        (self.engine.config / "suspend.yaml").write_text("- {recipientdomian: x.test}\n")
        problem = json.loads(self.engine.cli("reload", "--json", check=False).stdout)
        self.assertFalse(problem["applied"])
        self.assertIn("suspend.yaml:1: `recipientdomian` is no field", problem["problems"][0])
        self.assertEqual(len(self.sink.ledger()), 0)
        (self.engine.config / "suspend.yaml").write_text("[]\n")
        self.sink.wait(1)

    def test_starts_suspended_until_it_is_resumed(self):
        self.engine.files["suspend.yaml"] = "start_suspended: true\n"
        self.engine.start()
        self.inject(1)
        wait_for(lambda: self.ready() == 1, "the mail to wait")
        self.engine.cli("suspend", "resume")
        self.sink.wait(1)
        self.refused(NOT_FOUND, "suspend", "resume")
        self.engine.restart_after_kill()
        self.assertEqual(self.suspensions()["start_suspended"]["from"], "start")

    def test_a_condition_outlives_its_policy(self):
        self.engine.start()
        self.engine.cli("policy", "add", "--id", "kept", "--if", "remotemx=mx.y.test", "--concurrency", "2")
        (self.engine.config / "policy.yaml").write_text("- fields: [tenantid]\n")
        wait_for(lambda: self.conditions()["kept"]["idle"], "the policy to go")
        self.assertIn("idle", self.engine.cli("policy", "list").stdout)
        self.engine.files["policy.yaml"] = "- fields: [tenantid]\n"
        self.engine.restart_after_kill()
        self.assertTrue(self.conditions()["kept"]["idle"])
        (self.engine.config / "policy.yaml").write_text(PER_DOMAIN)
        wait_for(lambda: not self.conditions()["kept"]["idle"], "the policy to come back")

    def test_bad_input_is_explained(self):
        self.engine.start()
        for said, words in (
                ("`remotmx` is no field", ["suspend", "add", "--if", "remotmx=a"]),
                ("did you mean `remotemx`", ["suspend", "add", "--if", "remotmx=a"]),
                ("remoteip: expected an address", ["suspend", "add", "--if", "remoteip=300.1.1.1"]),
                ("NAME=VALUE is expected", ["suspend", "add", "--if", "remotemx"]),
                ("--if is expected, or --all", ["suspend", "add"]),
                ("exclude each other", ["suspend", "add", "--all", "--if", "tenantid=a"]),
                ("percent: expected", ["suspend", "add", "--all", "--percent", "0"]),
                ("cron: expected", ["suspend", "add", "--all", "--cron", "noon"]),
                ("--ttl: seconds are expected", ["suspend", "add", "--all", "--ttl", "soon"]),
                ("ttl: expected seconds", ["suspend", "add", "--all", "--ttl", "1e12"]),
                ("id: this one is taken", ["suspend", "add", "--all", "--id", "start_suspended"]),
                ("no policy of policy.yaml counts by tenantid", ["policy", "add", "--if", "tenantid=a", "--rate", "1"]),
                ("no group `#bgi`", ["policy", "add", "--if", "recipientdomain=#bgi", "--rate", "1"]),
                ("rate: expected", ["policy", "add", "--if", "recipientdomain=x.test", "--rate", "fast"]),
                ("class: expected", ["policy", "add", "--if", "recipientdomain=x.test", "--class", "backoff"])):
            self.assertIn(said, self.refused(FAILED, *words), words)
        for words in (["policy", "delete", "nothing"], ["suspend", "delete", "nothing"]):
            self.assertIn("has the id `nothing`", self.refused(NOT_FOUND, *words))
        for words in (["policy", "add", "--concurrency", "many"], ["suspend"], ["policy", "delete"]):
            self.refused(USAGE, *words)
        status, reply = self.engine.api("POST", "/v1/policy/conditions", {"if": {"recipientdomain": "x"}, "then": {"rate": "1/0"}})
        self.assertEqual((status, reply["field"]), (422, "rate"))
        self.assertEqual((self.suspensions(), self.conditions()), ({}, {}))

    def test_the_journal_shows_them_and_a_record_of_the_future_does_no_harm(self):
        self.engine.start()
        self.engine.cli("suspend", "add", "--id", "s", "--if", "remotemx=/^mx[0-9]/", "--cron", "* 9-16 * * 1-5")
        self.engine.stop()
        dumped = [json.loads(line) for line in self.engine.cli("journal", "dump", self.engine.directory).stdout.splitlines()]
        records = {one["key"]: json.loads(one["value"]) for one in dumped if one.get("type") == "policy" and one["value"]}
        self.assertEqual(records["suspension:s"]["remotemx"], ["/^mx[0-9]/"])
        self.assertTrue(re.match(r"\* 9-16", records["suspension:s"]["cron"][0]))
