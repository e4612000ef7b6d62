"""Number of Hypothesis examples for tests that need another number than the profile has."""

from hypothesis import settings

THOROUGH = 100
"""Examples of a test in the profile `thorough`."""


def examples(thorough: int) -> int:
    """Return `thorough`, or the same share of it that the profile in use has of THOROUGH."""
    return max(1, thorough * settings().max_examples // THOROUGH)
