"""Conformance 2.3: no field that a caller can set adds a line anywhere, and no address means two mailboxes."""

import email.policy
import json
import unittest
import urllib.parse

from attacks import Attack, at_once, vectors
from clients import Raw, submit
from peers import Scripted
from world import wait_for

TABLE = vectors("fields")
ADDRESSES = TABLE["injections"] + TABLE["literal"]
CONFUSIONS = {row["address"]: row["is"] for row in TABLE["confusions"]}


def wire_octets(text):
    """As a client sends it: UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def mailbox(path):
    """The address in "MAIL FROM:<a@b> X" or "RCPT TO:<a@b> X" as a server reads it."""
    return path[path.index("<") + 1:path.rindex(">")]


class Fields(Attack):
    """Everything goes to a server that writes down every octet, and judges it."""

    def setUp(self):
        super().setUp()
        self.server = Scripted(self, ehlo=("8BITMIME", "PIPELINING", "SMTPUTF8", "DSN"))
        self.engine.route("any", self.server.endpoint)
        self.engine.set("smtp.ini", connections_per_client_max="0")
        self.engine.set("connection.ini", "max", errors="1000")

    def post(self, **fields):
        body = {"from": "a@src.test", "to": ["b@dst.test"], "message": self.message(), **fields}
        return self.engine.api("POST", "/v1/messages", json.dumps(body))

    def arrived(self, count):
        """What the server took, once so many messages have come and nothing is left."""
        self.server.wait(count) if count else None
        self.engine.wait_empty()
        self.assertEqual(len(self.server.messages), count)
        return self.server.messages

    def transaction(self, mail, rcpt):
        """The replies to MAIL and RCPT with these octets behind the colon."""
        with Raw(self.engine.port) as client:
            client.send(b"MAIL FROM:" + mail + b"\r\nRCPT TO:" + rcpt + b"\r\nQUIT\r\n")
            return client.rest()

    def assert_one_line(self):
        """Whatever was asked, no octet of the answer starts a new thing in the log or the terminal of the operator."""
        for event in self.engine.events():
            self.assertNotIn("\n", json.dumps(event))
        for line in self.engine.process.output().splitlines():
            self.assertRegex(line, r"^\[[A-Z]+\] \[")
            self.assertTrue(line.isprintable(), line)

    def test_2_3_no_address_by_smtp_adds_a_line(self):
        self.engine.start()
        # With CR LF a client only says two commands, which it may.
        lines = [v for v in TABLE["injections"] if "\r\n" not in v]
        rows = [(b"<" + wire_octets(v) + b"> SMTPUTF8", b"<b@dst.test>") for v in lines]
        rows += [(b"<a@src.test> SMTPUTF8", b"<" + wire_octets(v) + b">") for v in lines]
        for (mail, rcpt), codes in zip(rows, at_once(self.transaction, rows)):
            with self.subTest(mail=mail, rcpt=rcpt):
                # Whatever it was taken for, not both were good: nothing can be sent.
                self.assertTrue(any(code >= 500 for code in codes[:2]), codes)
        self.assertEqual(self.arrived(0), [])
        self.assert_one_line()

    def test_2_3_no_address_by_the_api_adds_a_line(self):
        """Each vector in each field, as JSON and in a query: refused, with the name of the field."""
        self.engine.start()
        for vector in TABLE["injections"]:
            quoted = urllib.parse.quote(vector, safe="")
            answers = {
                "from": self.post(**{"from": vector}), "to[1]": self.post(to=["b@dst.test", vector]),
                "from ": self.engine.api("POST", f"/v1/messages?from={quoted}&to=b@dst.test", self.message(), "message/rfc822"),
                "to[0]": self.engine.api("POST", f"/v1/messages?from=a@src.test&to={quoted}", self.message(), "message/rfc822")}
            for field, (status, answer) in answers.items():
                with self.subTest(vector, field=field):
                    self.assertEqual(status, 422, answer)
                    self.assertEqual(answer["field"].replace("recipients", "to"), field.strip(), answer)
        for text in ('"\\ud800@x.test"', '"a\\udfff@x.test"', '"\\ud800\\ud800@x.test"'):  # lone surrogates
            status, _ = self.engine.api("POST", "/v1/messages", f'{{"from":{text},"to":["b@dst.test"],"message":"x"}}')
            self.assertIn(status, (400, 422))
        self.assertEqual(self.arrived(0), [])
        self.assert_one_line()

    def test_2_3_no_other_field_of_the_api_adds_a_line(self):
        """Tenants and keys are names that never leave; what is taken is delivered as one clean message."""
        self.engine.start()
        taken = 0
        for vector in ADDRESSES:
            status, answer = self.post(tenant=vector)
            self.assertIn(status, (202, 422), answer)
            taken += status == 202
            key = urllib.parse.quote(vector)
            status, answer = self.engine.api(
                "POST", "/v1/messages?from=a@src.test&to=b@dst.test", self.message(), "message/rfc822", {"Idempotency-Key": key})
            self.assertEqual(status, 202, answer)
            taken += 1
            for target in (f"/v1/queue?domain={key}", f"/v1/queue?sender={key}", f"/v1/queue?recipient={key}",
                           f"/v1/queue?{key}=1", f"/v1/queue/items/{key}", f"/v1/{key}"):
                status, answer = self.engine.api("GET", target)
                self.assertIn(status, (200, 404, 422), answer)
        for one in self.arrived(taken):
            self.assertEqual((mailbox(one[0]), [mailbox(to) for to in one[1]]), ("a@src.test", ["b@dst.test"]))
        self.assert_one_line()

    def test_2_3_no_field_of_policies_adds_a_line(self):
        """What a message may carry for policies, and lone surrogates in it: refused by name, or kept as harmless text."""
        self.engine.start()
        taken = 0
        for vector in ADDRESSES + ["\ud800", "a\udfff"]:
            fields = {"tenant": vector, "job": vector, "transport": vector, "lifetime": vector, "priority": vector,
                      "notes": {"campaign": vector}, "notes ": {vector: "x"}, vector: "x"}
            for field, value in fields.items():
                with self.subTest(vector, field=field):
                    status, answer = self.post(**{field.strip(): value})
                    self.assertIn(status, (202, 400, 422), answer)
                    if status == 422:
                        self.assertTrue(answer["field"] and answer["error"], answer)
                    taken += status == 202
                if vector.isascii():
                    status, answer = self.engine.api(
                        "POST", "/v1/messages?from=a@src.test&to=b@dst.test&" + urllib.parse.urlencode({field.strip(): str(value)}),
                        self.message(), "message/rfc822")
                    self.assertIn(status, (202, 400, 422), answer)
                    taken += status == 202
        for one in self.arrived(taken):
            self.assertEqual((mailbox(one[0]), [mailbox(to) for to in one[1]]), ("a@src.test", ["b@dst.test"]))
            self.assertNotRegex(one[2].split(b"\r\n\r\n")[0], rb"(?mi)^(X|RCPT|Bcc)\b")
        self.assert_one_line()

    def test_2_3_no_name_of_an_operator_adds_a_line(self):
        """Conditions, suspensions, bulk commands, plugins' memory, imports: every text an operator may give, back in JSON and in the log."""
        self.engine.set("log.ini", level="debug").start()
        for vector in ADDRESSES + ["\ud800", "../../etc/passwd", "x" * 5000]:
            bodies = {
                "/v1/policy/conditions": {"id": vector, "policy": vector, "fields": [vector], "if": {"recipientdomain": vector},
                                          "then": {"rate": vector}, "author": vector, "reason": vector},
                "/v1/suspensions": {"recipientdomain": vector, "tag": vector, "author": vector, "reason": vector, "id": vector, "cron": vector},
                "/v1/queue/jobs": {"action": "change", "where": vector, "tenant": vector, "next_hop": vector, "reason": vector},
                "/v1/memory": {"key": vector, "value": vector}, "/v1/queue/import": {"directory": vector},
                "/v1/suspensions/delete": {"id": vector, "author": vector, "reason": vector}}
            for path, body in bodies.items():
                for field in body:
                    whole = {"/v1/policy/conditions": {"fields": ["recipientdomain"], "then": {"rate": 1}, "ttl": 60}, "/v1/suspensions": {"recipientdomain": "x.test", "ttl": 60},
                             "/v1/queue/jobs": {"action": "bounce", "where": "domain=none.test"}, "/v1/memory": {"key": "k", "value": 1}}.get(path, {})
                    with self.subTest(vector[:40], path=path, field=field):
                        status, answer = self.engine.api("POST", path, json.dumps({**whole, field: body[field]}))
                        self.assertIn(status, (200, 202, 400, 404, 409, 422), answer)
        for path in ("/v1/policy/conditions", "/v1/suspensions", "/v1/queue/jobs", "/v1/explain?what=x.test"):
            self.assertIn(self.engine.api("GET", path)[0], (200, 404))
        for command in (["explain", "x.test"], ["suspend", "list"]):
            for line in self.engine.cli(*command, check=False).stdout.splitlines():
                self.assertTrue(line.isprintable(), line)
        self.engine.restart_after_kill()
        self.assertEqual(self.arrived(0), [])
        self.assert_one_line()

    def test_2_3_no_parameter_of_MAIL_or_RCPT_adds_a_line(self):
        """Refused, or passed on in xtext as it came: the wire, the notification and the log keep one line."""
        self.engine.start()
        rows = [(b"<a@src.test> " + v.encode("latin-1"), b"<b@dst.test>") for v in TABLE["parameters"]]
        rows += [(b"<a@src.test>", b"<b@dst.test> " + v.encode("latin-1")) for v in TABLE["recipient_parameters"]]
        answers = at_once(self.transaction, rows)
        taken = [row for row, codes in zip(rows, answers) if codes[:2] == [250, 250]]
        # Octets that xtext hides may be taken; those that stand there in the open are not.
        for mail, rcpt in taken:
            self.assertNotRegex(mail + rcpt, rb"[\x00-\x1f\x7f-\xff]")
        for mail, rcpt in taken:
            submit(self.engine, "b@dst.test", self.message(), mail_options=[mail.partition(b"> ")[2].decode()],
                   rcpt_options={"b@dst.test": [rcpt.partition(b"> ")[2].decode()]})
        self.arrived(len(taken))
        self.assert_one_line()

    def test_2_3_a_notification_keeps_its_lines(self):
        """ENVID, ORCPT and the reply of the peer come into the report (RFC 3464), and bring no line of their own."""
        self.server.script["RCPT b@dst.test"] = "550-5.1.1 no\x85X-Evil: yes\r\n550 5.1.1 X-Evil:\tyes\x0bX-Evil: yes"
        self.engine.start()
        reported = 0
        for envid, orcpt in (("id+2B+20X-Evil:+20yes", "b+2B@dst.test"), ("id+0D+0AX-Evil:+20yes", "b@dst.test"),
                             ("id", "b+0D+0AX-Evil:+20yes@dst.test"), ("id+0AX-Evil:+20yes", "b@dst.test")):
            mail = f"<a@src.test> RET=HDRS ENVID={envid}".encode()
            if self.transaction(mail, f"<b@dst.test> ORCPT=rfc822;{orcpt}".encode())[:2] == [250, 250]:
                submit(self.engine, "b@dst.test", self.message(), mail_options=[f"ENVID={envid}"],
                       rcpt_options={"b@dst.test": [f"ORCPT=rfc822;{orcpt}", "NOTIFY=FAILURE"]})
                reported += 1
        self.assertGreaterEqual(reported, 1)
        for _, recipients, content in self.arrived(reported):
            self.assertEqual([mailbox(to) for to in recipients], ["a@src.test"])
            self.assertNotRegex(content, rb"(?m)^X-Evil")
            for part in email.message_from_bytes(content, policy=email.policy.default).walk():
                self.assertIsNone(part["X-Evil"])
        self.assert_one_line()

    def test_2_3_no_name_in_EHLO_adds_a_line(self):
        """What a client calls itself comes into Received, the log and the events as harmless text."""
        self.engine.start()
        taken = 0
        for name in TABLE["helo"]:
            with Raw(self.engine.port, greet=None) as client:
                client.reply()
                client.send(b"EHLO " + name.encode("latin-1") + b"\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\n")
                codes = [code for code, _ in client.replies(4)]
                if codes[3:] != [354]:
                    self.assertTrue(any(code >= 500 for code in codes), (name, codes))
                    continue
                client.send(self.message() + ".\r\n")
                taken += client.reply()[0] == 250
        self.assertGreater(taken, 0)
        for _, _, content in self.arrived(taken):
            received = content.split(b"\r\nFrom:")[0]
            self.assertRegex(received, rb"(?m)^Received: from \S+ ")
            self.assertNotRegex(received, rb"(?m)[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff]|by evil|<img|^Y:")
            self.assertEqual(received.count(b"by mx.sluice.test"), 1)
        self.assert_one_line()

    def test_2_3_header_values_cannot_grow_fields(self):
        self.engine.start()
        taken = 0
        for row in TABLE["headers"]:
            for way in ("smtp", "json", "http", "cli"):
                with self.subTest(row["name"], way=way):
                    content = row["content"].encode()
                    if way == "smtp":
                        accepted = self.by_data("clear", content + b".\r\n", "b@dst.test").count(250)
                    elif way == "cli":
                        accepted = int(self.by_cli(content, "b@dst.test") == 0)
                    else:
                        status, answer = (self.by_json if way == "json" else self.by_http)(content, "b@dst.test")
                        self.assertIn(status, (202, 422), answer)
                        accepted = int(status == 202)
                    self.assertEqual(accepted, int(row["taken"]))
                    taken += accepted
        for _, recipients, content in self.arrived(taken):
            self.assertEqual([mailbox(to) for to in recipients], ["b@dst.test"])
            header = content.split(b"\r\n\r\n")[0]
            self.assertNotRegex(header, rb"(?m)^Bcc")
            self.assertNotIn(b"forged", header)  # which the fields that the engine adds would have grown by

    def test_2_3_a_subject_of_a_megabyte(self):
        """Refused by the limit of the header; or, where the operator permits so much, one field to the end."""
        self.server.longest_line = 2_000_000
        long = "Subject: " + "x" * 1_048_576
        for limit in ("1M", "4M"):
            self.engine.set("connection.ini", "headers", max_bytes=limit).start()
            status, answer = self.post(message=f"{long}\n\nbody\n")
            codes = self.by_data("clear", f"{long}\r\n\r\nbody\r\n.\r\n".encode(), "b@dst.test")
            self.assertEqual((status, codes[0] // 100), (422, 5) if limit == "1M" else (202, 2), (answer, codes))
            self.arrived(0 if limit == "1M" else 2)
            self.assertEqual(self.engine.stop(), 0)
        for _, _, content in self.server.messages:
            self.assertIn(long.encode() + b"\r\n", content)

    def test_2_3_address_confusion(self):
        """Every address is refused, or it is the same mailbox for us and for the next server, by each way in."""
        self.engine.start()
        expected = []
        for address, meaning in CONFUSIONS.items():
            with self.subTest(address):
                codes = self.transaction(b"<a@src.test>", b"<" + wire_octets(address) + b">")
                status, answer = self.post(to=[address])
                if meaning is None:
                    self.assertEqual(status, 422, answer)
                    if not address.startswith(("<", "@")):  # a source route is passed over (RFC 5321 §3.6.1)
                        self.assertTrue(500 <= codes[1] < 600, codes)
                elif status == 202:
                    expected.append(meaning)
                else:
                    self.assertEqual(status, 422, answer)
                    self.assertTrue(500 <= codes[1] < 600, codes)
        messages = self.arrived(len(expected))
        self.assertEqual(sorted(mailbox(one[1][0]) for one in messages), sorted(expected))

    def test_2_3_an_accepted_address_makes_the_round_trip(self):
        """parse(serialise(a)) == a: what the engine sends on, it takes again and sends on the same; and it is printable."""
        self.engine.start()
        addresses = [meaning for meaning in CONFUSIONS.values() if meaning] + [
            '"a b"@x.test', '"a\\"b"@x.test', '"a\\\\b"@x.test', '""@x.test', "jürgen@x.test", "a+b=c@x.test", "ü@bücher.test",
            "x" * 64 + "@x.test", "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", "A.b@X.Test", "!#$%&'*+-/=?^_`{|}~@x.test"]
        first = [address for address in addresses if self.post(to=[address])[0] == 202]
        self.assertGreater(len(first), 12)
        seen = {mailbox(one[1][0]) for one in self.arrived(len(first))}
        for address in seen:
            self.assertEqual(self.post(to=[address])[0], 202, address)
            self.assertNotRegex(address, r"[\x00-\x1f\x7f]")
        wait_for(lambda: len(self.server.messages) == len(first) + len(seen), "the second journey")
        self.assertEqual({mailbox(one[1][0]) for one in self.server.messages[len(first):]}, seen)


if __name__ == "__main__":
    unittest.main()
