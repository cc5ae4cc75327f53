"""delivery.yaml is obeyed: what receivers see of it, and the events."""

import datetime
import json
import smtplib
import socket
import threading
import time

from peers import Knot, Reports, Scripted, server_tls, shared_port
from world import EndToEnd, wait_for


class DeliveryFile(EndToEnd):
    def send(self, engine, to, number=1):
        with smtplib.SMTP("127.0.0.1", engine.port, timeout=20) as client:
            for i in range(number):
                client.sendmail("a@src.test", [to], self.message(f"{to}/{i}", to=to))

    def start(self, file, **routes):
        self.engine = self.world.engine()
        for domain, peer in routes.items():
            self.engine.route(domain + ".test", peer.endpoint)
        self.engine.files["delivery.yaml"] = file
        return self.engine.start()

    def reload(self, file):
        (self.engine.config / "delivery.yaml").write_text(file)
        return self.engine.api("POST", "/v1/reload", {})

    def test_tls_is_required_where_the_file_says_so(self):
        plain = Scripted(self)
        secure = Scripted(self, tls=server_tls(*self.world.certificate()))
        self.start("conditions:\n  - if: {recipientdomain: [plain.test, secure.test]}\n    then: {tls: {mode: require}}\n",
                   plain=plain, secure=secure, other=plain)
        for domain in ("plain", "secure", "other"):
            self.send(self.engine, f"b@{domain}.test")
        [deferred] = self.engine.wait_event("deferred")
        self.assertEqual((deferred["domain"], deferred["stage"]), ("plain.test", "starttls"))
        self.engine.wait_event("delivered", 2)
        self.assertEqual(len(secure.resumed), 1, "one handshake")
        self.assertEqual(len(plain.messages), 1, "other.test goes there in clear")
        # The file changes while the message waits: its next attempt is as the new one says.
        self.assertTrue(self.reload("default: {}\n")[1]["applied"])
        self.engine.cli("queue", "flush")
        self.engine.wait_event("delivered", 3)
        self.assertEqual(self.engine.stop(), 0)

    def test_pooling_off_is_a_connection_a_message(self):
        peer, pooled = Scripted(self), Scripted(self)
        self.start("conditions:\n  - if: {remoteip: %s, recipientdomain: single.test}\n    then: {pooling: {enabled: false}}\n"
                   "  - if: {recipientdomain: pooled.test}\n    then: {pooling: {transactions: 3, timeout: 20}}\n" % "127.0.0.1",
                   single=peer, pooled=pooled)
        self.engine.set("outbound.ini", destination_concurrency="1").write()
        self.engine.api("POST", "/v1/reload", {})
        self.send(self.engine, "b@single.test", 5)
        self.send(self.engine, "b@pooled.test", 6)
        self.engine.wait_event("delivered", 11)
        self.assertEqual(len(peer.sessions), 5)
        self.assertEqual(len(pooled.sessions), 2, "three messages each")
        self.assertEqual(self.engine.stop(), 0)

    def test_a_state_has_its_own_time(self):
        stop = threading.Event()
        self.addCleanup(stop.set)
        peer = Scripted(self, {"RCPT": lambda line: stop.wait(30) and None})
        self.start("default: {timeout: {smtp: {RCPT: 0.3}}}\n", slow=peer)
        self.send(self.engine, "b@slow.test")
        [deferred] = self.engine.wait_event("deferred")
        self.assertEqual((deferred["stage"], deferred["reply"].split(":")[0]), ("rcpt", "timed_out"))
        self.assertEqual(self.engine.stop(), 0)

    def test_an_explanation_has_the_schedule_of_the_file(self):
        peer = Scripted(self, {"RCPT": "450 4.2.1 later"})
        self.start("conditions:\n  - if: {recipientdomain: busy.test}\n"
                   "    then: {retry: {count: 3, intervals: [600, 1200], lifetime: 7200}}\n", busy=peer, usual=peer)
        self.engine.set("outbound.ini", retry_jitter="false").write()
        self.engine.api("POST", "/v1/reload", {})
        said = {}
        for domain in ("busy", "usual"):
            self.send(self.engine, f"b@{domain}.test")
            [deferred] = self.engine.wait_event("deferred", domain=f"{domain}.test")
            [item] = self.engine.api("GET", f"/v1/queue?domain={domain}.test")[1]["items"]
            said[domain] = json.loads(self.engine.cli("explain", item["id"], "--json").stdout)["explanations"][0]
        seconds = lambda text: datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
        busy = said["busy"]
        self.assertEqual(len(busy["tries"]), 2, "one of three is used up")
        self.assertAlmostEqual(seconds(busy["tries"][1]) - seconds(busy["tries"][0]), 1200, delta=1)
        self.assertLess(abs(seconds(busy["expires"]) - time.time() - 7200), 60)
        self.assertGreater(len(said["usual"]["tries"]), 2, "as the settings say")

    def test_intervals_are_the_schedule_and_notify_tells_the_sender(self):
        reports = Reports(self.world)
        peer = Scripted(self, {"RCPT": "450 4.2.1 later"})
        self.start("conditions:\n  - if: {recipientdomain: busy.test}\n"
                   "    then: {retry: {count: 3, intervals: [0.3, {interval: 0.6, notify: true}]}}\n", busy=peer, src=reports)
        self.engine.set("outbound.ini", retry_jitter="false").write()
        self.engine.api("POST", "/v1/reload", {})
        self.send(self.engine, "b@busy.test")
        expired = self.engine.wait_event("expired")
        deferred = self.engine.events("deferred")
        self.assertEqual(len(deferred), 3, "four attempts: three retries")
        self.assertEqual(len(peer.commands("RCPT")), 4)
        self.assertEqual(len(expired), 1)
        actions = sorted(report.recipients["b@busy.test"]["Action"] for report in reports.wait(3))
        self.assertEqual(actions, ["delayed", "delayed", "failed"])
        self.assertEqual(self.engine.stop(), 0)

    def test_only_ipv4_is_called(self):
        port = shared_port(["127.0.0.1", "::1"])
        four, six = Scripted(self, address="127.0.0.1", port=port), Scripted(self, address="::1", port=port)
        zones = {domain: "@ MX 10 mx\nmx A 127.0.0.1\nmx AAAA ::1\n" for domain in ("four.test", "six.test", "none.test")}
        zones["none.test"] = "@ MX 10 mx\nmx AAAA ::1\n"
        knot = Knot(self.world, zones)
        self.engine = self.world.engine()
        self.engine.set("net-utils.ini", "dns", servers=knot.endpoint, timeout="5000").set("outbound.ini", smtp_port=port)
        self.engine.files["delivery.yaml"] = ("conditions:\n  - if: {remotemx: [mx.four.test, mx.none.test]}\n    then: {family: ipv4}\n"
                                              "  - if: {remotemx: mx.six.test}\n    then: {family: prefer_ipv6}\n")
        self.engine.start()
        for domain in ("four", "six"):
            self.send(self.engine, f"b@{domain}.test", 4)
        self.engine.wait_event("delivered", 8)
        self.assertEqual((len(four.messages), len(six.messages)), (4, 4))
        self.send(self.engine, "b@none.test")
        [deferred] = self.engine.wait_event("deferred")
        self.assertIn("delivery.yaml", deferred["reply"])
        self.assertEqual(self.engine.stop(), 0)

    def test_a_bad_file_changes_nothing(self):
        peer = Scripted(self)
        self.start("default: {pooling: {enabled: false}}\n", one=peer)
        self.send(self.engine, "b@one.test", 2)
        self.engine.wait_event("delivered", 2)
        answer = json.dumps(self.reload("default: {pooling: {enabeld: true}}\n")[1])
        self.assertIn("enabled", answer)
        self.send(self.engine, "b@one.test", 2)
        self.engine.wait_event("delivered", 4)
        self.assertEqual(len(peer.sessions), 4)
        self.reload("default: {pooling: {enabled: true}}\n")
        self.send(self.engine, "b@one.test")
        self.engine.wait_event("delivered", 5)
        self.send(self.engine, "b@one.test")
        self.engine.wait_event("delivered", 6)
        self.assertEqual(len(peer.sessions), 5, "the last two share one")
        self.assertEqual(self.engine.stop(), 0)


class FalsePipelining(EndToEnd):
    def test_what_a_liar_says_to_a_flight_bounces_nobody(self):
        """It offers PIPELINING, answers the first command of a flight and takes what came along for nonsense."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        taken, connections = [], []

        def serve(link):
            with link:
                link.sendall(b"220 liar.test ESMTP\r\n")
                in_content, recipients = False, 0
                while octets := link.recv(65536):
                    if in_content:
                        if octets.endswith(b"\r\n.\r\n"):
                            in_content = False
                            taken.append(octets)
                            link.sendall(b"250 2.0.0 taken\r\n")
                        continue
                    for number, line in enumerate(octets.splitlines()):
                        verb = line.split(b" ")[0].upper()
                        if number > 0:
                            link.sendall(b"500 5.5.1 command unrecognized\r\n")
                        elif verb == b"EHLO":
                            link.sendall(b"250-liar.test\r\n250 PIPELINING\r\n")
                        elif verb == b"DATA":
                            in_content = True
                            link.sendall(b"354 go on\r\n")
                        elif verb == b"QUIT":
                            link.sendall(b"221 bye\r\n")
                            return
                        else:
                            link.sendall(b"250 ok\r\n")

        def accept():
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                connections.append(link)
                threading.Thread(target=serve, args=(link,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        engine = self.world.engine().route("liar.test", "127.0.0.1:%d" % listener.getsockname()[1])
        engine.set("outbound.ini", destination_concurrency="1").set("smtp.ini", shards="1").start()
        with smtplib.SMTP("127.0.0.1", engine.port, timeout=20) as client:
            for i in range(6):
                client.sendmail("a@src.test", [f"b{i}@liar.test"], self.message(f"m{i}", to=f"b{i}@liar.test"))
        engine.wait_event("delivered", 6)
        wait_for(lambda: len(taken) == 6, "six messages")
        self.assertEqual(engine.events("bounced") + engine.events("deferred"), [])
        self.assertEqual(len(connections), 2, "the second one goes on, one command at a time")
        self.assertEqual(engine.stop(), 0)
