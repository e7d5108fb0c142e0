"""Folders with one object a file: arms, tasks, figures."""

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any

from robbertje_lib.experiment.errors import UserError


def members(package: str, folders: Iterable[str], kind: str) -> dict[str, Any]:
    """By name the `ARM` (of kind `arm`) of every module of a package that has one.

    Raises `UserError` when a file and its object differ in name: a stage reruns after an edit of the file that has the
    name of its arm, task or figure.
    """
    by_name: dict[str, Any] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(folders)):
        member = getattr(importlib.import_module(f"{package}.{module}"), kind.upper(), None)
        if member is not None and member.name != module:
            file = f"{package.replace('.', '/')}/{module}.py"
            raise UserError(f"{file}: its {kind} is called '{member.name}'; give both one name")
        if member is not None:
            by_name[module] = member
    return by_name
