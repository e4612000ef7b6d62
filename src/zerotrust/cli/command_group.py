"""Groups of commands, with plain-text help in which placeholders have names of their own."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup


class CommandGroup(typer.Typer):
    """A noun of the command line, as in `0trust agents`, or the whole of it.

    Args:
        summary: help text. Its first sentence has at most 45 characters: lists show that much.
    """

    def __init__(self, summary: str, *, completion: bool = False) -> None:
        super().__init__(
            cls=Sections,
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


class Sections(TyperGroup):
    """Group whose help lists its commands in sections: the `rich_help_panel` of each."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each heading, in the order of the commands."""
        sections: dict[str, list[Any]] = {}
        for name in self.list_commands(ctx):
            command = self.commands[name]
            heading = getattr(command, "rich_help_panel", None)
            sections.setdefault(heading or "Commands", []).append((name, command))
        width = max(map(len, self.commands), default=0)
        limit = formatter.width - 6 - width
        for heading, commands in sections.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(f"{name:<{width}}", one.get_short_help_str(limit)) for name, one in commands]
                )


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
