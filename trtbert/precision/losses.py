"""What the weights lose in a 16-bit format, in words."""

from dataclasses import dataclass, field

import numpy as np

from trtbert.precision.formats import Array, Format

_WORTH_A_NOTE = 1e-3
"""Share of a tensor's values that become 0 from which it gets a note of its own."""


@dataclass
class Losses:
    """Counts, over all converted weights, the values that leave the normal range of the format."""

    format: Format
    notes: list[str] = field(default_factory=list)
    num_values: int = 0
    num_flushed: int = 0
    num_subnormal: int = 0

    def add(self, name: str, array: Array, scaled: Array) -> None:
        """Count for the weight `array`, which is stored as `scaled`."""
        magnitude = np.abs(scaled)
        flushed = int(((magnitude <= self.format.flush) & (magnitude > 0)).sum())
        subnormal = int(((magnitude < self.format.tiny) & (magnitude > self.format.flush)).sum())
        self.num_values += array.size
        self.num_flushed += flushed
        self.num_subnormal += subnormal
        self._note_overflow(name, array)
        if flushed > _WORTH_A_NOTE * array.size:
            self.notes.append(
                f"{name}: {flushed / array.size:.2%} of the weights are too small for {self.format.name} and become 0, "
                f"{subnormal / array.size:.2%} become subnormal"
            )

    def _note_overflow(self, name: str, array: Array) -> None:
        overflowing = int((np.abs(array) > self.format.max).sum())
        if overflowing:
            self.notes.append(
                f"{name}: {overflowing} of {array.size} values are beyond {self.format.max:.0f}, up to {np.abs(array).max():.3g}; "
                "stored times a power of two"
            )

    def summary(self) -> tuple[str, ...]:
        if not self.num_flushed + self.num_subnormal:
            return ()
        counts = f"{self.num_flushed} ({self.num_flushed / self.num_values:.2%}) became 0, {self.num_subnormal} subnormal"
        return (f"of {self.num_values} weights in {self.format.name}, {counts}",)
