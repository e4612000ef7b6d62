"""The databases that some of these tests run on."""

from tests.support.databases import postgresql, url

__all__ = ["postgresql", "url"]
