"""The real Caddy: its configuration as a pure function, its process and its admin API."""
