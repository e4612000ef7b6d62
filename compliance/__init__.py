"""Suites that others wrote, run against the whole of 0Trust."""
