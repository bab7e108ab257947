"""Build commands from dataclasses of options, and refuse empty arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer

from lossmith.trials.options import options_of

_KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the first argument of a command, a dataclass, by one command-line option for each of its fields."""
    request, *others = inspect.signature(command, eval_str=True).parameters.values()
    options = options_of(request.annotation)

    def flat(**given: Any) -> None:
        values = {name: given.pop(name, getattr(request.annotation, name)) for name in options}
        asked = request.annotation(**values)
        asked.check_data()
        command(asked, **given)

    own = []
    for name, (option, kind, _) in options.items():
        default = getattr(request.annotation, name)
        names = (f"--{name.replace('_', '-')}", *option.names)
        info = typer.Option(*names, help=option.help, rich_help_panel=option.panel)
        if option.positional:
            info = typer.Argument(metavar=f"[{name.upper()}]", help=option.help)
        plain: Any = kind if default is not None else kind | None
        own.append(inspect.Parameter(name, _KEYWORD, default=default, annotation=Annotated[plain, info]))
    others = [parameter.replace(kind=_KEYWORD) for parameter in others]
    flat.__name__, flat.__doc__ = command.__name__, command.__doc__
    flat.__signature__ = inspect.Signature([*own, *others])  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *others)}
    return flat


def refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty value, which a script passes where a variable of its own is not set."""
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if argument == "" or (argument.startswith("--") and argument.endswith("=")):
            option = argument.rstrip("=") or before
            named = f"the value of {option}" if option.startswith("-") else "an argument"
            raise ValueError(f"{named} is empty: give one, or leave it out")
