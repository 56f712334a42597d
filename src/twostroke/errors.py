"""Errors by cause. Each message names the culprit (module path, file, option) and the fix.

Everything derives from `TwostrokeError`, so that one `except` catches what this package raises on
purpose; each class also derives from the built-in that a caller would expect.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TwostrokeError(Exception):
    """Base of all errors raised on purpose by this package.

    `agreed` says that the other processes of a run know of it, and leave it to this one to tell.
    """

    agreed = False


class UnholdableError(TwostrokeError, TypeError):
    """A model contains a non-linearity, or is of a form, whose support cannot be held."""


class SupportMismatchError(TwostrokeError, ValueError):
    """A support was made for another model, another batch or another site."""


class NestedHoldError(TwostrokeError, RuntimeError):
    """`hold` or `record` was entered while the same model is already held or recorded."""


class OutsideForwardError(TwostrokeError, RuntimeError):
    """Part of a held model ran outside its forward pass, where no mask belongs to it."""


class SupportFileError(TwostrokeError, ValueError):
    """A file does not hold a support: truncated, altered, or something else altogether."""


class SettingsError(TwostrokeError, ValueError):
    """A setting is out of range, unknown, or contradicts another."""


class DeadLayerError(SettingsError):
    """A mask would leave nothing of a layer, which carries nothing; the text names it."""


class DataError(TwostrokeError, ValueError):
    """A data set is missing, empty, truncated, or holds values it must not hold."""


class NotReplayableError(DataError):
    """The same index and view gave two different examples, so no stored mask can belong to them."""


class UnknownNameError(TwostrokeError, LookupError):
    """A model or data set name that is not known; the text lists near matches."""


class WeightsError(TwostrokeError, OSError):
    """Published weights could not be fetched, or their file is damaged; the text names both."""


class RunFolderError(TwostrokeError, OSError):
    """A run's folder is taken, missing or incomplete."""


class StoreError(TwostrokeError, OSError):
    """A store of supports could not be written; the text names the file and the fix."""


class ProcessError(TwostrokeError, RuntimeError):
    """Another process of the run is gone, or no longer answers."""


class ElsewhereError(TwostrokeError, RuntimeError):
    """Another process of the run has refused to go on, and says why."""


class TooLargeError(TwostrokeError, MemoryError):
    """A dense form, or all supports, need more than there is; the text says how much, and the fix."""


class NotRankOneError(TwostrokeError, ValueError):
    """A lifted vector is not a product of weights; the text gives the share that is not."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not known: the nearest that is, and all where they are few."""
    names, text = list(known), f"there is no {what} {name!r}"
    near = difflib.get_close_matches(name.lower(), names, 1)
    if near:
        text += f", did you mean {near[0]!r}?"
    if names and (not near or len(names) <= 10):
        text += f"{' There' if near else ': there'} are {', '.join(names)}"
    return text
