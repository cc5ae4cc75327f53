"""Native plugins in the hooks of mail in: at once, later and never, alone and in one chain with JavaScript."""

import base64
import json
import socket
import time

from clients import Raw
from peers import certificate_for
from plugin_home import PluginEngine
from test_plugins_inbound import Arrivals
from test_plugins_native import CONT, DENY, DENYDISCONNECT, DENYSOFT, OK, Native, compiled
from world import wait_for

MESSAGE = "Subject: test\r\nFrom: a@src.test\r\n\r\nhello\r\n"


class Inbound(Arrivals, Native):
    def envelope(self, client, *recipients, sender="a@src.test"):
        replies = [client.ask(f"MAIL FROM:<{sender}>")]
        return replies + [client.ask(f"RCPT TO:<{to}>") for to in recipients]

    def content(self, client, text=MESSAGE):
        code, words = client.ask("DATA")
        if code != 354:
            return code, words
        client.send(text)
        return client.ask(".")

    def send(self, *recipients, sender="a@src.test"):
        """One message; the reply to its content."""
        with Raw(self.engine.port) as client:
            self.envelope(client, *(recipients or ["b@dst.test"]), sender=sender)
            return self.content(client)


class Alone(Inbound):
    def test_recipients_are_refused_with_the_plugins_words(self):
        self.probe(rcpt={"code": CONT}, also={
            "rcpt gone": {"code": DENY, "reason": "5.1.6 has moved", "reply_code": 551}, "rcpt later": {"code": DENYSOFT},
            "rcpt odd": {"code": DENY, "reply_code": 250, "reason": "x"}, "rcpt evil": {"code": DENYDISCONNECT}})
        self.engine.start()
        with Raw(self.engine.port) as client:
            replies = self.envelope(client, "gone@dst.test", "later@dst.test", "odd@dst.test", "b@dst.test")
            self.assertEqual(replies[1:4], [(551, "5.1.6 has moved"), (450, "4.7.1 Recipient denied"), (550, "5.7.1 x")])
            self.assertEqual(replies[4][0], 250)
            self.assertEqual(self.content(client)[0], 250)
            replies = self.envelope(client, "evil@dst.test")
            self.assertEqual(replies[1][0], 550)
            self.assertEqual(client.line(), "")
        self.assertEqual(self.keeper.wait(1)[0]["to"], ["b@dst.test"])
        self.assertEqual(self.node_hosts(), [])

    def test_a_ticket_is_answered_from_another_thread_and_others_do_not_wait(self):
        self.engine.set("smtp.ini", nodes=1)
        self.probe(rcpt={"code": CONT}, also={"rcpt slow": {"code": DENYSOFT, "how": "async", "after_ms": 1500, "reason": "not yet"}})
        self.engine.start()
        with Raw(self.engine.port) as slow, Raw(self.engine.port) as quick:
            self.envelope(slow)
            slow.send("RCPT TO:<slow@dst.test>\r\n")
            self.wait_said("rcpt probe")
            began = time.monotonic()
            self.assertEqual(self.envelope(quick, "b@dst.test")[1][0], 250)
            self.assertEqual(self.content(quick)[0], 250)
            self.assertLess(time.monotonic() - began, 1.4)
            self.assertEqual(slow.reply(), (450, "4.7.1 not yet"))
        self.wait_said("answered 1 of 1")

    def test_fields_and_notes_of_a_message(self):
        self.probe(
            mail={"code": CONT, "notes": '{"mail":1}'}, data_post={"code": CONT, "how": "blocking", "header": "X-Probe", "notes": '{"data":2}'},
            queue_outbound={"code": CONT, "header": "X-First", "first": 1, "look": "X-Probe: as probe says"}, get_mx={"code": CONT})
        self.engine.start()
        self.assertEqual(self.send()[0], 250)
        head, _, body = self.arrived()[0].partition("\r\n\r\n")
        self.assertIn("\r\nX-Probe: as probe says", head)
        self.assertLess(head.index("X-First: as probe says"), head.index("Received: from"))
        self.assertEqual(body, "hello\r\n")
        told = self.said("queue_outbound")[0]
        for part in ("found=1", "octets=1", "message=1", 'notes={"mail":1,"data":2}', "to=b", "relaying=1", "ip=127.0.0.1", "ports=1"):
            self.assertIn(part, told)
        self.assertIn('notes={"mail":1,"data":2}', self.said("get_mx")[0].replace(" ", "").replace("get_mxprobe", ""))

    def test_silence_refuses_for_now_and_the_session_goes_on(self):
        self.expects_errors = True
        self.engine.files["plugin_timeout"] = "0.3\n"
        self.probe(rcpt={"code": CONT}, data_post={"code": CONT}, also={"rcpt quiet": {"how": "silent"}, "data_post quiet": {"how": "silent"}})
        self.engine.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(self.envelope(client, "quiet@dst.test")[1], (451, "4.7.1 plugin timeout"))
            client.ask("RSET")
            self.envelope(client, "b@dst.test", sender="quiet@src.test")
            self.assertEqual(self.content(client), (451, "4.7.1 plugin timeout"))
            self.envelope(client, "b@dst.test")
            self.assertEqual(self.content(client)[0], 250)
        self.keeper.wait(1)
        self.engine.wait_logged("a native plugin did not answer in time", 2)

    def test_clients_that_leave_while_a_ticket_is_out(self):
        self.probe(
            rcpt={"code": CONT, "how": "async", "after_ms": 300}, data_post={"code": CONT, "how": "async", "after_ms": 300, "look": "hello"},
            disconnect={"code": CONT})
        self.engine.start()
        gone = 20
        for number in range(gone):
            client = Raw(self.engine.port)
            self.envelope(client)
            client.send("RCPT TO:<b@dst.test>\r\n")
            if number % 2:
                self.assertEqual(client.reply()[0], 250)
                client.ask("DATA")
                client.send(MESSAGE + ".\r\n")
            if number % 3 == 0:
                client.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset
            client.close()
        self.wait_said("disconnect", gone)
        self.assertEqual(self.send()[0], 250)
        self.wait_said("disconnect", gone + 1)
        self.assertEqual(self.engine.stop(), 0)

    def test_who_may_relay_and_what_a_plugin_takes(self):
        self.strangers()
        self.probe(
            rcpt={"code": CONT}, mail={"code": CONT}, queue={"code": CONT}, queue_ok={"code": CONT}, reset_transaction={"code": CONT},
            also={"rcpt mine": {"code": OK}, "queue taker": {"code": OK, "reason": "taken"}, "mail friend": {"code": CONT, "relay": 1}})
        self.engine.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(self.envelope(client, "b@dst.test")[1][0], 550)
            client.ask("RSET")
            self.assertEqual(self.envelope(client, "mine@dst.test")[1][0], 250)
            self.assertEqual(self.content(client)[0], 451)  # only a plugin may have it
            self.assertEqual(self.envelope(client, "mine@dst.test", sender="taker@src.test")[1][0], 250)
            code, words = self.content(client)
            self.assertEqual((code, words.split(" (")[0]), (250, "2.0.0 taken"))
            self.assertEqual(self.envelope(client, "b@dst.test", sender="friend@src.test")[1][0], 250)
            self.assertEqual(self.content(client)[0], 250)
        self.assertEqual([mail["sender"] for mail in self.engine.wait_event("accepted")], ["friend@src.test"])
        self.wait_said("queue_ok", 2)
        self.wait_said("reset_transaction", 4)

    def test_the_opening_the_greeting_and_odd_commands(self):
        self.probe(
            lookup_rdns={"code": OK, "reason": "client.example.test"}, connect={"code": OK, "reason": "probed"},
            capabilities={"code": CONT, "reason": "XPROBE 1"}, helo={"code": DENY, "reason": "say EHLO"},
            unrecognized_command={"code": OK, "reason": "2.0.0 done"}, vrfy={"code": OK, "reason": "here"}, noop={"code": DENY},
            quit={"code": OK, "reason": "bye"}, disconnect={"code": CONT})
        self.engine.start()
        with Raw(self.engine.port, greet=None) as client:
            self.assertEqual(client.reply(), (220, "probed"))
            self.assertEqual(client.ask("HELO x")[0], 550)
            code, words = client.ask("EHLO client.test")
            self.assertEqual((code, words.split("\n")[-1]), (250, "XPROBE 1"))
            self.assertEqual(client.ask("XYZ a b"), (250, "2.0.0 done"))
            self.assertEqual(client.ask("VRFY b"), (250, "2.1.5 here"))
            self.assertEqual(client.ask("NOOP")[0], 500)
            self.assertEqual(client.ask("QUIT"), (221, "2.0.0 bye"))
        self.assertIn("rdns=client.example.test", self.said("connect")[0])
        self.assertIn("text=XYZ a b", self.said("unrecognized_command")[0])
        self.wait_said("disconnect")

    def test_what_is_told_of_tls_logins_and_parameters(self):
        self.engine.files["relay_acl_allow"] = "192.0.2.0/24\n"
        cert, key = certificate_for(self.world, "mx.sluice.test")
        self.probe(mail={"code": CONT}, rcpt={"code": CONT}, data_post={"code": CONT})
        self.engine.files["plugins"] += "tls\nauth/flat_file\n"
        self.engine.set("tls.ini", cert=cert, key=key).set("auth_flat_file.ini", "core", methods="PLAIN")
        self.engine.set("auth_flat_file.ini", "users", **{"a@src.test": "secret"})
        self.engine.start()
        with Raw(self.engine.port) as client:
            client.starttls()
            client.ask("EHLO again.test")
            client.ask("XYZ")
            self.assertEqual(client.ask("AUTH PLAIN " + base64.b64encode(b"\0a@src.test\0secret").decode())[0], 235)
            self.assertEqual(client.ask("MAIL FROM:<a@src.test> SIZE=1234 BODY=8BITMIME RET=HDRS ENVID=QQ")[0], 250)
            self.assertEqual(client.ask("RCPT TO:<b@dst.test>")[0], 250)
            self.assertEqual(self.content(client)[0], 250)
        told = self.said("rcpt probe")[0]
        for part in ("ehlo=again.test", "tls=TLSv1.3", "user=a@src.test", "relaying=1", "errors=1", "from=a", "body=8BITMIME", "envid=QQ",
                     "number=1", "declared=1234", "rcpt=b"):
            self.assertIn(part, told)

    def test_mail_of_the_api(self):
        self.probe(pre_send_trans_email={"code": CONT, "header": "X-Probe"})
        self.engine.start()
        injected = self.engine.api("POST", "/v1/messages", {"from": "a@src.test", "to": ["b@dst.test"], "message": MESSAGE})
        self.assertEqual(injected[0], 202, injected)
        self.assertIn("\r\nX-Probe: as probe says\r\n", self.arrived()[0])

    def test_people_see_who_is_there(self):
        self.engine.files["plugin_timeout"] = "7\n"
        self.probe("one", mail={"code": CONT, "priority": 3}, rcpt={"code": CONT})
        self.probe("two", mail={"code": CONT, "how": "blocking"})
        self.engine.start()
        self.assertEqual(self.send()[0], 250)
        told = json.loads(self.engine.cli("--json", "plugins").stdout)
        self.assertEqual([(one["name"], one["timeout"], one["native"]) for one in told["plugins"]], [("one", 7, True), ("two", 7, True)])
        hooks = {point["hook"]: [(one["plugin"], one["priority"], one["calls"]) for one in point["listeners"]] for point in told["hooks"]}
        self.assertEqual(hooks, {"mail": [("two", 0, 1), ("one", 3, 1)], "rcpt": [("one", 0, 1)]})
        table = self.engine.cli("plugins").stdout
        self.assertRegex(table, r"(?m)^mail +two +native, may block +0 +1 +- ")
        metrics = self.engine.api("GET", "/metrics")[1]
        self.assertIn('sluice_plugin_calls_total{hook="rcpt",plugin="one"} 1', metrics)
        self.assertNotIn("sluice_plugin_seconds_total", metrics)


class Cxx(Inbound):
    SOURCE = """
        #include <sluice/plugin.hpp>
        #include <thread>
        using namespace sluice::plugins;
        class Gate {
        public:
            explicit Gate(Host host) {
                host.listen<&Gate::rcpt>(SLUICE_HOOK_RCPT);
                host.listen<&Gate::data_post>(SLUICE_HOOK_DATA_POST);
                host.listen<&Gate::ehlo>(SLUICE_HOOK_CAPABILITIES);
            }
            ~Gate() {
                if (later_.joinable()) later_.join();
            }
            Answer rcpt(const Call& call) {
                if (view(call.rcpt()->address.local) == "no") return Answer::deny("5.1.1 not him").with_code(553);
                if (view(call.rcpt()->address.local) != "later") return Answer::go_on();
                const Ticket ticket = call.later();
                later_ = std::thread([ticket, kept = KeptEvent(call)] {
                    ticket.answer(Answer::deny_for_now(std::string(view(kept.connection()->hello)) + " may wait"));
                });
                return Answer::pending();
            }
            Answer data_post(const Call& call) {
                const std::string count = std::to_string(call.recipients().size()) + " " + std::to_string(call.content().received.size > 0);
                return Answer::go_on().with_header("X-Count", count).with_header("X-Top", "1", true).with_notes(R"({"gate":1})");
            }
            Answer ehlo(const Call&) { return Answer::offer("XGATE"); }

        private:
            std::thread later_;
        };
        SLUICE_CXX_PLUGIN(Gate, "1.0")
    """

    def test_a_plugin_in_cxx(self):
        source = self.world.directory / "gate.cc"
        source.write_text(self.SOURCE)
        (self.engine.directory / "plugins").mkdir(exist_ok=True)
        compiled(source, self.engine.directory / "plugins")
        self.engine.files["plugins"] += "gate\n"
        self.engine.start()
        with Raw(self.engine.port, greet=None) as client:
            client.reply()
            self.assertIn("XGATE", client.ask("EHLO client.test")[1])
            replies = self.envelope(client, "no@dst.test", "later@dst.test", "b@dst.test")
            self.assertEqual(replies[1:3], [(553, "5.1.1 not him"), (450, "4.7.1 client.test may wait")])
            self.assertEqual(self.content(client)[0], 250)
        mail = self.arrived()[0]
        self.assertTrue("\r\nX-Count: 1 1\r\n" in mail and "X-Top: 1\r\n" in mail, mail)


class Mixed(Inbound):
    def setUp(self):
        super().setUp()
        self.plugins = PluginEngine(self.engine)

    def script(self, name, body):
        said = self.engine.directory / "probe.said"  # one order of all
        self.plugins.add(name, f"const say = (what) => require('fs').appendFileSync('{said}', what + '\\n')\n{body}")

    def test_one_chain_in_the_order_of_the_list(self):
        hooks = ("connect", "ehlo", "mail", "rcpt", "rcpt_ok", "data", "data_post", "queue_outbound", "pre_send_trans_email")
        answers = {hook: {"code": CONT} for hook in hooks}
        self.probe("first", **{**answers, "data_post": {"code": CONT, "header": "X-First", "notes": '{"first":1}'}})
        self.script("middle", f"""
            for (const hook of {json.dumps([h for h in hooks if h != 'data_post'])}) exports['hook_' + hook] = (next) => {{ say(hook + ' middle'); next() }}
            exports.hook_data_post = (next, connection) => {{
                const {{ transaction }} = connection
                say('data_post middle ' + transaction.header.get('X-First').trim() + ' ' + transaction.notes.first +
                    ' ' + transaction.rcpt_to.map((one) => one.user))
                transaction.add_header('X-Middle', 'yes')
                transaction.notes.middle = 2
                next()
            }}
            exports.hook_queue_ok = (next) => {{ say('queue_ok middle'); next() }}
            exports.hook_disconnect = (next, connection) => {{ say('disconnect middle ' + connection.rcpt_count.accept); next() }}""")
        self.probe("last", **{**answers, "data_post": {"code": CONT, "look": "X-Middle: yes", "header": "X-Last"},
                              "queue_outbound": {"code": CONT, "look": "X-First"}, "get_mx": {"code": CONT}})
        self.script("end", "exports.hook_queue_outbound = (next, { transaction }) => { say('queue_outbound end ' + transaction.header.get('X-Last').trim()); next() }")
        self.plugins.start()
        with Raw(self.engine.port) as client:
            self.envelope(client, "b@dst.test", "c@dst.test")
            self.assertEqual(self.content(client)[0], 250)
            client.ask("QUIT")
        mail = self.arrived()[0]
        for field in ("X-First: as first says", "X-Middle: yes", "X-Last: as last says", "Subject: test"):
            self.assertEqual(mail.count(f"\r\n{field}\r\n"), 1, mail)
        self.assertTrue(mail.endswith("\r\n\r\nhello\r\n"), mail)
        self.wait_said("disconnect middle 2")
        self.wait_said("get_mx")
        order = [" ".join(line.split()[:2]) for line in self.said()]
        twice = ["rcpt", "rcpt_ok"]
        expected = [f"{hook} {who}" for hook in hooks[:3] for who in ("first", "middle", "last")]
        expected += 2 * [f"{hook} {who}" for hook in twice for who in ("first", "middle", "last")]
        expected += [f"{hook} {who}" for hook in ("data", "data_post", "queue_outbound", "pre_send_trans_email") for who in ("first", "middle", "last")]
        expected.insert(expected.index("queue_outbound last") + 1, "queue_outbound end")
        self.assertEqual([line for line in order if line.split()[0] in hooks], expected)
        self.assertIn("queue_ok middle", order)
        self.assertEqual(self.said("data_post middle"), ["data_post middle as first says 1 b,c"])
        self.assertIn("found=1", self.said("data_post last")[0])
        self.assertIn("found=1", self.said("queue_outbound last")[0])
        self.assertEqual(self.said("queue_outbound end"), ["queue_outbound end as last says"])
        notes = self.said("get_mx last")[0].replace(" ", "")
        self.assertIn('"first":1', notes)
        self.assertIn('"middle":2', notes)

    def test_either_kind_ends_the_chain(self):
        self.probe("first", rcpt={"code": CONT}, also={"rcpt native": {"code": DENY, "reason": "native says no"}})
        self.script("middle", """exports.hook_rcpt = (next, connection, [address]) => {
            say('rcpt middle ' + address.user)
            address.user === 'script' ? next(DENYSOFT, 'script says later') : next()
        }""")
        self.probe("last", rcpt={"code": CONT}, deny={"code": OK})
        self.plugins.start()
        with Raw(self.engine.port) as client:
            self.envelope(client)
            self.assertEqual(client.ask("RCPT TO:<script@dst.test>"), (450, "4.7.1 script says later"))
            self.assertEqual(client.ask("RCPT TO:<native@dst.test>")[0], 250)  # `last` takes that back
            self.assertEqual(client.ask("RCPT TO:<b@dst.test>")[0], 250)
            self.assertEqual(self.content(client)[0], 250)
        order = [" ".join(line.split()[:2]) for line in self.said()]
        self.assertEqual(order, ["rcpt first", "rcpt middle", "deny last", "rcpt first", "deny last", "rcpt middle", "rcpt last",
                                 "rcpt first", "rcpt middle", "rcpt last"])
        self.assertEqual(self.keeper.wait(1)[0]["to"], ["native@dst.test", "b@dst.test"])

    def test_recipients_that_javascript_is_not_asked_about(self):
        self.probe("first", rcpt={"code": CONT}, also={"rcpt b": {"code": OK}, "rcpt c": {"code": OK}, "rcpt no": {"code": DENY}})
        self.script("middle", """
            const told = ({ transaction }) => transaction.rcpt_to.map((one) => one.user)
            exports.hook_rcpt = (next) => next()
            exports.hook_data_post = (next, connection) => { say('data_post middle ' + told(connection)); next() }
            exports.hook_queue_outbound = (next, connection) => { say('queue_outbound middle ' + told(connection)); next() }""")
        self.plugins.start()
        with Raw(self.engine.port) as client:
            self.envelope(client, "a@dst.test", "b@dst.test", "no@dst.test", "c@dst.test")
            self.assertEqual(self.content(client)[0], 250)
        self.assertEqual(self.said("data_post middle") + self.said("queue_outbound middle"), ["data_post middle a,b,c", "queue_outbound middle a,b,c"])
        self.assertEqual(self.keeper.wait(1)[0]["to"], ["a@dst.test", "b@dst.test", "c@dst.test"])

    def test_who_hears_only_refusals_hears_those_of_javascript(self):
        self.script("gate", "exports.hook_rcpt = (next) => next(DENY, 'not him')")
        self.probe("watch", deny={"code": OK})
        self.plugins.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(self.envelope(client, "b@dst.test")[1], (550, "5.7.1 not him"))
        told = self.wait_said("deny watch")[0]
        self.assertIn("text=not him by=gate", told)

    def ends_with_its_envelope(self, **asked):
        self.probe("watch", queue_ok={"code": CONT}, reset_transaction={"code": CONT}, **asked)
        self.script("other", """
            const told = ({ transaction }) => transaction.rcpt_to.map((one) => one.user)
            exports.hook_data_post = (next, { transaction }) => {
                const Address = transaction.rcpt_to[0].constructor
                transaction.rcpt_to = [new Address('<x@dst.test>'), new Address('<y@dst.test>')]
                next()
            }
            exports.hook_queue_ok = (next, connection) => { say('queue_ok other ' + told(connection)); next() }
            exports.hook_reset_transaction = (next, connection) => { say('reset_transaction other ' + told(connection)); next() }""")
        self.plugins.start()
        self.assertEqual(self.send()[0], 250)
        self.assertEqual(self.keeper.wait(1)[0]["to"], ["x@dst.test", "y@dst.test"])
        for hook in ("queue_ok", "reset_transaction"):
            self.assertIn(" from=a ", self.wait_said(hook + " watch")[0])
            self.assertIn(" to=x,y ", self.said(hook + " watch")[0])
            self.assertEqual(self.wait_said(hook + " other"), [hook + " other x,y"])

    def test_plugins_hear_how_a_message_ends_with_its_envelope(self):
        self.ends_with_its_envelope()

    def test_plugins_hear_how_a_message_ends_that_both_kinds_were_asked_about(self):
        self.ends_with_its_envelope(data_post={"code": CONT})

    def test_who_leaves_is_let_go_and_silence_of_javascript_says_nothing(self):
        self.expects_errors = True  # silence is logged
        self.engine.files["plugin_timeout"] = "0.5\n"
        hooks = ("vrfy", "noop", "quit")
        self.probe("first", **{hook: {"code": CONT} for hook in hooks}, also={"quit stay.test": {"code": DENY, "reason": "stay"}})
        self.script("middle", "".join(f"""
            exports.hook_{hook} = (next, connection) => {{ if (connection.hello.host === 'no.test') next(DENY, 'script says no') }}""" for hook in hooks))
        self.plugins.start()
        replies = {"stay.test": (252, 250, (221, "2.0.0 stay")), "no.test": (550, 500, (221, "2.0.0 script says no")), "silent.test": (252, 250, None)}
        for name, (vrfy, noop, left) in replies.items():
            with Raw(self.engine.port, greet=None) as client:
                client.reply()
                client.ask("EHLO " + name)
                self.assertEqual((client.ask("VRFY b")[0], client.ask("NOOP")[0]), (vrfy, noop), name)
                reply = client.ask("QUIT")
                self.assertEqual(reply[0], 221, name)
                self.assertIn(left, (None, reply))

    def test_a_body_that_javascript_changed_and_a_native_plugin_behind_it(self):
        self.script("banner", """
            exports.hook_data = (next, connection) => { connection.transaction.set_banner('a banner'); next() }
            exports.hook_data_post = (next, connection) => { connection.transaction.add_header('X-Script', 'yes'); next() }""")
        self.probe("last", data_post={"code": CONT, "look": "a banner", "header": "X-Last"})
        self.plugins.start()
        self.assertEqual(self.send()[0], 250)
        mail = self.arrived()[0]
        head, _, body = mail.partition("\r\n\r\n")
        self.assertIn("\r\nX-Script: yes", head)
        self.assertIn("\r\nX-Last: as last says", head)
        self.assertEqual(body.count("a banner"), 1, mail)
        self.assertIn("found=1", self.said("data_post last")[0])

    # Each of the two scripts around a native plugin changes the envelope as it found it.
    FIRST_CHANGE = """(next, { transaction }) => {
        transaction.rcpt_to = transaction.rcpt_to.filter((one) => one.user !== 'no')
        transaction.rcpt_to.push(new Address('<first@dst.test>'))
        transaction.mail_from = new Address('<first@src.test>')
        next()
    }"""
    SECOND_CHANGE = """(next, { transaction }) => {
        say('second ' + transaction.mail_from.user + ' ' + transaction.rcpt_to.map((one) => one.user))
        transaction.rcpt_to.push(new Address('<second@dst.test>'))
        next()
    }"""

    def change_envelope_around(self, hook):
        address = "const { Address } = require('@haraka/email-address')\n"
        self.script("one", f"{address}exports.hook_{hook} = {self.FIRST_CHANGE}")
        self.probe("between", **{hook: {"code": CONT}})
        self.script("two", f"{address}exports.hook_{hook} = {self.SECOND_CHANGE}")
        self.plugins.start()

    def judge_envelope(self, hook):
        self.assertEqual(self.said("second"), ["second first b,first"])
        seen = self.said(f"{hook} between")[0]
        self.assertIn(" from=first ", seen)
        self.assertIn(" to=b,first ", seen)
        mail = self.keeper.wait(1)
        self.assertEqual([(one["from"], one["to"]) for one in mail], [("first@src.test", ["b@dst.test", "first@dst.test", "second@dst.test"])])

    def test_an_envelope_that_javascript_changes_on_both_sides_of_a_native_plugin(self):
        self.change_envelope_around("data_post")
        with Raw(self.engine.port) as client:
            self.envelope(client, "b@dst.test", "no@dst.test")
            self.assertEqual(self.content(client)[0], 250)
        self.judge_envelope("data_post")

    def test_the_envelope_of_mail_of_the_api_that_both_sides_change(self):
        self.change_envelope_around("pre_send_trans_email")
        to = ["b@dst.test", "no@dst.test"]
        self.assertEqual(self.engine.api("POST", "/v1/messages", {"from": "a@src.test", "to": to, "message": MESSAGE})[0], 202)
        self.judge_envelope("pre_send_trans_email")

    def test_javascript_takes_the_message_and_the_native_plugins_hear_of_it(self):
        self.script("taker", "exports.hook_queue_outbound = (next) => next(OK, 'mine')")
        self.probe("watch", queue_outbound={"code": CONT}, queue_ok={"code": CONT})
        self.plugins.start()
        code, words = self.send()
        self.assertEqual((code, words.split(" (")[0]), (250, "2.0.0 mine"))
        self.assertIn("text=mine (", self.wait_said("queue_ok watch")[0])
        self.assertEqual(self.said("queue_outbound"), [])

    def test_the_plugin_host_dies_between_two_native_plugins(self):
        self.expects_errors = True
        self.probe("first", rcpt={"code": CONT}, data_post={"code": CONT, "header": "X-First"})
        self.script("middle", """
            exports.hook_rcpt = (next, connection, [address]) => address.user === 'boom' ? process.kill(process.pid, 'SIGKILL') : next()
            exports.hook_data_post = (next, { transaction }) =>
                transaction.mail_from.user === 'boom' ? process.kill(process.pid, 'SIGKILL') : next()""")
        self.probe("last", rcpt={"code": CONT}, data_post={"code": CONT}, disconnect={"code": CONT})
        self.plugins.start()
        with Raw(self.engine.port) as client:
            self.assertEqual(self.envelope(client, "boom@dst.test")[1][0], 421)
            self.assertEqual(client.line(), "")
        self.assertEqual(self.send(sender="boom@src.test")[0], 451)
        self.assertEqual(self.send()[0], 250)
        self.assertIn("X-First: as first says", self.arrived()[0])
        self.wait_said("disconnect last", 3)
        self.assertEqual(len(self.said("rcpt last")), 2)
        self.assertEqual(len(self.said("data_post last")), 1)

    def test_people_see_one_order(self):
        self.probe("first", rcpt={"code": CONT})
        self.script("middle", "exports.register = function () { this.register_hook('rcpt', 'check') }\nexports.check = (next) => next()")
        self.probe("last", rcpt={"code": CONT}, mail={"code": CONT})
        self.plugins.start()

        def hooks():
            told = json.loads(self.engine.cli("--json", "plugins").stdout)
            return told["host"]["state"] == "ready" and {point["hook"]: [one["plugin"] for one in point["listeners"]] for point in told["hooks"]}

        self.assertEqual(wait_for(hooks, "the plugin host"), {"rcpt": ["first", "middle", "last"], "mail": ["last"]})


if __name__ == "__main__":
    import unittest

    unittest.main()
