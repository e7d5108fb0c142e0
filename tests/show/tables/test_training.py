"""A training run in figures, and its curves."""

from robbertje_lib.experiment.results.training import CurvePoint, HeldOutPoint, PrecisionUsed, TrainingResult
from robbertje_lib.show.tables.training import curve_table, training_table


def test_a_curve_keeps_its_last_point_and_leaves_out_parts_that_it_lacks() -> None:
    points = [CurvePoint(update=n, tokens=10 * n, seconds=n / 3, phase="causal", loss=1 / (n + 1)) for n in range(10)]
    table = curve_table(points, every=4)
    assert table.index.tolist() == [0, 4, 8, 9] and table.loc[9, "seconds"] == 3.0
    assert table.columns.tolist() == ["tokens", "seconds", "phase", "loss"]
    assert curve_table(points[:9], every=4).index.tolist() == [0, 4, 8]
    held_out = HeldOutPoint(update=1, tokens=9, seconds=1.26, training_seconds=1.0, loss=2.0, pseudo_perplexity=7.389)
    assert curve_table([held_out]).loc[1].tolist() == [9, 1.3, 1.0, 2.0, 7.39]


def test_a_training_run_in_figures() -> None:
    result = TrainingResult(
        parameters=1_234_567,
        precision=PrecisionUsed(name="fp32", reason="asked for"),
        processes=1,
        dropped={"too_short": 3, "half_unknown": 1},
        epoch_tokens=8192,
        updates=20,
        tokens=10_240,
        sequences=700,
        epochs=1,
        wall_seconds=185.0,
        tokens_per_second=2345.6,
        real_token_share=0.987,
        peak_rss_bytes=640_000_000,
        curve=[],
        held_out_curve=[],
    )
    assert training_table(result, "bort")["bort"].tolist() == [
        "1,234,567",
        "fp32",
        "4",
        "20",
        "1.25",
        "10,240",
        "3 min 5 s",
        "2,346",
        "98.7%",
        "0.64 GB",
    ]
