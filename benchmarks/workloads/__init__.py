"""Workloads: each does the same work over several targets and returns metrics."""
