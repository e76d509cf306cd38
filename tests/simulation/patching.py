"""Replacing a piece of the product in memory, and putting it back."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

Undo = Callable[[], None]


def everywhere(original: Any, changed: Any) -> Undo:
    """Replace a function or class in every module of the product that has imported it."""
    places = [
        (module, name)
        for module_name, module in list(sys.modules.items())
        if module_name.startswith(("libs.", "services."))
        for name, value in list(vars(module).items())
        if value is original
    ]
    if not places:
        raise LookupError(f"{original} is nowhere: the mutant is out of date")
    for module, name in places:
        setattr(module, name, changed)

    def undo() -> None:
        for module, name in places:
            setattr(module, name, original)

    return undo


def attribute(owner: Any, name: str, changed: Any) -> Undo:
    """Replace a method, a property or a constant."""
    original = vars(owner)[name]
    setattr(owner, name, changed)
    return partial(setattr, owner, name, original)
