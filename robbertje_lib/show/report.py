"""The report of a run: one HTML page that holds everything it shows, so that it opens from disk without a network."""

import base64
import platform
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import jinja2

from robbertje_lib.conclusions.published import paper_comparisons, published_tables
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import atomic_path
from robbertje_lib.experiment.profile import LAST_STAGE
from robbertje_lib.experiment.provenance import commit, hardware, package_versions
from robbertje_lib.experiment.results.claims import ClaimsResult, failed
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.words import duration
from robbertje_lib.show import figures
from robbertje_lib.show.figure_style import stamp
from robbertje_lib.show.tables.formatting import number, p_value, smallest

PACKAGES = ("torch", "transformers", "datasets", "tokenizers", "accelerate", "numpy", "scipy", "statsmodels")
TEMPLATE = paths.DATA / "report.html.j2"


def write_report(run: Run) -> Path:
    """Write `figures/<run>/report.html` from `claims.json`, the saved figures and the run records; return its path.

    Everything that comes from results, names or records is escaped. Raises `UserError` if `claims.json` or
    `significance.json` is missing.
    """
    claims, significance = ClaimsResult.read(run), SignificanceResult.read(run)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "number": number,
        "smallest": smallest,
        "duration": duration,
        "megabytes": lambda count: f"{count / 1e6:,.0f} MB",
        "p": p_value,
        "commit": lambda git: commit(git).removeprefix("commit "),
    }
    stages = [stage for stage in run.profile.stages if stage != LAST_STAGE]  # the last is running: this is part of it
    records = {stage: RunRecord.read(run, stage=stage) for stage in stages if RunRecord.exists(run, stage=stage)}
    versions, machine = package_versions(), hardware()
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        profile=run.profile,
        run_name=run.paths.run_name,
        stamp=stamp(run),
        claims=claims,
        changing=list(dict.fromkeys(claim.claim for claim in claims.claims if claim.changes)),
        untested=[claim for claim in claims.claims if claim.verdict == "not_tested"],
        failed=failed(claims.instruments),
        significance=significance,
        paper=paper_comparisons(),
        confounds=published_tables().confounds,
        pictures=_pictures(run),
        records=records,
        missing=[stage for stage in stages if stage not in records],
        environment={
            "Python": platform.python_version(),
            **{name: versions[name] for name in PACKAGES if name in versions},
            "processor": machine.processor,
            "cores": machine.cores,
            "memory": f"{machine.memory_bytes / 2**30:.0f} GiB",
            "GPU": ", ".join(machine.gpus) or "none",
        },
    )
    path = run.paths.figures / "report.html"
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _pictures(run: Run) -> list[dict[str, str]]:
    """The saved figures as data URIs: those of `figures` in their order, then any others by name."""
    order = {name: place for place, name in enumerate(figures.all_figures())}
    files = sorted(run.paths.figures.glob("*.svg"), key=lambda file: (order.get(file.stem, len(order)), file.stem))
    return [
        {
            "name": file.stem,
            "caption": _caption(file),
            "source": "data:image/svg+xml;base64," + base64.b64encode(file.read_bytes()).decode(),
        }
        for file in files
    ]


def _caption(svg: Path) -> str:
    """The description that `save_figure` stored in the file."""
    described = ElementTree.parse(svg).getroot().find(".//{http://purl.org/dc/elements/1.1/}description")
    return (described.text or "") if described is not None else ""
