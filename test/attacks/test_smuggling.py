"""Conformance 2.1: nothing is smuggled in on any path, and whatever was let in leaves as one clean message."""

import itertools
import time
import unittest

from attacks import Attack, at_once, octets, vectors, wait_until_read
from haraka_home import name_of, queue_file
from peers import Scripted
from world import wait_for

TABLE = vectors("smuggling")
INNER = octets(TABLE["inner"])
SEQUENCES = {row["id"]: octets(row["octets"]) for row in TABLE["sequences"]}
CLEAN = {row["id"] for row in TABLE["sequences"] if row["clean"]}
CHANNELS = ("clear", "starttls", "implicit")
END = b"\r\n.\r\n"


def with_sequence(name):
    return b"Subject: outer\r\n\r\nhello" + SEQUENCES[name] + INNER


class Smuggling(Attack):
    def setUp(self):
        super().setUp()
        self.box = self.world.directory / "box"
        self.box.mkdir()
        self.sink = self.world.sink("--dir", self.box)
        self.engine.route("any", self.sink.endpoint)
        self.engine.set("smtp.ini", connections_per_client_max="0")
        self.taken = []

    def recipient(self, name, path):
        return f"{name.lower()}.{path.replace(' ', '-')}@dst.test"

    def assert_exactly(self, taken):
        """These recipients got one message each, nobody else got any; the sink itself finds fault with what it is sent."""
        self.engine.wait_empty()
        ledger = self.sink.wait(len(taken)) if taken else self.sink.ledger()
        self.assertEqual(sorted((one["from"], *one["to"]) for one in ledger), sorted(("a@src.test", to) for to in taken))
        self.assertEqual(self.engine.stop(), 0)
        self.sink.stop()

    def every_path(self, name):
        """Sends the vector in by every path: {path: accepted}."""
        content = with_sequence(name)
        accepted = {}
        for channel in CHANNELS:
            path = f"data {channel}"
            codes = self.by_data(channel, content, self.recipient(name, path), b".\r\n")
            accepted[path] = codes.count(250)
            path = f"chunks {channel}"
            accepted[path] = self.by_chunks(channel, content, self.recipient(name, path)).count(250)
        path = "small chunks"
        codes = self.by_chunks("clear", content, self.recipient(name, path), size=3)
        # Each chunk is answered; only the last answer is about the message, and 221 answers QUIT.
        accepted[path] = 1 if codes[-2:] == [250, 221] and not any(code >= 400 for code in codes) else 0
        for path, way in (("json", self.by_json), ("http", self.by_http)):
            status, answer = way(content, self.recipient(name, path))
            self.assertIn(status, (202, 400, 422), answer)
            accepted[path] = int(status == 202)
        accepted["cli"] = int(self.by_cli(content, self.recipient(name, "cli")) == 0)
        return accepted

    def attack(self):
        """All vectors on all paths: {(vector, path): accepted}."""
        results = at_once(self.every_path, [[name] for name in SEQUENCES])
        return {(name, path): count for name, paths in zip(SEQUENCES, results) for path, count in paths.items()}

    def test_SMUG_I1_to_SMUG_I14_are_refused_on_every_path(self):
        """By default a bare CR, a bare LF or NUL is no message at all; the others are one message and never two."""
        self.engine.start()
        accepted = self.attack()
        # JSON carries characters, so octets that are no UTF-8 cannot come in as they are.
        wrong = {key: count for key, count in accepted.items() if count != (1 if key[0] in CLEAN else 0)}
        self.assertEqual(wrong, {})
        self.assert_exactly([self.recipient(*key) for key, count in accepted.items() if count])

    def test_SMUG_I_and_SMUG_O_normalised(self):
        """With bare_eol = normalise each is at most one message, and the sink sees clean lines and one end of data."""
        self.engine.set("connection.ini", bare_eol="normalise").start()
        accepted = self.attack()
        self.assertEqual({key: count for key, count in accepted.items() if count > 1}, {})
        # Only octets that no API takes are refused: CR that ends nothing, and NUL.
        by_smtp = {key for key in accepted if key[1] not in ("json", "http", "cli")}
        self.assertEqual({key for key in by_smtp if accepted[key] != 1}, set())
        self.assert_exactly([self.recipient(*key) for key, count in accepted.items() if count])
        for file in self.box.glob("*.eml"):
            self.assertEqual(file.read_bytes().count(b"Subject: outer\r\n"), 1)

    def test_SMUG_O_by_DATA_to_a_server_without_chunking(self):
        """The octets themselves, as a server writes them down that knows nothing of chunks."""
        server = Scripted(self, ehlo=("8BITMIME", "PIPELINING"))
        self.engine.route("any", server.endpoint)
        self.engine.set("connection.ini", bare_eol="normalise").start()
        at_once(lambda name: self.by_data("clear", with_sequence(name), f"{name.lower()}@dst.test", b".\r\n"), [[n] for n in SEQUENCES])
        server.wait(len(SEQUENCES))
        self.engine.wait_empty()
        self.assertEqual(len(server.messages), len(SEQUENCES))
        self.assertEqual(self.engine.stop(), 0)
        heard = b"".join(bytes(one) for (one, _), in server.streams)
        self.assertNotRegex(heard, rb"(?<!\r)\n|\r(?!\n)|\0")
        self.assertEqual(heard.count(END), len(SEQUENCES))

    def test_SMUG_I15_a_lone_dot_at_the_start_of_content(self):
        self.engine.start()
        for channel in CHANNELS:
            with self.subTest(channel):
                codes = self.by_data(channel, b".\n" + INNER, "i15@dst.test", b".\r\n")
                self.assertEqual(codes.count(250), 0, codes)
                self.assertEqual(self.by_chunks(channel, b".\n" + INNER, "i15@dst.test").count(250), 0)
        self.assertEqual(self.by_http(b".\n" + INNER, "i15@dst.test")[0], 422)
        self.assertNotEqual(self.by_cli(b".\n" + INNER, "i15@dst.test"), 0)
        self.assert_exactly([])

    def test_SMUG_I15_and_SMUG_O_by_ways_that_have_no_end_of_data(self):
        """JSON has lines and no end of data: whatever begins with a dot is content, and leaves with two."""
        self.engine.set("connection.ini", bare_eol="normalise").start()
        content = b".\n" + INNER + b".\n"
        accepted = {"json": self.by_json(content, "i15-json@dst.test")[0] == 202, "http": self.by_http(content, "i15-http@dst.test")[0] == 202,
                    "cli": self.by_cli(content, "i15-cli@dst.test") == 0}
        self.assertEqual(accepted, {"json": True, "http": True, "cli": True})
        self.assert_exactly([f"i15-{name}@dst.test" for name in accepted])

    def test_SMUG_by_the_import_of_a_queue(self):
        """What another program has queued is as strange as what a client says: one message each, clean on the wire."""
        old = self.world.directory / "old"
        old.mkdir()
        now = time.time_ns() // 1_000_000
        for number, name in enumerate(SEQUENCES):
            (old / name_of(number, now - 60_000, now - 1000)).write_bytes(queue_file([self.recipient(name, "import")], with_sequence(name) + b".\r\n"))
        self.engine.start()
        self.engine.import_queue(old)
        self.assert_exactly([self.recipient(name, "import") for name in SEQUENCES])

    def test_SMUG_I16_after_the_size_limit(self):
        """What is read only to be thrown away goes by the same rules: nothing behind a false end is a command."""
        for mode in ("refuse", "normalise"):
            self.engine.set("connection.ini", bare_eol=mode)
            self.engine.set("connection.ini", "max", bytes="20000").start()
            for name, channel in itertools.product(TABLE["after_the_limit"], CHANNELS):
                with self.subTest(name, mode=mode, channel=channel):
                    content = b"Subject: x\r\n\r\n" + b"y" * 70 * 400 + b"\r\nhello" + SEQUENCES[name] + INNER
                    codes = self.by_data(channel, content, "i16@dst.test", b".\r\n")
                    self.assertEqual([code for code in codes if code < 500 and code != 221], [])
                    self.assertLessEqual(len(codes), 2)
            self.assertEqual(self.engine.stop(), 0)
        self.engine.start()
        self.assert_exactly([])

    def test_SMUG_I_positive_the_end_in_every_number_of_segments(self):
        """CR LF . CR LF cut at each of its four places, and at all sets of them, is the end all the same."""
        self.engine.start()
        cuts = [set(one) for count in range(5) for one in itertools.combinations(range(1, 5), count)]

        def send(number, places):
            with self.client() as client:
                client.send(f"MAIL FROM:<a@src.test>\r\nRCPT TO:<cut{number}@dst.test>\r\nDATA\r\n")
                client.replies(3)
                client.send(b"Subject: cut\r\n\r\nhello")
                for at in range(5):
                    if at in places or at == 0:
                        wait_until_read(client.link)
                    client.send(END[at:at + 1])
                return client.reply()[0]

        self.assertEqual(set(at_once(send, enumerate(cuts))), {250})
        self.assert_exactly([f"cut{number}@dst.test" for number in range(len(cuts))])

    def test_SMUG_I_positive_the_end_at_every_boundary_of_a_buffer(self):
        self.engine.start()
        sizes = [boundary + offset for boundary in TABLE["boundaries"] for offset in range(-3, 4)]
        head = b"Subject: edge\r\n\r\n"

        def send(size):
            room = size - len(head)
            body = (b"x" * 70 + b"\r\n") * (room // 72)
            return self.by_data("clear", head + body.rstrip(b"\r\n").ljust(room, b"z") + END, f"edge{size}@dst.test").count(250)

        self.assertEqual(set(at_once(send, [[size] for size in sizes])), {1})
        self.assert_exactly([f"edge{size}@dst.test" for size in sizes])

    def test_SMUG_I_positive_dots_alone_and_nothing(self):
        self.engine.start()
        bodies = {"empty": b".\r\n", "dot": b"..\r\n.\r\n", "dots": b"....\r\n...\r\n.\r\n", "line": b"\r\n.\r\n"}
        for name, wire in bodies.items():
            self.assertEqual(self.by_data("clear", wire, f"{name}@dst.test"), [250, 221])
        wait_for(lambda: len(self.sink.ledger()) == len(bodies), "all of them")
        contents = {one["to"][0].split("@")[0]: (self.box / f"{at + 1}.eml").read_bytes()
                    for at, one in enumerate(self.sink.ledger())}
        self.assertTrue(contents["dot"].endswith(b"\r\n.\r\n"), contents["dot"])
        self.assertTrue(contents["dots"].endswith(b"\r\n...\r\n..\r\n"), contents["dots"])
        self.assert_exactly([f"{name}@dst.test" for name in bodies])


if __name__ == "__main__":
    unittest.main()
