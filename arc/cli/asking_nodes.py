"""Gives every command that asks a node ``--ca-file``, in one place: a command has it because it has ``--endpoint``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer

from arc.cli.connect import trusting
from arc.cli.options import CaFile


def give_ca_file(app: typer.Typer) -> None:
    """To all commands of the app and of those within it that have an ``endpoint``; a second time changes nothing."""
    for command in app.registered_commands:
        if command.callback is not None and "endpoint" in inspect.signature(command.callback).parameters:
            command.callback = _asking(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            give_ca_file(group.typer_instance)


def _asking(command: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(command, eval_str=True)
    parameters = list(signature.parameters.values())
    if any(each.name == "ca_file" for each in parameters):
        return command

    def asking(*, ca_file: str, **given: object) -> object:
        with trusting(ca_file):
            return command(**given)

    at = 1 + next(index for index, each in enumerate(parameters) if each.name == "endpoint")
    parameters.insert(
        at, inspect.Parameter("ca_file", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="", annotation=CaFile)
    )
    asking.__name__, asking.__doc__, asking.__annotations__ = command.__name__, command.__doc__, {}
    asking.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # inspect reads it
    return asking
