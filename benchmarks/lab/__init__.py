"""Processes under measurement: backends, Caddy alone, 0Trust, ssh -R, a fleet of agents."""
