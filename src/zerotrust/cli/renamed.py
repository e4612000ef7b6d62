"""Old spellings of commands. They work for one more release."""

from typing import Final

_RENAMED: Final = {
    ("token",): ("tokens",),
    ("grant",): ("grants",),
    ("agent", "list"): ("agents", "list"),
    ("agent", "show"): ("agents", "show"),
    ("agent", "revoke"): ("agents", "revoke"),
    ("agent", "restore"): ("agents", "restore"),
}


def replace_old_spelling(args: list[str]) -> tuple[list[str], str | None]:
    """Return the arguments with the present name of the command, and a warning if that changed
    them."""
    for old, new in _RENAMED.items():
        if tuple(args[: len(old)]) == old:
            warning = (
                f"`0trust {' '.join(old)}` is now `0trust {' '.join(new)}`; "
                "the next release will no longer accept the old spelling"
            )
            return [*new, *args[len(old) :]], warning
    return args, None
