"""The judge of the wire: a client that breaks one rule is found out by every sink, and a good one is not."""

import socket
import sys
import unittest

import wire
from clients import Raw
from peers import Scripted
from world import ROOT, SLUICE, EndToEnd, wait_for

sys.path.insert(0, str(ROOT / "bench"))
import scenarios  # noqa: E402, the path comes first
import trial  # noqa: E402

EHLO = b"250-mx.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 DSN\r\n"
ENVELOPE = b"EHLO c.test\r\nMAIL FROM:<a@b.test> RET=FULL\r\nRCPT TO:<c@d.test>\r\n"
ANSWERS = b"220 mx.test\r\n" + EHLO + b"250 ok\r\n" * 2


class Judge(unittest.TestCase):
    def judged(self, *heard, more=b"354 go\r\n250 ok\r\n221 bye\r\n"):
        return wire.violations(b"".join(heard), ANSWERS + more)

    def test_a_good_client(self):
        self.assertEqual(self.judged(ENVELOPE, b"DATA\r\n", b"Subject: x\r\n\r\n..\r\n..x\r\n.\r\nQUIT\r\n"), [])
        self.assertEqual(self.judged(ENVELOPE, b"DATA\r\n.\r\nQUIT\r\n"), [])
        self.assertEqual(self.judged(ENVELOPE, b"BDAT 5\r\n.\r\n.xBDAT 2 LAST\r\n\r\nQUIT\r\n", more=b"250 ok\r\n" * 3), [])
        self.assertEqual(self.judged(ENVELOPE, b"DATA\r\nSubject: cut o"), [])

    def test_every_bad_one(self):
        data = ENVELOPE + b"DATA\r\n"
        for heard, complaint in (
                (ENVELOPE + b"RSET\n", "other than CR LF"), (ENVELOPE + b"RS\0ET\r\n", "other than CR LF"),
                (data + b"a\nb\r\n.\r\n", "bare"), (data + b"a\rb\r\n.\r\n", "bare"), (data + b"a\0b\r\n.\r\n", "NUL"),
                (data + b".x\r\n.\r\n", "not doubled"), (data + b"x" * 999 + b"\r\n.\r\n", "line of 999"),
                (data + b"x\r\n.\r\nSubject: SMUGGLED\r\n", "no command"), (data + b"x\r\n.\r\n.\r\n", "no command"),
                (data + b"x\r\n.\r\nQUIT\r\nQUIT\r\n", "behind QUIT"),
                (ENVELOPE + b"BDAT 2 LAST\r\na\nQUIT\r\n", "bare"), (ENVELOPE + b"BDAT 4 LAST\r\na\r\nQUIT\r\n", "last line"),
                (b"MAIL FROM:<>\r\n", "before EHLO"), (b"EHLO c.test\r\nMAIL FROM:<> SIZE=3\r\n", "not offered: SIZE=3"),
                (b"EHLO c.test\r\nSTARTTLS\r\n", "not offered"), (b"EHLO c.test\r\nRCPT TO:c@d.test\r\n", "no path"),
                (b"EHLO c.test\r\nMAIL FROM:<\xc3\xbc@b.test>\r\n", "without SMTPUTF8"),
                (b"EHLO c.test\r\nRCPT TO:<" + b"x" * 1100 + b"@d.test>\r\n", "a command line of")):
            with self.subTest(heard[-40:]):
                self.assertTrue(any(complaint in one for one in self.judged(heard)), self.judged(heard))


class Sinks(EndToEnd):
    """Each kind of sink, and a client that forgets to double a dot."""

    @staticmethod
    def misbehave(port):
        with Raw(port) as client:
            client.ask("MAIL FROM:<a@b.test>")
            client.ask("RCPT TO:<c@d.test>")
            client.ask("DATA")
            client.send(b"Subject: x\r\n\r\n.no second dot\r\n")
            client.ask(".")
            client.ask("QUIT")

    def test_the_engines_own_sink_ends_with_an_error(self):
        sink = self.world.sink()
        self.world.judges.clear()
        self.misbehave(sink.port)
        self.assertEqual(sink.process.stop(), 1)
        self.assertIn("violation on connection 1: a line whose leading dot is not doubled", sink.process.output())
        self.assertEqual(len(sink.violations()), 1)  # which fails the test of whoever has such a sink

    def test_the_sink_of_the_benchmarks(self):
        sink = trial.Sink(SLUICE, scenarios.ALL[0], self.world.directory, None)
        self.addCleanup(sink.stop)
        self.misbehave(sink.port)
        with self.assertRaisesRegex(trial.Lost, "not doubled"):
            sink.recipients()

    def test_a_scripted_server(self):
        class Silent(Scripted):
            def close(self):
                self.closed = True
                self.listener.close()

        server = Silent(self)
        self.misbehave(server.port)
        wait_for(lambda: server.open_links == 0, "the end of the connection")
        self.assertIn("not doubled", str(server.violations()))

    def test_a_server_behind_a_tap(self):
        server = Scripted(self)
        server.violations = list
        endpoint = self.world.tap(server.port)
        self.misbehave(int(endpoint.split(":")[1]))
        tap = self.world.taps.pop()
        self.assertIn("not doubled", str(tap.close()))
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", tap.port), timeout=1).close()


if __name__ == "__main__":
    unittest.main()
