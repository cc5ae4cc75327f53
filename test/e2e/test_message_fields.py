"""Where messages get their fields, what policies make of them, and the addresses of transports: as receivers see it."""

import asyncio
import collections
import json
import smtplib

from clients import Raw, submit
from test_policy import Receivers
from world import EndToEnd, free_port, wait_for

TENANTS = """tenantid:
  - {header: X-Tenant, strip: true}
  - {value: nobody}
jobid: {header: X-Job}
lifetime: {header: X-Lifetime, strip: true}
priority: {header: X-Class, map: {urgent: 7, bulk: 1}}
"""


class Watchers(Receivers):
    """Keeps what every transaction showed, and counts those at work at once by the domain of the sender."""

    def __init__(self, test, port, seconds=0.0, extensions=(), answer="250 taken", addresses=("127.0.0.1",)):
        self.extensions, self.answer = extensions, answer
        self.seen = []
        self.working = collections.Counter()
        self.most = collections.Counter()
        super().__init__(test, list(addresses), port, seconds, {})

    async def serve(self, reader, writer):
        client = writer.get_extra_info("peername")[0]
        ehlo, mail = "", ""
        try:
            writer.write(b"220 mx ESMTP\r\n")
            while line := (await reader.readline()).decode():
                verb = line.split(" ")[0].strip().upper()
                if verb == "EHLO":
                    ehlo = line.split()[1]
                    lines = ["mx", *self.extensions]
                    writer.write("".join(f"250{'-' if i + 1 < len(lines) else ' '}{one}\r\n" for i, one in enumerate(lines)).encode())
                elif verb == "MAIL":
                    mail = line.strip()
                    writer.write(b"250 fine\r\n")
                elif verb == "DATA":
                    writer.write(b"354 go on\r\n")
                    await writer.drain()
                    domain = mail.split("@")[-1].split(">")[0]
                    self.working[domain] += 1
                    self.most[domain] = max(self.most[domain], self.working[domain])
                    content = b""
                    while (one := await reader.readline()) not in (b".\r\n", b""):
                        content += one
                    await asyncio.sleep(self.seconds)
                    self.working[domain] -= 1
                    self.seen.append({"client": client, "ehlo": ehlo, "mail": mail, "content": content.decode()})
                    writer.write(self.answer.encode() + b"\r\n")
                elif verb == "QUIT":
                    writer.write(b"221 bye\r\n")
                else:
                    writer.write(b"250 fine\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


class Fields(EndToEnd):
    def start(self, files, seconds=0.0, extensions=(), answer="250 taken"):
        port = free_port()
        self.sink = Watchers(self, port, seconds, extensions, answer)
        self.engine = self.world.engine()
        for domain in ("dst.test", "src.test"):
            self.engine.route(domain, f"127.0.0.1:{port}")
        self.engine.set("outbound.ini", temp_fail_intervals="1s,1s*100")
        self.engine.files.update(files)
        self.engine.start()

    def send(self, headers, sender="a@src.test", count=1):
        with smtplib.SMTP("127.0.0.1", self.engine.port) as client:
            for _ in range(count):
                client.sendmail(sender, ["b@dst.test"], headers + "Subject: x\r\n\r\nhello\r\n")

    def test_a_header_makes_the_tenant_and_the_tenant_its_bucket(self):
        policy = """- fields: [tenantid]
  conditions:
  - if: {tenantid: acme}
    then: {concurrency: 2}
  default: {concurrency: 4}
"""
        self.start({"fields.yaml": TENANTS, "policy.yaml": policy}, seconds=0.1)
        self.send("X-Tenant: acme\r\nX-Job: spring\r\n", "a@acme.test", 30)
        self.send("X-Tenant: globex\r\n", "a@globex.test", 30)
        self.send("", "a@plain.test", 30)
        wait_for(lambda: len(self.sink.seen) == 90, "all messages", 60)
        self.assertEqual(self.sink.most, {"acme.test": 2, "globex.test": 4, "plain.test": 4})
        self.assertFalse([one for one in self.sink.seen if "X-Tenant" in one["content"]], "it is ours alone")
        self.assertEqual(sum("X-Job: spring" in one["content"] for one in self.sink.seen), 30, "this one is not")
        self.assertEqual(len(self.engine.wait_event("delivered", 30, tenant="acme", job="spring")), 30)
        self.assertEqual(len(self.engine.events("accepted", tenant="nobody")), 30)

    def test_transport_addresses_share_by_weight_and_have_names(self):
        transports = """bulk:
  order: spread
  addresses:
    - {ip: 127.0.0.81, weight: 3, helo: mx1.bulk.test}
    - {ip: 127.0.0.82, weight: 2, helo: mx2.bulk.test}
    - {ip: 127.0.0.83, weight: 1}
"""
        self.start({"fields.yaml": "transportid: {header: X-Transport, strip: true}\n", "transports.yaml": transports})
        self.send("X-Transport: bulk\r\n", count=120)
        self.send("", count=5)
        wait_for(lambda: len(self.sink.seen) == 125, "all messages", 60)
        sent = collections.Counter((one["client"], one["ehlo"]) for one in self.sink.seen)
        self.assertEqual(set(sent), {("127.0.0.81", "mx1.bulk.test"), ("127.0.0.82", "mx2.bulk.test"), ("127.0.0.83", "mx.sluice.test"),
                                     ("127.0.0.1", "mx.sluice.test")})
        for address, share in (("127.0.0.81", 60), ("127.0.0.82", 40), ("127.0.0.83", 20)):
            self.assertAlmostEqual(sum(n for (client, _), n in sent.items() if client == address), share, delta=4)
        self.assertEqual(sent["127.0.0.1", "mx.sluice.test"], 5)
        self.assertEqual(len(self.engine.events("delivered", transport="bulk")), 120)

    def test_the_first_address_is_filled_first(self):
        policy = "- fields: [localip]\n  conditions: [{if: {localip: 127.0.0.81}, then: {rate: 3/3600}}]\n  default: {rate: 1000/60}\n"
        self.start({"fields.yaml": "transportid: {value: warm}\n", "policy.yaml": policy,
                    "transports.yaml": "warm: {order: fill, addresses: [127.0.0.81, 127.0.0.82]}\n"})
        self.send("", count=12)
        wait_for(lambda: len(self.sink.seen) == 12, "all messages, for the second address has room")
        self.assertEqual(collections.Counter(one["client"] for one in self.sink.seen), {"127.0.0.81": 1, "127.0.0.82": 11})

    def test_fields_survive_a_kill(self):
        self.start({"fields.yaml": TENANTS + "transportid: {value: bulk}\nkeep: [header.x-list]\n", "policy.yaml": "- fields: [header.x-list]\n  default: {concurrency: 1}\n"},
                   answer="450 not now")
        self.send("X-Tenant: acme\r\nX-Job: spring\r\nX-Class: urgent\r\nX-List: news\r\nX-Lifetime: 2h\r\n")
        self.engine.wait_event("deferred")
        self.engine.wait_recorded()
        self.engine.process.kill()
        self.engine.start()
        item = self.engine.api("GET", "/v1/queue")[1]["items"][0]
        self.assertEqual({key: item[key] for key in ("tenant", "job", "transport", "priority", "lifetime")},
                         {"tenant": "acme", "job": "spring", "transport": "bulk", "priority": 7, "lifetime": 7200})
        dump = self.engine.cli("journal", "dump", self.engine.directory).stdout
        self.assertIn('"marks":{"header.x-list":"news"}', dump)

    def test_a_message_ends_with_its_own_time(self):
        self.start({"fields.yaml": TENANTS}, answer="450 not now")
        self.send("X-Lifetime: 3\r\n")
        self.send("")
        expired = self.engine.wait_event("expired")
        self.assertLess(expired[0]["age_ms"], 5000)
        self.assertGreaterEqual(expired[0]["age_ms"], 2900)
        self.assertEqual(len(self.engine.events("expired")), 1, "the other one has as long as any")

    def test_priorities_go_on_to_who_offers_them(self):
        self.start({}, extensions=["MT-PRIORITY"])
        submit(self.engine, ["b@dst.test"], "Subject: x\r\n\r\nhello\r\n", mail_options=["MT-PRIORITY=-3"])
        self.send("")
        wait_for(lambda: len(self.sink.seen) == 2, "both messages")
        self.assertEqual(sorted("MT-PRIORITY=-3" in one["mail"] for one in self.sink.seen), [False, True])
        with Raw(self.engine.port) as client:
            self.assertIn("MT-PRIORITY", str(client.ask("EHLO client.test")))

    def test_the_api_and_the_command_line_say_it_in_so_many_words(self):
        self.start({"policy.yaml": "- fields: [notes.stream, jobid]\n  default: {concurrency: 1}\n"}, answer="450 not now")
        body = {"from": "a@src.test", "to": ["b@dst.test"], "message": "Subject: x\n\nhello\n", "tenant": "acme", "job": "spring", "transport": "bulk",
                "priority": 6, "lifetime": "2h", "notes": {"stream": "news", "n": 1}}
        self.assertEqual(self.engine.api("POST", "/v1/messages", body)[0], 202)
        self.engine.cli("inject", "-f", "a@src.test", "-t", "b@dst.test", "--tenant", "acme", "--job", "spring", "--transport", "bulk", "--priority", "6",
                        "--lifetime", "7200", "--note", "stream=news", "--note", "n=1", input="Subject: x\n\nhello\n")
        items = wait_for(lambda: (lambda all: all if len(all) == 2 else None)(self.engine.api("GET", "/v1/queue")[1]["items"]), "both items")
        for item in items:
            self.assertEqual((item["tenant"], item["job"], item["transport"], item["priority"], item["lifetime"]), ("acme", "spring", "bulk", 6, 7200))
        for wrong in ({"priority": 8}, {"lifetime": "soon"}, {"lifetime": 0}, {"notes": "x"}, {"job": "a\nb"}, {"transport": "x" * 300}):
            status, answer = self.engine.api("POST", "/v1/messages", {**body, **wrong})
            self.assertEqual(status, 422, wrong)
            self.assertIn(next(iter(wrong)), json.dumps(answer))

    def test_a_bad_file_changes_nothing_and_its_repair_counts(self):
        self.start({"fields.yaml": "tenantid: {value: one}\n"})
        self.send("")
        (self.engine.config / "fields.yaml").write_text("tenantid: {valeu: two}\n")
        answer = self.engine.api("POST", "/v1/reload", {})[1]
        self.assertIn("config/fields.yaml:1: tenantid: unknown key `valeu` (did you mean `value`?)", json.dumps(answer))
        self.send("")
        (self.engine.config / "fields.yaml").write_text("tenantid: {value: two}\n")

        def accepted_as_two():
            self.send("")
            return self.engine.events("accepted", tenant="two")

        wait_for(accepted_as_two, "the new tenant")
        self.assertEqual(len(self.engine.events("accepted", tenant="one")) >= 2, True)


if __name__ == "__main__":
    import unittest
    unittest.main()
