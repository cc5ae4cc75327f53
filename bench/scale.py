"""The scenarios of scale, by name. Each takes a lab and notes figures in its report."""

import depth

ALL = {
    "deep": depth.deep,
}
