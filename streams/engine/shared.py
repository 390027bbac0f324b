"""What both stages of a worker share."""

from dataclasses import dataclass, field

from driftline.detectors.layout.watch import Watch
from driftline.detectors.tumbling import NO_TIME
from driftline.streams.engine.dead_letters import Allowance
from driftline.streams.engine.holding import Holding
from driftline.streams.engine.unknown_models import Strangers
from driftline.streams.observability.metrics import Metrics


@dataclass(slots=True)
class Shared:
    """What both stages read: the watch that is in force now, replaced whole when a baseline comes."""

    watch: Watch
    partitions: int
    partials_partitions: int
    max_record_bytes: int
    metrics: Metrics
    dead_letters: Allowance = field(default_factory=Allowance)
    appended_ms: int = NO_TIME
    """Highest append time of the broker that this worker has read or learnt from another stage."""
    strangers: Strangers = field(default_factory=Strangers)
    holding: Holding = field(default_factory=Holding)

    def partitions_of(self, stage: str) -> int:
        """Partitions of what a stage reads."""
        return {"profiles": self.partitions, "verdicts": self.partials_partitions}[stage]
