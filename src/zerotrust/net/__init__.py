"""Sockets, TLS and the event loop: the only room that knows them."""
