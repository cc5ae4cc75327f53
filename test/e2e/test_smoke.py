"""The shortest way through: one message in by SMTP, one by the API, both out to a sink."""

import smtplib
import unittest

from world import EndToEnd


class Smoke(EndToEnd):
    def test_a_message_travels_from_smtp_and_from_the_api(self):
        sink = self.world.sink()
        engine = self.world.engine().route("any", sink.endpoint).start()
        with smtplib.SMTP("127.0.0.1", engine.port) as client:
            client.sendmail("a@src.test", ["b@dst.test"], self.message("by smtp"))
        engine.cli("inject", "-f", "a@src.test", "-t", "c@dst.test", input=self.message("by api"))
        received = {tuple(one["to"]) for one in sink.wait(2)}
        self.assertEqual(received, {("b@dst.test",), ("c@dst.test",)})
        engine.wait_event("delivered", 2)
        engine.wait_empty()
        self.assertEqual(engine.stop(), 0)
        sink.stop()


if __name__ == "__main__":
    unittest.main()
