"""Tests with real processes: Caddy, server, agents, backends. Named by the pain that they
prevent."""
