"""The server: takes tunnels from agents and requests from Caddy, and joins them."""
