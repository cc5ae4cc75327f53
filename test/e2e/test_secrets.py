"""LOG-1: what proves who somebody is appears nowhere: not in logs, events, the journal, or the answers of API and commands."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import subprocess
import unittest
import urllib.parse

from clients import Raw, submit
from peers import Scripted
from world import SLUICE, EndToEnd, free_port, wait_for

# Long and strange enough to be nothing else, and not to be cut by chance.
LOGIN_PASSWORD = "inbound-Pa55w0rd-Zq7xK"
OTHER_PASSWORD = "mistaken-Pa55w0rd-Wt4vN"
NEXTHOP_PASSWORD = "outbound-Pa55w0rd-Hj2cR"
TOKEN = "api-token-0123456789-Yf8mB"
WRONG_TOKEN = "api-token-9876543210-Lk3pD"
USER = "joe@src.test"


def encodings(secret):
    """The secret as it could be written down."""
    octets = secret.encode()
    forms = {octets, octets.hex().encode(), octets.hex().upper().encode(), json.dumps(secret).strip('"').encode(),
             urllib.parse.quote(secret, safe="").encode(), secret.swapcase().encode()}
    # In the middle of other octets base64 has three forms; the characters at the ends depend on the neighbours.
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + octets + b"\0" * ((-before - len(octets)) % 3))
        inner = coded[(0, 2, 3)[before]:-4]
        forms |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return {form for form in forms if len(form) > 8}


def plain(user, password):
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Secrets(EndToEnd):
    def setUp(self):
        super().setUp()
        self.proofs = []  # answers to challenges: no secrets themselves, but material for guessing them
        engine = self.engine = self.world.engine()
        engine.files["plugins"] = "relay\nauth/flat_file\n"
        engine.set("auth_flat_file.ini", "core", methods="PLAIN,LOGIN,CRAM-MD5")
        engine.set("auth_flat_file.ini", "users", **{USER: LOGIN_PASSWORD})
        engine.set("log.ini", level="data")
        self.api_port = free_port()
        engine.set("http.ini", listen=f"127.0.0.1:{self.api_port}", token=TOKEN)

    def written(self):
        """Everything that the engine wrote, by file: what it said, and all of its instance but the configuration."""
        files = list(self.world.directory.glob("engine.*.log"))
        files += [path for path in self.engine.directory.rglob("*") if path.is_file() and path.parent != self.engine.config]
        return {str(path): path.read_bytes() for path in files}

    def assert_secret(self, texts):
        secrets = [LOGIN_PASSWORD, OTHER_PASSWORD, NEXTHOP_PASSWORD, TOKEN, WRONG_TOKEN, *self.proofs]
        for secret in secrets:
            for form in encodings(secret):
                for name, text in texts.items():
                    at = text.find(form)
                    self.assertEqual(at, -1, f"{name} shows {secret!r}: {text[max(at - 80, 0):at + 120]!r}")

    def http(self, path, token=None, method="GET"):
        """An answer of the API on TCP, whatever it is."""
        link = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=30)
        with contextlib.closing(link):
            link.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
            reply = link.getresponse()
            return reply.status, reply.read()

    def visible(self):
        """Every answer that an operator can get."""
        texts = self.written()
        for path in ("/v1/status", "/v1/queue", "/v1/queue/stats", "/metrics", "/health", "/v1/openapi.json"):
            for token in (TOKEN, WRONG_TOKEN, None):
                texts[f"GET {path}"] = self.http(path, token)[1]
        for command in (("status",), ("queue", "list"), ("queue", "stats"), ("--show-request", "queue", "list"), ("reload",)):
            done = self.engine.cli(*command, check=False)
            texts[f"sluice {command}"] = (done.stdout + done.stderr).encode()
        for item in self.engine.api("GET", "/v1/queue")[1].get("items", []):
            done = self.engine.cli("queue", "show", item["id"], check=False)
            texts[f"sluice queue show {item['id']}"] = (done.stdout + done.stderr).encode()
        for command in (("check", self.engine.directory), ("journal", "dump", self.engine.directory)):
            done = subprocess.run([SLUICE, *command], capture_output=True)
            texts[f"sluice {command[0]}"] = done.stdout + done.stderr
        return texts

    def cram(self, client, user, password):
        code, challenge = client.ask("AUTH CRAM-MD5")
        self.assertEqual(code, 334)
        digest = hmac.new(password.encode(), base64.b64decode(challenge.split()[-1]), hashlib.md5).hexdigest()
        self.proofs.append(digest)
        return client.ask(b64(f"{user} {digest}"))[0]

    def test_the_search_finds_what_is_there(self):
        """The search itself: every form in which a careless engine would show a password is found."""
        texts = {}
        for number, line in enumerate((
                LOGIN_PASSWORD, f"AUTH PLAIN {plain(USER, LOGIN_PASSWORD)}", f"AUTH PLAIN {plain('x', LOGIN_PASSWORD)}",
                f"AUTH PLAIN {plain('xy', LOGIN_PASSWORD)}", b64(LOGIN_PASSWORD), LOGIN_PASSWORD.encode().hex(),
                f"smtp://user:{urllib.parse.quote(LOGIN_PASSWORD)}@host")):
            texts[str(number)] = f"[PROTOCOL] C: {line} and more".encode()
        for name, text in texts.items():
            with self.assertRaises(AssertionError, msg=name):
                self.assert_secret({name: text})

    def test_LOG_1_logins_of_clients(self):
        engine = self.engine
        engine.start()
        for password, code in ((LOGIN_PASSWORD, 235), (OTHER_PASSWORD, 535)):
            with Raw(engine.port) as client:
                self.assertEqual(client.ask(f"AUTH PLAIN {plain(USER, password)}")[0], code)
            with Raw(engine.port) as client:
                self.assertEqual(client.ask("AUTH PLAIN")[0], 334)
                self.assertEqual(client.ask(plain(USER, password))[0], code)
            with Raw(engine.port) as client:
                self.assertEqual(client.ask("AUTH LOGIN")[0], 334)
                self.assertEqual(client.ask(b64(USER))[0], 334)
                self.assertEqual(client.ask(b64(password))[0], code)
            with Raw(engine.port) as client:
                self.assertEqual(client.ask(f"auth login {b64(USER)}")[0], 334)
                self.assertEqual(client.ask(b64(password))[0], code)
            with Raw(engine.port) as client:
                self.assertEqual(self.cram(client, USER, password), code)
        self.assertEqual(len(self.proofs), 2)
        self.assert_secret(self.visible())

    def test_LOG_1_logins_in_the_wrong_place(self):
        """What an engine does not understand it likes to print."""
        engine = self.engine
        engine.start()
        secret = plain(USER, LOGIN_PASSWORD)
        lines = [
            f"AUTH PLAIN {secret} {secret}", f"AUTH PLAIN {secret}!", f"AUTH PLAIN  {secret}", f"AUTH GSSAPI {secret}",
            f"AUTH CRAM-MD5 {secret}", f"AUTH {secret}", f"AUTH PLAIN\t{secret}", f"AUTH PLAIN {secret}\0",
            f"AUTH PLAIN {secret}{'A' * 20_000}", f"AUTH PLAIN {secret}\r\nAUTH PLAIN {secret}",
        ]
        for line in lines:
            with Raw(engine.port) as client:
                client.ask(line)
        with Raw(engine.port, greet=None) as client:  # before EHLO
            client.reply()
            self.assertEqual(client.ask(f"AUTH PLAIN {secret}")[0], 503)
        with Raw(engine.port) as client:  # in a transaction, and again after it
            client.ask("MAIL FROM:<>")
            self.assertEqual(client.ask(f"AUTH PLAIN {secret}")[0], 503)
        with Raw(engine.port) as client:  # an answer that is none, then one that is cut off
            client.ask("AUTH LOGIN")
            client.ask(b64(USER))
            self.assertEqual(client.ask(LOGIN_PASSWORD + "!")[0], 501)
            client.ask("AUTH PLAIN")
            client.send(secret[:-2])
        with Raw(engine.port) as client:
            client.ask("AUTH LOGIN")
            client.ask(b64(USER))
            self.assertEqual(client.ask(b64(LOGIN_PASSWORD) + "A" * 20_000)[0], 500)
        self.assert_secret(self.visible())

    def test_LOG_1_logins_at_next_hops(self):
        """Every mechanism, accepted and refused, also by servers that repeat what they were sent."""
        engine = self.engine
        engine.set("outbound.ini", auth_cleartext="true")
        words = f"relay:{urllib.parse.quote(NEXTHOP_PASSWORD, safe='')}"

        def repeat(line):
            return f"535 5.7.8 you said {line}, which is {base64.b64decode(line.split()[-1] + '==').decode('latin-1')!r}"

        peers = {}
        for name, offer, script in (
                ("plain", "AUTH PLAIN", {}),
                ("login", "AUTH LOGIN", {"AUTH": "334 VXNlcm5hbWU6", b64("relay"): "334 UGFzc3dvcmQ6"}),
                ("cram", "AUTH CRAM-MD5", {"AUTH": "334 " + b64("<1.2@peer.test>")}),
                ("refuses", "AUTH PLAIN", {"AUTH": "535 5.7.8 no"}),
                ("repeats", "AUTH PLAIN", {"AUTH": repeat}),
                ("later", "AUTH PLAIN", {"MAIL": lambda _: f"451 4.7.0 your password is {NEXTHOP_PASSWORD}"}),
                ("challenges", "AUTH PLAIN", {"AUTH": lambda line: "334 " + line.split()[-1]}),
                ("babbles", "AUTH PLAIN", {"AUTH": lambda line: line}),
        ):
            peers[name] = Scripted(self, script=script, ehlo=(offer,))
            engine.route(f"{name}.test", f"smtp://{words}@{peers[name].endpoint}")
        engine.start()
        for name in peers:
            submit(engine, f"b@{name}.test", self.message())
        for name in ("plain", "login", "cram"):
            peers[name].wait()
        for name in ("refuses", "repeats", "later", "challenges", "babbles"):
            engine.wait_event("deferred", domain=f"{name}.test")
        digest = hmac.new(NEXTHOP_PASSWORD.encode(), b"<1.2@peer.test>", hashlib.md5).hexdigest()
        self.proofs.append(digest)
        self.assertIn(b64(f"relay {digest}"), peers["cram"].sessions[0])
        sent = [line for line in peers["plain"].sessions[0] if line.startswith("AUTH")]
        self.assertEqual(sent, [f"AUTH PLAIN {plain('relay', NEXTHOP_PASSWORD)}"])
        log = engine.process.output()
        self.assertIn("C: (secret)", log)  # the dialogue is in the log at all
        self.assertIn("not shown: it repeats a secret", log)
        self.assert_secret(self.visible())

    def test_LOG_1_tokens_and_broken_files(self):
        engine = self.engine
        engine.start()
        for token in (TOKEN, WRONG_TOKEN, TOKEN + "x", "\t" + TOKEN):
            for path in ("/v1/status", "/v1/nothing", f"/v1/queue?token={token.strip()}"):
                self.http(path, token)
        self.assertEqual(self.http("/v1/status", TOKEN)[0], 200)
        # Files in which the secret is where no value belongs.
        for file, text in (
                ("auth_flat_file.ini", f"[core]\nmethods=PLAIN\n[users]\n{USER}={LOGIN_PASSWORD}\n{LOGIN_PASSWORD}\n"),
                ("auth_flat_file.ini", f"[core]\nmethods=PLAIN\n[user]\n{USER}={LOGIN_PASSWORD}\n[users]\n{USER}={LOGIN_PASSWORD}\n"),
                ("http.ini", f"listen=127.0.0.1:{self.api_port}\ntoken={TOKEN}\ntoken[]={TOKEN}\n[main\ntoken={TOKEN}\n"),
                ("http.ini", f"listen=127.0.0.1:{self.api_port}\ntoken={TOKEN[:10]}\n"),
                ("relay_dest_domains.ini", f'[domains]\nany={{"action":"accept","nexthop":"smtp://u:{NEXTHOP_PASSWORD}@[::"}}\n'),
                ("relay_dest_domains.ini", f'[domains]\nany={{"action":"smtp://u:{NEXTHOP_PASSWORD}@192.0.2.1"\n'),
        ):
            before = (engine.config / file).read_text() if (engine.config / file).exists() else None
            seen = engine.process.output().count("config")
            (engine.config / file).write_text(text)
            wait_for(lambda: engine.process.output().count("config") > seen, f"the engine to read {file}")
            self.assert_secret(self.visible())
            if before is None:
                (engine.config / file).unlink()
            else:
                (engine.config / file).write_text(before)


if __name__ == "__main__":
    unittest.main()
