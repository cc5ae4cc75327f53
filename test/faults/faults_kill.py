"""The process dies, stops or is stopped: FM-01 to FM-04, FM-22."""

from rig import fault
from trial import Trial


def judge(run, verdict):
    """Takes over what the judge found. A run in which nothing happened proves nothing."""
    run.findings.extend(verdict.findings)
    run.figures.update(verdict.figures)
    for figure, least in (("acked", 300), ("bounced_with_dsn", 5), ("deferrals", 5), ("answers_lost_by_peers", 1)):
        run.expect(verdict.figures[figure] >= least, f"only {verdict.figures[figure]} {figure}: too little happened")
    run.expect(verdict.figures["still_queued"] == 0, f"{verdict.figures['still_queued']} recipients are still queued")


@fault("FM-01", "kill -9 at random times under load, some within the recovery of the one before", unit="kills", short=8, long=500,
       not_covered="a restart with 100,000 queued is timed by FM-50 (with more)")
def kills(run):
    judge(run, Trial(run.world(), seed=run.seed).run_kills(run.count))


@fault("FM-22", "two instances on one spool, or on one instance directory")
def two_instances(run):
    run.unittests("test_disk.OneInstance")
