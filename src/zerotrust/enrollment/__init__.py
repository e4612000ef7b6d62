"""Decisions on agents, in one transaction each: tokens, joining, renewal, grants, revocation."""
