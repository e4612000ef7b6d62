"""The load generator: a program of its own, so that its work is not done by what it measures."""
