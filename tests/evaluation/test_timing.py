"""Timings count real tokens, and models take turns."""

import pytest
import torch

from robbertje_lib.evaluation.efficiency import Timed, run_seconds, time_in_turns, with_head, without_head
from robbertje_lib.models.masked_lm import MaskedLM, load_masked_lm
from tests.support.small_models import LINES, save_small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MaskedLM:
    return load_masked_lm(save_small_model("roberta", tmp_path_factory.mktemp("roberta")))


def test_padding_is_not_counted(model: MaskedLM) -> None:
    lines = [LINES[0], "hij"]
    real = sum(len(model.tokenizer(line)["input_ids"]) for line in lines)
    timed = {"teacher": without_head(model, lines, lines, batch_size=2)}
    measured = time_in_turns(timed, 1, seconds=lambda _, batches: float(len(batches)))["teacher"]
    assert measured.throughput_tokens_per_second.median == real
    assert measured.latency_ms.median == 1000


def test_models_take_turns(model: MaskedLM) -> None:
    order: list[Timed] = []

    def spy(timed: Timed, batches: list[dict[str, torch.Tensor]]) -> float:
        order.append(timed)
        return run_seconds(timed, batches)

    one, two = (without_head(model, LINES[:4], LINES[:4], batch_size=2) for _ in range(2))
    result = time_in_turns({"teacher": one, "student": two}, 2, spy)
    # A warm-up each, then latency and throughput in turns, the second round the other way around.
    assert [timed is one for timed in order] == [
        timed is one for timed in (one, two, one, one, two, two, two, two, one, one)
    ]
    for measured in result.values():
        assert len(measured.latency_ms_by_round) == 2 and min(measured.latency_ms_by_round) == measured.latency_ms.low
        for spread in (measured.latency_ms, measured.throughput_tokens_per_second):
            assert 0 < spread.low <= spread.median <= spread.high


def test_the_head_is_left_out_where_a_task_has_none(model: MaskedLM) -> None:
    whole, bare = with_head(model, LINES[:1], LINES[:3], 2), without_head(model, LINES[:3], LINES[:3], 2)
    assert [len(timed.singles) for timed in (whole, bare)] == [1, 3] and len(whole.batches) == len(bare.batches) == 2
    assert hasattr(whole.forward(**whole.singles[0]), "logits") and not hasattr(
        bare.forward(**bare.singles[0]), "logits"
    )
