"""Where mail goes is decided by real answers of a real name server: every kind of MX, and every kind of trouble."""

import socket
import threading
import time
import unittest

from clients import submit
from peers import Knot, Reports, certificate_for, server_tls, shared_port, Scripted
from world import EndToEnd, wait_for

ALIVE, OTHER, DEAD, GRUMPY, SIX = "127.0.0.33", "127.0.0.34", "127.0.0.32", "127.0.0.35", "::1"
RECORDS = f"""
alive A {ALIVE}
other A {OTHER}
dead A {DEAD}
grumpy A {GRUMPY}
v6 AAAA {SIX}
dual A {ALIVE}
dual AAAA {SIX}
prefer MX 20 alive
prefer MX 10 dead
*.equal MX 10 alive
*.equal MX 10 other
*.pair MX 10 grumpy
*.pair MX 10 alive
implicit A {ALIVE}
null MX 0 .
null A {ALIVE}
lone MX 10 .
mixed MX 0 .
mixed MX 10 alive
nothing TXT "no address here"
six MX 10 v6
both MX 10 dual
toalias MX 10 alias
alias CNAME alive
whole CNAME prefer
self MX 10 mx.sluice.test.
selfbest MX 5 mx.sluice.test.
selfbest MX 10 alive
selfworse MX 5 alive
selfworse MX 10 mx.sluice.test.
selfworse MX 20 other
address MX 10 {ALIVE}.
togone MX 10 gone
mostly MX 5 gone
mostly MX 10 alive
two MX 10 grumpy
two MX 20 alive
best MX 10 grumpy
case MX 10 ALIVE.Cases.TEST.
"""
OURS = "mx A 127.0.0.1\n"


class Routes(EndToEnd):
    """An engine that asks knot; a sink on each address that the zones name, except DEAD."""

    def setUp(self):
        super().setUp()
        self.knot = Knot(self.world, {
            "cases.test": RECORDS, "broken.test": None, "sluice.test": OURS,
            "xn--bcher-kva.test": "@ MX 10 alive.cases.test.", "xn--fa-hia.test": "@ MX 10 alive.cases.test."})
        self.port = shared_port([ALIVE, OTHER, DEAD, GRUMPY, SIX, "127.0.0.36"])
        self.alive = self.world.sink(address=ALIVE, port=self.port)
        self.running = [self.alive]
        self.reports = Reports(self.world)
        self.running.append(self.reports.sink)
        self.engine = self.world.engine()
        self.engine.set("net-utils.ini", "dns", servers=self.knot.endpoint, timeout="3000")
        self.engine.set("outbound.ini", smtp_port=self.port, connect_timeout="3", temp_fail_intervals="1h*1000")
        self.engine.route("src.test", self.reports.endpoint)

    def sink(self, address, *arguments):
        bracketed = f"[{address}]" if ":" in address else address
        sink = self.world.sink(*arguments, address=bracketed, port=self.port)
        self.running.append(sink)
        return sink

    def send(self, *domains, **options):
        for domain in domains:
            name = domain if "." in domain else f"{domain}.cases.test"
            submit(self.engine, f"b@{name}", self.message(), **options)

    def delivered(self, domain):
        return self.engine.wait_event("delivered", domain=f"{domain}.cases.test")[0]

    def flush_until_delivered(self):
        def flushed():
            self.engine.cli("queue", "flush")
            return self.alive.ledger()

        wait_for(flushed, "the delivery")
        self.assertEqual(self.engine.wait_event("delivered")[0]["mx"].split(".")[1:], ["cases", "test"])

    def end_clean(self):
        self.assertEqual(self.engine.stop(), 0)
        for sink in self.running:
            sink.stop()

    def test_C5321_14_a_dead_host_and_then_the_next_preference(self):
        self.engine.start()
        self.send("prefer")
        self.assertEqual(self.delivered("prefer")["mx"], "alive.cases.test")
        self.assertEqual(self.engine.events("deferred"), [])
        self.end_clean()

    def test_C5321_14_equal_preferences_share_the_mail(self):
        other = self.sink(OTHER)
        self.engine.set("outbound.ini", pool_timeout="0").start()  # an idle connection would be preferred to a throw of dice
        domains = [f"d{i}.equal.cases.test" for i in range(24)]
        self.send(*domains)
        self.engine.wait_event("delivered", 24)
        counts = len(self.alive.ledger()), len(other.ledger())
        self.assertEqual(sum(counts), 24)
        self.assertGreater(min(counts), 0)  # by chance this fails once in 8 million runs
        self.end_clean()

    def test_C5321_15_without_mx_the_domain_itself(self):
        self.engine.start()
        self.send("implicit")
        self.assertEqual(self.delivered("implicit")["mx"], "implicit.cases.test")
        self.end_clean()

    def test_NX_1_NX_2_null_mx_bounces_at_once(self):
        self.engine.start()
        self.send("null", "lone")
        for domain in ("null", "lone"):
            self.assertEqual(self.engine.wait_event("bounced", domain=f"{domain}.cases.test")[0]["status"], "5.1.10")
        for report in self.reports.wait(2):
            (block,) = report.recipients.values()
            self.assertEqual((block["Action"], block["Status"]), ("failed", "5.1.10"))
        self.assertEqual(self.alive.ledger(), [])
        self.end_clean()

    def test_NX_2_a_root_among_others_is_ignored(self):
        self.engine.start()
        self.send("mixed")
        self.assertEqual(self.delivered("mixed")["mx"], "alive.cases.test")
        self.end_clean()

    def test_C5321_15_no_such_domain_bounces(self):
        self.engine.start()
        self.send("gone", "nothing")
        for domain in ("gone", "nothing"):
            self.assertEqual(self.engine.wait_event("bounced", domain=f"{domain}.cases.test")[0]["status"], "5.1.2")
        for report in self.reports.wait(2):
            (block,) = report.recipients.values()
            self.assertEqual(block["Status"], "5.1.2")
        self.end_clean()

    def test_C5321_15_DNS_6_trouble_is_not_an_answer(self):
        """SERVFAIL (a zone that does not load) and REFUSED (no zone): deferred with 4.4.3."""
        self.engine.start()
        self.send("broken.test", "elsewhere.example")
        for domain in ("broken.test", "elsewhere.example"):
            self.assertEqual(self.engine.wait_event("deferred", domain=domain)[0]["status"], "4.4.3")
        self.assertEqual(self.engine.events("bounced"), [])
        self.end_clean()

    def test_DNS_6_a_name_server_that_is_down_and_comes_back(self):
        self.engine.start()
        self.knot.process.stop()
        self.send("implicit")
        self.assertEqual(self.engine.wait_event("deferred", domain="implicit.cases.test")[0]["status"], "4.4.3")
        self.world.spawn(self.knot.process.child.args, self.world.directory / "knot2.log")
        log = self.world.directory / "knot2.log"
        wait_for(lambda: "loaded, serial" in log.read_text(), "knot to come back")
        self.flush_until_delivered()
        self.assertEqual(len(self.alive.ledger()), 1)
        self.end_clean()

    def test_DNS_6_a_name_server_that_never_answers(self):
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(silent.close)
        silent.bind(("127.0.0.1", 0))
        self.engine.set("net-utils.ini", "dns", servers=f"127.0.0.1:{silent.getsockname()[1]}", timeout="500")
        self.engine.start()
        self.send("implicit")
        self.assertEqual(self.engine.wait_event("deferred")[0]["status"], "4.4.3")
        self.end_clean()

    def test_DNS_8_a_change_between_attempts_is_honoured(self):
        self.engine.set("net-utils.ini", "dns", cache_ttl_min="0", cache_ttl_max="1")
        self.knot.change("xn--bcher-kva.test", "@ 1 MX 10 dead.cases.test.")
        self.engine.start()
        self.send("xn--bcher-kva.test")
        self.engine.wait_event("deferred")
        self.knot.change("xn--bcher-kva.test", "@ 1 MX 10 alive.cases.test.")

        self.flush_until_delivered()
        self.end_clean()

    def test_an_address_of_ipv6_only(self):
        six = self.sink(SIX)
        self.engine.start()
        self.send("six")
        self.assertTrue(self.delivered("six")["remote"].startswith("[::1]:"))
        self.assertEqual(len(six.ledger()), 1)
        self.end_clean()

    def test_inet_prefer_orders_the_addresses_of_a_host(self):
        six = self.sink(SIX)
        for family, sink in (("v6", six), ("v4", self.alive)):
            self.engine.set("outbound.ini", inet_prefer=family)
            self.engine.start()
            self.send("both")
            wait_for(sink.ledger, f"the message over {family}")
            self.assertEqual(self.engine.stop(), 0)
        self.assertEqual((len(six.ledger()), len(self.alive.ledger())), (1, 1))
        for sink in self.running:
            sink.stop()

    def test_C5321_17_aliases_are_followed(self):
        self.engine.start()
        self.send("toalias", "whole", "case")
        for domain in ("toalias", "whole", "case"):
            self.assertTrue(self.delivered(domain)["remote"].startswith(ALIVE))
        self.end_clean()

    def test_C5321_17_a_host_name_that_looks_like_an_address_is_none(self):
        self.engine.start()
        self.send("address", "togone")
        wait_for(lambda: len(self.engine.events("deferred") + self.engine.events("bounced")) >= 2, "two decisions")
        self.assertEqual(self.engine.events("delivered", domain="address.cases.test"), [])
        self.assertEqual(self.alive.ledger(), [])
        self.end_clean()

    def test_C5321_14_a_host_without_address_is_passed_over(self):
        self.engine.start()
        self.send("mostly")
        self.assertEqual(self.delivered("mostly")["mx"], "alive.cases.test")
        self.end_clean()

    def test_C5321_16_our_own_name_ends_the_list(self):
        self.engine.start()
        self.send("self", "selfbest", "selfworse")
        for domain in ("self", "selfbest"):
            self.assertEqual(self.engine.wait_event("bounced", domain=f"{domain}.cases.test")[0]["status"], "5.4.6")
        self.assertEqual(self.delivered("selfworse")["mx"], "alive.cases.test")
        self.assertEqual(len(self.alive.ledger()), 1)
        self.end_clean()

    def test_DNS_4_hosts_that_are_this_machine_are_not_called_by_default(self):
        self.engine.set("outbound.ini", local_mx_ok="false")
        self.engine.start()
        self.send("implicit", "localhost")
        wait_for(lambda: len(self.engine.events("deferred") + self.engine.events("bounced")) >= 2, "two decisions")
        self.assertEqual(self.alive.ledger(), [])
        self.assertEqual(self.engine.events("delivered", domain="implicit.cases.test"), [])
        self.end_clean()

    def test_EA_6_one_domain_in_three_spellings(self):
        self.engine.start()
        submit(self.engine, ["b@bücher.test", "c@xn--bcher-kva.test", "d@BÜCHER.test"], self.message(), mail_options=["SMTPUTF8"])
        event = self.engine.wait_event("delivered")[0]
        self.assertEqual(len(event["recipients"]), 3, event)  # one item, one transaction
        ledger = self.alive.wait(1)
        self.assertEqual(len(ledger), 1)
        self.assertEqual(self.engine.wait_event("accepted")[0]["items"], 1)
        self.end_clean()

    def test_EA_7_sharp_s_is_not_ss(self):
        self.engine.start()
        submit(self.engine, "b@faß.test", self.message(), mail_options=["SMTPUTF8"])
        self.assertEqual(self.engine.wait_event("delivered")[0]["mx"], "alive.cases.test")
        self.end_clean()

    def test_A11_C5321_05_a_host_that_says_421_and_then_the_next(self):
        """A11: Haraka deferred at once and never called the second host. NM_1: so does a host that takes no mail."""
        for reply in ("421 4.3.2 not now", "554 5.3.2 never", "521 5.3.2 no mail here"):
            with self.subTest(reply):
                grumpy = self.sink(GRUMPY, "--rule", f"connect={reply}")
                engine = self.world.engine(name=f"engine{reply[:3]}")
                engine.settings["net-utils.ini"] = self.engine.settings["net-utils.ini"]
                engine.settings["outbound.ini"] = self.engine.settings["outbound.ini"]
                engine.start()
                before = len(self.alive.ledger())
                submit(engine, "b@two.cases.test", self.message())
                self.assertEqual(engine.wait_event("delivered")[0]["mx"], "alive.cases.test")
                self.assertEqual(engine.events("deferred") + engine.events("bounced"), [])
                self.assertEqual(len(self.alive.ledger()), before + 1)
                self.assertEqual(engine.stop(), 0)
                grumpy.stop()
                self.running.remove(grumpy)

    def test_C5321_05_a_host_that_never_greets_and_then_the_next(self):
        silence = threading.Event()
        self.addCleanup(silence.set)
        grumpy = Scripted(self, {"greeting": lambda _: silence.wait(60) and None}, address=GRUMPY, port=self.port)
        self.engine.set("outbound.ini", greeting_timeout="1").start()
        self.send("two")
        self.assertEqual(self.delivered("two")["mx"], "alive.cases.test")
        self.assertEqual((len(grumpy.sessions), self.engine.events("deferred")), (1, []))
        self.end_clean()

    def blackhole(self, address):
        """A listener whose queue is full: the kernel drops further SYNs, as a host behind a silent firewall does."""
        listener = socket.create_server((address, self.port), backlog=0)
        self.addCleanup(listener.close)
        for _ in range(4):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex((address, self.port))
        probe = socket.socket()
        self.addCleanup(probe.close)
        probe.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            probe.connect((address, self.port))

    def test_RFC_8305_a_silent_address_does_not_hold_up_its_equal(self):
        """Two hosts of one preference, one of which never answers a SYN: nobody waits for connect_timeout."""
        self.blackhole(GRUMPY)
        self.engine.set("outbound.ini", connect_timeout="60", pool_timeout="0").start()
        domains = [f"d{i}.pair.cases.test" for i in range(8)]
        begun = time.monotonic()
        self.send(*domains)
        self.engine.wait_event("delivered", len(domains), patience=20)
        self.assertLess(time.monotonic() - begun, 10)
        self.assertEqual(self.engine.events("deferred"), [])
        self.end_clean()

    def test_connect_timeout_is_for_connecting_and_then_the_next_host_comes(self):
        self.blackhole(GRUMPY)
        self.engine.set("outbound.ini", connect_timeout="1").start()
        self.send("two")
        self.assertEqual(self.delivered("two")["mx"], "alive.cases.test")
        self.assertEqual(self.engine.events("deferred"), [])
        self.end_clean()

    def test_RFC_8305_a_dead_family_costs_nothing(self):
        self.engine.start()
        self.send("both")  # nobody listens on its IPv6 address
        self.assertTrue(self.delivered("both")["remote"].startswith(ALIVE))
        self.assertEqual(self.engine.events("deferred"), [])
        self.end_clean()

    def test_S5321_18_address_literals_need_no_name(self):
        six = self.sink(SIX)
        self.engine.start()
        submit(self.engine, f"b@[{ALIVE}]", self.message())
        submit(self.engine, "b@[IPv6:::1]", self.message())
        self.assertEqual(self.alive.wait(1)[0]["to"], [f"b@[{ALIVE}]"])
        self.assertEqual(six.wait(1)[0]["to"], ["b@[IPv6:::1]"])
        self.end_clean()

    def test_domains_of_one_host_share_its_connection(self):
        self.engine.start()
        domains = ("implicit", "toalias", "mostly", "mixed", "case")
        for domain in domains:
            self.send(domain)
            self.delivered(domain)
        connections = {one["endpoint"]: set() for one in self.alive.ledger()}
        for one in self.alive.ledger():
            connections[one["endpoint"]].add(one["connection"])
        self.assertEqual([len(each) for each in connections.values()], [1], self.alive.ledger())
        self.end_clean()

    def test_NM_1_only_a_host_that_never_takes_mail_bounces(self):
        self.sink(GRUMPY, "--rule", "connect=521 5.3.2 no mail here")
        self.engine.start()
        self.send("best")
        self.assertRegex(self.engine.wait_event("bounced")[0]["status"], r"^5\.3\.2$")
        self.end_clean()

    def test_C5321_13_a_refused_message_is_not_tried_elsewhere(self):
        grumpy = self.sink(GRUMPY, "--rule", "dot=554 5.7.1 spam")
        self.engine.start()
        self.send("two")
        event = self.engine.wait_event("bounced")[0]
        self.assertEqual((event["mx"], event["status"]), ("grumpy.cases.test", "5.7.1"))
        self.assertEqual(self.reports.wait(1)[0].recipients["b@two.cases.test"]["Remote-MTA"], "dns; grumpy.cases.test")
        self.assertEqual(self.alive.ledger() + grumpy.ledger(), [])
        self.end_clean()

    def test_A3_a_slow_answer_to_the_dot_is_waited_for(self):
        """A3: with connect_timeout=1 and an answer after 3 s Haraka sent the message to both hosts, again and again."""
        grumpy = self.sink(GRUMPY, "--rule", "dot=delay 3000")
        self.engine.set("outbound.ini", connect_timeout="1").start()
        self.send("two")
        self.assertEqual(self.delivered("two")["mx"], "grumpy.cases.test")
        self.engine.wait_empty()
        self.assertEqual((len(grumpy.ledger()), len(self.alive.ledger())), (1, 0))
        self.assertEqual(self.engine.events("deferred") + self.engine.events("possible_duplicate"), [])
        self.end_clean()

    def test_TL_4_forced_tls_checks_the_name_of_the_mx_host(self):
        """A certificate for another name is passed over; the next host's fits. RFC 9525."""
        wrong = certificate_for(self.world, "wrong.cases.test")
        right = certificate_for(self.world, "alive.cases.test")
        self.alive.stop()
        self.running.remove(self.alive)
        grumpy = Scripted(self, tls=server_tls(*wrong), address=GRUMPY, port=self.port)
        alive = Scripted(self, tls=server_tls(*right), address=ALIVE, port=self.port)
        authorities = self.world.directory / "authorities.pem"
        authorities.write_text(wrong[0].read_text() + right[0].read_text())
        self.engine.set("tls.ini", "outbound", ca=authorities, force_tls_hosts="two.cases.test")
        self.engine.start()
        self.send("two")
        event = self.delivered("two")
        self.assertEqual((event["mx"], event["tls_verified"]), ("alive.cases.test", True))
        self.assertEqual(grumpy.commands("MAIL"), [])
        self.assertEqual(len(alive.messages), 1)
        self.end_clean()


if __name__ == "__main__":
    unittest.main()
