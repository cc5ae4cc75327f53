"""kill -9 at random instants while operators change things: every answered change survives, and none is applied by half."""

import http.client
import os
import random
import threading
import time

from world import EndToEnd, wait_for

KILLS = int(os.environ.get("SLUICE_KILLS", "5"))
POLICY = """policies:
- fields: [recipientdomain]
warm_up: [{ name: new, localip: 127.0.0.91, per: [remotemx], days: [8640000, 9000000] }]
"""
ABSENT = "absent"


class Subject:
    """One thing that operators change. `possible`: what it may be like now; several only while an answer is missing."""

    def __init__(self, kind, id):
        self.kind, self.id = kind, id
        self.possible = {ABSENT}


class Operator(threading.Thread):
    """Changes things of its own, one after the other, until the engine is gone."""

    def __init__(self, engine, subjects, seed):
        super().__init__()
        self.engine, self.subjects, self.random = engine, subjects, random.Random(seed)
        self.answered, self.wrong = 0, []
        self.ended = threading.Event()

    def run(self):
        while not self.ended.is_set():
            subject = self.random.choice(self.subjects)
            wanted = self.next_state(subject)
            before = subject.possible
            subject.possible = before | {wanted}
            try:
                status, reply = self.ask(subject, wanted)
            except (OSError, http.client.HTTPException, ValueError):
                return  # no answer: it may be so, or not
            if status not in (200, 202) and not (wanted == ABSENT and status == 404):
                self.wrong.append((subject.kind, subject.id, wanted, status, reply))
                return
            subject.possible = {wanted}
            self.answered += 1

    def next_state(self, subject):
        if subject.kind == "mail":
            return "held" if subject.possible == {ABSENT} else ABSENT
        if subject.possible != {ABSENT} and self.random.random() < 0.3:
            return ABSENT
        return self.random.randrange(1, 100_000)

    def ask(self, subject, wanted):
        if subject.kind == "mail":
            return self.engine.api("POST", "/v1/queue/" + ("hold" if wanted == "held" else "release"), {"item": subject.id})
        path = {"condition": "/v1/policy/conditions", "suspension": "/v1/suspensions"}[subject.kind]
        if wanted == ABSENT:
            return self.engine.api("POST", path + "/delete", {"id": subject.id})
        body = {"id": subject.id, "reason": f"change {wanted}", "properties": {"number": str(wanted)}}
        if subject.kind == "condition":
            body.update({"if": {"recipientdomain": subject.id + ".test"}, "then": {"concurrency": wanted, "properties": body.pop("properties")}})
        else:
            body["recipientdomain"] = [subject.id + ".test", f"x{wanted}.test"]
        return self.engine.api("POST", path, body)


class AnsweredChanges(EndToEnd):
    def setUp(self):
        super().setUp()
        self.sink = self.world.sink()
        self.engine = self.world.engine().route("any", self.sink.endpoint)
        self.engine.files["policy.yaml"] = POLICY
        self.engine.files["outbound.ini"] = "local_mx_ok=true\n[outbound_ipv4]\n127.0.0.91\n"
        self.engine.start()

    def later_mail(self, count):
        """Items that wait behind a suspension, so that nothing but operators changes their state."""
        self.engine.api("POST", "/v1/suspensions", {"id": "all", "recipientdomain": "waits.test"})
        for number in range(count):
            self.engine.cli("inject", "-f", "a@src.test", "-t", f"u{number}@waits.test", input=self.message("waits", to="b@waits.test"))
        return [item["id"] for item in self.items()]

    def begin_warm_up(self):
        self.engine.cli("inject", "-f", "a@src.test", "-t", "u@goes.test", input=self.message("goes", to="u@goes.test"))
        self.sink.wait(1)
        wait_for(self.warm_up, "the warm-up to begin")

    def warm_up(self):
        return [(one["id"], one["limits"], one["reason"]) for one in self.engine.api("GET", "/v1/policy/conditions?limit=1000")[1]["conditions"]
                if one["class"] == "warm_up"]

    def items(self):
        return self.engine.api("GET", "/v1/queue?limit=1000")[1]["items"]

    def seen(self):
        """What the engine says of everything, in the words of the operators."""
        found = {}
        for one in self.engine.api("GET", "/v1/policy/conditions?limit=1000")[1]["conditions"]:
            if one["class"] == "ordinary":
                number = int(one["reason"].removeprefix("change "))
                self.assertEqual(one["limits"].split()[0], str(number), one)
                self.assertEqual(one["match"], f"recipientdomain {one['id']}.test")
                found["condition", one["id"]] = number
        for one in self.engine.api("GET", "/v1/suspensions?limit=1000")[1]["suspensions"]:
            if one["id"] != "all":
                number = int(one["reason"].removeprefix("change "))
                self.assertEqual(one["properties"], {"number": str(number)})
                self.assertIn(f"x{number}.test", one["match"])
                found["suspension", one["id"]] = number
        for item in self.items():
            if item["state"] == "held":
                found["mail", item["id"]] = "held"
        return found

    def test_kill_9_at_random_instants(self):
        seed = int(os.environ.get("SLUICE_SEED", "0")) or random.randrange(1, 1_000_000)
        chance = random.Random(seed)
        self.begin_warm_up()
        warm_up = self.warm_up()
        mail = self.later_mail(6)
        self.assertEqual(len(mail), 6)
        subjects = [Subject("mail", id) for id in mail]
        subjects += [Subject(kind, f"{kind}{number}") for kind in ("condition", "suspension") for number in range(9)]
        answered = 0
        for round in range(KILLS):
            operators = [Operator(self.engine, subjects[first::3], chance.random()) for first in range(3)]
            for operator in operators:
                operator.start()
            wait_for(lambda: any(operator.answered for operator in operators), "a first answer")
            time.sleep(chance.random() * 0.7)  # any instant
            self.engine.process.kill()
            for operator in operators:
                operator.ended.set()
                operator.join(30)
                self.assertEqual(operator.wrong, [])
                answered += operator.answered
            self.engine.start()
            wait_for(lambda: len(self.items()) == len(mail), "the journal to be read")
            found = self.seen()
            for subject in subjects:
                state = found.pop((subject.kind, subject.id), ABSENT)
                self.assertIn(state, subject.possible, f"seed {seed}, round {round}: {subject.kind} {subject.id}")
                subject.possible = {state}
            self.assertEqual(found, {}, f"seed {seed}: something that nobody asked for")
            self.assertEqual(self.warm_up(), warm_up)
        self.assertGreater(answered, KILLS * 3, "too little was changed")
        self.assertEqual(self.engine.stop(), 0)
        self.engine.start()
        self.assertEqual(self.seen(), {(s.kind, s.id): next(iter(s.possible)) for s in subjects if s.possible != {ABSENT}})
