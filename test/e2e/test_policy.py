"""Queue policies hold at the receivers: sinks behind real DNS zones count connections and messages, and are believed."""

import asyncio
import collections
import json
import subprocess
import threading
import time

from peers import Knot, shared_port
from world import ROOT, SLUICE, EndToEnd, wait_for

SOURCES = ["127.0.0.41", "127.0.0.42"]
GOOGLE = {"aspmx.l.google.com": ["127.0.0.51", "127.0.0.52"], "alt1.aspmx.l.google.com": ["127.0.0.53"],
          "gmail-smtp-in.l.googlemail.com": ["127.0.0.51"], "mx.smtp.goog": ["127.0.0.54"]}
MICROSOFT = {"a-example.mail.protection.outlook.com": ["127.0.0.61", "127.0.0.62"],
             "b-example.mail.protection.outlook.com": ["127.0.0.62", "127.0.0.63"]}
PLAIN = {"mx1.plain.test": ["127.0.0.71"], "mx2.plain.test": ["127.0.0.72"]}

# The two examples of the announcement of Halon 5.2, as they stand there.
GSUITE, O365 = ((ROOT / "test" / "config" / "policy" / "good" / f"{name}.yaml").read_text() for name in ("gsuite", "o365"))


class Receivers:
    """SMTP servers on many addresses that take some time for each message, and count by (client address, own address)."""

    def __init__(self, test, addresses, port, seconds, groups):
        self.seconds = seconds
        self.open = collections.Counter()
        self.groups = groups  # own address -> what its connections count for
        self.peaks = collections.Counter()  # by (client address, group)
        self.messages = collections.defaultdict(list)  # times, by (client address, group)
        self.taken = 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.servers = [
            asyncio.run_coroutine_threadsafe(asyncio.start_server(self.serve, address, port, backlog=512), self.loop).result(20)
            for address in addresses]
        test.addCleanup(self.close)

    def close(self):
        async def cancel():
            for server in self.servers:
                server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def serve(self, reader, writer):
        own = writer.get_extra_info("sockname")[0]
        key = (writer.get_extra_info("peername")[0], self.groups.get(own, own))
        self.open[key] += 1
        self.peaks[key] = max(self.peaks[key], self.open[key])
        counted = True
        try:
            writer.write(b"220 mx ESMTP\r\n")
            while line := await reader.readline():
                verb = line.split(b" ")[0].strip().upper()
                if verb == b"DATA":
                    self.messages[key].append(time.monotonic())
                    writer.write(b"354 go on\r\n")
                    while await reader.readline() not in (b".\r\n", b""):
                        pass
                    await asyncio.sleep(self.seconds)
                    self.taken += 1
                    writer.write(b"250 taken\r\n")
                elif verb == b"QUIT":
                    # The client counts the session as over when it has read the answer.
                    self.open[key] -= 1
                    counted = False
                    writer.write(b"221 bye\r\n")
                else:
                    writer.write(b"250 fine\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if counted:
                self.open[key] -= 1
            writer.close()


class Policies(EndToEnd):
    def start(self, hosts, policy, seconds, mail, groups=None):
        """An engine under the policy, with mail for domains; `mail` maps a domain to (its MX hosts, messages)."""
        addresses = sorted({address for list in hosts.values() for address in list})
        zones = collections.defaultdict(str)
        for host, its in hosts.items():
            zone = ".".join(host.split(".")[-2:])
            for address in its:
                zones[zone] += f"{host}. A {address}\n"
        for domain, (names, _) in mail.items():
            zones[domain] = "".join(f"@ MX 10 {name}.\n" for name in names)
        self.knot = Knot(self.world, zones)
        self.port = shared_port(addresses)
        self.receivers = Receivers(self, addresses, self.port, seconds, groups or {})
        self.engine = self.world.engine()
        self.engine.set("net-utils.ini", "dns", servers=self.knot.endpoint, timeout="5000")
        self.engine.set("outbound.ini", smtp_port=self.port, concurrency_max="400", destination_concurrency="400")
        self.engine.files["policy.yaml"] = policy
        self.engine.write()
        ini = (self.engine.config / "outbound.ini").read_text()
        del self.engine.settings["outbound.ini"]
        self.engine.files["outbound.ini"] = ini + "[outbound_ipv4]\n" + "\n".join(SOURCES) + "\n"
        self.engine.start()
        for domain, (_, messages) in mail.items():
            subprocess.run([SLUICE, "blast", "--target", f"127.0.0.1:{self.engine.port}", "--messages", str(messages), "--sessions", "4",
                            "--to", f"r%n@{domain}"], check=True, capture_output=True, timeout=120)

    def assert_rate(self, key, rate):
        """Never more than the rate, in any stretch of one to ten seconds; half a second is for what was late on its way."""
        times = self.receivers.messages[key]
        for seconds in (1, 2, 5, 10):
            first = 0
            for last, at in enumerate(times):
                while at - times[first] >= seconds:
                    first += 1
                self.assertLessEqual(last - first + 1, rate * (seconds + 0.5), (key, seconds))

    def test_the_first_example_holds_at_the_sinks(self):
        hosts = {**GOOGLE, **PLAIN}
        mail = {"one.test": (list(GOOGLE)[:2], 400), "two.test": (list(GOOGLE)[2:], 400), "other.test": (list(PLAIN), 120)}
        groups = {address: "#gsuite" for list in GOOGLE.values() for address in list}
        self.start(hosts, GSUITE, 0.15, mail, groups)
        wait_for(lambda: self.receivers.taken >= 920, "all messages", 120)
        for source in SOURCES:
            self.assertLessEqual(self.receivers.peaks[source, "#gsuite"], 10)
            self.assertGreaterEqual(self.receivers.peaks[source, "#gsuite"], 8, "the limit is used")
            self.assert_rate((source, "#gsuite"), 50)
            for address in ("127.0.0.71", "127.0.0.72"):
                self.assertLessEqual(self.receivers.peaks[source, address], 5)
                self.assert_rate((source, address), 10)
        self.assertEqual(self.engine.events("deferred"), [])
        self.assertEqual(self.engine.stop(), 0)

    def test_the_second_example_holds_at_the_sinks(self):
        mail = {"one.test": (list(MICROSOFT)[:1], 300), "two.test": (list(MICROSOFT)[1:], 300)}
        self.start(MICROSOFT, O365, 0.5, mail)
        wait_for(lambda: self.receivers.taken >= 600, "all messages", 120)
        for source in SOURCES:
            for address in ("127.0.0.61", "127.0.0.62", "127.0.0.63"):
                self.assertLessEqual(self.receivers.peaks[source, address], 10)
                self.assertGreaterEqual(self.receivers.peaks[source, address], 8, "the limit is used")
                self.assert_rate((source, address), 30)
        self.assertEqual(self.engine.stop(), 0)

    def test_a_bad_file_changes_nothing_and_its_repair_counts(self):
        mail = {"other.test": (["mx1.plain.test"], 40)}
        one = "- fields: [remotemx]\n  default: {concurrency: 1}\n"
        self.start(PLAIN, one, 0.1, mail)
        wait_for(lambda: self.receivers.taken >= 2, "mail to flow")
        (self.engine.config / "policy.yaml").write_text("- feilds: [remotemx]\n")
        status, answer = self.engine.api("POST", "/v1/reload", {})[:2]
        self.assertIn("fields", json.dumps(answer), status)
        taken = self.receivers.taken
        wait_for(lambda: self.receivers.taken >= taken + 3, "mail to flow on")
        self.assertEqual(max(self.receivers.peaks.values()), 1)
        (self.engine.config / "policy.yaml").write_text(one.replace("1}", "6}"))
        wait_for(lambda: max(self.receivers.peaks.values()) > 1, "the new limit")
        wait_for(lambda: self.receivers.taken >= 40, "all messages")
        self.assertLessEqual(sum(self.receivers.peaks.values()), 12)
        self.assertEqual(self.engine.stop(), 0)

    def test_check_names_line_and_word(self):
        file = self.world.directory / "policy.yaml"
        file.write_text(GSUITE.replace("#gsuite", "#gsuit"))
        done = subprocess.run([SLUICE, "policy", "check", file], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 78, done.stderr)
        self.assertIn(":10: remotemx: this policy has no group `#gsuit`", done.stdout)
        self.assertIn("did you mean `#gsuite`?", done.stdout)
        file.write_text(GSUITE + O365)
        done = subprocess.run([SLUICE, "policy", "check", file], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("remotemx #gsuite: 10 sessions, 50 per second", done.stdout)
        self.assertIn("otherwise: 5 sessions, 10 per second", done.stdout)
        done = subprocess.run([SLUICE, "--json", "policy", "check", file], capture_output=True, text=True, timeout=60)
        self.assertEqual(len(json.loads(done.stdout)["ceilings"]), 4)
