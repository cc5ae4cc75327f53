"""The scenarios of scale, by name. Each takes a lab and notes figures in its report."""

import depth
import limits
import links
import shapes

ALL = {
    "domains": shapes.domains,
    "tls": links.tls,
    "slow": links.slow_out,
    "idle-in": links.idle_in,
    "deep": depth.deep,
    "operate": depth.operate,
    "large": shapes.large,
    "fanout": shapes.fanout,
    "fairness": shapes.fairness,
    "slowloris": links.slowloris,
    "policies": limits.policies,
    "throttle": limits.throttle,
}
