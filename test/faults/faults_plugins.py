"""Plugins that take their host down, and a host that others take down: FM-44."""

import contextlib
import os
import signal
import time

import needs
from faults_kill import judge
from plugin_home import PluginEngine
from rig import fault
from trial import Trial
from world import wait_for

# Every hook of mail in and out takes its time, so that there is always somebody who waits for an answer.
PLUGIN = """
    for (const hook of ['mail', 'data_post', 'queue_outbound', 'pre_send_trans_email', 'send_email', 'get_mx', 'deferred', 'bounce', 'delivered']) {
        exports[`hook_${hook}`] = (next) => setTimeout(next, 2)
    }
"""
STILL_MS_MAX = 20_000


class HostKills:
    """The plugin host of a trial dies once a second. As a rule it is let work before, some are not even let start."""

    def __init__(self, run, trial):
        self.run, self.trial = run, trial
        self.plugins = PluginEngine(trial.engine).add("thinks", PLUGIN)
        self.victims = set()
        self.still_since = None  # the first kill after mail has passed

    def passed(self):
        """How much mail came in and went out, in octets of the ledgers."""
        ledger = self.trial.peer.ledger_file
        return self.trial.acked(), ledger.stat().st_size if ledger.exists() else 0

    def wait_for_mail(self):
        before = self.passed()
        wait_for(lambda: all(now > then for now, then in zip(self.passed(), before)), "mail to come in and go out")
        if self.still_since:
            self.run.highest(mail_stood_still_ms_max=int((time.monotonic() - self.still_since) * 1000))
        self.still_since = None

    def next_victim(self):
        def another():
            host = self.plugins.host()
            return host if host not in self.victims else None

        return wait_for(another, "another plugin host")

    def kill(self, host):
        self.victims.add(host)
        self.still_since = self.still_since or time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(host, signal.SIGKILL)

    def kill_every_second(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            host, since = self.next_victim(), time.monotonic()
            if self.still_since and self.run.random.random() < 0.2:
                time.sleep(self.run.random.uniform(0, 0.3))  # chance: within its start, or not
                self.run.count_up(killed_at_their_start=1)
            else:
                self.wait_for_mail()
                time.sleep(max(0.0, since + 1 - time.monotonic()))
                self.run.count_up(killed_at_work=1)
            self.kill(host)
        self.wait_for_mail()

    def rate(self, seconds=3):
        """Octets of the peer's ledger in a second."""
        before, began = self.passed()[1], time.monotonic()
        time.sleep(seconds)
        return (self.passed()[1] - before) / (time.monotonic() - began)


@fault("FM-44", "the plugin host is killed every second under load; plugins that loop, hoard memory, block and reject",
       unit="seconds of kills", short=5, long=300, needs=[needs.plugins],
       not_covered="what a native plugin does to the engine, of which it is a part: a crash is one of the engine (FM-51)")
def dying_hosts(run):
    trial = Trial(run.world(), seed=run.seed)
    kills = HostKills(run, trial)
    trial.begin()
    kills.wait_for_mail()
    usual = kills.rate()
    kills.kill_every_second(run.count)
    wait_for(lambda: kills.rate() > usual / 2, "the rate to be what it was", 60)
    judge(run, trial.finish())
    run.expect(run.figures.get("killed_at_work", 0) > 0, "no host was killed at work")
    run.expect(run.figures["mail_stood_still_ms_max"] < STILL_MS_MAX, "mail stood still for long")
    false = [event for event in trial.engine.events("bounced") if not event["reply"].startswith("550 5.1.1")]
    run.expect(not false, f"bounced without the peer's refusal: {false[:3]}")
    run.unittests("test_plugin_tools.Overview.test_who_it_is")
