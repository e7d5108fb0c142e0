"""What the ONNX forms of a model lose against torch, from the loss of every held-out line."""

import numpy as np

from robbertje_lib.experiment.results.claims import FormLoss
from robbertje_lib.experiment.results.efficiency import FormLosses
from robbertje_lib.experiment.run import Run
from robbertje_lib.statistics.resampling import bootstrapped_scores, percentile_interval, ratio

RESAMPLES = 1000


def compare_forms(run: Run) -> list[FormLoss]:
    """Each form of each model minus torch, with its 95 % bootstrap interval over lines; empty without such losses."""
    if not FormLosses.exists(run):
        return []
    losses = []
    for model, rows in FormLosses.read(run).to_pandas().groupby("model", sort=False):
        nats = rows.pivot(index="line", columns="form", values="nats")
        masked = rows.drop_duplicates("line").set_index("line")["masked_tokens"].loc[nats.index]
        for form in rows["form"].drop_duplicates():
            if form != "torch":
                counts = np.column_stack([nats[form] - nats["torch"], masked])
                drawn = bootstrapped_scores(counts, ratio, RESAMPLES, np.random.default_rng(run.profile.seed))
                mean, interval = float(ratio(counts.sum(axis=0))), percentile_interval(drawn)
                losses.append(FormLoss(model=str(model), form=form, difference=mean, interval=interval))
    return losses
