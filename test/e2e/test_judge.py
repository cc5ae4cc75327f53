"""The judge finds what it is there to find: lost, doubled, altered and invented mail in ledgers written by hand."""

import json
import unittest

import judge
from world import EndToEnd


class TheJudge(EndToEnd):
    BODY = "b" * 64
    READ_NS = 5_000_000

    def setUp(self):
        super().setUp()
        self.folder = self.world.directory
        self.load = judge.Load("x", 100, 1, recipients=2, body_sha256=self.BODY, ledger=self.folder / "source")
        self.ambiguity = judge.Ambiguity(250)
        self.events = []

    def copy(self, number, to=None, time="2026-11-20T10:00:00.000Z", **changes):
        both = self.load.recipients_of(f"x-{number}")
        return {"time": time, "id": f"x-{number}", "from": judge.SENDER, "to": to or both, "body_sha256": self.BODY, "size": 9,
                "answer": "250 ok", "message_id": f"<{number}@x>", **changes}

    def dsn(self, address, ident, message_id="<dsn@x>"):
        lines = ["Content-Type: multipart/report; boundary=b", "", "--b", "Content-Type: message/delivery-status", "",
                 "Reporting-MTA: dns; x", "", f"Final-Recipient: rfc822; {address}", "Action: failed", "",
                 "--b", "Content-Type: text/rfc822-headers", "", f"X-Ledger-Id: {ident}", "", "--b--", ""]
        count = len(list(self.folder.glob("*.eml"))) + 1
        (self.folder / f"{count}.eml").write_text("\r\n".join(lines))
        return self.copy(0, to=[judge.SENDER], message_id=message_id)

    def findings(self, acked, copies, dsns=(), queued=(), cuts=()):
        lines = [json.dumps({"id": f"x-{n}", "to": self.load.recipients_of(f"x-{n}"), "read_ns": self.READ_NS}) + "\n"
                 for n in acked]
        self.load.ledger.write_text("".join(lines))
        return judge.Judge(
            [self.load], copies, list(dsns), self.folder, queued, self.ambiguity, self.events,
            cuts=cuts).verdict().findings

    def finds(self, words, *arguments, **named):
        found = self.findings(*arguments, **named)
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])

    def test_clean_ledgers_have_no_findings(self):
        bounced = self.dsn("x3@d3.test", "x-1")
        self.assertEqual(
            self.findings([0, 1, 2], [self.copy(0), self.copy(1, ["x2@d2.test"])], [bounced], ["x4@d4.test", "x5@d5.test"]), [])

    def test_a_lost_recipient_is_found(self):
        self.finds("lost: x-1 to x3@d3.test", [0, 1], [self.copy(0), self.copy(1, ["x2@d2.test"])])

    def test_an_answer_is_in_doubt_only_when_it_was_read_while_the_power_failed(self):
        def cut(called_ns, dead_ns):
            return judge.PowerCut(called_ns, 0, dead_ns, 0)

        self.assertEqual(self.findings([0], [], cuts=[cut(self.READ_NS - 1, self.READ_NS + 1)]), [])
        for before_or_after in (cut(self.READ_NS, self.READ_NS + 9), cut(self.READ_NS - 9, self.READ_NS - 1)):
            self.assertEqual(len(self.findings([0], [], cuts=[before_or_after])), 2)  # one for each recipient

    def test_what_was_never_sent_is_found(self):
        self.finds("never sent", [0], [self.copy(0), {**self.copy(1), "id": "y-1"}])

    def test_a_wrong_recipient_is_found(self):
        self.finds("not to", [0], [self.copy(0), self.copy(1, ["x0@d0.test", "z@d1.test"][1:])])

    def test_a_changed_body_is_found(self):
        self.finds("body changed", [0], [self.copy(0, body_sha256="0" * 64)])

    def test_a_second_copy_is_found(self):
        found = self.findings([0], [self.copy(0), self.copy(0)])
        self.assertEqual(len(found), 2, found)  # one for each recipient

    def test_a_second_copy_is_excused_once_by_a_lost_answer_that_was_announced(self):
        self.events = [{"event": "possible_duplicate", "recipients": self.load.recipients_of("x-0")}]
        lost = self.copy(0, answer="")
        self.assertEqual(self.findings([0], [lost, self.copy(0)]), [])
        self.assertEqual(len(self.findings([0], [lost, self.copy(0), self.copy(0)])), 2)

    def test_a_lost_answer_that_was_not_announced_is_found(self):
        self.assertEqual(len(self.findings([0], [self.copy(0, answer="")])), 2)

    def test_a_second_copy_is_excused_by_a_death_at_that_time_only(self):
        died = judge.milliseconds("2026-11-20T10:00:00.100Z")
        self.ambiguity.died(died)
        self.ambiguity.starts_again(died + 300)
        self.assertEqual(self.findings([0], [self.copy(0), self.copy(0, time="2026-11-20T10:00:09.000Z")]), [])
        between = self.copy(0, time="2026-11-20T10:00:00.350Z")  # taken from the socket of the dead engine
        self.assertEqual(self.findings([0], [between, self.copy(0, time="2026-11-20T10:00:09.000Z")]), [])
        early = self.copy(0, time="2026-11-20T09:59:58.000Z")
        self.assertEqual(len(self.findings([0], [early, self.copy(0, time="2026-11-20T10:00:09.000Z")])), 2)

    def test_a_death_excuses_no_copy_whose_outcome_the_journal_knew(self):
        later = self.copy(0, time="2026-11-20T10:00:09.000Z")
        self.ambiguity.died(judge.milliseconds("2026-11-20T10:00:00.100Z"))
        self.ambiguity.left_undecided({"x0@d0.test"})
        self.ambiguity.starts_again(judge.milliseconds("2026-11-20T10:00:00.400Z"))
        self.finds("x1@d1.test: 1 extra copies, 0 excused", [0], [self.copy(0), later])

    def test_a_bounce_of_a_delivered_recipient_is_found(self):
        self.finds("and a DSN was sent at", [0], [self.copy(0)], [self.dsn("x1@d1.test", "x-0")])

    def test_a_bounce_told_while_the_power_failed_is_in_doubt(self):
        at = judge.milliseconds("2026-11-20T10:00:00.000Z")
        dsn = self.dsn("x1@d1.test", "x-0")
        during, later = judge.PowerCut(0, at - 5, 0, at + 5), judge.PowerCut(0, at + 5, 0, at + 15)
        self.assertEqual(self.findings([0], [self.copy(0)], [dsn], cuts=[during]), [])
        self.assertEqual(len(self.findings([0], [self.copy(0)], [dsn], cuts=[later])), 1)

    def test_a_bounce_that_is_told_twice_is_found(self):
        dsns = [self.dsn("x1@d1.test", "x-0"), self.dsn("x1@d1.test", "x-0", "<other@x>")]
        self.finds("2 different DSNs", [0], [self.copy(0, ["x0@d0.test"])], dsns)

    def test_a_bounce_that_returns_another_message_is_found(self):
        self.finds("returns x-7", [0], [self.copy(0, ["x0@d0.test"])], [self.dsn("x1@d1.test", "x-7")])

    def test_a_delivery_that_no_peer_saw_is_found(self):
        self.events = [{"event": "delivered", "recipients": ["x9@d9.test"]}]
        self.finds("no peer took it", [0], [self.copy(0)])


if __name__ == "__main__":
    unittest.main()
