"""Every outbound hook with every answer, given in every way: what becomes of the message, and that nothing is left behind."""

import collections
import concurrent.futures
import dataclasses
import datetime
import os
import signal
import smtplib
import time

from peers import Reports, Scripted
from test_plugins import Plugins
from world import PATIENCE, wait_for

# What each answer means to each hook: docs/design/plugins.md. The last three stand for no answer: `failure` is a throw or a
# rejection, `silence` a timeout, `death` the end of the host, which takes all that was asked about the attempt with it. The words:
#
# 450, 550, 451  the client is told so, and nothing is queued; with `!` the connection ends
# taken          the client is told 250, and the message is the plugin's
# sent           delivered by the route of its domain;  `aside`: to the host that the plugin named
# later          put off for an hour, and nothing has failed
# deferred       a failure, with 4.1.2;  `usual`: the peer's, with the delay of the schedule;  `soon`: with the plugin's
# removed        in the name of the plugin
# bounced        with 5.1.2 and one notification;  `told`: as the peer said, with one;  `silent`: with none
MEANING = """
answer              queue_outbound  pre_send_trans_email  send_email  get_mx    deferred  bounce  delivered
nothing             sent            sent                  sent        sent      usual     told    sent
cont                sent            sent                  sent        sent      usual     told    sent
stop                sent            sent                  sent        sent      removed   silent  sent
deny                550             sent                  sent        bounced   removed   silent  sent
denysoft            450             sent                  sent        deferred  soon      silent  sent
denysoft-bare       450             sent                  sent        deferred  usual     silent  sent
denydisconnect      550!            sent                  sent        bounced   removed   silent  sent
disconnect          450!            sent                  sent        sent      removed   silent  sent
ok                  taken           sent                  sent        aside     removed   silent  sent
ok-bare             taken           sent                  sent        deferred  removed   silent  sent
next_hook           sent            sent                  sent        sent      removed   silent  sent
delay               sent            sent                  later       sent      removed   silent  sent
delay-bare          sent            sent                  sent        sent      removed   silent  sent
denysoftdisconnect  450!            sent                  sent        deferred  soon      silent  sent
unknown             sent            sent                  sent        sent      removed   silent  sent
text                sent            sent                  sent        sent      removed   silent  sent
failure             451             sent                  sent        sent      usual     told    sent
silence             451             sent                  sent        deferred  usual     told    sent
death               451             451                   deferred    deferred  usual     told    sent
"""
TITLES, *ROWS = [line.split() for line in MEANING.strip().splitlines()]
HOOKS = TITLES[1:]
EFFECTS = {(row[0], hook): effect for row in ROWS for hook, effect in zip(HOOKS, row[1:])}
NO_ANSWERS = ("failure", "silence", "death")
ANSWERS = [row[0] for row in ROWS if row[0] not in NO_ANSWERS]
DENIALS = ("deny", "denysoft", "denysoft-bare", "denydisconnect", "denysoftdisconnect")
# How the answer is given, and the row that counts instead of it; none: the answer's own.
WAYS = {
    "sync": None, "async": None, "twice": None, "answers-and-throws": None, "answers-and-rejects": None, "pardoned": None,
    "throws": "failure", "rejects": "failure", "late": "silence", "killed": "death",
}
TOLD_LATE = ("twice", "throws", "rejects", "late")  # a second answer, or one after the end of the wait

# One plugin of many names: each answers for the cells that are its own, as the address of the recipient says.
PLUGIN = """
    const SECONDS = 3600
    const CODES = {
        nothing: [], cont: [CONT], stop: [STOP], deny: [DENY], denysoft: [DENYSOFT], denydisconnect: [DENYDISCONNECT],
        disconnect: [DISCONNECT], ok: [OK], next_hook: [NEXT_HOOK], delay: [DELAY], denysoftdisconnect: [DENYSOFTDISCONNECT],
        unknown: [950], text: ['a text'],
    }
    const WORDS = { get_mx: SINK, send_email: SECONDS, deferred: SECONDS }

    // The arguments of next() that an answer stands for.
    function wordsOf(answer, hook) {
        const bare = answer.endsWith('-bare')
        const code = CODES[answer.replace('-bare', '')]
        return bare || code.length === 0 ? code : [...code, WORDS[hook] || 'because I say so']
    }

    const WAYS = {
        sync: (answer) => answer(),
        async: async (answer) => { await Promise.resolve(); setTimeout(answer, 10) },
        twice: (answer, contrary) => { answer(); contrary() },
        'answers-and-throws': (answer) => { answer(); throw new Error('thrown after the answer') },
        'answers-and-rejects': async (answer) => { answer(); throw new Error('rejected after the answer') },
        pardoned: (answer) => answer(),
        throws: (answer) => { setTimeout(answer, 10); throw new Error('thrown') },
        rejects: async (answer) => { setTimeout(answer, 10); throw new Error('rejected') },
        late: (answer) => { setTimeout(answer, 1500) },
        killed: () => {},
    }

    function cellOf(object) {
        const { user, host } = (object.todo || object.transaction).rcpt_to[0]
        const [answer, way] = user.split('.')
        return { answer, way, hook: host.replace('.test', '').replaceAll('-', '_') }
    }

    // Once it is over, everything may pass.
    const isOver = () => fs.existsSync(OVER)

    function listen(hook) {
        exports[`hook_${hook}`] = function (next, object) {
            const { answer, way, hook: wanted } = cellOf(object)
            if (wanted !== hook || (way === 'killed') !== (this.name === 'deadly') || isOver()) return next()
            say(hook, answer, way)
            const words = wordsOf(answer, hook)
            return WAYS[way](() => next(...words), () => next(words[0] === OK ? DENY : OK))
        }
    }
    for (const hook of ['queue_outbound', 'pre_send_trans_email', 'send_email', 'get_mx', 'deferred', 'bounce', 'delivered']) listen(hook)

    exports.hook_deny = (next, object) => next(cellOf(object).way === 'pardoned' ? OK : CONT)
"""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One message: its recipient says what the plugin is to do."""

    hook: str
    answer: str
    way: str

    @property
    def recipient(self):
        return f"{self.answer}.{self.way}@{self.hook.replace('_', '-')}.test"

    @property
    def effect(self):
        # A denial that a deny hook overrules is none.
        row = "cont" if self.way == "pardoned" and self.answer in DENIALS else self.answer
        return EFFECTS[WAYS[self.way] or row, self.hook]


def cells_of(*ways):
    return [Cell(hook, answer, way) for hook in HOOKS for answer in ANSWERS for way in ways]


# What is seen of a message from outside: what the client was told, what the log says, where it arrived, how it waits. First
# before, then after everything was tried again and may pass.
SEEN = {
    "sent": (["250", "delivered", "at the peer"], []),
    "aside": (["250", "delivered", "at the host of the plugin"], []),
    "taken": (["250"], []),
    "later": (["250", "waits 1 h, attempts 0"], ["delivered", "at the peer"]),
    "deferred": (["250", "deferred 4.1.2", "waits 2 h, attempts 1"], ["delivered", "at the peer"]),
    "usual": (["250", "deferred 4.2.1", "waits 2 h, attempts 1"], ["delivered", "at the peer"]),
    "soon": (["250", "deferred 4.2.1", "waits 1 h, attempts 1"], ["delivered", "at the peer"]),
    "removed": (["250", "removed by plugin answers"], []),
    "bounced": (["250", "bounced 5.1.2", "notified"], []),
    "told": (["250", "bounced 5.1.1", "notified"], []),
    "silent": (["250", "bounced 5.1.1"], []),
}


def expected(cell, after):
    effect = cell.effect
    if effect[:3].isdigit():
        return [effect]
    now, then = SEEN[effect]
    return sorted([one for one in now if not after or "waits" not in one] + (then if after else []))


class Matrix(Plugins):
    expects_errors = True  # what plugins throw, and that they do not answer, is logged as critical

    def setUp(self):
        super().setUp()
        self.engine.set("outbound.ini", temp_fail_intervals="2h*9")
        self.engine.files["plugin_timeout"] = "1\n"
        self.engine.files["deadly.timeout"] = "60\n"
        self.peer = Scripted(self, {"RCPT @deferred.test": "450 4.2.1 later", "RCPT @bounce.test": "550 5.1.1 no such user"})
        self.reports = Reports(self.world)
        self.engine.route("any", self.peer.endpoint).route("src.test", self.reports.endpoint)
        self.over = self.engine.directory / "over"
        for name in ("answers", "deadly"):
            self.plugin(f"const OVER = '{self.over}'\n{PLUGIN}", name=name)
        self.plugins.start()
        wait_for(lambda: self.engine.api("GET", "/v1/plugins")[1]["host"]["state"] == "ready", "the plugin host to be ready")
        self.told = {}

    # ---- what goes in ----

    def hand_in(self, cell):
        """What the client is told; `!` when the connection ends with it."""
        with smtplib.SMTP("127.0.0.1", self.engine.port, local_hostname="client.test", timeout=PATIENCE) as client:
            client.ehlo()
            client.mail("a@src.test")
            client.rcpt(cell.recipient)
            reply = str(client.data(self.message(to=cell.recipient).encode())[0])
            try:
                # A session whose host has died ends by itself.
                return reply if cell.way == "killed" or client.noop()[0] == 250 else reply + "!"
            except smtplib.SMTPServerDisconnected:
                return reply + "!"

    def submit_all(self, cells, meanwhile=lambda: None):
        with concurrent.futures.ThreadPoolExecutor(40) as clients:
            replies = {cell: clients.submit(self.hand_in, cell) for cell in cells}
            meanwhile()
            self.told.update({cell.recipient: reply.result() for cell, reply in replies.items()})

    # ---- what is seen ----

    def seen(self):
        """By recipient, everything that is known of its message; what happened twice stands there twice."""
        seen = collections.defaultdict(list)
        for to, reply in self.told.items():
            seen[to].append(reply)
        words = {"delivered": lambda event: "delivered", "removed": lambda event: f"removed by {event['by']}"}
        for event in self.engine.events():
            kind = event["event"]
            if kind in ("delivered", "deferred", "bounced", "expired", "removed", "possible_duplicate"):
                text = words.get(kind, lambda event: f"{event['event']} {event['status']}")(event)
                for to in event["recipients"]:
                    seen[to].append(text)
        for _, recipients, _ in list(self.peer.messages):
            for line in recipients:
                seen[line[line.index("<") + 1:line.index(">")]].append("at the peer")
        for message in self.sink.ledger():
            for to in message["to"]:
                seen[to].append("at the host of the plugin")
        for report in self.reports.all():
            for to in report.recipients:
                seen[to].append("notified")
        for item in self.engine.api("GET", "/v1/queue?limit=10000")[1]["items"]:
            hours = round((datetime.datetime.fromisoformat(item["next"]).timestamp() - time.time()) / 3600)
            for to in item["recipients"]:
                seen[to].append(f"waits {hours} h, attempts {item['attempts']}")
        return {to: sorted(facts) for to, facts in seen.items()}

    def differences(self, cells, after=False):
        seen = self.seen()
        return [f"{cell.recipient}: {wanted}, but {seen.get(cell.recipient)}" for cell in cells
                if seen.get(cell.recipient) != (wanted := expected(cell, after))]

    def at_rest(self):
        """Nothing is under way."""
        queue = self.engine.api("GET", "/v1/status")[1]["queue"]
        return queue["ready"] == queue["sending"] == 0

    def expect(self, cells, after=False):
        """Waits until all is as the table says, and nothing moves any more."""
        end = time.monotonic() + 2 * PATIENCE
        while (wrong := self.differences(cells, after)) or not self.at_rest():
            if time.monotonic() > end:
                break
            time.sleep(0.2)
        self.assertFalse(wrong, f"{len(wrong)} of {len(cells)} cells:\n" + "\n".join(wrong[:40]) + "\n" + self.engine.process.output()[-2000:])

    def asked(self, cells):
        """Whether the plugin was asked about every cell, and about each once."""
        if not self.said.exists() or self.said.read_text().count("\n") < len(cells):
            return False
        self.assertEqual(sorted(map(tuple, self.what_was_said())), sorted((cell.hook, cell.answer, cell.way) for cell in cells))
        return True

    def test_every_hook_every_answer_every_way(self):
        living, dying = cells_of(*(way for way in WAYS if way != "killed")), cells_of("killed")
        cells = living + dying
        self.submit_all(living)
        self.expect(living)
        wait_for(lambda: self.asked(living), "the plugin to be asked about every cell")
        self.expect_counts()

        def kill_the_host():
            wait_for(lambda: self.asked(cells), "the plugin to be asked about every cell")
            os.kill(self.plugins.host(), signal.SIGKILL)

        self.submit_all(dying, meanwhile=kill_the_host)
        self.expect(cells)

        self.over.write_text("")
        with self.peer.lock:
            self.peer.script.clear()
        self.engine.api("POST", "/v1/queue/flush", {"all": True})
        self.engine.wait_empty()
        self.expect(cells, after=True)
        self.expect_nothing_left()
        self.assertEqual(self.engine.stop(), 0)
        self.reports.sink.stop()

    def expect_counts(self):
        """Whoever does not answer, throws or rejects is counted and named; whoever answers twice is named."""
        def of(hook):
            points = self.engine.api("GET", "/v1/plugins")[1]["hooks"]
            listeners = [one for point in points if point["hook"] == hook for one in point["listeners"]]
            return [(one["timeouts"], one["failures"]) for one in listeners if one["plugin"] == "answers"]

        number = len(ANSWERS)
        for hook in HOOKS:
            wait_for(lambda hook=hook: of(hook) == [(number, 2 * number)], f"the counts of {hook}")
        late = "called next again, or too late"
        wait_for(lambda: self.engine.process.output().count(late) == len(cells_of(*TOLD_LATE)), "late answers to be told")

    def expect_nothing_left(self):
        """No slot is in use, and no message is kept for nobody."""
        def left():
            status = self.engine.api("GET", "/v1/status")[1]
            queue = status["queue"]
            buckets = self.engine.api("GET", "/v1/buckets?limit=1000")[1]["buckets"]
            return {
                "in the queue": sum(queue[state] for state in ("items", "scheduled", "ready", "sending", "held")),
                "sessions at work": queue["sessions"] - queue["idle_sessions"],
                "slots at work": sum(bucket["used"] - bucket["idle"] for bucket in buckets),
                "waiting": sum(bucket["waiting"] for bucket in buckets),
                "in the journal": status["journal"]["live_messages"],
            }

        try:
            wait_for(lambda: not any(left().values()), "everything to be given back", 10)
        except AssertionError as error:
            self.fail(f"{error}: {left()}")
