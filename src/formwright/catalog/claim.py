"""What a system is said to be, as programs that anyone can run again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from formwright.reporting import Reporter

#: A ``count`` and an ``equality`` hold or do not; the ``direction`` of a headline, and what was ``measured`` of speed
#: and memory on this machine, are reported as they come out.
Kind = Literal["count", "equality", "direction", "measured"]

#: The rung of the evidence that a kind of claim supports.
RUNGS: dict[Kind, str] = {"count": "built", "equality": "equal", "direction": "trained", "measured": "measured"}


@dataclass(frozen=True)
class ClaimResult:
    """What came out: a figure or a sentence, whether it is as published, and the details.

    ``figures`` are the scores of what was compared, one per seed of ``seeds``, where there are several.
    """

    measured: str
    holds: bool
    details: str = ""
    figures: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seeds: Sequence[int] = ()


@dataclass(frozen=True)
class Claim:
    """One statement about a system and the program that tests it.

    Attributes:
        id: name within the system; what follows a colon is the variant that it is about.
        kind: what sort of statement it is.
        statement: the claim as a sentence or a quantity.
        published: what the paper or the authors' code gives, as text.
        run: the program; it tells its progress.
        slow: takes minutes, so that a quick verification leaves it out.
    """

    id: str
    kind: Kind
    statement: str
    published: str
    run: Callable[[Reporter], ClaimResult]
    slow: bool = False

    @property
    def group(self) -> str:
        """The name without the variant: what the system's card lists."""
        return self.id.partition(":")[0]


@dataclass(frozen=True)
class ClaimReport:
    """A claim after it was run."""

    system: str
    claim: str
    kind: Kind
    statement: str
    published: str
    measured: str
    holds: bool
    seconds: float
    details: str = ""
    error: bool = False
    figures: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seeds: Sequence[int] = ()

    @property
    def failed(self) -> bool:
        """Whether something is wrong with us: a count or equality that does not hold, or a program that broke."""
        return self.error or (not self.holds and self.kind in ("count", "equality"))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "failed": self.failed}
