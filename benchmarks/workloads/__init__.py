"""The workloads: each does the same work over the ways that it compares, and returns figures."""
