"""The disk fails: full, read-only, a sync that does not work, bytes that changed. FM-10, -13, -14, -17, -22."""

import concurrent.futures
import smtplib
import json
import re
import subprocess
import time
import unittest

import judge
import needs
from disks import SmallDisk
from world import SLUICE, EndToEnd, wait_for


class DiskTest(EndToEnd):
    """An engine whose journal is on a file system that the test may spoil."""

    def engine_on(self, folder, sink, **spool):
        engine = self.world.engine().route("any", sink.endpoint)
        engine.files["queue_dir"] = f"{folder}/queue\n"
        engine.set("spool.ini", **spool)
        engine.set("outbound.ini", temp_fail_intervals="5s*24")
        return engine

    def send(self, engine, to, size=100):
        """The reply that decides: of MAIL, RCPT, DATA or the final dot."""
        text = self.message(to, "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * (size // 72), to=to)
        with smtplib.SMTP("127.0.0.1", engine.port) as client:
            client.ehlo("test")
            for command in (lambda: client.mail("a@src.test"), lambda: client.rcpt(to)):
                code, reply = command()
                if code != 250:
                    return "envelope", code, reply.decode()
            try:
                code, reply = client.data(text)
            except smtplib.SMTPDataError as error:
                code, reply = error.smtp_code, error.smtp_error
            return "content", code, reply.decode()

    def wait_recorded(self, engine):
        """Nothing is queued any more, and the journal knows it: the last outcomes may wait for their write."""
        engine.wait_empty()
        wait_for(lambda: engine.api("GET", "/v1/status")[1]["journal"]["live_messages"] == 0, "the outcomes to be recorded")

    def recipients(self, sink):
        return sorted(to for line in sink.ledger() for to in line["to"])

    def disable_outbound(self, engine, disabled):
        """By live reload."""
        engine.set("outbound.ini", disabled="true" if disabled else "false").write()
        engine.cli("reload")


class FullDisk(DiskTest):
    expects_errors = True  # a full disk is an error

    def setUp(self):
        if reason := needs.memory_mounts():
            self.skipTest(reason)
        super().setUp()
        self.disk = SmallDisk(64)
        self.addCleanup(self.disk.close)
        self.sink = self.world.sink()
        self.engine = self.engine_on(
            self.disk.folder, self.sink, segment_bytes="4M", reserve_bytes="4M", free_bytes_min="12M")
        self.engine.set("outbound.ini", disabled="true").start()

    def send_until_refused(self):
        """Sends messages; returns the addresses of those that were taken, and the refusal."""
        taken = []
        for number in range(2000):
            to = f"u{len(self.accepted) + number}@dst.test"
            stage, code, reply = self.send(self.engine, to, 30000)
            if code != 250:
                return taken, (stage, code, reply)
            taken.append(to)
        self.fail("a full disk refused nothing")

    accepted = ()

    def test_FM_14_SZ_2_low_space_refuses_before_data_and_accepts_again(self):
        self.assertEqual(self.send(self.engine, "first@dst.test")[1], 250)
        self.disk.fill(leave=8 << 20)
        filled = time.monotonic()
        taken, (stage, code, reply) = self.send_until_refused()
        self.assertEqual((stage, code, reply.split()[0]), ("envelope", 452, "4.3.1"))
        self.assertLess(time.monotonic() - filled, 10, "space is looked at in time")
        health = self.engine.api("GET", "/health")
        self.assertEqual(health[0], 503)
        self.assertNotEqual(health[1]["why_not"], "")
        self.assertEqual(self.inject("refused@dst.test").returncode, 1)

        self.disk.empty()
        wait_for(lambda: self.engine.api("GET", "/health")[0] == 200, "accepting again")
        self.assertEqual(self.send(self.engine, "again@dst.test")[1], 250)
        self.disable_outbound(self.engine, False)
        self.engine.wait_empty()
        self.assertEqual(self.recipients(self.sink), sorted(["first@dst.test", *taken, "again@dst.test"]))

    def inject(self, to):
        return self.engine.cli("inject", "-f", "a@src.test", "-t", to, input=self.message(), check=False)

    def test_FM_14_on_a_full_disk_deliveries_go_on_and_are_recorded(self):
        taken = [f"early{number}@dst.test" for number in range(40)]
        for to in taken:
            self.assertEqual(self.send(self.engine, to, 2000)[1], 250)
        self.disk.fill()
        more, (_, code, reply) = self.send_until_refused()
        self.assertEqual((code, reply.split()[0]), (452, "4.3.1"))
        self.disk.fill()
        self.disable_outbound(self.engine, False)
        self.wait_recorded(self.engine)
        self.assertEqual(self.recipients(self.sink), sorted(taken + more))

        self.engine.restart_after_kill()  # still full: what was delivered is known
        self.assertEqual(self.engine.api("GET", "/v1/status")[1]["queue"]["items"], 0)
        self.disk.empty()
        wait_for(lambda: self.engine.api("GET", "/health")[0] == 200, "accepting again")
        self.assertEqual(self.send(self.engine, "again@dst.test")[1], 250)
        self.engine.wait_event("delivered", recipients=["again@dst.test"])
        self.assertEqual(self.recipients(self.sink), sorted([*taken, *more, "again@dst.test"]))
        self.assertEqual(self.engine.stop(), 0)

    def test_FM_17_a_read_only_spool_is_refused_at_start_with_a_sentence(self):
        self.assertEqual(self.send(self.engine, "kept@dst.test")[1], 250)
        self.engine.stop()
        self.disk.remount("ro")
        self.engine.start(wait=False)
        self.assertEqual(self.engine.process.child.wait(20), 1)
        self.engine.wait_logged("Read-only file system")
        self.disk.remount("rw")
        self.engine.set("outbound.ini", disabled="false").start()
        self.engine.wait_empty()
        self.assertEqual(self.recipients(self.sink), ["kept@dst.test"])


class FailedSync(DiskTest):
    expects_errors = True  # a failed sync is an error

    def setUp(self):
        if reason := needs.strace():
            self.skipTest(reason)
        super().setUp()

    def under_strace(self, engine, inject):
        """Starts the engine so that the kernel's answer to one call is an error. strace's -D keeps the engine our child."""
        trace = self.world.directory / "strace.out"
        engine.start(command=["strace", "-D", "-f", "-q", "-e", "trace=fdatasync,pwritev", "-e", f"inject={inject}", "-o", trace])
        return trace

    def run_with(self, inject, answer=None):
        """A load with the fault in it. With `answer` nothing is delivered meanwhile, so that the fault meets a message, whose
        client must get this answer; otherwise it meets what it meets: messages, outcomes or both."""
        sink = self.world.sink()
        engine = self.engine_on(self.world.directory, sink).set("spool.ini", segment_bytes="4M", reserve_bytes="1M")
        engine.set("outbound.ini", disabled="true" if answer else "false")
        trace = self.under_strace(engine, inject)
        source = self.world.directory / "source"
        load = subprocess.run(
            [SLUICE, "--json", "blast", "--target", f"127.0.0.1:{engine.port}", "--messages", "400", "--sessions", "8",
             "--keep-going", "--rate", "300", "--to", "u%n@d%d.test", "--domains", "5", "--ledger", source],
            capture_output=True, text=True)
        lost = json.loads(load.stdout)["lost"]
        self.assertIn("(INJECTED)", trace.read_text(), "the fault did not happen")
        acked = {to for line in judge.load_ledger(source) for to in line["to"]}
        self.assertGreater(len(acked), 200, "it accepts again while the load lasts")
        if answer:
            self.assertLess(len(acked), 400, "a failed sync acknowledges nothing")
            self.check_answers(engine, answer)
        # The engine goes on by itself.
        wait_for(lambda: engine.api("GET", "/health")[0] == 200, "accepting again")
        self.assertEqual(self.send(engine, "after@dst.test")[1], 250)
        self.disable_outbound(engine, False)
        engine.wait_event("delivered", recipients=["after@dst.test"])
        engine.api("POST", "/v1/queue/flush", {"all": True})
        self.wait_recorded(engine)
        self.check_delivered(sink, acked | {"after@dst.test"}, lost)
        self.assertEqual(engine.api("GET", "/v1/status")[1]["journal"]["sync_failures"], 1)
        engine.restart_after_kill()
        self.assertEqual(engine.api("GET", "/v1/status")[1]["queue"]["items"], 0)
        engine.stop()
        engine.cli("journal", "verify", engine.directory)
        self.check_delivered(sink, acked | {"after@dst.test"}, lost)

    def check_delivered(self, sink, acked, lost):
        """All that was acknowledged, once each, and nothing that was refused. Of the messages behind a refusal on a link that ended
        (`lost`) the client has read no answer: they may have been taken."""
        delivered = self.recipients(sink)
        self.assertEqual(len(delivered), len(set(delivered)), "nothing is delivered twice")
        self.assertEqual(acked - set(delivered), set(), "what was acknowledged is delivered")
        self.assertLessEqual(len(set(delivered) - acked), lost, "what was refused is not delivered")

    def check_answers(self, engine, answer):
        def replies():
            return {event["reply"][:9] for event in engine.events("refused")}

        wait_for(lambda: answer in replies(), f"the answer {answer}; there was {replies()}")
        # Until a new segment works, MAIL is refused, and what was pipelined behind it.
        self.assertLessEqual(replies(), {answer, "452 4.3.1", "503 5.5.1"})

    def test_FM_10_a_sync_that_fails_once_answers_451_and_nothing_is_lost_or_doubled(self):
        self.run_with("fdatasync:error=EIO:when=12", "451 4.3.0")

    def test_FM_10_a_sync_that_fails_under_deliveries_loses_and_doubles_nothing(self):
        self.run_with("fdatasync:error=EIO:when=14")

    def test_FM_15_no_space_inside_a_message_answers_452_and_leaves_nothing(self):
        self.run_with("pwritev:error=ENOSPC:when=12", "452 4.3.1")

    def test_an_idempotency_key_is_confirmed_only_when_its_message_is_durable(self):
        engine = self.engine_on(self.world.directory, self.world.sink()).set("outbound.ini", disabled="true")
        self.under_strace(engine, "fdatasync:error=EIO:delay_enter=300000:when=12")

        def inject(key):
            path = "/v1/messages?from=a%40src.test&to=b%40dst.test"
            return engine.api("POST", path, self.message(), content_type="message/rfc822", headers={"Idempotency-Key": key})

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for number in range(40):
                answers = [one.result() for one in [pool.submit(inject, f"key {number}") for _ in range(2)]]
                if any(status == 503 for status, _ in answers):
                    break
        self.assertIn(503, [status for status, _ in answers], "the sync did not fail")
        for status, answer in answers:
            if status < 300:
                there = engine.api("GET", f"/v1/queue/items/{answer['id']}.1")[0]
                self.assertEqual(there, 200, f"confirmed, but its sync failed: {answers}")


class Damage(DiskTest):
    expects_errors = True  # damage is an error

    def three_held_messages(self):
        sink = self.world.sink()
        engine = self.engine_on(self.world.directory, sink).set("outbound.ini", disabled="true").start()
        for name in ("one", "two", "three"):
            self.assertEqual(self.send(engine, f"{name}@{name}.test", 5000)[1], 250)
        engine.stop()
        return engine, sink

    def flip(self, engine, mark):
        """One bit of the body of a message in the journal."""
        for segment in sorted((self.world.directory / "queue").glob("*.seg")):
            content = bytearray(segment.read_bytes())
            at = content.find(mark)
            if at >= 0:
                body = content.find(b"yyyyyyyy", at)
                content[body] ^= 1
                segment.write_bytes(content)
                return
        self.fail(f"{mark} is not in the journal")

    def test_FM_13_a_flipped_bit_is_reported_and_never_delivered(self):
        engine, sink = self.three_held_messages()
        self.flip(engine, b"Subject: two@two.test")
        found = engine.cli("journal", "verify", engine.directory, check=False)
        self.assertEqual(found.returncode, 1, found.stdout)
        self.assertIn("damaged", found.stdout)

        engine.set("outbound.ini", disabled="false").start()
        engine.wait_event("delivered", 2)
        self.assertEqual(self.recipients(sink), ["one@one.test", "three@three.test"])
        wait_for(lambda: list((self.world.directory / "queue" / "quarantine").glob("*.seg")), "a quarantined segment")
        wait_for(lambda: re.search(r"\.seg\b.*(checksum|damage|corrupt)", engine.process.output()), "the log to name the segment")
        two = [event for event in engine.events() if event.get("recipients") == ["two@two.test"]]
        # Either it is still queued for an operator to see, or its end was told: it does not disappear.
        left = engine.api("GET", "/v1/queue")[1]["items"]
        self.assertTrue(two or [item["domain"] for item in left] == ["two.test"],
                        f"the damaged message cannot be seen: {left} of {engine.api('GET', '/v1/status')[1]['queue']}")
        engine.wait_logged("[ERROR]")
        self.assertEqual(self.send(engine, "four@four.test")[1], 250)
        engine.wait_event("delivered", recipients=["four@four.test"])
        self.check_removal(engine)

    def check_removal(self, engine):
        """An operator gets rid of what nobody can read, for good."""
        engine.cli("queue", "delete", "two.test")
        engine.wait_logged("an item is removed whose message was not read")
        self.wait_recorded(engine)
        engine.restart_after_kill()
        self.assertEqual(engine.api("GET", "/v1/status")[1]["queue"]["items"], 0)


class OneInstance(DiskTest):
    def test_FM_22_a_second_instance_is_refused_and_the_first_does_not_notice(self):
        sink = self.world.sink()
        first = self.engine_on(self.world.directory, sink).start()
        second = self.world.engine(name="second").route("any", sink.endpoint)
        second.files["queue_dir"] = first.files["queue_dir"]
        second.start(wait=False)
        self.assertEqual(second.process.child.wait(20), 75)
        self.assertEqual(self.send(first, "b@dst.test")[1], 250)
        sink.wait(1)
        # The lock dies with its holder, however that ends.
        first.process.kill()
        second.start()
        self.assertEqual(self.send(second, "c@dst.test")[1], 250)
        second.wait_empty()

    def test_two_engines_on_one_instance_directory(self):
        engine = self.world.engine().start()
        done = subprocess.run([SLUICE, "serve", engine.directory], capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 75, done.stdout + done.stderr)
        self.assertIn("lock", done.stderr)
        self.assertEqual(engine.api("GET", "/health")[0], 200, "the control socket is still the first one's")


if __name__ == "__main__":
    unittest.main()
