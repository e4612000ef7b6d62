"""What is measured, on loopback, as processes: backends, Caddy alone, 0Trust, ssh -R, a fleet of
agents."""
