"""Caddy: its configuration, its process and its admin API."""
