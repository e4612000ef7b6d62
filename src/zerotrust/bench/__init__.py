"""The benchmark `0trust bench`: the same work over 0Trust and over what it is compared with, in turns, in one run."""
