"""A complete 0Trust on this machine, thrown away at the end: `python -m demo`, or `make demo`."""
