"""Decisions on people, sessions, tokens and links, one transaction each."""
