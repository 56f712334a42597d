"""When a warm-up or a weight stroke ends: the loss no longer falls."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingsError


@dataclass(frozen=True)
class Plateau:
    """The loss has not fallen by more than a share `fall` for `patience` epochs in a row (§4.1)."""

    patience: int = 2
    fall: float = 0.01

    def __post_init__(self) -> None:
        if not isinstance(self.patience, int) or self.patience < 1 or not 0 <= self.fall < 1:
            raise SettingsError(
                f"a plateau needs a whole patience >= 1 and 0 <= fall < 1, not {self.patience}, {self.fall}"
            )

    def reached(self, losses: list[float]) -> bool:
        """Whether the losses, one an epoch, end in a plateau."""
        if len(losses) <= self.patience:
            return False
        best_before = min(losses[: -self.patience])
        return min(losses[-self.patience :]) > best_before * (1 - self.fall)
