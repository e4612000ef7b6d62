"""The benchmark: the same work over 0Trust and over other tunnels, in turns, in one run."""
