"""The Autobahn WebSocket suite through Caddy, server, tunnel and agent."""
