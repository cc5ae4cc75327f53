"""What is asked of the peers: the loads, and how many deliveries each must lead to."""

import dataclasses

KIB, MIB = 1024, 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Stream:
    """One load generator: equal messages over its own connections."""
    share: float            # of all messages of the scenario
    sessions: int
    size: int = 4 * KIB
    recipients: int = 1
    domains: int = 1
    to: str = "user%n@d%d.test"
    bounces: bool = False   # the sink refuses the recipients for good: a DSN comes instead


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    streams: tuple
    deliver: bool = True        # off: accept and keep
    protocol: str = "pipelining"
    flush_us: int = 0           # added to every flush of the disk
    sink_rules: tuple = ()
    tools: str = "sluice"       # or "postfix": smtp-source and smtp-sink

    def counts(self, messages):
        """Messages of each stream; none is left out."""
        return [max(1, round(stream.share * messages)) for stream in self.streams]

    def deliveries(self, messages):
        """Recipients that the sink must have taken at the end, those of DSNs included."""
        return sum(n * (1 if stream.bounces else stream.recipients)
                   for stream, n in zip(self.streams, self.counts(messages)))


def one_domain(sessions):
    return (Stream(1.0, sessions),)


# Sizes: 50 % 2 KiB, 30 % 12 KiB, 15 % 60 KiB, 4 % 300 KiB, 1 % 3 MiB. Recipients: 85 % one, 10 % few, 4 % a dozen, 1 % a
# hundred. 200 domains, of which the first 20 get more. 5 % of the messages are told to come back later, with one chance in
# four each time; 3 % are refused.
MIX = (
    Stream(0.20, 10, 2 * KIB, domains=20),
    Stream(0.12, 6, 2 * KIB, domains=200),
    Stream(0.05, 3, 2 * KIB, domains=200, to="later%n@d%d.test"),
    Stream(0.03, 2, 2 * KIB, domains=200, to="gone%n@d%d.test", bounces=True),
    Stream(0.06, 3, 2 * KIB, recipients=3, domains=200),
    Stream(0.03, 2, 2 * KIB, recipients=12, domains=200),
    Stream(0.01, 1, 2 * KIB, recipients=100, domains=200),
    Stream(0.26, 11, 12 * KIB, domains=200),
    Stream(0.04, 2, 12 * KIB, recipients=4, domains=200),
    Stream(0.14, 6, 60 * KIB, domains=200),
    Stream(0.01, 1, 60 * KIB, recipients=10, domains=200),
    Stream(0.04, 2, 300 * KIB, domains=20),
    Stream(0.01, 1, 3 * MIB, domains=20),
)
MIX_RULES = ("rcpt:gone*=550 5.1.1 no such mailbox", "rcpt:later*%25=451 4.2.1 come back later")

ALL = (
    Scenario("accept", "B-01: accepting only, 16 sessions, 4 KiB", one_domain(16), deliver=False),
    Scenario("relay1", "B-02: relaying, one domain, 50 sessions, 4 KiB", one_domain(50)),
    Scenario("relay1-plain", "B-02 without PIPELINING on the way in", one_domain(50), protocol="plain"),
    Scenario("relay1-cross", "B-02 between smtp-source and smtp-sink", one_domain(50), tools="postfix"),
    Scenario("mix", "B-04: mixed sizes, recipients, domains and answers", MIX, sink_rules=MIX_RULES),
    Scenario("flush2-accept", "B-17: B-01 with 2 ms more per flush", one_domain(16), deliver=False, flush_us=2000),
    Scenario("flush2", "B-17: B-02 with 2 ms more per flush", one_domain(50), flush_us=2000),
    Scenario("flush10", "B-17: B-02 with 10 ms more per flush", one_domain(50), flush_us=10000),
)
QUICK = ("accept", "relay1", "flush10")
