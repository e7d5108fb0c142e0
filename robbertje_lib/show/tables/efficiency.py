"""Tables of `80_efficiency`."""

import pandas as pd

from robbertje_lib.experiment.results.efficiency import EfficiencyResult, Timing

FORMS = {"torch": "torch", "fp32": "ONNX", "int8": "ONNX, int8"}


def efficiency_table(result: EfficiencyResult) -> pd.DataFrame:
    """One row a model: size, speed, and how many times smaller and faster than the teacher it is.

    `lines cut`: too long for the model. `not exported`: why it has no ONNX form, where one has none.
    """
    teacher = result.models["teacher"]
    rows = {
        name: {
            "parameters (M)": m.parameters / 1e6,
            "encoder (M)": m.encoder_parameters / 1e6,
            "MB on disk": m.bytes / 1e6,
            "MB as int8": m.forms["int8"].bytes / 1e6 if "int8" in m.forms else None,
            **_latency(m.timing),
            "tokens/s": m.timing.throughput_tokens_per_second.median,
            "lines cut": m.truncated_lines,
            "times smaller": teacher.parameters / m.parameters,
            "times faster": teacher.timing.latency_ms.median / m.timing.latency_ms.median,
        }
        | ({"not exported": result.not_exported.get(name, "")} if result.not_exported else {})
        for name, m in result.models.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").round({"tokens/s": 0}).round(2).astype({"tokens/s": int})


def _latency(timing: Timing) -> dict[str, float]:
    """Median, low and high, in milliseconds a sentence."""
    return dict(zip(("ms a sentence", "low", "high"), timing.latency_ms.model_dump().values(), strict=True))


def forms_table(result: EfficiencyResult) -> pd.DataFrame:
    """One row a model and form, all with the language-modelling head: size, speed, and what the form loses.

    `times faster` is against the same model in torch; `loss` is in nats a masked token, `difference` is that from
    torch; `same guess` is the share of masked tokens, in %, with the same most probable token.
    """
    rows = {}
    for name, model in result.models.items():
        torch = model.forms["torch"]
        for form, m in model.forms.items():
            rows[name, FORMS[form]] = {
                "MB": m.bytes / 1e6,
                **_latency(m.timing),
                "times faster": torch.timing.latency_ms.median / m.timing.latency_ms.median,
                "tokens/s": m.timing.throughput_tokens_per_second.median,
                "loss": m.loss,
                "difference": None if m is torch else m.loss - torch.loss,
                "same guess, %": None if m.top1_agreement is None else 100 * m.top1_agreement,
            }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["model", "form"])
    table = table.round({"MB": 2, "tokens/s": 0, "times faster": 2, "same guess, %": 1}).round(4)
    return (table + 0.0).astype({"tokens/s": int})  # + 0.0: no minus before what has been rounded to nothing


def finetuning_seconds_table(result: EfficiencyResult) -> pd.DataFrame:
    """Median fine-tuning seconds per model (rows) and task (columns)."""
    return pd.DataFrame({name: m.finetuning_seconds for name, m in result.models.items()}).T.round(1)
