"""Groups of commands, with plain-text help in which placeholders have names of their own."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand


class CommandGroup(typer.Typer):
    """A noun of the command line, as in `0trust agents`, or the whole of it.

    Args:
        summary: help text. Its first sentence has at most 45 characters: lists show that much.
    """

    def __init__(self, summary: str, *, completion: bool = False) -> None:
        super().__init__(
            help=summary,
            no_args_is_help=True,
            add_completion=completion,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
        )
        # Without a callback, typer takes a single command for the whole group.
        self.callback()(lambda: None)

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        """Return a decorator that adds a function as a command."""
        return super().command(name, cls=Command, **settings)


class Command(TyperCommand):
    """Command whose help shows arguments as `NAME` (typer: `{NAME}` and `NAME <str>`)."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words after the command's name in its usage line."""
        arguments = [
            _placeholder(one) if one.required else f"[{_placeholder(one)}]"
            for one in self._arguments()
        ]
        return [self.options_metavar or "", *arguments]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections about arguments and options."""
        arguments = [(_placeholder(one), one.help or "") for one in self._arguments()]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        options = [
            one.get_help_record(ctx)
            for one in self.get_params(ctx)
            if not isinstance(one, TyperArgument)
        ]
        with formatter.section("Options"):
            formatter.write_dl([record for record in options if record])

    def _arguments(self) -> list[TyperArgument]:
        return [one for one in self.params if isinstance(one, TyperArgument)]


def _placeholder(argument: TyperArgument) -> str:
    return argument.metavar or argument.name.upper()
