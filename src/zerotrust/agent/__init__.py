"""The agent: dials the server and forwards each request to a backend."""
