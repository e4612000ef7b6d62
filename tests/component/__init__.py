"""Tests with real processes: Caddy, server, agents, backends; each file covers one risk."""
