"""Database fixtures for server tests."""

from tests.support.databases import postgresql, url

__all__ = ["postgresql", "url"]
