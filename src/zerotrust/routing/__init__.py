"""Routing: conditions of routes, and the table of a policy. Sans-I/O."""
