"""The floor: aiokafka and the decoder, nothing else. No worker in Python can be cheaper."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
from consuming import consume
from job import Job

from driftline.detectors.documents.predictions import Prediction


def main(job: Job) -> None:
    """Consume the job's records."""
    decode = msgspec.json.Decoder(Prediction).decode

    def take(_partition: int, records: list[Any]) -> None:
        for record in records:
            decode(record.value)

    asyncio.run(consume(job, take))


if __name__ == "__main__":
    main(Job.read(sys.argv[1]))
