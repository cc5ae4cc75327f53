"""What becomes of mail: every recipient has one outcome, every sender hears of it once, and nothing is sent twice."""

import datetime
import itertools
import socket
import threading
import time
import unittest

from flufl.bounce import all_failures

from clients import submit
from peers import Reports, Scripted
from world import EndToEnd, wait_for


def moment(text):
    return datetime.datetime.fromisoformat(text)


class Outcomes(EndToEnd):
    def setUp(self):
        super().setUp()
        self.reports = Reports(self.world)
        self.engine = self.world.engine().route("src.test", self.reports.endpoint)
        self.engine.set("outbound.ini", temp_fail_intervals="5s*5", retry_jitter="false")

    def end_clean(self):
        self.assertEqual(self.engine.stop(), 0)
        self.reports.sink.stop()

    def outcomes(self, kind, **members):
        return sorted(to for event in self.engine.events(kind, **members) for to in event["recipients"])

    def wait_recipients(self, kind, recipients, **members):
        wait_for(lambda: self.outcomes(kind, **members) == sorted(recipients),
                 f"{kind} {recipients}; so far: {self.engine.events()[-6:]}")


class PerRecipient(Outcomes):
    def test_A1_A7_C5321_10_DS_09_five_recipients_five_fates_and_a_crash(self):
        """250, 550, 450, 251 and 551; kill -9; the deferred one is tried alone and fails later: exactly two bounces."""
        peer = Scripted(self, {
            "RCPT r2@": "550 5.1.1 no such user", "RCPT r3@": ["450 4.2.1 later", "554 5.2.1 never mind"],
            "RCPT r4@": "251 2.1.5 will forward", "RCPT r5@": "551 5.7.1 not here"})
        self.engine.route("dst.test", peer.endpoint).start()
        submit(self.engine, [f"r{i}@dst.test" for i in range(1, 6)], self.message())
        self.wait_recipients("delivered", ["r1@dst.test", "r4@dst.test"], domain="dst.test")
        self.wait_recipients("bounced", ["r2@dst.test", "r5@dst.test"])
        self.wait_recipients("deferred", ["r3@dst.test"])
        first = self.reports.wait(1)[0]
        left = [item["recipients"] for item in self.engine.api("GET", "/v1/queue?domain=dst.test")[1]["items"]]
        self.assertEqual(left, [["r3@dst.test"]], "only who is still undecided is shown")
        self.engine.restart_after_kill()
        self.wait_recipients("bounced", ["r2@dst.test", "r3@dst.test", "r5@dst.test"])
        second = self.reports.wait(2)[1]
        self.assertEqual(peer.commands("RCPT")[5:], ["RCPT TO:<r3@dst.test>"])
        self.assertEqual(sorted(first.recipients), ["r2@dst.test", "r5@dst.test"])
        self.assertEqual(list(second.recipients), ["r3@dst.test"])
        for address, status, diagnostic in (
                ("r2@dst.test", "5.1.1", "550 5.1.1 no such user"), ("r5@dst.test", "5.7.1", "551 5.7.1 not here")):
            block = first.recipients[address]
            self.assertEqual((block["Action"], block["Status"]), ("failed", status))
            self.assertEqual(block["Diagnostic-Code"], f"smtp; {diagnostic}")
        self.engine.wait_empty()
        self.assertEqual((len(peer.messages), len(self.reports.all())), (1, 2))
        self.end_clean()

    def test_A2_LM_2_lmtp_replies_belong_to_their_recipients(self):
        """A2: with 250, 450, 250 Haraka sent the first again and reported the second as delivered."""
        peer = Scripted(self, {"dot r2@": ["450 4.2.2 full", "250 2.0.0 ok"], "dot r4@": "550 5.2.1 closed"}, lmtp=True)
        self.engine.route("dst.test", f"lmtp://{peer.endpoint}").start()
        submit(self.engine, [f"r{i}@dst.test" for i in range(1, 5)], self.message())
        self.wait_recipients("delivered", ["r1@dst.test", "r3@dst.test"], domain="dst.test")
        self.wait_recipients("bounced", ["r4@dst.test"])
        self.wait_recipients("deferred", ["r2@dst.test"])
        self.engine.cli("queue", "flush", "dst.test")
        self.wait_recipients("delivered", ["r1@dst.test", "r2@dst.test", "r3@dst.test"], domain="dst.test")
        self.assertEqual(peer.messages[1][1], ["RCPT TO:<r2@dst.test>"])
        self.assertEqual(list(self.reports.wait(1)[0].recipients), ["r4@dst.test"])
        self.end_clean()

    def test_LM_3_lmtp_link_lost_between_the_replies(self):
        peer = Scripted(self, {"dot r3@": [None, "250 2.0.0 ok"]}, lmtp=True)
        self.engine.route("dst.test", f"lmtp://{peer.endpoint}").start()
        submit(self.engine, [f"r{i}@dst.test" for i in range(1, 4)], self.message())
        self.wait_recipients("delivered", ["r1@dst.test", "r2@dst.test"])
        self.wait_recipients("deferred", ["r3@dst.test"])
        self.assertEqual(self.engine.wait_event("possible_duplicate")[0]["recipients"], ["r3@dst.test"])
        self.engine.cli("queue", "flush", "dst.test")
        self.wait_recipients("delivered", ["r1@dst.test", "r2@dst.test", "r3@dst.test"])
        self.assertEqual(peer.messages[1][1], ["RCPT TO:<r3@dst.test>"])
        self.end_clean()

    def test_C5321_11_too_many_recipients_go_at_once_in_another_transaction(self):
        for code in ("452 4.5.3", "552 5.5.3"):
            with self.subTest(code):
                def at_most_two(_, code=code):
                    lines = peer.sessions[-1]
                    begun = max(at for at, line in enumerate(lines) if line.startswith("MAIL"))
                    seen = sum(line.startswith("RCPT") for line in lines[begun:])
                    return "250 2.1.5 ok" if seen <= 2 else f"{code} too many recipients"

                peer = Scripted(self, {"RCPT": at_most_two}, ehlo=("ENHANCEDSTATUSCODES",))
                engine = self.world.engine(name="engine" + code[:3]).route("dst.test", peer.endpoint).start()
                submit(engine, [f"r{i}@dst.test" for i in range(5)], self.message())
                peer.wait(3)
                self.assertEqual([len(recipients) for _, recipients, _ in peer.messages], [2, 2, 1])
                engine.wait_empty()
                self.assertEqual(engine.events("deferred") + engine.events("bounced"), [])
                self.assertEqual(engine.stop(), 0)

    def test_C5321_21_a_reply_too_many_accepts_nobody(self):
        """Two replies to the content of the first transaction: the second is not taken for the first reply of the next one."""
        peer = Scripted(self, {"dot": ["250 2.0.0 taken\r\n250 2.0.0 and once more", "554 5.7.1 refused"]},
                        ehlo=("PIPELINING", "CHUNKING", "LIMITS RCPTMAX=2"))
        self.engine.route("dst.test", peer.endpoint).start()
        submit(self.engine, [f"r{i}@dst.test" for i in range(1, 4)], self.message())
        self.wait_recipients("bounced", ["r3@dst.test"])
        self.wait_recipients("delivered", ["r1@dst.test", "r2@dst.test"], domain="dst.test")
        self.assertEqual(len(peer.sessions), 2)
        self.reports.wait(1)
        self.end_clean()

    def test_a_refused_message_leaves_the_other_recipients_their_own_fate(self):
        """5yz or 4yz to the content decides for accepted recipients only (Haraka applied it to all)."""
        for reply, fate in (("554 5.7.1 spam", "bounced"), ("451 4.3.0 later", "deferred")):
            with self.subTest(reply):
                peer = Scripted(self, {"RCPT r2@": "450 4.2.1 later", "RCPT r3@": "550 5.1.1 unknown", "dot": reply})
                name = reply[:3]
                engine = self.world.engine(name=f"engine{name}").route("dst.test", peer.endpoint)
                engine.route("src.test", self.reports.endpoint).start()
                submit(engine, [f"r{i}@dst.test" for i in range(1, 4)], self.message())
                expected = {"bounced": {"r3@dst.test"}, "deferred": {"r2@dst.test"}}
                expected[fate].add("r1@dst.test")

                def fates():
                    return {kind: {to for e in engine.events(kind) for to in e["recipients"]} for kind in expected}

                wait_for(lambda: fates() == expected, f"{expected}; so far {engine.events()}")
                self.assertEqual(engine.stop(), 0)
        self.reports.sink.stop()

    def test_LM_7_lmtp_without_a_valid_recipient(self):
        peer = Scripted(self, {"RCPT": "550 5.1.1 unknown"}, lmtp=True)
        self.engine.route("dst.test", f"lmtp://{peer.endpoint}").start()
        submit(self.engine, ["r1@dst.test", "r2@dst.test"], self.message())
        self.wait_recipients("bounced", ["r1@dst.test", "r2@dst.test"])
        self.assertEqual(sorted(self.reports.wait(1)[0].recipients), ["r1@dst.test", "r2@dst.test"])
        self.end_clean()

    def test_one_notification_about_three_hundred_recipients(self):
        peer = Scripted(self, {"RCPT": "550 5.1.1 unknown"})
        self.engine.route("dst.test", peer.endpoint).start()
        everybody = [f"r{i}@dst.test" for i in range(300)]
        submit(self.engine, everybody, self.message())
        (report,) = self.reports.wait(1)
        self.assertEqual(sorted(report.recipients), sorted(everybody))
        self.assertEqual({block["Status"] for block in report.recipients.values()}, {"5.1.1"})
        self.engine.wait_empty()
        self.assertEqual(len(self.reports.all()), 1)
        self.end_clean()

    def test_PL_6_a_server_that_wants_data_for_nobody(self):
        peer = Scripted(self, {"RCPT": "550 5.1.1 no such user", "DATA": "354 go ahead"})
        self.engine.route("dst.test", peer.endpoint).start()
        submit(self.engine, "b@dst.test", self.message())
        self.wait_recipients("bounced", ["b@dst.test"])
        self.assertEqual([content for _, _, content in peer.messages if content], [])
        self.assertEqual(self.engine.events("delivered", domain="dst.test"), [])
        self.reports.wait(1)
        self.end_clean()


class Replies(Outcomes):
    """One peer for each strange answer; what it means is in the table."""

    def decide(self, table, bodies={}, **options):
        """Sends a message to every peer of {name: script}; {name: (kind, event)} of the first decision."""
        peers = {name: Scripted(self, script, **options) for name, script in table.items()}
        for name, peer in peers.items():
            self.engine.route(f"{name}.test", peer.endpoint)
        self.engine.start()
        for name in table:
            submit(self.engine, f"b@{name}.test", self.message(body=bodies.get(name, "hello\r\n")))

        def decision(name):
            for event in self.engine.events(domain=f"{name}.test"):
                if event["event"] in ("delivered", "deferred", "bounced", "expired"):
                    return event
            return None

        wait_for(lambda: all(decision(name) for name in table),
                 f"decisions; missing: {[name for name in table if not decision(name)]}")
        return peers, {name: decision(name) for name in table}

    def assert_kinds(self, expected, events):
        self.assertEqual({name: event["event"] for name, event in events.items()}, expected)

    def test_A14_ES_2_ES_3_codes_of_every_shape(self):
        _, events = self.decide({
            "long": {"RCPT": "550 5.7.26 unauthenticated"}, "bare": {"RCPT": "550"}, "liar": {"RCPT": "550 4.2.1 but 550"},
            "odd": {"RCPT": "550 5.7.1000 too many digits"}, "lines": {"dot": "554-5.7.9 first\r\n554 5.7.9 second"},
            "temp": {"RCPT": "450 4.7.650 busy"}, "unknown": {"RCPT": "599 what"}})
        self.assert_kinds({"long": "bounced", "bare": "bounced", "liar": "bounced", "odd": "bounced", "lines": "bounced",
                           "temp": "deferred", "unknown": "bounced"}, events)
        self.assertEqual(events["long"]["status"], "5.7.26")
        self.assertEqual(events["temp"]["status"], "4.7.650")
        self.assertEqual(events["lines"]["status"], "5.7.9")
        for name in ("bare", "liar", "odd", "unknown"):
            self.assertRegex(events[name]["status"], r"^5\.\d{1,3}\.\d{1,3}$")
        reports = {list(report.recipients)[0]: report for report in self.reports.wait(6)}
        self.assertEqual(reports["b@long.test"].recipients["b@long.test"]["Status"], "5.7.26")
        self.assertIn("550 5.7.1000 too many digits", reports["b@odd.test"].recipients["b@odd.test"]["Diagnostic-Code"])
        self.end_clean()

    def test_C5321_02_C5321_03_C5321_07_broken_protocol_is_never_success(self):
        _, events = self.decide({
            "mixed": {"MAIL": "250-ok\r\n550 no"}, "four": {"MAIL": "2500 x"}, "short": {"MAIL": "25"}, "letters": {"MAIL": "ok"},
            "six": {"RCPT": "650 x"}, "banner": {"greeting": "hello there"}, "data": {"DATA": "250 fine"},
            "dotless": {"dot": "35x what"}, "closed": {"MAIL": None}, "lost": {"dot": None}})
        self.assertEqual({event["event"] for event in events.values()}, {"deferred"})
        for name, event in events.items():
            self.assertRegex(event["status"], r"^4\.", name)
        duplicates = {event["domain"] for event in self.engine.events("possible_duplicate")}
        self.assertTrue({"lost.test"} <= duplicates <= {"lost.test", "dotless.test"}, duplicates)
        self.end_clean()

    def test_C5321_01_C5321_08_C5321_09_success_is_success(self):
        peers, events = self.decide({
            "quit": {"QUIT": "500 what"}, "hangup": {"QUIT": None}, "bare": {"dot": "250"}, "lines": {"dot": "250-a\r\n250"},
            "octets": {"dot": "250 gr\xfc\xdfe"}, "code": {"dot": "299 fine"}, "long": {"dot": "250 " + "x" * 4096},
            "moved": {"RCPT": "252 cannot verify"}})
        self.assertEqual({event["event"] for event in events.values()}, {"delivered"})
        self.engine.wait_empty()
        self.assertEqual({name: len(peer.messages) for name, peer in peers.items()}, {name: 1 for name in peers})
        self.assertEqual(self.engine.events("deferred") + self.engine.events("bounced"), [])
        self.end_clean()

    def test_C5321_04_every_phase_has_its_own_deadline(self):
        """A peer that falls silent in a phase costs one deferral, on time; only after the dot may it be a duplicate."""
        phases = {"greeting": "greeting", "EHLO": "helo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data", "body": "body", "dot": "dot"}
        limits = {f"{stage}_timeout": "3" for stage in ("greeting", "helo", "mail", "rcpt", "data", "block", "dot")}
        self.engine.set("outbound.ini", **limits)
        self.engine.set("connection.ini", "max", bytes="40M")
        silence = threading.Event()
        self.addCleanup(silence.set)
        table = {stage: {verb: lambda _: silence.wait(60) and None} for verb, stage in phases.items()}
        large = "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 250_000  # more than the buffers of a link hold
        _, events = self.decide(table, bodies={"body": large})
        self.assertEqual({name: (event["event"], event["stage"]) for name, event in events.items()},
                         {name: ("deferred", name) for name in table})
        for name, event in events.items():
            self.assertLess(event["attempt_ms"], 30_000, name)
        duplicates = {event["domain"] for event in self.engine.events("possible_duplicate")}
        self.assertEqual(duplicates, {"dot.test"})
        self.end_clean()

    def test_DoS_5_replies_without_end(self):
        _, events = self.decide({
            "lines": {"EHLO": "250-and one more\r\n" * 500_000}, "line": {"greeting": "220 " + "x" * 10_000_000},
            "rcpt": {"RCPT": "250-" + "y" * 1_000_000}})
        self.assert_kinds({"lines": "deferred", "line": "deferred", "rcpt": "deferred"}, events)
        self.end_clean()

    def test_DoS_13_a_long_reply_to_each_recipient(self):
        """300 replies of 50 kB, each different: 2 kB of each are written down."""
        numbers = itertools.count()
        peer = Scripted(self, {"RCPT": lambda _: f"450-{next(numbers)} " + "y" * 600 + ("\r\n450-" + "y" * 600) * 80 + "\r\n450 end"})
        self.engine.set("outbound.ini", temp_fail_intervals="1h*5")
        self.engine.route("dst.test", peer.endpoint).start()
        everybody = [f"r{i}@dst.test" for i in range(300)]
        submit(self.engine, everybody, self.message())
        self.wait_recipients("deferred", everybody)
        events = self.engine.events("deferred")
        self.assertEqual(len(events), len(everybody))
        self.assertEqual({len(event["reply"]) for event in events}, {len("450 ") + 2000})
        self.end_clean()

    def test_PL_7_long_replies_to_a_thousand_recipients(self):
        """The peer answers 2 kB to each and reads no further while nobody reads them."""
        long_reply = "\r\n".join(["250-2.1.5 " + "x" * 480] * 4 + ["250 2.1.5 ok"])
        peer = Scripted(self, {"RCPT": long_reply})
        peer.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        peer.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.engine.route("dst.test", peer.endpoint).start()
        submit(self.engine, [f"r{i}@dst.test" for i in range(1000)], self.message())
        self.engine.wait_empty()
        self.assertEqual(sum(len(recipients) for _, recipients, _ in peer.messages), 1000)
        self.assertEqual(self.engine.events("deferred"), [])
        self.end_clean()

    def test_A9_forced_tls_and_a_host_without_ehlo(self):
        """A9: Haraka lost the slot for ever; here with one slot both messages are decided."""
        self.engine.set("tls.ini", "outbound", force_tls_hosts="first.test,second.test")
        self.engine.set("outbound.ini", concurrency_max="1")
        peers, events = self.decide({"first": {"EHLO": "502 5.5.1 what"}, "second": {"EHLO": "502 5.5.1 what"}})
        self.assert_kinds({"first": "deferred", "second": "deferred"}, events)
        self.assertEqual([line for peer in peers.values() for line in peer.commands("MAIL")], [])
        wait_for(lambda: self.engine.api("GET", "/v1/status")[1]["queue"]["sending"] == 0, "free slots")
        self.end_clean()

    def test_C5321_12_421_in_every_phase_defers_and_loses_nobody(self):
        stages = {"mail": "MAIL", "rcpt": "RCPT r2@", "data": "DATA", "dot": "dot"}
        ordinary = {"data": "354 go"}
        peers = {name: Scripted(self, {verb: ["421 4.3.2 closing", ordinary.get(name, "250 ok")]}) for name, verb in stages.items()}
        for name, peer in peers.items():
            self.engine.route(f"{name}.test", peer.endpoint)
        self.engine.start()
        for name in peers:
            submit(self.engine, [f"r{i}@{name}.test" for i in range(1, 4)], self.message())
        everybody = {name: [f"r{i}@{name}.test" for i in range(1, 4)] for name in peers}
        for name in peers:
            self.wait_recipients("deferred", everybody[name], domain=f"{name}.test")
        self.engine.cli("queue", "flush")
        for name in peers:
            self.wait_recipients("delivered", everybody[name], domain=f"{name}.test")
        self.engine.wait_empty()
        self.assertEqual(self.engine.events("bounced"), [])
        self.assertEqual({name: sum(len(recipients) for _, recipients, _ in peer.messages) for name, peer in peers.items()},
                         {"mail": 3, "rcpt": 3, "data": 3, "dot": 6})
        self.end_clean()

    def test_C5321_12_421_is_not_charged_to_the_next_message(self):
        peer = Scripted(self, {"MAIL": ["421 4.3.2 closing", "250 ok"]})
        self.engine.route("dst.test", peer.endpoint).start()
        submit(self.engine, "first@dst.test", self.message())
        self.wait_recipients("deferred", ["first@dst.test"])
        submit(self.engine, "second@dst.test", self.message())
        self.wait_recipients("delivered", ["second@dst.test"])
        self.assertEqual(self.engine.events("delivered")[0]["attempts"], 1)
        self.engine.cli("queue", "flush", "dst.test")
        self.wait_recipients("delivered", ["first@dst.test", "second@dst.test"])
        self.end_clean()


class Connections(Outcomes):
    def test_C5321_19_a_kept_connection_that_died_costs_nothing(self):
        """The peer ends an idle connection, by FIN, by 421 or at the next command: a fresh one, and no deferral."""
        for name, second in (("closed", None), ("421", "421 4.4.2 idle too long")):
            with self.subTest(name):
                peer = Scripted(self, {"MAIL": ["250 ok", second, "250 ok"], "RSET": "250 ok"})
                engine = self.world.engine(name=f"engine{name}").route("dst.test", peer.endpoint).start()
                submit(engine, "first@dst.test", self.message())
                engine.wait_event("delivered")
                submit(engine, "second@dst.test", self.message())
                peer.wait(2)
                self.assertEqual(engine.wait_event("delivered", 2)[1]["attempts"], 1)
                self.assertEqual(engine.events("deferred"), [])
                self.assertEqual(len(peer.sessions), 2)
                self.assertEqual(engine.stop(), 0)

    def test_limits_are_exact(self):
        """destination_concurrency holds for each destination, concurrency_max for all: never one connection more."""
        def slowly(_):
            time.sleep(0.05)
            return "250 2.0.0 taken"

        peers = {name: Scripted(self, {"dot": slowly}) for name in ("one", "two", "three")}
        for name, peer in peers.items():
            self.engine.route(f"{name}.test", peer.endpoint)
        self.engine.set("outbound.ini", destination_concurrency="3", concurrency_max="7").start()
        for at in range(25):
            for name in peers:
                submit(self.engine, f"r{at}@{name}.test", self.message())
        self.engine.wait_event("delivered", 75)
        for peer in peers.values():
            self.assertLessEqual(peer.busiest, 3)
            self.assertGreaterEqual(peer.busiest, 2)
            self.assertEqual(len(peer.messages), 25)
        self.assertEqual(self.engine.events("deferred"), [])
        self.end_clean()


class Schedule(Outcomes):
    def test_A5_A6_retries_keep_their_time_across_a_restart(self):
        """A5, A6: a deferral of 5 s, a graceful restart in between, and the attempt comes on time; then once more."""
        peer = Scripted(self, {"RCPT": ["450 4.2.1 later", "450 4.2.1 later", "250 ok"]})
        self.engine.route("dst.test", peer.endpoint).start()
        begun = time.monotonic()
        submit(self.engine, "b@dst.test", self.message())
        self.engine.wait_event("deferred")
        self.assertEqual(self.engine.stop(), 0)
        self.engine.start()
        self.engine.wait_event("deferred", 2)
        second = time.monotonic() - begun
        self.engine.wait_event("delivered")
        third = time.monotonic() - begun
        self.assertEqual(self.engine.events("delivered")[0]["attempts"], 3)
        for took, due in ((second, 5), (third, 10)):
            self.assertGreater(took, due - 0.5)
            self.assertLess(took, due + 2.5)
        self.end_clean()

    def test_C5321_18_the_default_schedule_is_jittered(self):
        """Without settings the first retry comes after 64 s, give or take a tenth, and not the same for all."""
        peer = Scripted(self, {"RCPT": "450 4.2.1 later"})
        del self.engine.settings["outbound.ini"]["main"]["temp_fail_intervals"]
        self.engine.set("outbound.ini", retry_jitter="true").route("dst.test", peer.endpoint).start()
        for at in range(8):
            submit(self.engine, f"r{at}@dst.test", self.message())
        waits = [(moment(event["next"]) - moment(event["time"])).total_seconds()
                 for event in self.engine.wait_event("deferred", 8)]
        for wait in waits:
            self.assertGreater(wait, 64 * 0.9 - 1)
            self.assertLess(wait, 64 * 1.1 + 1)
        self.assertGreater(max(waits) - min(waits), 0.5)
        self.end_clean()

    def test_expiry_without_a_retry(self):
        """DS_07: temp_fail_intervals=none: the first deferral is the last; the DSN says failed and 4.4.7."""
        peer = Scripted(self, {"RCPT": "450 4.2.1 later"})
        self.engine.set("outbound.ini", temp_fail_intervals="none").route("dst.test", peer.endpoint).start()
        submit(self.engine, "b@dst.test", self.message())
        self.wait_recipients("expired", ["b@dst.test"])
        block = self.reports.wait(1)[0].recipients["b@dst.test"]
        self.assertEqual(block["Action"], "failed")
        self.assertIn(block["Status"], ("4.4.7", "5.4.7"))
        self.assertIn("450 4.2.1 later", block["Diagnostic-Code"])
        self.engine.wait_empty()
        self.assertEqual(self.engine.events("deferred"), [])
        self.end_clean()

    def test_DS_04_one_notice_of_a_delay_for_who_asks(self):
        peer = Scripted(self, {"RCPT": "450 4.2.1 later"})
        self.engine.set("outbound.ini", delay_dsn_after="1").route("dst.test", peer.endpoint).start()
        submit(self.engine, ["b@dst.test", "c@dst.test"], self.message(), rcpt_options={
            "b@dst.test": ["NOTIFY=DELAY"], "c@dst.test": ["NOTIFY=FAILURE"]})
        for round_ in range(1, 4):
            self.engine.wait_event("deferred", round_)
            if round_ == 1:
                time.sleep(1.1)  # the delay that the sender is to hear of
            self.engine.cli("queue", "flush", "dst.test")
        self.engine.wait_event("deferred", 4)
        (report,) = self.reports.wait(1)
        self.assertEqual(list(report.recipients), ["b@dst.test"])
        block = report.recipients["b@dst.test"]
        self.assertEqual((block["Action"], block["Status"]), ("delayed", "4.2.1"))
        self.assertTrue(block["Will-Retry-Until"])
        self.engine.cli("queue", "delete", "dst.test")
        self.engine.wait_empty()
        self.assertEqual(len(self.reports.all()), 1)
        self.end_clean()


class Notifications(Outcomes):
    def refuse(self, **outbound):
        """An engine whose mail for dst.test is refused."""
        self.peer = Scripted(self, {"RCPT": "550 5.1.1 no such user"}, ehlo=("8BITMIME", "SMTPUTF8", "DSN"))
        return self.engine.route("dst.test", self.peer.endpoint).set("outbound.ini", **outbound)

    def only_report(self, recipients="b@dst.test", content=None, **options):
        submit(self.engine, recipients, content or self.message("hello there"), **options)
        (report,) = self.reports.wait(1)
        return report

    def test_A8_DS_05_DS_06_DS_10_the_built_in_notification(self):
        """A8: without templates Haraka's had no From, no To, no Subject and no text."""
        self.refuse().start()
        report = self.only_report()
        message, block = report.message, report.recipients["b@dst.test"]
        self.assertEqual((report.envelope["from"], report.envelope["to"]), ("", ["a@src.test"]))
        self.assertEqual(message.get_content_type(), "multipart/report")
        self.assertEqual(message.get_param("report-type"), "delivery-status")
        self.assertEqual([part.get_content_type() for part in report.parts],
                         ["text/plain", "message/delivery-status", "text/rfc822-headers"])
        self.assertIn("mx.sluice.test", message["From"])
        self.assertIn("a@src.test", message["To"])
        self.assertTrue(message["Subject"] and message["Message-ID"] and message["Date"])
        self.assertEqual(message["Auto-Submitted"], "auto-replied")
        for words in ("b@dst.test", "no such user"):
            self.assertIn(words, report.text)
        self.assertEqual(report.fields["Reporting-MTA"], "dns; mx.sluice.test")
        self.assertTrue(report.fields["Arrival-Date"])
        self.assertIsNone(report.fields["Original-Envelope-Id"])
        self.assertIsNone(block["Original-Recipient"])
        self.assertEqual((block["Final-Recipient"], block["Action"], block["Status"], block["Diagnostic-Code"]),
                         ("rfc822; b@dst.test", "failed", "5.1.1", "smtp; 550 5.1.1 no such user"))
        self.assertTrue(block["Remote-MTA"] and block["Last-Attempt-Date"])
        self.assertIsNone(block["Will-Retry-Until"])
        self.assertIn("Subject: hello there", report.parts[2].get_content())
        self.assertNotIn("hello\n", report.parts[2].get_content().replace("\r", ""))
        self.end_clean()

    def test_DS_05_DS_06_ret_envid_and_orcpt_come_back(self):
        self.refuse().start()
        report = self.only_report(
            mail_options=["RET=FULL", "ENVID=QQ+2B3"], rcpt_options={"b@dst.test": ["ORCPT=rfc822;Bob+2BX@old.test"]})
        self.assertEqual(report.fields["Original-Envelope-Id"], "QQ+3")
        self.assertEqual(report.recipients["b@dst.test"]["Original-Recipient"].replace(" ", ""), "rfc822;Bob+X@old.test")
        self.assertEqual(report.parts[2].get_content_type(), "message/rfc822")
        self.assertIn("hello", report.parts[2].get_payload()[0].get_payload())
        self.end_clean()

    def test_DS_14_an_independent_parser_understands_it(self):
        """flufl.bounce (of Mailman) finds who failed for good, and who only waits."""
        self.refuse(delay_dsn_after="1").start()
        report = self.only_report(["b@dst.test", "c@dst.test"])
        temporary, permanent = all_failures(report.message)
        self.assertEqual((set(temporary), set(permanent)), (set(), {b"b@dst.test", b"c@dst.test"}))
        self.end_clean()

    def test_DS_12_a_large_message_comes_back_as_its_header(self):
        self.refuse(dsn_full_bytes_max="2000").start()
        report = self.only_report(content=self.message("large", "x" * 70 + "\r\n" + "unwanted\r\n" * 500), mail_options=["RET=FULL"])
        self.assertEqual(report.parts[2].get_content_type(), "text/rfc822-headers")
        self.assertNotIn(b"unwanted", report.raw)
        self.assertRegex(report.text, "(?i)header|too large")
        self.end_clean()

    def test_DS_02_who_is_never_told(self):
        """NOTIFY=NEVER, NOTIFY=SUCCESS and the null reverse-path: failures are recorded and nobody hears of them."""
        self.refuse().start()
        submit(self.engine, "never@dst.test", self.message(), rcpt_options={"never@dst.test": ["NOTIFY=NEVER"]})
        submit(self.engine, "success@dst.test", self.message(), rcpt_options={"success@dst.test": ["NOTIFY=SUCCESS"]})
        submit(self.engine, "null@dst.test", self.message(), sender="")
        self.wait_recipients("bounced", ["never@dst.test", "null@dst.test", "success@dst.test"])
        self.engine.wait_empty()
        self.assertEqual(self.reports.all(), [])
        self.assertEqual([event for event in self.engine.events("bounced") if event.get("dsn")], [])
        self.end_clean()

    def test_DS_11_a_notification_that_is_refused_ends_there(self):
        refusing = Scripted(self, {"RCPT": "550 5.1.1 no such sender"})
        self.refuse().route("src.test", refusing.endpoint).start()
        submit(self.engine, "b@dst.test", self.message())
        self.wait_recipients("bounced", ["a@src.test", "b@dst.test"])
        self.engine.wait_empty()
        self.assertEqual([line.split()[1] for line in refusing.commands("MAIL")], ["FROM:<>"])
        self.assertEqual(len(self.engine.events("accepted")), 1)
        self.end_clean()

    def test_DS_08_a_hostile_reply_adds_no_field(self):
        self.refuse().start()
        self.peer.script["RCPT"] = ("550-5.1.1 one\r\n550-\r\n550-Final-Recipient: rfc822; evil@evil.test\r\n"
                                    "550-gr\xfc\xdfe \x01\x7f\r\n550 " + "x" * 5000)
        report = self.only_report()
        self.assertEqual(list(report.recipients), ["b@dst.test"])
        self.assertEqual(len(report.parts), 3)
        block = report.recipients["b@dst.test"]
        self.assertEqual((len(block.get_all("Final-Recipient")), block["Status"]), (1, "5.1.1"))
        self.assertTrue(report.raw.isascii())
        self.assertLessEqual(max(len(line) for line in report.raw.split(b"\r\n")), 998)
        self.end_clean()

    def test_DS_13_a_recipient_outside_ascii(self):
        self.refuse().start()
        submit(self.engine, "jürgen@dst.test", self.message(), mail_options=["SMTPUTF8"])
        report = self.reports.wait(1)[0]
        self.assertTrue(report.raw.isascii())
        self.assertIn(b"j\\x{FC}rgen@dst.test", report.raw)
        submit(self.engine, "jürgen@dst.test", self.message(), sender="käthe@src.test", mail_options=["SMTPUTF8"])
        report = self.reports.wait(2)[1]
        self.assertEqual(report.envelope["to"], ["käthe@src.test"])
        self.assertIn("Content-Type: message/global-delivery-status".encode(), report.raw)
        self.assertIn("utf-8; jürgen@dst.test".encode(), report.raw)
        self.end_clean()

    def test_haraka_templates_with_all_variables_html_and_image(self):
        self.engine.files["outbound.bounce_message"] = (
            "From: Robot <robot@{me}>\nTo: {to}\nSubject: no luck with {subject}\nX-Reason: {reason}\n"
            "Auto-Submitted: auto-replied\nMessage-Id: {msgid}\nDate: {date}\n\n"
            "me={me}\nfrom={from}\nrecipients={recipients}\nextended={extended_reason}\npid={pid}\nunknown={nonsense}\n")
        self.engine.files["outbound.bounce_message_html"] = "<html>\n<p>{recipients} {reason}</p>\n</html>\n"
        self.engine.files["outbound.bounce_message_image"] = (
            "Content-Type: image/gif; name=\"x.gif\"\nContent-ID: <x>\nContent-Transfer-Encoding: base64\n\nR0lGODlhAQABAAAAACw=\n")
        self.refuse().start()
        self.peer.script["RCPT"] = "550 5.1.1 <script> & no\tsuch user"
        report = self.only_report(content=self.message("a <b> {me}"))
        message = report.message
        self.assertEqual(message["From"], "Robot <robot@mx.sluice.test>")
        self.assertEqual(message["Subject"], "no luck with a <b> {me}")
        self.assertIn("no such user", message["X-Reason"])
        related = report.parts[0]
        self.assertEqual([part.get_content_type() for part in related.walk()],
                         ["multipart/related", "multipart/alternative", "text/plain", "text/html", "image/gif"])
        text = report.text
        for words in ("me=mx.sluice.test", "from=<>", "recipients=<b@dst.test>", "extended=<b@dst.test>: ", "unknown=?"):
            self.assertIn(words, text)
        self.assertRegex(text, r"pid=\d+")
        html = related.get_body(("html",)).get_content()
        self.assertIn("&lt;b@dst.test&gt;", html)
        self.assertIn("&lt;script&gt;", html)
        self.assertNotIn("<script>", html)
        self.end_clean()

    def test_DS_03_success_is_told_when_the_next_hop_cannot(self):
        plain = Scripted(self, ehlo=())
        knows = Scripted(self, ehlo=("DSN",))
        lmtp = Scripted(self, lmtp=True, ehlo=())
        self.engine.route("plain.test", plain.endpoint).route("knows.test", knows.endpoint)
        self.engine.route("final.test", f"lmtp://{lmtp.endpoint}").start()
        recipients = ["b@plain.test", "c@plain.test", "d@plain.test", "b@knows.test", "b@final.test"]
        asked = {to: ["NOTIFY=SUCCESS"] for to in recipients if not to.startswith("d")}
        submit(self.engine, recipients, self.message(), rcpt_options=asked, mail_options=["RET=FULL", "ENVID=e1"])
        self.wait_recipients("delivered", recipients + ["a@src.test"] * 2)
        told = {}
        for report in self.reports.all():
            self.assertEqual(report.fields["Original-Envelope-Id"], "e1")
            self.assertEqual(report.parts[2].get_content_type(), "text/rfc822-headers")  # DS_05: not the whole message
            told.update({to: (block["Action"], block["Status"][0]) for to, block in report.recipients.items()})
        self.assertEqual(told, {"b@plain.test": ("relayed", "2"), "c@plain.test": ("relayed", "2"), "b@final.test": ("delivered", "2")})
        self.assertIn("NOTIFY=SUCCESS", knows.commands("RCPT")[0])
        self.end_clean()


if __name__ == "__main__":
    unittest.main()
