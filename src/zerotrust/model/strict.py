"""Models that refuse unknown keys, because ignoring one could ignore a protection."""

import difflib
from typing import Any

from pydantic import model_validator

from zerotrust.model.base import Model


class Strict(Model):
    """Model that refuses unknown keys and suggests the nearest known one."""

    @model_validator(mode="before")
    @classmethod
    def _only_known(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                near = difflib.get_close_matches(str(key), list(cls.model_fields), n=1)
                known = ", ".join(cls.model_fields)
                hint = f', did you mean "{near[0]}"?' if near else f"; known keys are {known}"
                raise ValueError(f'unknown key "{str(key)[:60]}"{hint}')
        return data
