"""The databases that some of these tests run on."""

from tests.kits.databases import postgresql, url

__all__ = ["postgresql", "url"]
