"""The Autobahn WebSocket suite through browser's edge, server, tunnel and agent: `python -m
compliance.autobahn`."""
