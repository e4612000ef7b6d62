"""Profiles: the paths that native apps of a program need without signing in."""

from collections.abc import Mapping
from typing import Final

from zerotrust.model.access import PathRule

PROFILE_PATHS: Final[Mapping[str, tuple[PathRule, ...]]] = {
    "home_assistant": (PathRule(match=["/api/webhook/*"], allow="anyone"),),
}
"""They come after the `paths` of the rule itself; `deny` and `require` apply to them too."""
