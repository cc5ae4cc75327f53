"""The plugins that people have, unmodified: what each did, as those see it whom it concerns. dkim is in test_plugins_inbound, status in
test_plugins_outbound."""

import base64
import contextlib
import http.client
import http.server
import json
import pathlib
import re
import smtplib
import socket
import threading
import urllib.parse

from clients import Raw, submit
from peers import Redis, Reports, Scripted, certificate_for
from plugin_home import PluginEngine
from test_plugins import Plugins
from test_plugins_inbound import MESSAGE, Inbound
from world import PATIENCE, free_port, port_answers, wait_for

FRIEND = "127.0.0.9"  # may relay where nobody else may


class Servers(Inbound):
    def reports(self):
        """Where bounces arrive."""
        reports = Reports(self.world)
        self.engine.route("src.test", reports.endpoint)
        return reports

    def hand_in(self, sender, to, source=None):
        """The reply to the content, or to the first command that is refused."""
        with Raw(self.engine.port, source=source) as client:
            for line in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA"):
                code, text = client.ask(line)
                if code >= 400:
                    return code, text
            client.send(MESSAGE.replace("\r\n.", "\r\n.."))
            return client.ask(".")

    def calls(self, plugin, hook):
        points = self.engine.api("GET", "/v1/plugins")[1]["hooks"]
        return sum(listener["calls"] for point in points if point["hook"] == hook
                   for listener in point["listeners"] if listener["plugin"] == plugin)

    def with_tls(self):
        cert, key = certificate_for(self.world, "mx.sluice.test")
        self.engine.files["plugins"] += "tls\n"
        self.engine.set("tls.ini", cert=cert, key=key)

    def client(self):
        """One that speaks TLS."""
        client = smtplib.SMTP("127.0.0.1", self.engine.port, "client.test", timeout=PATIENCE)
        self.addCleanup(client.close)
        client.starttls()
        client.ehlo()
        return client


class Limit(Servers):
    """haraka-plugin-limit and its Redis."""

    def setUp(self):
        super().setUp()
        self.redis = Redis(self.world)
        self.engine.set("limit.ini", tarpit_delay=0)
        self.engine.set("limit.ini", "redis", **self.redis.settings)
        self.install()

    def install(self):
        self.plugins.add("limit")

    def under_way(self, domain):
        return self.redis.ask("HGET", f"outbound-rate:{domain}", "TOTAL")

    def test_deliveries_at_once_to_a_domain(self):
        over = threading.Event()
        self.addCleanup(over.set)
        peer = Scripted(self, {
            "RCPT @dst.test": lambda _: over.wait(PATIENCE) and "250 2.1.5 ok", "RCPT @later.test": "450 4.2.1 later",
            "RCPT @never.test": "550 5.1.1 no such user"})
        for domain in ("dst.test", "later.test", "never.test"):
            self.engine.route(domain, peer.endpoint)
        reports = self.reports()
        self.engine.set("outbound.ini", temp_fail_intervals="1h")
        self.engine.set("limit.ini", "outbound", **{"enabled": "true", "delay": 1, "dst.test": 2})
        self.plugins.start()
        for number in range(5):
            self.submit(f"b{number}@dst.test")
        wait_for(lambda: len(peer.commands("RCPT")) == 2, "two deliveries")
        # All five have been asked, and those that may not go yet again and again.
        wait_for(lambda: self.calls("limit", "send_email") >= 5 + 3 + 3, "the others to be put off twice")
        self.assertEqual((len(peer.commands("RCPT")), self.engine.events("deferred")), (2, []))
        over.set()
        self.engine.wait_event("delivered", count=5)
        self.assertEqual(len(peer.messages), 5)
        wait_for(lambda: self.under_way("dst.test") == "0", "the counter to be back after deliveries")
        self.submit("b@later.test")
        self.engine.wait_event("deferred", domain="later.test")
        wait_for(lambda: self.under_way("later.test") == "0", "the counter to be back after a deferral")
        self.submit("b@never.test")
        self.assertEqual(list(reports.wait(1)[0].recipients), ["b@never.test"])
        for domain in ("never.test", "src.test"):
            wait_for(lambda: self.under_way(domain) == "0", f"the counter of {domain} to be back")
        self.assertEqual(self.engine.stop(), 0)  # before Redis

    def test_connections_commands_and_recipients_of_a_client(self):
        self.engine.set("limit.ini", "concurrency", enabled="true", max=2)
        # It counts verb and rest of each.
        self.engine.set("limit.ini", "unrecognized_commands", enabled="true", max=2)
        self.engine.set("limit.ini", "recipients", enabled="true", max=3)
        self.engine.set("limit.ini", "rate_rcpt_sender", **{"enabled": "true", "default": "9/1m", "few@src.test": "1/1m"})
        self.plugins.start()
        with Raw(self.engine.port) as one:
            with Raw(self.engine.port) as other:
                with Raw(self.engine.port, greet=None) as third:
                    self.assertEqual(third.reply(), (421, "Too many concurrent connections"))
                    self.assertEqual(third.reply()[0], 0)
                self.assertEqual(other.ask("XYZZY")[0], 500)
                self.assertEqual(other.ask("XYZZY"), (421, "4.5.1 Too many unrecognized commands"))
            one.ask("MAIL FROM:<few@src.test>")
            self.assertEqual(one.ask("RCPT TO:<b@dst.test>")[0], 250)
            self.assertEqual(one.ask("RCPT TO:<b@dst.test>"), (450, "4.7.1 rcpt rate limit exceeded"))
            one.ask("RSET")
            one.ask("MAIL FROM:<a@src.test>")
            self.assertEqual(one.ask("RCPT TO:<b@dst.test>")[0], 250)
            self.assertEqual(one.ask("RCPT TO:<b@dst.test>"), (450, "4.7.1 Too many recipient attempts"))
        wait_for(lambda: self.redis.ask("GET", "concurrency|127.0.0.1") == "0", "the counter of connections to be back")
        self.assertEqual(self.redis.ask("GET", "rate_rcpt_sender:few@src.test"), "2")
        self.assertEqual(self.redis.ask("GET", "rate_rcpt_sender:a@src.test"), "1")
        self.assertEqual(self.engine.stop(), 0)


class LimitOfOld(Limit):
    """The last one that asks for `rcpt.address()`, among packages of its time."""

    def install(self):
        self.plugins.install("limit-of-old", "haraka-plugin-limit").install("address-rfc2821")
        super().install()


class Routes(Plugins):
    def test_recipient_routes_follow_redis(self):
        redis = Redis(self.world)
        mailboxes = Scripted(self, lmtp=True)
        self.engine.files["relay_acl_allow"] = f"{FRIEND}/32\n"
        self.engine.set("redis.ini", "server", **redis.settings)
        self.engine.set("rcpt_to.routes.ini", "routes", **{"file.test": f"smtp://{self.sink.endpoint}"})
        redis.ask("SET", "box@dst.test", f"lmtp://{mailboxes.endpoint}")
        redis.ask("SET", "dst.test", f"smtp://{self.sink.endpoint}")
        self.plugins.add("redis").add("recipient-routes").start()
        with Raw(self.engine.port, source=FRIEND) as client:
            def send(to):
                for line in ("MAIL FROM:<a@src.test>", f"RCPT TO:<{to}>", "DATA"):
                    client.ask(line)
                client.send(MESSAGE)
                self.assertEqual(client.ask(".")[0], 250)

            send("box@dst.test")
            mailboxes.wait(1)
            send("other@dst.test")
            send("somebody@file.test")
            self.assertEqual(sorted(mail["to"] for mail in self.sink.wait(2)), [["other@dst.test"], ["somebody@file.test"]])
            redis.ask("SET", "other@dst.test", f"lmtp://{mailboxes.endpoint}")
            send("other@dst.test")
            self.assertIn("<other@dst.test>", mailboxes.wait(2)[1][1][0])
        with Raw(self.engine.port) as stranger:
            stranger.ask("MAIL FROM:<a@src.test>")
            self.assertEqual(stranger.ask("RCPT TO:<anybody@dst.test>")[0], 250)
            self.assertEqual(stranger.ask("RCPT TO:<anybody@else.test>")[0], 550)
        self.assertEqual(self.engine.stop(), 0)  # before Redis


class SmtpForward(Servers):
    def setUp(self):
        super().setUp()
        self.backend = Scripted(self, {"RCPT no@": "550 5.1.1 no such user", "RCPT later@": "450 4.2.1 later"})
        self.engine.set("smtp_forward.ini", host="127.0.0.1", port=self.backend.port)
        self.plugins.with_haraka().bundled("queue/smtp_forward")

    def test_mail_for_us_is_handed_on_while_the_client_waits(self):
        self.strangers()
        self.engine.set("smtp_forward.ini", check_sender="true", check_recipient="true")
        self.engine.set("smtp_forward.ini", "here.test", host="127.0.0.1", port=self.backend.port)
        self.plugins.start()
        code, text = self.hand_in("a@src.test", "b@here.test")
        self.assertEqual((code, text.split(" (")[0]), (250, "2.0.0 taken"))
        sender, recipients, content = self.backend.wait(1)[0]
        self.assertEqual((sender, recipients), ("MAIL FROM:<a@src.test>", ["RCPT TO:<b@here.test>"]))
        self.assertTrue(content.startswith(b"Received: from client.test"), content)
        self.assertTrue(content.endswith(MESSAGE.encode()), content)
        self.assertEqual(self.hand_in("a@src.test", "no@here.test"), (550, "5.1.1 no such user"))
        self.assertEqual(self.hand_in("a@src.test", "later@here.test"), (450, "4.2.1 later"))
        self.assertEqual(self.hand_in("a@src.test", "b@elsewhere.test")[0], 550)
        self.assertEqual(self.hand_in("me@here.test", "b@here.test"), (550, "5.7.1 Spoofed MAIL FROM"))
        self.assertEqual((len(self.backend.messages), self.engine.events("accepted")), (1, []))

    def test_mail_out_goes_through_it_or_by_the_queue_to_the_host_of_a_domain(self):
        other = Scripted(self, ehlo=("PIPELINING", "8BITMIME", "AUTH PLAIN"))
        self.engine.set("outbound.ini", auth_cleartext="true")
        self.engine.set("smtp_forward.ini", enable_outbound="true")
        self.engine.set(
            "smtp_forward.ini", "far.test", enable_outbound="false", host="127.0.0.1", port=other.port, auth_type="plain",
            auth_user="us", auth_pass="secret")
        self.plugins.start()
        self.submit("b@dst.test")
        self.backend.wait(1)
        self.assertEqual(self.engine.events("accepted"), [])
        self.submit("b@far.test")
        other.wait(1)
        self.assertEqual(other.commands("AUTH"), ["AUTH PLAIN " + base64.b64encode(b"\0us\0secret").decode()])
        self.engine.wait_event("delivered", domain="far.test")
        self.assertEqual((len(self.backend.messages), self.keeper.ledger()), (1, []))


class Mailboxes(Servers):
    """Mail for domains of ours, from strangers, ends up where LMTP is spoken."""

    def test_lmtp_through_a_socket_of_its_own(self):
        self.strangers()
        socket = self.world.directory / "lmtp.sock"
        boxes = Scripted(self, {"dot c@": "550 5.2.1 no such box"}, unix=socket, lmtp=True)
        reports = self.reports()
        self.engine.files["host_list"] = "here.test\n"
        self.engine.set("lmtp.ini", "here.test", path=socket)
        self.plugins.with_haraka().bundled("rcpt_to.in_host_list").bundled("queue/lmtp").start()
        submit(self.engine, ["b@here.test", "c@here.test"], MESSAGE)
        self.assertTrue(boxes.wait(1)[0][2].endswith(b"\r\n\r\nhello\r\n.dot\r\n"))
        self.assertEqual(boxes.sessions[0][0], "LHLO mx.sluice.test")
        self.assertEqual(self.engine.wait_event("delivered")[0]["recipients"], ["b@here.test"])
        self.assertEqual(list(reports.wait(1)[0].recipients), ["c@here.test"])
        self.assertEqual(self.hand_in("a@src.test", "b@elsewhere.test")[0], 550)

    def test_qmail_deliverable_knows_the_addresses(self):
        self.strangers()
        self.engine.files["relay_acl_allow"] = f"{FRIEND}/32\n"
        self.engine.route("far.test", self.keeper.endpoint)
        boxes = Scripted(self, lmtp=True)
        told = Deliverable(self, {"b@here.test": 0xF1, "list@here.test": 0x14, "no@here.test": 0x00})
        self.engine.set("qmail-deliverable.ini", host="127.0.0.1", port=told.port)
        self.engine.set("qmail-deliverable.ini", "here.test", queue="lmtp", next_hop=f"lmtp://{boxes.endpoint}")
        self.plugins.add("qmail-deliverable").start()
        self.assertEqual(self.hand_in("a@src.test", "b@here.test")[0], 250)
        self.assertEqual(boxes.wait(1)[0][1], ["RCPT TO:<b@here.test>"])
        self.assertEqual(told.asked, ["a@src.test", "b@here.test"])
        self.assertEqual(self.hand_in("a@src.test", "no@here.test")[0], 550)
        self.assertEqual(self.hand_in("", "list@here.test")[0], 550)
        self.assertEqual(self.hand_in("a@src.test", "b@elsewhere.test")[0], 550)
        self.assertEqual(self.hand_in("a@src.test", "list@here.test")[0], 250)
        boxes.wait(2)
        # Who may relay sends where it is not known, too, and that goes its usual way.
        self.assertEqual(self.hand_in("b@here.test", "b@far.test", source=FRIEND)[0], 250)
        self.assertEqual(self.keeper.wait(1)[0]["to"], ["b@far.test"])
        self.assertEqual(len(boxes.messages), 2)


class Deliverable:
    """qmail-deliverabled: a number for each address; those that it does not know it calls not local."""

    def __init__(self, test, answers):
        self.asked = []
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802, the name that http.server looks for
                address = urllib.parse.unquote(self.path.partition("?")[2])
                asked.append(address)
                body = str(answers.get(address, 0xFF)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        test.addCleanup(self.server.server_close)
        test.addCleanup(self.server.shutdown)


# Tells who submits.
WHO = """exports.hook_queue_outbound = function (next, connection) {
    say(connection.notes.auth_user, connection.tls.enabled, connection.relaying)
    next()
}"""


class Front(Servers):
    """Clients log in over TLS, and their mail goes to the server that smtp_bridge names."""

    def setUp(self):
        super().setUp()
        self.strangers()
        self.with_tls()
        self.plugins.with_haraka()
        self.backend = Scripted(
            self, {"AUTH": self.judge}, ehlo=("PIPELINING", "8BITMIME", "AUTH PLAIN LOGIN"))
        self.engine.set("smtp_bridge.ini", host="127.0.0.1", port=self.backend.port, auth_type="plain")

    def judge(self, line):
        """The server behind knows one login."""
        right = base64.b64decode(line.split()[2]) == b"\0me@src.test\0secret"
        return "235 2.7.0 welcome" if right else "535 5.7.8 no"

    def test_auth_flat_file(self):
        self.engine.set("auth_flat_file.ini", "core", methods="CRAM-MD5,PLAIN,LOGIN")
        self.engine.set("auth_flat_file.ini", "users", **{"me@src.test": "own secret"})
        self.engine.files["plugins"] += "auth/flat_file\n"
        self.plugin(WHO)
        self.plugins.bundled("queue/smtp_bridge").start()
        self.log_in_and_send()
        self.assertEqual(self.backend.wait(1)[0][:2], ("MAIL FROM:<me@src.test>", ["RCPT TO:<b@dst.test>"]))
        self.assertEqual(self.backend.commands("AUTH"), [], "the password stays here")
        self.assertIn(b" with ESMTPSA ", self.backend.messages[0][2])

    def test_auth_flat_file_of_haraka(self):
        self.engine.set("plugin_host.ini", instead="auth/flat_file")
        self.engine.set("relay.ini", "relay", force_routing="true")
        self.engine.set("auth_flat_file.ini", "core", methods="CRAM-MD5,PLAIN,LOGIN")
        self.engine.set("auth_flat_file.ini", "users", **{"me@src.test": "own secret"})
        self.plugins.bundled("auth/flat_file")
        self.plugin(WHO)
        self.plugins.start()
        self.log_in_and_send()
        self.assertIn(" with ESMTPSA ", self.arrived()[0])
        wait_for(lambda: self.calls("auth/flat_file", "unrecognized_command") > 0, "the plugin's accounts")

    def log_in_and_send(self):
        """The user of auth_flat_file.ini gets through, and nobody with another password."""
        client = self.client()
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            client.login("me@src.test", "another secret")
        self.assertEqual(client.login("me@src.test", "own secret")[0], 235)
        client.sendmail("me@src.test", "b@dst.test", MESSAGE)
        self.assertEqual(self.what_was_said(), [["me@src.test", True, True]])

    def test_auth_bridge_asks_the_server_behind_and_smtp_bridge_logs_in_there(self):
        self.engine.set("outbound.ini", auth_cleartext="true")
        self.plugins.bundled("auth/auth_bridge").bundled("queue/smtp_bridge").start()
        with Raw(self.engine.port, greet=None) as in_clear:
            in_clear.reply()
            self.assertNotIn("AUTH", in_clear.ask("EHLO client.test")[1])
        client = self.client()
        client.user, client.password = "me@src.test", "wrong"
        with self.assertRaises(smtplib.SMTPAuthenticationError):
            client.auth("PLAIN", client.auth_plain)
        asked = len(self.backend.sessions)
        self.assertEqual(client.login("me@src.test", "secret")[0], 235)
        client.sendmail("me@src.test", "b@dst.test", MESSAGE)
        self.backend.wait(1)
        self.engine.wait_event("delivered")
        logins = [[line for line in session if line.startswith("AUTH")] for session in self.backend.sessions[asked:]]
        self.assertEqual(logins, [["AUTH PLAIN " + base64.b64encode(b"\0me@src.test\0secret").decode()]] * 2)
        self.assertIn("MAIL FROM:<me@src.test>", self.backend.sessions[-1])


class Relay(Servers):
    """haraka-plugin-relay instead of the engine's own."""

    def setUp(self):
        super().setUp()
        self.engine.files["plugins"] = ""
        self.engine.set("plugin_host.ini", instead="relay")
        self.engine.files["relay_acl_allow"] = f"{FRIEND}/32 # a friend\n"
        self.plugins.add("relay")

    def test_who_may_relay_and_where_it_goes(self):
        self.engine.set("relay_dest_domains.ini", "domains", **{
            "closed.test": '{"action":"deny"}',
            "open.test": json.dumps({"action": "accept", "nexthop": self.keeper.endpoint})})
        self.plugins.start()
        self.assertEqual(self.hand_in("a@src.test", "b@dst.test", source=FRIEND)[0], 250)
        self.assertIn("b@dst.test", self.keeper.wait(1)[0]["to"])
        for to, code in (("b@other.test", 550), ("b@closed.test", 550), ("b@open.test", 250)):
            with self.subTest(to):
                self.assertEqual(self.hand_in("stranger@src.test", to)[0], code)
        self.keeper.wait(2)
        self.engine.wait_empty()
        wait_for(lambda: [self.calls("relay", hook) for hook in ("connect_init", "rcpt", "get_mx")] == [4, 4, 2], "the plugin's accounts")


class Watch(Servers):
    """haraka-plugin-watch: pages and a WebSocket on the web server of the plugin host."""

    def setUp(self):
        super().setUp()
        self.redis = Redis(self.world)
        self.plugins = PluginEngine(self.engine, also={"haraka-plugin-watch": "2.2.4", "express": "4.21.2", "ws": "8.18.0"})
        self.port = free_port()
        self.engine.set("plugin_host.ini", web_listen=f"127.0.0.1:{self.port}")
        self.engine.set("redis.ini", "server", **self.redis.settings)
        self.engine.set("redis.ini", "pubsub", **self.redis.settings)
        for package in ("express", "ws"):
            self.plugins.install(package)
        self.plugins.add("watch")

    def get(self, path):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as link:
            link.request("GET", path)
            answer = link.getresponse()
            return answer.status, answer.read().decode()

    def served(self):
        wait_for(lambda: port_answers(self.port), "the web server of the plugin host")

    def watcher(self):
        """A WebSocket, and what comes over it."""
        link = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.addCleanup(link.close)
        link.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        heard = bytearray()

        def until(text):
            while text not in heard:
                more = link.recv(4096)
                self.assertTrue(more, f"closed before {text}, after {bytes(heard)}")
                heard.extend(more)
        return until

    def test_pages_and_sockets(self):
        self.plugin("exports.hook_rcpt = (next, connection, [to]) => next(to.user === 'no' ? DENY : CONT, 'not here')").start()
        self.served()
        status, page = self.get("/watch/")
        self.assertEqual((status, "<html" in page.lower()), (200, True))
        self.assertEqual(json.loads(self.get("/watch/wss_conf")[1]), {"sampling": False})
        self.assertEqual(self.get("/elsewhere")[0], 404)
        until = self.watcher()
        until(b"101 Switching Protocols")
        until(b'{"watchers":1}')
        self.assertEqual(self.hand_in("a@src.test", "no@dst.test")[0], 550)
        until(b'"only":{"classy":"bg_dred"}')
        self.assertEqual(self.hand_in("a@src.test", "b@dst.test")[0], 250)
        until(b'"queue":{"classy":"bg_green"')
        self.assertEqual([hook for hook in self.engine.api("GET", "/v1/plugins")[1]["hooks"] if not hook["called"]], [])
        self.engine.stop()  # before Redis, which the plugin would miss

    def test_the_port_changes_hands_when_plugins_are_loaded_again(self):
        self.plugins.start()
        self.served()
        old = self.plugins.host()
        self.assertTrue(self.engine.api("POST", "/v1/plugins/reload", {})[1]["reloaded"])
        self.new_host(old)
        wait_for(lambda: port_answers(self.port) and self.get("/watch/wss_conf")[0] == 200, "the next server")
        self.engine.stop()


class Accounting(Servers):
    def test_accounting_files(self):
        peer = Scripted(self, {"RCPT later@": "450 4.2.1 later", "RCPT no@": "550 5.1.1 no such user"})
        self.engine.route("dst.test", peer.endpoint)
        reports = self.reports()
        self.engine.set("outbound.ini", temp_fail_intervals="1h", retry_jitter="false")
        fields = "type,rcpt,jobId,custom_campaign,dsnStatus,dsnMsg"
        files = self.world.directory / "accounts"
        self.engine.set("accounting_files.ini", path=files, separator="|", extension="csv")
        self.engine.set("accounting_files.ini", "fields", delivered=f"{fields},destIp", deferred=f"{fields},delay", bounce=f"{fields},bounceCat")
        # The plugin is of a time when files could be written without contents.
        self.plugins.add("before_node_14", """
            const fs = require('fs')
            const { writeFileSync } = fs
            fs.writeFileSync = (file, contents = '', ...more) => writeFileSync(file, contents, ...more)""")
        self.plugins.add("accounting-files").start()
        for to in ("b@dst.test", "later@dst.test", "no@dst.test"):
            submit(self.engine, to, "custom_campaign: spring\r\n" + MESSAGE)

        def rows(kind):
            found = [file.read_bytes().decode().split("\r\n")[1:-1] for file in files.glob(f"{kind}/*.csv")]
            return [[value.strip() for value in line.split("|")[:-1]] for lines in found for line in lines]

        for kind, event, expected in (
                ("delivered", "delivered", ["d", "b@dst.test", "spring", "-", "-", "127.0.0.1"]),
                ("deferred", "deferred", ["df", "later@dst.test", "spring", "4.2.1", "later", "3600"]),
                ("bounce", "bounced", ["b", "no@dst.test", "spring", "5.1.1", "550 5.1.1 no such user", "550 5.1.1 no such user"])):
            with self.subTest(kind):
                [row] = wait_for(lambda: rows(kind), f"the record of what was {kind}")
                item = self.engine.wait_event(event)[0]["item"]
                self.assertEqual(row, [*expected[:2], item, *expected[2:]])
        # It says OK to bounces: nobody is told, and only the deferred one is left.
        wait_for(lambda: self.engine.api("GET", "/v1/status")[1]["queue"]["items"] == 1, "one item")
        self.assertEqual(reports.all(), [])


class Title(Plugins):
    def title(self):
        return pathlib.Path(f"/proc/{self.plugins.host()}/cmdline").read_text().rstrip("\0")

    def wait_title(self, wanted):
        return wait_for(lambda: re.match(wanted, self.title()), f"the title to be {wanted}")

    def test_process_title_counts(self):
        self.plugin("exports.hook_get_mx = (next) => next(OK, SINK)")
        self.plugins.with_haraka().bundled("process_title").start()
        with Raw(self.engine.port):
            submit(self.engine, ["b@dst.test", "c@dst.test"], self.message())
            self.wait_title(r"Haraka cn=2 cc=1 .* rcpts=2/2 ")
        self.wait_title(r"Haraka cn=2 cc=0 ")
        self.sink.wait(1)
