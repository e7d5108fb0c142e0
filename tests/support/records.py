"""Run records for tests that need one: everything that a record must hold, with what the test cares about changed."""

from typing import Any

from robbertje_lib.experiment import provenance
from robbertje_lib.experiment.results.record import RunRecord


def run_record(stage: str, **changes: Any) -> RunRecord:
    """The record of a stage that read and wrote nothing."""
    record = RunRecord(
        stage=stage,
        notebook=f"notebooks/{stage.partition('-')[0]}.ipynb",
        notebook_sha256="0" * 64,
        executed_sha256="0" * 64,
        modules={},
        settings=[],
        parameters={},
        profile=None,
        profile_digest=None,
        git=provenance.git_state(),
        python=provenance.python_version(),
        packages={},
        hardware=provenance.hardware(),
        threads=1,
        precision=None,
        patchwork=False,
        started="2026-11-22T18:00:00+00:00",
        seconds=90.0,
        peak_memory_bytes=1_240_000_000,
        inputs={},
        outputs={},
        taken_from=None,
    )
    return RunRecord.model_validate({**record.model_dump(), **changes})
