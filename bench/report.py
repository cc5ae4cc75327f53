"""Tables of medians, and how Sluice compares."""

import trial


def table(scenario, results):
    """The medians of one scenario; `results` maps peers to their rounds."""
    lines = ["", scenario.title,
             f"{'peer':<16} {'rounds':>6} {'messages':>8} {'accept/s':>9} {'end-to-end/s':>12} {'CPU us/msg':>10} {'first us':>8} "
             f"{'p50 ms':>7} {'p99 ms':>7} {'syncs/msg':>9} {'PSS MiB':>8} {'tools us':>8} {'other':>6}"]
    middle = {peer: trial.medians(rounds) for peer, rounds in results.items()}
    for peer, figures in middle.items():
        delivered = f"{figures.rate:.0f}" if scenario.deliver else "-"
        p50, p99 = (f"{ms:.2f}" if ms else "-" for ms in (figures.p50_ms, figures.p99_ms))
        lines.append(
            f"{peer:<16} {len(results[peer]):>6} {figures.messages:>8.0f} {figures.accepted_rate:>9.0f} "
            f"{delivered:>12} {figures.cpu_us:>10.1f} {figures.first_us:>8.1f} {p50:>7} {p99:>7} {figures.syncs:>9.2f} "
            f"{figures.memory_mib:>8.0f} {figures.tools_cpu_us:>8.1f} {figures.other_load:>6.0%}")
    return "\n".join(lines + ratios(scenario, middle))


def ratios(scenario, middle):
    """Sluice against each peer: how much faster, and for how much less CPU."""
    own = middle.get("sluice")
    if own is None:
        return []
    lines = []
    for peer, figures in middle.items():
        if peer == "sluice":
            continue
        # Where the sink defers, the last delivery waits for retry intervals, which are the same for all.
        ends = scenario.deliver and not scenario.sink_rules
        faster = own.rate / figures.rate if ends else own.accepted_rate / figures.accepted_rate
        leaner = figures.cpu_us / own.cpu_us if own.cpu_us else float("inf")
        lines.append(f"  sluice / {peer}: {faster:.1f} times the rate; {leaner:.1f} times less CPU for a message")
    return lines
