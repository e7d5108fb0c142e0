"""What `90_claims_and_figures` writes: the verdict on every claim, and whether the instruments read the truth."""

from collections.abc import Iterable
from typing import ClassVar

from robbertje_lib.experiment.results.base import Interval, Record, ResultFile
from robbertje_lib.statistics import Verdict

ONE_RUN = "one run each"  # begins the reason where a claim is about distillations, and there is one alone


class FindingRow(Record):
    """One difference judged. `factor`: times the sample that would decide it; None where no sample would."""

    what: str
    difference: float
    interval: Interval
    adjusted_p: float
    outcome: Verdict
    factor: float | None


class ClaimVerdict(Record):
    """A claim of the paper in one setting (selection and recipe). `ours` and `interval` are in `unit`."""

    id: str
    setting: str
    scope: str  # what the verdict is about: teacher, scale, recipe, replicates, and what it stands below
    smallest: float | None  # the smallest difference of interest, in `unit`
    bounded: bool | None  # whether the interval lies within it, both ways; None where that is not the question
    claim: str
    source: str
    test: str
    published: str
    published_verdict: Verdict | None
    unit: str
    ours: float | None
    interval: Interval | None
    verdict: Verdict
    reason: str
    sample_factor: float | None
    findings: list[FindingRow]
    kind: str  # real text, or instrument check
    changes: bool  # whether another setting has another verdict


class InstrumentCheck(Record):
    """What was planted, what was read, and whether that is near enough."""

    instrument: str
    planted: str
    read: str
    passed: bool
    detail: str


def failed(checks: Iterable[InstrumentCheck]) -> list[str]:
    """Names of the instruments that failed a check, each once."""
    return list(dict.fromkeys(check.instrument for check in checks if not check.passed))


class FormLoss(Record):
    """What a form of a model loses against torch, in nats a masked token, with its interval over lines."""

    model: str
    form: str  # fp32 or int8, in ONNX
    difference: float
    interval: Interval


class ClaimsResult(ResultFile):
    """All claims and instruments of a run."""

    where: ClassVar[str] = "claims.json"
    version: ClassVar[int] = 3

    kind: str
    alpha: float
    claims: list[ClaimVerdict]
    instruments: list[InstrumentCheck]
    form_losses: list[FormLoss]
