"""Settings change while mail flows, and the engine stops and starts in the middle of everything."""

import contextlib
import http.client
import signal
import smtplib
import socket
import ssl
import threading
import time
import unittest

import judge
from world import SLUICE, EndToEnd, free_port, wait_for

WITHIN = 1.0  # seconds from a change of a file until it is in force


class ReloadTest(EndToEnd):
    def client(self, engine):
        return smtplib.SMTP("127.0.0.1", engine.port, timeout=20)

    def send(self, engine, to, sender="a@src.test"):
        with self.client(engine) as client:
            client.sendmail(sender, [to], self.message(to, to=to))

    def change(self, engine, file, section="main", **values):
        """Writes the setting; returns when that was."""
        engine.set(file, section, **values)
        text = (engine.config / file).read_text() if (engine.config / file).exists() else None
        engine.write()
        self.assertNotEqual((engine.config / file).read_text(), text, "nothing was changed")
        return time.monotonic()

    def in_force(self, changed, condition, what):
        """The condition holds within a second of the change; the machine may be busy, so the wait is longer than the promise."""
        wait_for(condition, what, 10)
        took = time.monotonic() - changed
        self.assertLess(took, WITHIN + 4, f"{what} took {took:.2f} s")

    def rcpt(self, engine, to="b@dst.test", sender="a@src.test"):
        """The reply to RCPT."""
        with self.client(engine) as client:
            client.ehlo("test")
            client.mail(sender)
            code, text = client.rcpt(to)
            return code, text.decode()

    def recipients(self, sink):
        return sorted(to for line in sink.ledger() for to in line["to"])


class LiveReload(ReloadTest):
    def setUp(self):
        super().setUp()
        self.sink = self.world.sink()
        self.engine = self.world.engine().route("any", self.sink.endpoint)

    def test_outbound_is_switched_off_and_on(self):
        self.engine.start()
        self.send(self.engine, "one@dst.test")
        self.sink.wait(1)
        self.change(self.engine, "outbound.ini", disabled="true")
        self.reloaded(1)
        for number in range(5):
            self.send(self.engine, f"held{number}@dst.test")
        wait_for(lambda: self.engine.api("GET", "/v1/status")[1]["queue"]["items"] == 5, "5 queued items")
        self.assertEqual(len(self.sink.ledger()), 1)
        changed = self.change(self.engine, "outbound.ini", disabled="false")
        self.in_force(changed, lambda: len(self.sink.ledger()) == 6, "deliveries")

    def reloaded(self, count):
        self.engine.wait_logged("settings reloaded", count)

    def test_concurrency_follows_the_setting(self):
        slow = self.world.sink("--rule", "dot=delay 400", name="slow")
        engine = self.world.engine(name="other").route("any", slow.endpoint)
        engine.set("outbound.ini", destination_concurrency=2, pool_timeout="0").start()
        source = self.world.spawn([SLUICE, "blast", "--target", f"127.0.0.1:{engine.port}", "--messages", "60"], self.world.directory / "b.log")
        self.assertEqual(source.child.wait(20), 0)

        def sending():
            return engine.api("GET", "/v1/status")[1]["queue"]["sending"]

        for _ in range(10):
            self.assertLessEqual(sending(), 2)
            time.sleep(0.02)  # sampling
        changed = self.change(engine, "outbound.ini", destination_concurrency=20)
        self.in_force(changed, lambda: sending() == 20, "20 deliveries at once")
        for _ in range(10):
            self.assertLessEqual(sending(), 20)
        engine.wait_empty()

    def test_concurrency_max_goes_down(self):
        slow = self.world.sink("--rule", "dot=delay 300", name="slow")
        engine = self.world.engine(name="other").route("any", slow.endpoint).set("outbound.ini", concurrency_max=20).start()
        source = self.world.spawn(
            [SLUICE, "blast", "--target", f"127.0.0.1:{engine.port}", "--messages", "120", "--domains", "30"], self.world.directory / "b.log")
        self.assertEqual(source.child.wait(20), 0)
        self.change(engine, "outbound.ini", concurrency_max=3)
        wait_for(lambda: engine.api("GET", "/v1/status")[1]["queue"]["sending"] == 3, "3 deliveries at once", 5)
        for _ in range(20):
            self.assertLessEqual(engine.api("GET", "/v1/status")[1]["queue"]["sending"], 3)
        self.change(engine, "outbound.ini", concurrency_max=50)
        engine.wait_empty()

    def test_relay_acl(self):
        self.engine.start()
        self.assertEqual(self.rcpt(self.engine)[0], 250)
        self.engine.files["relay_acl_allow"] = "192.0.2.0/24\n"
        self.engine.write()
        changed = time.monotonic()
        self.in_force(changed, lambda: self.rcpt(self.engine)[0] == 550, "relaying denied")
        self.engine.files["relay_acl_allow"] = "127.0.0.1\n"
        self.engine.write()
        changed = time.monotonic()
        self.in_force(changed, lambda: self.rcpt(self.engine)[0] == 250, "relaying allowed")

    def test_certificate_is_swapped_and_a_session_under_way_goes_on(self):
        first, second = self.world.certificate("one.sluice.test"), self.world.certificate("two.sluice.test")
        for file, source in zip(("tls_cert.pem", "tls_key.pem"), first):
            (self.engine.config / file).write_bytes(source.read_bytes())
        self.engine.files["plugins"] = "relay\ntls\n"
        self.engine.start()
        self.assertEqual(self.presented(), first[0].read_text())
        context = ssl._create_unverified_context()
        with self.client(self.engine) as running:
            running.starttls(context=context)
            running.ehlo("test")
            # Both files change, one after the other, as a renewal does it: in between they do not fit.
            for file, source in zip(("tls_cert.pem", "tls_key.pem"), second):
                (self.engine.config / file).write_bytes(source.read_bytes())
            changed = time.monotonic()
            self.in_force(changed, lambda: self.presented() == second[0].read_text(), "the new certificate")
            running.sendmail("a@src.test", ["b@dst.test"], self.message())
        self.sink.wait(1)

    def presented(self):
        """The certificate that STARTTLS shows, as PEM of the file."""
        context = ssl._create_unverified_context()
        with self.client(self.engine) as client:
            client.starttls(context=context)
            return ssl.DER_cert_to_PEM_cert(client.sock.getpeercert(binary_form=True))

    def test_log_level(self):
        self.engine.start()
        self.send(self.engine, "one@dst.test")
        self.engine.wait_logged("delivered file=")
        self.change(self.engine, "log.ini", level="warn")
        wait_for(lambda: self.quiet(), "no lines below warn", 5)
        self.change(self.engine, "log.ini", level="info")
        wait_for(lambda: not self.quiet(), "lines again", 5)

    def quiet(self):
        before = len(self.engine.process.output())
        to = f"n{before}.{time.monotonic_ns()}@dst.test"
        self.send(self.engine, to)
        self.engine.wait_event("delivered", recipients=[to])
        # The line of a delivery is written before or after its event: one more command gives it time.
        self.engine.api("GET", "/v1/status")
        said = self.engine.process.output()[before:]
        return "delivered file=" not in said and "connect ip=" not in said

    def test_retry_schedule(self):
        busy = self.world.sink("--rule", "rcpt=451 4.2.0 busy", name="busy")
        engine = self.world.engine(name="other").route("any", busy.endpoint)
        engine.set("outbound.ini", temp_fail_intervals="1h,2h", retry_jitter="false").start()
        self.send(engine, "one@dst.test")
        self.assertAlmostEqual(self.delay(engine.wait_event("deferred")[0]), 3600, delta=2)
        self.change(engine, "outbound.ini", temp_fail_intervals="7m,2h")
        engine.wait_logged("settings reloaded")
        self.send(engine, "two@dst.test")
        self.assertAlmostEqual(self.delay(engine.wait_event("deferred", 2)[1]), 420, delta=2)

    @staticmethod
    def delay(event):
        """Seconds from the failure to the next attempt."""
        return (judge.milliseconds(event["next"]) - judge.milliseconds(event["time"])) / 1000

    def test_a_broken_file_keeps_the_old_settings_and_names_the_line(self):
        self.engine.start()
        self.engine.files["relay_acl_allow"] = "127.0.0.0/8\n"
        (self.engine.config / "connection.ini").write_text("[max]\nrecipients=200\nbytes=much\n")
        self.engine.wait_logged("connection.ini:3")
        self.engine.wait_logged("settings kept as they were")
        self.send(self.engine, "one@dst.test")  # still as before
        # A good file beside the broken one changes nothing either: all or none.
        (self.engine.config / "relay_acl_allow").write_text("192.0.2.0/24\n")
        done = self.engine.cli("reload", check=False)
        self.assertIn("connection.ini:3", done.stdout + done.stderr)
        self.assertEqual(self.rcpt(self.engine)[0], 250)
        (self.engine.config / "connection.ini").write_text("[max]\nrecipients=200\n")
        changed = time.monotonic()
        self.in_force(changed, lambda: self.rcpt(self.engine)[0] == 550, "both files after the repair")

    def test_reload_of_a_broken_file_is_a_failure_of_the_command(self):
        self.engine.start()
        self.assertEqual(self.engine.cli("reload").returncode, 0)
        (self.engine.config / "outbound.ini").write_text("concurrency_max=lots\n")
        self.assertEqual(self.engine.cli("reload", check=False).returncode, 78)

    def test_what_needs_a_restart_is_said(self):
        self.engine.start()
        self.change(self.engine, "spool.ini", segment_bytes="8M")
        self.engine.wait_logged("takes effect after a restart")
        self.assertRegex(self.engine.process.output(), "restart.*segment_bytes")
        waiting = "config/spool.ini [main] segment_bytes: takes effect after a restart"
        self.assertIn("warning: " + waiting, self.engine.api("GET", "/v1/status")[1]["warnings"])
        self.assertIn("segment_bytes: takes effect after a restart", self.engine.cli("reload").stdout)
        self.change(self.engine, "spool.ini", segment_bytes="128M")
        self.engine.wait_logged("no setting changes now", 2)
        self.assertEqual(self.engine.api("GET", "/v1/status")[1]["warnings"], [])

    def test_the_status_warns_of_what_the_last_load_found(self):
        self.engine.start()
        self.change(self.engine, "outbound.ini", concurency_max="9")
        found = "config/outbound.ini:2: unknown key `concurency_max`"
        wait_for(lambda: any(found in line for line in self.warnings()), "the warning")
        self.engine.settings["outbound.ini"]["main"].pop("concurency_max")
        self.engine.write()
        wait_for(lambda: not self.warnings(), "no warnings")

    def warnings(self):
        return self.engine.api("GET", "/v1/status")[1]["warnings"]

    def test_a_reload_by_command_and_the_files_agree(self):
        self.engine.start()
        everybody, nobody = "127.0.0.0/8\n", "192.0.2.0/24\n"
        for count in range(1, 4):
            (self.engine.config / "relay_acl_allow").write_text(nobody)
            self.engine.cli("reload")
            wait_for(lambda: self.rcpt(self.engine)[0] == 550, "relaying denied")
            # At once, before the watch has looked at the first change.
            (self.engine.config / "relay_acl_allow").write_text(everybody)
            wait_for(lambda: self.rcpt(self.engine)[0] == 250, f"what the file says, {count}")

    def test_reloads_asked_for_by_many_at_once_are_all_answered(self):
        self.engine.start()
        replies = []

        def ask(number):
            (self.engine.config / "relay_acl_allow").write_text(f"127.0.0.0/8\n192.0.2.{number}\n")
            replies.append(self.engine.api("POST", "/v1/reload", {}))

        askers = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        self.assertEqual([(status, body["applied"]) for status, body in replies], [(200, True)] * 20)
        self.assertTrue(self.engine.process.running())


class WhatNeedsARestart(ReloadTest):
    """Until then it is in force as it was, whatever of it code reads later."""

    def setUp(self):
        super().setUp()
        self.engine = self.world.engine()

    def live_change(self, count):
        """A change of something else, which is published together with what waits."""
        self.change(self.engine, "connection.ini", "max", recipients=100 + count)
        self.engine.wait_logged("settings reloaded", count)

    def test_a_token_that_is_taken_away_opens_the_api_to_nobody(self):
        port, token = free_port(), "correct-horse-battery"

        def status(given=None):
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            with contextlib.closing(link):
                link.request("GET", "/v1/status", headers={"Authorization": f"Bearer {given}"} if given else {})
                return link.getresponse().status

        self.engine.set("http.ini", listen=f"0.0.0.0:{port}", token=token).start()
        self.assertEqual((status(token), status()), (200, 401))
        for count, text in enumerate((f"listen=0.0.0.0:{port}\n;token={token}\n", f"listen=0.0.0.0:{port}\ntokne={token}\n", "")):
            (self.engine.config / "http.ini").write_text(text)
            self.engine.cli("reload")
            wait_for(lambda: status(token) == 401, "no token that is right")
            self.assertEqual(status(), 401)
        (self.engine.config / "http.ini").write_text(f"listen=0.0.0.0:{port}\ntoken={token}\n")
        self.engine.cli("reload")
        wait_for(lambda: status(token) == 200, "the token in force")

    def test_a_listener_that_was_dropped_goes_on_speaking_tls(self):
        """Without plugin `tls` it is the listener that wants the certificate."""
        smtps = self.tls_engine()
        self.change(self.engine, "smtp.ini", listen=f"127.0.0.1:{self.engine.port}")
        self.engine.wait_logged("takes effect after a restart")
        self.live_change(1)
        self.speaks_tls(smtps)
        self.assertEqual(self.rcpt(self.engine)[0], 250)

    def test_a_port_goes_on_speaking_tls(self):
        smtps = self.tls_engine()
        self.change(self.engine, "smtp.ini", smtps_port=self.engine.port)
        self.engine.wait_logged("takes effect after a restart")
        self.live_change(1)
        self.speaks_tls(smtps)
        self.assertEqual(self.rcpt(self.engine)[0], 250)

    def tls_engine(self):
        smtps = free_port()
        for file, source in zip(("tls_cert.pem", "tls_key.pem"), self.world.certificate()):
            (self.engine.config / file).write_bytes(source.read_bytes())
        self.engine.set("smtp.ini", listen=f"127.0.0.1:{self.engine.port},127.0.0.1:{smtps}", smtps_port=smtps).start()
        self.speaks_tls(smtps)
        return smtps

    def speaks_tls(self, port):
        with smtplib.SMTP_SSL("127.0.0.1", port, timeout=20, context=ssl._create_unverified_context()) as client:
            self.assertEqual(client.ehlo("test")[0], 250)


class Routes(ReloadTest):
    def test_an_answer_to_a_question_from_before_a_reload_does_not_count(self):
        sink = self.world.sink()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            silent.settimeout(20)
            engine = self.world.engine()
            engine.set("net-utils.ini", "dns", servers=f"127.0.0.1:{silent.getsockname()[1]}", timeout="3000").start()
            self.send(engine, "b@dst.test")
            silent.recv(4096)
            engine.route("dst.test", sink.endpoint).write()
            engine.cli("reload")
            sink.wait(1)
            self.assertEqual(engine.events("deferred"), [])
            self.assertEqual(engine.stop(), 0)


class Restarts(ReloadTest):
    def setUp(self):
        super().setUp()
        self.sink = self.world.sink()

    def engine_with_a_busy_peer(self, name="engine", **outbound):
        """Mail to late.test is deferred until the peer is made friendly; all other mail is taken."""
        self.busy = self.world.sink("--rule", "rcpt=451 4.2.0 busy", name="busy")
        engine = self.world.engine(name=name).route("any", self.sink.endpoint).route("late.test", self.busy.endpoint)
        return engine.set("outbound.ini", retry_jitter="false", **outbound)

    def make_peer_friendly(self):
        self.busy.stop()
        self.busy = self.world.sink(port=self.busy.port, name="friendly")

    def test_SIGHUP_flushes(self):
        engine = self.engine_with_a_busy_peer(temp_fail_intervals="1h*3").start()
        self.send(engine, "b@late.test")
        engine.wait_event("deferred")
        self.make_peer_friendly()
        engine.process.child.send_signal(signal.SIGHUP)
        engine.wait_event("delivered", recipients=["b@late.test"])
        self.assertTrue(engine.process.running())

    def test_A5_a_schedule_is_kept_across_a_restart_to_the_second(self):
        for end in ("stop", "kill"):
            with self.subTest(end):
                engine = self.engine_with_a_busy_peer(end, temp_fail_intervals="5s,1h").start()
                self.send(engine, f"{end}@late.test")
                deferred = engine.wait_event("deferred", recipients=[f"{end}@late.test"])[0]
                due = judge.milliseconds(deferred["next"])
                engine.wait_recorded()
                getattr(engine.process, end)()
                self.make_peer_friendly()
                engine.start()
                item = engine.api("GET", "/v1/queue")[1]["items"][0]
                self.assertEqual((item["next"], item["attempts"]), (deferred["next"], 1))
                came = judge.milliseconds(self.busy.wait(1)[0]["time"])
                self.assertGreaterEqual(came, due - 10)
                self.assertLess(came, due + 4000, "tried at its time, not later")
                engine.wait_empty()
                engine.stop()

    def test_a_time_that_passed_while_the_engine_was_down_is_due_at_once(self):
        engine = self.engine_with_a_busy_peer(temp_fail_intervals="5s,1h").start()
        self.send(engine, "b@late.test")
        due = judge.milliseconds(engine.wait_event("deferred")[0]["next"])
        engine.wait_recorded()
        engine.process.kill()
        self.make_peer_friendly()
        wait_for(lambda: time.time() * 1000 > due, "its time")
        started = time.time() * 1000
        engine.start()
        self.assertLess(judge.milliseconds(self.busy.wait(1)[0]["time"]), started + 10_000)

    def test_attempts_and_age_are_kept_across_a_kill(self):
        engine = self.engine_with_a_busy_peer(temp_fail_intervals="1h*3").start()
        self.send(engine, "b@late.test")
        for attempts in (1, 2, 3):
            engine.wait_event("deferred", attempts)
            engine.wait_recorded()
            engine.restart_after_kill()
            item = engine.api("GET", "/v1/queue")[1]["items"][0]
            self.assertEqual(item["attempts"], attempts)
            engine.cli("queue", "flush")
        expired = engine.wait_event("expired")[0]
        self.assertEqual(expired["attempts"], 4)
        self.assertTrue(expired["dsn"])
        engine.wait_empty()
        self.assertEqual(len(self.sink.ledger()), 1)  # its sender was told, once

    def test_holds_are_kept_across_a_kill(self):
        engine = self.world.engine().route("any", self.sink.endpoint).set("outbound.ini", disabled="true").start()
        for name in ("one", "two", "three"):
            self.send(engine, f"{name}@{name}.test")
        engine.cli("queue", "hold", "one.test")
        engine.cli("queue", "hold", "two.test")
        engine.cli("queue", "release", "two.test")
        # Nobody waits for the sync of a hold; the next accepted message does, and syncs go in order.
        self.send(engine, "four@four.test")
        engine.process.kill()
        engine.set("outbound.ini", disabled="false").start()
        engine.wait_event("delivered", 3)
        self.assertEqual(self.recipients(self.sink), ["four@four.test", "three@three.test", "two@two.test"])
        held = engine.api("GET", "/v1/queue?state=held")[1]["items"]
        self.assertEqual([item["recipients"] for item in held], [["one@one.test"]])
        engine.cli("queue", "release", "one.test")
        engine.wait_empty()

    def test_FM_03_SIGTERM_under_load_loses_nothing_and_says_421(self):
        engine = self.world.engine().route("any", self.sink.endpoint).set("smtp.ini", force_shutdown_timeout="10s").start()
        source = self.world.directory / "source"
        load = self.world.spawn(
            [SLUICE, "blast", "--target", f"127.0.0.1:{engine.port}", "--messages", "1000000", "--sessions", "8", "--rate", "2000",
             "--to", "u%n@d%d.test", "--domains", "20", "--ledger", source, "--keep-going"], self.world.directory / "blast.log")
        for round_number in range(3):
            wait_for(lambda: len(judge.load_ledger(source)) > 200 * (round_number + 1), "load")
            with socket.create_connection(("127.0.0.1", engine.port), timeout=20) as idle:
                idle.recv(1000)
                engine.process.child.send_signal(signal.SIGTERM)
                self.assertTrue(idle.recv(1000).startswith(b"421 4.3.2"), "an idle client is told")
            self.assertEqual(engine.process.child.wait(20), 0)
            engine.cli("journal", "verify", engine.directory)
            engine.start()
        wait_for(lambda: len(judge.load_ledger(source)) > 1000, "load")
        load.kill()
        engine.wait_empty()
        acked = {to for line in judge.load_ledger(source) for to in line["to"]}
        came = self.recipients(self.sink)
        self.assertEqual(len(came), len(set(came)), "nothing is delivered again after an orderly stop")
        self.assertEqual(acked - set(came), set())
        self.assertEqual(engine.stop(), 0)

    def test_a_stop_waits_for_the_answer_to_the_dot(self):
        slow = self.world.sink("--rule", "dot=delay 1500", name="slow")
        engine = self.world.engine().route("any", slow.endpoint).start()
        self.send(engine, "b@dst.test")
        wait_for(lambda: engine.api("GET", "/v1/status")[1]["queue"]["sending"] == 1, "a delivery")
        self.assertEqual(engine.stop(), 0)
        engine.start()
        engine.wait_empty()
        self.assertEqual(self.recipients(slow), ["b@dst.test"])
        self.assertEqual(engine.events("possible_duplicate"), [])

    def test_a_stop_ends_in_time_when_a_peer_never_answers(self):
        stuck = self.world.sink("--rule", "dot=delay 600000", name="stuck")
        engine = self.world.engine().route("any", stuck.endpoint).set("smtp.ini", force_shutdown_timeout="2s").start()
        self.send(engine, "b@dst.test")
        wait_for(lambda: engine.api("GET", "/v1/status")[1]["queue"]["sending"] == 1, "a delivery")
        began = time.monotonic()
        self.assertEqual(engine.stop(), 0)
        self.assertLess(time.monotonic() - began, 8)
        engine.start()
        self.assertEqual(engine.api("GET", "/v1/status")[1]["queue"]["items"], 1)
        with contextlib.suppress(AssertionError):
            stuck.process.kill()


if __name__ == "__main__":
    unittest.main()
