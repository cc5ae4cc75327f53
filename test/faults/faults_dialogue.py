"""The peer closes, says 421 or falls silent at each state of the dialogue, in every form of it; TLS is broken: FM-29 to FM-31, FM-42."""

import ssl
import subprocess
import threading

from bench import Bench, expect_no_failure, inject, message, queued, recipients_of, wait_delivered
from peers import Scripted, certificate_for, server_tls
from rig import fault
from world import wait_for

PATIENCE = 150

# How mail is handed over, by what the peer offers.
FORMS = {"plain": ("8BITMIME",), "pipelined": ("PIPELINING", "8BITMIME"), "bdat": ("PIPELINING", "CHUNKING")}
# What the peer answers where nothing is wrong.
ORDINARY = {"greeting": "220 scripted.test", "EHLO": None, "STARTTLS": "220 2.0.0 go", "AUTH": "235 2.7.0 welcome",
            "MAIL": "250 ok", "RCPT r1@": "250 ok", "RCPT r3@": "250 ok", "DATA": "354 go", "BDAT": "", "body": "",
            "dot": "250 2.0.0 taken", "RSET": "250 ok", "QUIT": "221 bye"}
# Twelve states of each form. Only after the whole content may a lost link mean a second copy.
STATES = {
    "plain": ["greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT r1@", "RCPT r3@", "DATA", "body", "dot", "RSET", "QUIT"],
    "pipelined": ["greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT r1@", "RCPT r3@", "DATA", "body", "dot", "RSET", "QUIT"],
    "bdat": ["greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT r1@", "RCPT r3@", "BDAT", "body", "dot", "RSET", "QUIT"],
}
EVERYBODY = ("r1", "r2", "r3")


def ehlo(words):
    lines = ["scripted.test", *words]
    return "\r\n".join(f"250{'-' if i + 1 < len(lines) else ' '}{line}" for i, line in enumerate(lines))


class Matrix:
    """A peer for each state and form, which does `wrong` there once and behaves from then on; one that always behaves; and an
    engine with three recipients at each."""

    def __init__(self, run, wrong, states=STATES, **settings):
        self.run, self.peers = run, {}
        self.refuses = isinstance(wrong("dot"), str)
        self.world = run.world()
        self.tls = server_tls(*certificate_for(self.world, "127.0.0.1"))
        self.engine = self.world.engine()
        self.engine.set("outbound.ini", temp_fail_intervals="1h*99", retry_jitter="false", auth_cleartext="true", pool_timeout="60",
                        **settings)
        for form, words in FORMS.items():
            for state in states[form]:
                self.add(form, state, words, wrong)
        self.fine = Scripted(Bench(run))
        self.engine.route("fine.test", self.fine.endpoint)
        self.engine.start()

    def add(self, form, state, words, wrong):
        name = f"{state.split(' ')[-1].strip('@').lower()}.{form}.test"
        words = [*words, *(["AUTH PLAIN"] if state == "AUTH" else [])]
        ordinary = ehlo(words) if state == "EHLO" else ORDINARY[state]
        script = {state: [wrong(state), ordinary]}
        if state == "RSET":  # what was begun and refused is followed by it, when the connection is used again
            script["dot"] = ["451 4.3.0 once", ORDINARY["dot"]]
        peer = Scripted(Bench(self.run), script, ehlo=tuple(words), tls=self.tls if state == "STARTTLS" else None,
                        hangs_up=True)
        self.peers[name] = (form, state, peer)
        self.engine.route(name, f"smtp://user:secret@{peer.endpoint}" if state == "AUTH" else peer.endpoint)

    def recipients(self, name):
        return [f"{who}@{name}" for who in EVERYBODY]

    def send(self):
        """All messages, and meanwhile some to the peer that behaves, which nobody may hold up."""
        for number, name in enumerate(self.peers):
            inject(self.engine, self.recipients(name), content=message(body="hello\r\n" * 2000))
            inject(self.engine, f"n{number}@fine.test")
        fine = [f"n{number}@fine.test" for number in range(len(self.peers))]
        wait_delivered(self.engine, fine, PATIENCE)
        self.run.expect(not self.engine.events("deferred", domain="fine.test"), "a message to another host was deferred")

    def wait_quiet(self):
        """Every item is decided or waits for its next time, and no slot is held."""
        wait_for(lambda: (queue := queued(self.engine))["sending"] == queue["ready"] == 0, "the attempts to end", PATIENCE)

    def finish(self):
        """Tries again until all are delivered; then counts copies: one, and one more for each possible duplicate told of."""
        def done():
            self.engine.cli("queue", "flush")
            self.wait_quiet()
            return queued(self.engine)["items"] == 0

        wait_for(done, "the queue to empty", PATIENCE)
        # Events are written a little later than things happen.
        wait_delivered(self.engine, [to for name in self.peers for to in self.recipients(name)], PATIENCE)
        expect_no_failure(self.run, self.engine)
        for name, (form, state, peer) in self.peers.items():
            everybody = self.recipients(name)
            delivered = recipients_of(self.engine, "delivered", domain=name)
            self.run.expect(all(delivered[to] == 1 for to in everybody), f"{form} {state}: delivered {dict(delivered)}")
            told = recipients_of(self.engine, "possible_duplicate", domain=name)
            # The first copy was answered 451, or 421 in the fault of that name.
            refused = 1 if state == "RSET" or (state == "dot" and self.refuses) else 0
            for to in everybody:
                copies = sum(f"RCPT TO:<{to}>" in line for _, lines, _ in peer.messages for line in lines)
                self.run.expect(1 + refused <= copies <= 1 + refused + told[to], f"{form} {state}: {copies} copies for {to}, {told[to]} told of")
            # With BDAT a whole message goes in one flight: once MAIL is sent nobody can tell what was taken.
            early = ("greeting", "EHLO", "STARTTLS", "AUTH") if form == "bdat" else STATES[form]
            if state in early and state not in ("body", "dot"):
                self.run.expect(not told, f"{form} {state}: told as a possible duplicate, which it cannot be")
            if state == "RSET":
                self.run.expect(peer.commands("RSET"), f"{form}: RSET was never said: {peer.sessions}")
        self.run.expect(self.engine.stop() == 0, "the engine did not end well")
        for name, (form, state, peer) in self.peers.items():
            if state == "QUIT":
                self.run.expect(peer.commands("QUIT"), f"{form}: QUIT was never said")
        self.run.count_up(states=len(self.peers), deferrals=len(self.engine.events("deferred")),
                          possible_duplicates=len(self.engine.events("possible_duplicate")))


@fault("FM-29", "the peer closes the connection at each of twelve states, plain, pipelined and with BDAT", unit="rounds")
def closes_at_each_state(run):
    for _ in range(run.count):
        matrix = Matrix(run, lambda state: None)
        matrix.send()
        matrix.wait_quiet()
        matrix.finish()


@fault("FM-30", "the peer says 421 at each of twelve states, plain, pipelined and with BDAT", unit="rounds",
       not_covered="421 in the middle of content: a peer answers there by closing (FM-29)")
def says_421_at_each_state(run):
    states = {form: [state for state in all_states if state not in ("body", "BDAT")] for form, all_states in STATES.items()}
    for _ in range(run.count):
        matrix = Matrix(run, lambda state: "421 4.3.2 closing", states)
        matrix.send()
        matrix.wait_quiet()
        matrix.finish()


@fault("FM-31", "the peer falls silent at each of twelve states, plain, pipelined and with BDAT", unit="rounds")
def stalls_at_each_state(run):
    silence = threading.Event()
    run.defer(silence.set)

    def stall(state):
        return lambda _: silence.wait(300) and None

    # The content must not fit into the buffers of the link, or nobody notices that it is not read.
    limits = {f"{stage}_timeout": "2" for stage in ("greeting", "helo", "mail", "rcpt", "data", "block", "dot")}
    for _ in range(run.count):
        matrix = Matrix(run, stall, **limits)
        matrix.send()
        matrix.wait_quiet()
        slowest = max(event["attempt_ms"] for event in matrix.engine.events("deferred"))
        run.highest(slowest_attempt_ms=slowest)
        run.expect(slowest < 60_000, f"an attempt took {slowest} ms, the limits are 2 s each")
        matrix.finish()


def expired_certificate(world):
    """Valid from 1 to 2 January 2020; made by `openssl ca`, which is the tool that takes dates."""
    folder = world.directory / "expired"
    folder.mkdir()
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("01\n")
    (folder / "ca.conf").write_text(f"""[ca]
default_ca = ours
[ours]
dir = {folder}
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = optional
organizationName = optional
""")
    key, request, cert = folder / "key.pem", folder / "request.pem", folder / "cert.pem"
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/O=test",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", request], check=True, capture_output=True)
    subprocess.run(["openssl", "ca", "-batch", "-config", folder / "ca.conf", "-selfsign", "-keyfile", key, "-in", request, "-out",
                    cert, "-notext", "-startdate", "20200101000000Z", "-enddate", "20200102000000Z"], check=True,
                   capture_output=True)
    return cert, key


def weak_diffie_hellman(world, cert, key):
    """TLS 1.2 with nothing but a group of 1024 bits, the weakest that a server can be made to use."""
    parameters = world.directory / "dh1024.pem"
    subprocess.run(["openssl", "dhparam", "-dsaparam", "-out", parameters, "1024"], check=True, capture_output=True)
    context = server_tls(cert, key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DHE:@SECLEVEL=0")
    context.load_dh_params(str(parameters))
    return context


@fault("FM-42", "TLS: expired, another name, unknown issuer, old version, broken handshake, weak key exchange", unit="rounds",
       not_covered="DANE and MTA-STS, which the engine does not know yet")
def broken_tls(run):
    encrypted = "test_delivery_peers.Encrypted."
    run.unittests(*(encrypted + name for name in (
        "test_RFC_7435_opportunistic_starttls_takes_any_certificate",
        "test_forced_tls_verifies_the_certificate",
        "test_TL_3_TLS_I6_forced_tls_never_falls_back",
        "test_TL_3_broken_tls_falls_back_to_clear_and_is_remembered",
        "test_A10_TL_2_starttls_refused_goes_on_in_clear",
        "test_rejectUnauthorized_asks_everybody_for_a_good_certificate",
        "test_TLS_1_2_is_spoken_and_older_versions_are_not",
    )))
    world = run.world()
    rsa_cert, rsa_key = world.directory / "rsa.pem", world.directory / "rsa.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/O=test", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", rsa_key, "-out", rsa_cert], check=True, capture_output=True)
    expired = expired_certificate(world)
    cases = {"expired": (server_tls(*expired), True), "weak": (weak_diffie_hellman(world, rsa_cert, rsa_key), False)}
    trusted = world.directory / "trusted.pem"
    trusted.write_text(expired[0].read_text() + rsa_cert.read_text())
    engine = world.engine()
    engine.set("outbound.ini", temp_fail_intervals="1h*9")
    engine.set("tls.ini", "outbound", ca=trusted, force_tls_hosts=",".join(f"strict.{name}.test" for name in cases))
    peers = {}
    for name, (context, _) in cases.items():
        peers[name] = [Scripted(Bench(run), tls=context) for _ in range(2)]
        engine.route(f"lax.{name}.test", peers[name][0].endpoint).route(f"strict.{name}.test", peers[name][1].endpoint)
    engine.start()
    for name, (_, encrypts) in cases.items():
        inject(engine, f"b@lax.{name}.test")
        inject(engine, f"b@strict.{name}.test")
        wait_delivered(engine, [f"b@lax.{name}.test"], PATIENCE)
        used = bool(engine.events("delivered", domain=f"lax.{name}.test")[0].get("tls"))
        run.expect(used == encrypts, f"{name}: where TLS is optional, tls={used}")
        event = engine.wait_event("deferred", domain=f"strict.{name}.test", patience=PATIENCE)[0]
        run.expect(event["status"].startswith("4.7."), f"{name}: {event}")
        run.expect(not peers[name][1].commands("MAIL"), f"{name}: mail that demands TLS was begun all the same")
        run.count_up(cases=2)
    expect_no_failure(run, engine)
