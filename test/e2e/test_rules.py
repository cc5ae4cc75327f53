"""The engine reacts to what receivers say: servers that answer as they do, and what they see of us afterwards."""

import asyncio
import collections
import json
import subprocess
import threading
import time

from peers import Knot, shared_port
from world import SLUICE, EndToEnd, wait_for

ADDRESS = "127.0.0.81"
YAHOO = "mta5.am0.yahoodns.net"
GOOGLE = "aspmx.l.google.com"


class Receiver:
    """An SMTP server that asks `mood(server, verb, messages on this connection)` for its answers; None: the ordinary one."""

    def __init__(self, test, port):
        self.mood = lambda server, verb, messages: None
        self.open = self.peak = 0
        self.times = collections.defaultdict(list)  # of connections, of messages that were taken, of refusals
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self.run(asyncio.start_server(self.serve, ADDRESS, port, backlog=512))
        test.addCleanup(self.close)

    def run(self, task):
        return asyncio.run_coroutine_threadsafe(task, self.loop).result(20)

    def close(self):
        async def cancel():
            self.server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    @property
    def taken(self):
        return len(self.times["taken"])

    def count(self, what, since, seconds):
        return sum(since <= moment < since + seconds for moment in self.times[what])

    async def serve(self, reader, writer):
        self.open += 1
        self.peak = max(self.peak, self.open)
        self.times["connections"].append(time.monotonic())
        try:
            await self.converse(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def converse(self, reader, writer):
        messages = 0

        async def say(verb, ordinary):
            said = self.mood(self, verb, messages)
            if said is not None:
                self.times["refused"].append(time.monotonic())
            writer.write(((said or ordinary) + "\r\n").encode())
            await writer.drain()
            return said is None or not said.startswith("421")

        if not await say("banner", "220 mx ESMTP"):
            return
        while line := await reader.readline():
            verb = line.split(b" ")[0].split(b":")[0].strip().lower().decode()
            if verb == "quit":
                writer.write(b"221 bye\r\n")
                return
            if verb == "data":
                writer.write(b"354 go on\r\n")
                await writer.drain()
                while await reader.readline() not in (b".\r\n", b""):
                    pass
                await asyncio.sleep(0.02)
                messages += 1
                if not await say("dot", "250 2.0.0 taken"):
                    return
                if self.mood(self, "dot", messages) is None:
                    self.times["taken"].append(time.monotonic())
            elif not await say(verb, "250 2.0.0 fine"):
                return


class Rules(EndToEnd):
    def start(self, mx, rules, mood=None, sources=(), **settings):
        self.port = shared_port([ADDRESS])
        self.receiver = Receiver(self, self.port)
        if mood:
            self.receiver.mood = mood
        zone = ".".join(mx.split(".")[-2:])
        self.knot = Knot(self.world, {zone: f"{mx}. A {ADDRESS}\n", "dst.test": f"@ MX 10 {mx}.\n"})
        self.engine = self.world.engine()
        self.engine.set("net-utils.ini", "dns", servers=self.knot.endpoint, timeout="5000")
        self.engine.set("outbound.ini", smtp_port=self.port, temp_fail_intervals="5s*1000", retry_jitter="false", unhealthy_for="100ms", **settings)
        self.engine.files["policy.yaml"] = rules
        if sources:
            self.engine.set("outbound.ini", "outbound_ipv4")
            self.engine.write()
            ini = (self.engine.config / "outbound.ini").read_text()
            del self.engine.settings["outbound.ini"]
            self.engine.files["outbound.ini"] = ini + "\n".join(sources) + "\n"
        self.engine.start()

    def send(self, messages):
        subprocess.run([SLUICE, "blast", "--target", f"127.0.0.1:{self.engine.port}", "--messages", str(messages), "--sessions", "2",
                        "--to", "r%n@dst.test"], check=True, capture_output=True, timeout=120)

    def reaction(self, what):
        """When it was done: the first reaction whose text has `what`."""
        def there():
            return [event for event in self.engine.events("reaction") if what in event["what"]]

        return wait_for(there, f"the reaction {what}; there are {self.engine.events('reaction')}")[0]

    def calm(self):
        self.receiver.mood = lambda server, verb, messages: None

    def test_five_lines_slow_down_and_recover(self):
        rules = "rules:\n- per: [localip, remotemx]\n  more_than: 10/60\n  then: { rate: 2/1 }\n  for: 12\n"
        self.start("mx.a.test", rules, lambda server, verb, messages: "450 4.2.0 later" if verb == "rcpt" else None)
        self.send(60)
        event = self.reaction("2 per second for 12 s")
        began = time.monotonic()
        self.assertEqual(event["by"], "rule rule 1")
        self.assertIn("remotemx mx.a.test", event["concerns"])
        self.assertIn("450 4.2.0 later", event["because"])
        self.calm()
        self.reaction("lifted")
        lasted = time.monotonic() - began
        self.assertGreater(lasted, 10)
        # Two a second, one for what was on its way, and one for the clocks.
        self.assertLessEqual(self.receiver.count("taken", began + 0.5, lasted - 1), 2 * lasted + 2)
        self.engine.wait_empty()
        self.assertEqual(self.receiver.taken, 60)
        self.assertEqual(self.engine.stop(), 0)

    def test_yahoo_says_tss04(self):
        rules = """rules:
- name: tss04
  if: { text: '/TSS04|IPTS04/', remotemx: '#yahoo' }
  per: [localip, {remotemx: {yahoo: '*.yahoodns.net'}}]
  at_least: 2/3600
  then: { suspend: true, rate: 5/1 }
  for: 4
  recover: { steps: 1, every: 2 }
"""
        said = "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume"
        self.start(YAHOO, rules, lambda server, verb, messages: said if verb == "banner" else None)
        self.send(40)
        self.reaction("suspended for 4 s")
        began = time.monotonic()
        self.calm()
        self.reaction("recovers: 5 per second")
        self.assertEqual(self.receiver.count("connections", began + 0.5, 3), 0, "nobody knocks meanwhile")
        self.reaction("lifted")
        self.engine.wait_empty()
        self.assertEqual(self.receiver.taken, 40)
        self.assertEqual(self.engine.stop(), 0)

    def test_a_block_list_is_a_trouble_of_the_site(self):
        rules = "rules:\n- if: { class: blocked }\n  per: [localip, remotemx]\n  at_least: 3/60\n  then: { treat: defer, suspend: true }\n  for: 3\n"
        said = "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"
        self.start("mx.a.test", rules, lambda server, verb, messages: said if verb == "rcpt" else None)
        self.send(10)
        self.reaction("suspended for 3 s")
        self.calm()
        self.engine.wait_empty()
        self.assertEqual(self.receiver.taken, 10, "nothing bounced")
        self.assertEqual(self.engine.events("bounced"), [])
        self.assertTrue(all(event["status"].startswith("4.") for event in self.engine.events("deferred")))
        self.assertEqual(self.engine.stop(), 0)

    def test_too_many_connections(self):
        rules = "rules:\n- if: { class: connections }\n  per: [localip, remotemx]\n  then: { concurrency: 1 }\n  for: 600\n"
        said = "421 4.7.0 Too many concurrent connections from you"
        self.start("mx.a.test", rules, lambda server, verb, messages: said if verb == "banner" and server.open > 3 else None)
        self.send(200)
        self.reaction("1 session for 600 s")
        began = time.monotonic()
        self.engine.wait_empty(60)
        self.assertEqual(self.receiver.taken, 200)
        self.assertEqual(self.receiver.count("refused", began + 1, 600), 0)
        self.assertEqual(self.engine.stop(), 0)

    def test_too_many_messages_on_a_connection(self):
        self.start("mx.a.test", "rules: [default]\n",
                   lambda server, verb, messages: "421 4.5.0 Too many messages per connection" if verb == "mail" and messages >= 12 else None,
                   concurrency_max="1")
        self.send(100)
        self.reaction("10 messages a session")
        self.engine.wait_empty(60)
        self.assertEqual(self.receiver.taken, 100)
        self.assertLessEqual(len(self.receiver.times["refused"]), 2, "once is enough to learn it")
        self.assertEqual(self.engine.stop(), 0)

    def test_google_finds_the_rate_unusual(self):
        """The rule that comes with the engine, against the answer that Google gives."""
        said = "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address"
        self.start(GOOGLE, "rules: [default]\n", lambda server, verb, messages: said if verb == "dot" else None)
        self.send(30)
        event = self.reaction("10 per 60 s for 1800 s")
        self.assertIn("#google", event["concerns"])
        self.calm()
        began = time.monotonic()
        time.sleep(6)
        self.assertLessEqual(self.receiver.count("taken", began + 0.5, 60), 2, "one every six seconds")
        self.assertEqual(self.engine.stop(), 0)

    def test_who_cannot_be_reached_is_left_alone(self):
        rules = "rules:\n- if: { class: connection }\n  per: [remotemx]\n  in_a_row: 5\n  then: { suspend: true, concurrency: 1 }\n  for: 3\n  recover: { steps: 1, every: 1 }\n"
        self.start("mx.a.test", rules)
        self.receiver.run(self.stop_listening())
        self.send(50)
        self.reaction("suspended for 3 s")
        self.assertIn("refused", self.engine.events("reaction")[0]["because"])
        self.receiver.server = self.receiver.run(asyncio.start_server(self.receiver.serve, ADDRESS, self.port, backlog=512))
        self.engine.wait_empty(60)
        self.assertEqual(self.receiver.taken, 50)
        self.assertEqual(self.engine.stop(), 0)

    def conditions(self):
        return {one["id"]: one for one in json.loads(self.engine.cli("--json", "policy", "list").stdout)["conditions"]}

    def test_reactions_and_warm_up_survive_kill_9(self):
        rules = """warm_up: [ { name: new, localip: "127.0.0.91", per: [remotemx], days: [86400, 90000] } ]
rules:
- { name: slow, if: { text: slow down }, per: [localip, recipientdomain], then: { rate: 1/60 }, for: 600, recover: { steps: 3, every: 60 } }
- { name: stop, if: { text: stop }, per: [recipientdomain], then: { hold: true } }
"""
        self.start("mx.a.test", rules, lambda server, verb, messages: "450 4.2.0 slow down, stop" if verb == "rcpt" and server.taken >= 1 else None,
                   sources=["127.0.0.91"])
        self.send(1)
        wait_for(lambda: self.receiver.taken == 1, "the first message")
        self.send(3)
        self.reaction("1 per 60 s for 600 s")
        before = wait_for(lambda: self.conditions() if len(self.conditions()) == 2 else None, "both conditions")
        self.assertEqual(sorted(one["class"] for one in before.values()), ["back_off", "warm_up"])
        self.engine.restart_after_kill()
        after = self.conditions()
        self.assertEqual(set(after), set(before))
        for id, one in after.items():
            self.assertEqual((one["class"], one["limits"], one["reason"]), (before[id]["class"], before[id]["limits"], before[id]["reason"]))
        self.calm()
        time.sleep(2)
        self.assertEqual(self.receiver.taken, 1, "it is still held")
        self.engine.cli("suspend", "list")
        self.assertEqual(self.engine.stop(), 0)

    async def stop_listening(self):
        self.receiver.server.close()
        await self.receiver.server.wait_closed()

    def test_sessions_adapt_to_a_hidden_limit(self):
        self.start("mx.a.test", "- fields: [remotemx]\n  default: { adaptive: { concurrency: [1, 100] } }\n",
                   lambda server, verb, messages: "421 4.7.0 Too many connections" if verb == "banner" and server.open > 8 else None)
        self.send(1500)
        self.engine.wait_empty(90)
        self.assertEqual(self.receiver.taken, 1500)
        self.assertLessEqual(len(self.receiver.times["refused"]), 75, "one in twenty at most")
        self.assertTrue(self.engine.events("reaction"))
        self.assertEqual(self.engine.stop(), 0)
