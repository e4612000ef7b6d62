"""The way of a request from Caddy to an agent: ingress, retry, relay, shaping."""
