"""A listener that is made of functions: `told(step=..., epoch=...)`."""

from collections.abc import Callable
from typing import Any

from twostroke import Listener


def told(**functions: Callable[..., Any]) -> Listener:
    listener = Listener()
    for name, function in functions.items():
        assert hasattr(listener, name)
        setattr(listener, name, function)
    return listener
