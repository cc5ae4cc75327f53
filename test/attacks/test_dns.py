"""Conformance 2.5: a name server that lies, malforms and floods. Trouble is temporary, and no name leads to where it should not."""

import re
import selectors
import socket
import struct
import subprocess
import threading
import unittest

from attacks import Attack, long_or, vectors
from world import SLUICE, free_port, wait_for

TABLE = vectors("dns")
A, CNAME, MX, AAAA = 1, 5, 15, 28
TRAP = "127.0.0.33"


def name_octets(name):
    return b"".join(bytes([len(label)]) + label for label in name.encode().split(b".") if label) + b"\0"


def record(kind, data, ttl=300, owner=b"\xc0\x0c"):
    return owner + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def mx(target, preference=10, ttl=300):
    target = target if isinstance(target, bytes) else name_octets(target)
    return record(MX, struct.pack(">H", preference) + target, ttl)


def address(text, ttl=300):
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return record(AAAA if ":" in text else A, socket.inet_pton(family, text), ttl)


class NameServer:
    """Answers each question with what answer(name, type) returns: records, a number (the RCODE), whole octets made by
    reply(), or None for silence. Questions are kept."""

    def __init__(self, test, answer):
        self.answer, self.questions, self.lock = answer, [], threading.Lock()
        self.port = free_port()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.tcp = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.serve_udp, daemon=True).start()
        threading.Thread(target=self.serve_tcp, daemon=True).start()
        test.addCleanup(self.close)

    endpoint = property(lambda self: f"127.0.0.1:{self.port}")

    def close(self):
        for one in (self.udp, self.tcp):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()

    @staticmethod
    def reply(query, records=(), code=0, flags=0x8180, counts=None, tail=b"", question=True):
        """A reply to the query, right or, with the latter arguments, wrong."""
        end = query.index(b"\0", 12) + 5
        counts = counts or [1, len(records), 0, 0]
        head = query[:2] + struct.pack(">H4H", flags | code, *counts)
        return head + (query[12:end] if question else b"") + b"".join(records) + tail

    def respond(self, query, over_tcp):
        labels, at = [], 12
        while query[at]:
            label = query[at + 1:at + 1 + query[at]].decode("latin-1").lower()
            labels.append(label.replace(".", "\\."))
            at += 1 + query[at]
        name, kind = ".".join(labels), struct.unpack(">H", query[at + 1:at + 3])[0]
        with self.lock:
            self.questions.append((name, kind))
        answer = self.answer(name, kind)
        if answer is None or isinstance(answer, bytes):
            return answer
        if callable(answer):
            return answer(query)
        made = self.reply(query, code=answer) if isinstance(answer, int) else self.reply(query, answer)
        return made if over_tcp or len(made) <= 512 else self.reply(query, flags=0x8380)  # TC

    def serve_udp(self):
        while True:
            try:
                query, client = self.udp.recvfrom(4096)
                if not query:  # the socket was shut down
                    return
                made = self.respond(query, False)
                if made is not None:
                    self.udp.sendto(made, client)
            except OSError:
                return

    def serve_tcp(self):
        while True:
            try:
                link, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_link, args=(link,), daemon=True).start()

    def serve_link(self, link):
        with link, link.makefile("rb") as stream:
            try:
                while size := stream.read(2):
                    made = self.respond(stream.read(struct.unpack(">H", size)[0]), True)
                    if not made:
                        return
                    link.sendall(struct.pack(">H", len(made)) + made)
            except OSError:
                return

    def asked(self, kind):
        return [name for name, one in list(self.questions) if one == kind]


class Callers:
    """Listens on a port of all these addresses and hangs up on whoever calls; the addresses called are kept."""

    def __init__(self, test, addresses, port):
        self.called, self.over = [], threading.Event()
        self.doors = selectors.DefaultSelector()
        for one in addresses:
            door = socket.create_server((one, port))
            door.setblocking(False)
            self.doors.register(door, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        test.addCleanup(self.close)

    def serve(self):
        while not self.over.is_set():
            for key, _ in self.doors.select(0.1):
                link, _ = key.fileobj.accept()
                self.called.append(link.getsockname()[0])  # before the caller goes on to the next
                link.close()

    def close(self):
        self.over.set()
        self.thread.join()
        for key in list(self.doors.get_map().values()):
            key.fileobj.close()
        self.doors.close()


class Names(Attack):
    """Names come from the test; every connection to the trap's port is noticed."""

    def setUp(self):
        super().setUp()
        self.port = free_port(TRAP)
        self.sink = self.world.sink(address=TRAP, port=self.port)
        self.answers = {}
        self.server = NameServer(self, self.answer)
        self.engine.set("net-utils.ini", "dns", servers=self.server.endpoint, timeout="2000", tries="1")
        self.engine.set("outbound.ini", smtp_port=self.port, connect_timeout="3", temp_fail_intervals="1h*10")

    def answer(self, name, kind):
        """What the test says of a name, by type; else a domain without MX whose address is the sink's."""
        found = self.answers.get((name, kind))
        if found is not None:
            return found
        return [address(TRAP)] if kind == A and re.fullmatch(r"[a-z0-9_.-]+", name) else []

    def send(self, *domains):
        for domain in domains:
            to = domain if "@" in domain else f"b@{domain}"
            status, answer = self.engine.api("POST", "/v1/messages", {"from": "", "to": [to], "message": "Subject: x\n\nhello\n"})
            self.assertEqual(status, 202, answer)

    def fates(self, count):
        """{domain: event} once so many attempts have ended."""
        kinds = ("delivered", "deferred", "bounced", "expired")
        events = wait_for(lambda: found if len(found := [e for e in self.engine.events() if e["event"] in kinds]) >= count else None,
                          f"{count} attempts", 60)
        return {event["recipients"][0].split("@", 1)[1]: event for event in events}

    def end_clean(self):
        self.assertEqual(self.engine.stop(), 0)
        self.sink.stop()

    def test_DNS_1_malformed_packets_are_temporary_trouble(self):
        """None is taken for an answer: the address of the domain, which would be good, is not used, nothing bounces."""
        domains = {}
        for number, row in enumerate(TABLE["malformed"]):
            domain = f"v{number:02}.evil.test"  # of one length, for the sake of the pointers
            domains[domain] = row["id"]

            def made(query, row=row):
                whole = self.server.reply(
                    query, flags=row.get("flags", 0x8180), counts=row.get("counts", [1, 1, 0, 0]),
                    tail=bytes.fromhex(row.get("tail", "")), question=row.get("question", True))
                if row.get("wrong_id"):
                    whole = bytes([whole[0] ^ 0xFF]) + whole[1:]
                return whole[:len(whole) - row.get("cut", 0)] if "keep" not in row else whole[:row["keep"]]

            self.answers[domain, MX] = made
        self.engine.start()
        self.send(*domains)
        fates = self.fates(len(domains))
        wrong = {domains[domain]: event for domain, event in fates.items()
                 if (event["event"], event["status"]) != ("deferred", "4.4.3")}
        self.assertEqual(wrong, {})
        self.send("good.test")
        self.assertEqual(self.sink.wait(1)[0]["to"], ["b@good.test"])
        self.end_clean()

    def test_DNS_2_thousands_of_records_are_capped(self):
        """2,500 MX hosts, and 500 addresses for one that all hang up: a few are asked and tried, and the mail goes out."""
        self.answers["many.test", MX] = [mx(bytes([5]) + b"h%04d" % number + b"\xc0\x0c", number) for number in range(2500)]
        self.answers["wide.test", MX] = [mx("host.wide.test")]
        wide = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(500)]
        self.answers["host.wide.test", A] = [address(one) for one in wide]
        callers = Callers(self, wide, self.port)
        self.engine.start()
        self.send("many.test", "wide.test")
        fates = self.fates(2)
        self.assertEqual(fates["many.test"]["event"], "delivered")
        asked = {name for name in self.server.asked(A) if name.endswith(".many.test")}
        self.assertLessEqual(len(asked), 256)
        self.assertEqual(fates["wide.test"]["event"], "deferred")
        self.assertEqual((len(callers.called), len(set(callers.called))), (20, 20))
        self.end_clean()

    def test_DNS_3_chains_and_loops_of_aliases_end(self):
        for number in range(40):
            for kind in (MX, A, AAAA):
                self.answers[f"c{number}.chain.test", kind] = [record(CNAME, name_octets(f"c{number + 1}.chain.test"))]
                self.answers["loop.test", kind] = [record(CNAME, name_octets("loop2.test"))]
                self.answers["loop2.test", kind] = [record(CNAME, name_octets("loop.test"))]
                self.answers["self.test", kind] = [record(CNAME, name_octets("self.test"))]
        self.engine.start()
        self.send("c0.chain.test", "loop.test", "self.test")
        for domain, event in self.fates(3).items():
            self.assertEqual((event["event"], event["status"]), ("deferred", "4.4.3"), domain)
        self.assertLess(len(self.server.questions), 400)
        self.end_clean()

    def test_DNS_4_no_name_leads_to_this_machine_or_its_neighbours(self):
        """SSRF: MX and addresses that point inside, and recipients that say so themselves. Nobody is called."""
        self.engine.set("outbound.ini", local_mx_ok="false")
        domains = []
        for number, inside in enumerate(TABLE["inside"]):
            domain = f"i{number}.evil.test"
            kind = AAAA if ":" in inside else A
            for name in (f"host.{domain}", f"bare.{domain}"):
                self.answers[name, A] = self.answers[name, AAAA] = []
                self.answers[name, kind] = [address(inside)]
            self.answers[domain, MX] = [mx(f"host.{domain}")]
            self.answers[f"alias.{domain}", MX] = [mx(f"c.{domain}")]
            for one in (A, AAAA):
                self.answers[f"c.{domain}", one] = [record(CNAME, name_octets(f"host.{domain}")), record(
                    kind, socket.inet_pton(socket.AF_INET6 if ":" in inside else socket.AF_INET, inside),
                    owner=name_octets(f"host.{domain}"))] if one == kind else [record(CNAME, name_octets(f"host.{domain}"))]
            domains += [domain, f"bare.{domain}", f"alias.{domain}"]
        for number, target in enumerate(TABLE["targets"]):
            domain = f"t{number}.evil.test"
            self.answers[domain, MX] = [mx(target)]
            self.answers[domain, A] = self.answers[domain, AAAA] = []
            self.answers[target.rstrip(".").lower(), A] = [address("127.0.0.1")]
            self.answers[target.rstrip(".").lower(), AAAA] = []
            domains.append(domain)
        self.engine.start()
        recipients = []
        for one in TABLE["recipients"]:
            status, answer = self.engine.api("POST", "/v1/messages", {"from": "", "to": [one], "message": "Subject: x\n\nhello\n"})
            self.assertIn(status, (202, 422), answer)
            recipients += [one] if status == 202 else []
        self.send(*domains)
        fates = self.fates(len(domains) + len(recipients))
        # Whoever is called, in vain or not, has an attempt that came further than to a route.
        called = {domain: event.get("reply") for domain, event in fates.items() if event.get("stage") != "dns"}
        self.assertEqual(called, {})
        self.end_clean()
        self.assertIn(" 0 connections", self.sink.process.output())

    def test_DNS_5_a_lifetime_of_nothing_is_used_once_for_all_who_wait(self):
        self.answers["zero.test", MX] = [mx("host.zero.test", ttl=0)]
        self.answers["host.zero.test", A] = [address(TRAP, ttl=0)]
        self.engine.start()
        self.send(*["zero.test"] * 60)
        self.sink.wait(60)
        self.assertLess(self.server.asked(MX).count("zero.test"), 20)
        self.end_clean()

    def test_DNS_5_an_enormous_lifetime_is_cut(self):
        """To the longest that the operator permits, and to nothing where the sign bit is set (RFC 2181 §8)."""
        other = self.world.sink(address="127.0.0.34", port=self.port)
        lifetimes = {"a.long.test": 0x7FFFFFFF, "b.long.test": 0x80000001, "c.long.test": 0xFFFFFFFF}
        for domain, ttl in lifetimes.items():
            self.answers[domain, MX] = []
            self.answers[domain, A] = [address(TRAP, ttl)]
        self.engine.set("net-utils.ini", "dns", cache_ttl_max="1").set("outbound.ini", pool_timeout="1").start()
        self.send(*lifetimes)
        self.sink.wait(len(lifetimes))
        for domain, ttl in lifetimes.items():
            self.answers[domain, A] = [address("127.0.0.34", ttl)]

        def moved():
            self.send(*lifetimes)
            self.engine.wait_empty()
            return {to for one in other.ledger() for to in one["to"]} == {f"b@{domain}" for domain in lifetimes}

        wait_for(moved, "the change to be seen")
        self.end_clean()
        other.stop()

    def test_DNS_6_every_kind_of_trouble_is_temporary(self):
        """SERVFAIL, REFUSED, FORMERR, NOTIMP, silence, TC without TCP, a referral: deferred, and never the address instead."""
        domains = {}
        for number, row in enumerate(TABLE["trouble"]):
            domain = f"d{number}.evil.test"
            domains[domain] = row["id"]

            def made(query, row=row):
                if row.get("silence"):
                    return None
                return self.server.reply(query, code=row.get("code", 0), flags=row.get("flags", 0x8180),
                                         counts=row.get("counts", [1, 0, 0, 0]), tail=bytes.fromhex(row.get("tail", "")))

            self.answers[domain, MX] = made
        self.engine.start()
        self.send(*domains)
        wrong = {domains[domain]: event for domain, event in self.fates(len(domains)).items()
                 if (event["event"], event["status"]) != ("deferred", "4.4.3")}
        self.assertEqual(wrong, {})
        self.end_clean()

    def test_DNS_6_an_outage_with_many_domains_asks_little_and_heals(self):
        """100,000 domains (200) and a name server that says nothing: a bounded number of questions, no verdict, and all is delivered afterwards."""
        count = long_or(100_000, 200)
        dead = threading.Event()
        dead.set()
        self.server.answer = lambda name, kind: None if dead.is_set() and name.endswith(".out.test") else self.answer(name, kind)
        self.engine.set("outbound.ini", temp_fail_intervals=long_or("60s*1000", "5s*1000")).start()
        if count > 1000:
            subprocess.run(
                [SLUICE, "blast", "--target", f"127.0.0.1:{self.engine.port}", "--messages", str(count), "--size", "300",
                 "--domains", str(count), "--to", "b@o%d.out.test"], check=True, capture_output=True)
        else:
            self.send(*[f"o{number}.out.test" for number in range(count)])
        self.engine.wait_event("deferred", count, patience=long_or(1200, 90))
        asked = len(self.server.questions)
        self.assertLess(asked, count * 12)
        dead.clear()
        self.sink.wait(count, patience=long_or(900, 90))
        self.engine.wait_empty(patience=long_or(300, 30))
        self.assertEqual(len(self.sink.ledger()), count)
        self.assertEqual(self.engine.events("bounced") + self.engine.events("expired"), [])
        self.end_clean()

    def test_DNS_8_mail_moves_to_the_buckets_of_its_new_hosts(self):
        """What a policy counts by MX follows the MX that there is at the next attempt."""
        self.engine.files["policy.yaml"] = (
            "- fields:\n  - remotemx:\n      old: ['*.old.test']\n      new: ['*.new.test']\n  default: {rate: 1000/3600}\n")
        self.answers["moves.test", MX] = [mx("h.old.test")]
        self.answers["h.old.test", A] = [address("127.0.0.35")]  # where nobody listens
        self.engine.set("net-utils.ini", "dns", cache_ttl_max="1").set("outbound.ini", temp_fail_intervals="5s*1000").start()

        def buckets():
            return {one["name"] for one in self.engine.api("GET", "/v1/buckets")[1]["buckets"]}

        self.send("moves.test")
        self.engine.wait_event("deferred")
        self.assertTrue([name for name in buckets() if "old" in name], buckets())
        self.answers["moves.test", MX] = [mx("h.new.test")]

        self.engine.wait_event("delivered")
        self.assertTrue([name for name in buckets() if "new" in name], buckets())
        self.assertEqual(self.sink.wait(1)[0]["to"], ["b@moves.test"])
        self.end_clean()

    def test_DNS_7_odd_labels_name_no_other_host(self):
        """A dot, a blank, NUL or CR LF within a label; case and the last dot make no difference, and `_` is a letter."""
        self.answers["case.test", MX] = [mx("HOST.Case.Test.")]
        self.answers["under.test", MX] = [mx("_mx.under_score.test")]
        domains = ["case.test", "under.test"]
        for number, label in enumerate(TABLE["labels"]):
            octets = label.encode("latin-1")
            domain = f"l{number}.evil.test"
            self.answers[domain, MX] = [mx(bytes([len(octets)]) + octets + name_octets("test"))]
            domains.append(domain)
        self.engine.start()
        self.send(*domains)
        fates = self.fates(len(domains))
        self.assertEqual({fates[domain]["event"] for domain in ("case.test", "under.test")}, {"delivered"})
        for domain in domains[2:]:
            self.assertNotEqual(fates[domain]["event"], "delivered", domain)
        # Nor was the question another than that for the name itself: `a\\.b.test` is not `a.b.test`.
        self.assertNotIn("a.b.test", self.server.asked(A))
        for line in self.engine.process.output().splitlines():
            self.assertRegex(line, r"^\[[A-Z]+\] \[")
            self.assertTrue(line.isprintable(), line)
        self.assertEqual(self.engine.stop(), 0)


if __name__ == "__main__":
    unittest.main()
