"""Snakemake with a logger plugin of ours: what its jobs do, as lines of JSON on a pipe that `engine` reads.

    python -m robbertje_lib.workflow.snakemake_events PARENT ARGUMENTS...

It ends with the process PARENT: a killed `make reproduce` must not go on unseen.
"""

import json
import os
import sys
from dataclasses import dataclass, field
from logging import LogRecord
from typing import Any

from snakemake.cli import main
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from robbertje_lib.workflow.processes import die_with_parent


# What Snakemake looks for in a plugin goes by these two names.
@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    pipe: int = field(default=-1, metadata={"help": "file descriptor that takes the events", "type": int})


class LogHandler(LogHandlerBase):
    """Writes `{"event": "job", "finished", "failed" or "error", ...}`. A job is told by the `message:` of its rule."""

    writes_to_stream = writes_to_file = has_formatter = needs_rulegraph = False
    has_filter = True

    settings: LogHandlerSettings

    def __post_init__(self) -> None:
        self.graph: list[Any] = []
        self.stages: dict[int, str] = {}

    def emit(self, record: LogRecord) -> None:
        told = record.__dict__
        match told.get("event"):
            case LogEvent.DEBUG_DAG if told.get("status") == "selected":
                self.graph.append(told["job"])
            case LogEvent.JOB_INFO if told["rule_msg"]:  # the rule `all` has none, and runs nothing
                self.stages[told["jobid"]] = told["rule_msg"]
                self._tell("job", told["jobid"], command=told["shellcmd"], why=self._why(told["jobid"]))
            case LogEvent.JOB_FINISHED:
                self._tell("finished", told["job_id"])
            case LogEvent.JOB_ERROR:
                self._tell("failed", told["jobid"])
            case LogEvent.ERROR:
                self._write(event="error", message=record.getMessage())

    def _tell(self, event: str, number: int, **more: Any) -> None:
        if number in self.stages:
            self._write(event=event, stage=self.stages[number], **more)

    def _why(self, number: int) -> dict[str, Any]:
        """Snakemake's reason for a job, field by field; nothing unless it tells of its graph (`--debug-dag`)."""
        job = next((job for job in self.graph if job.jobid == number), None)
        if job is None:
            return {}
        reason = job.dag.reason(job)
        return {
            "missing": bool(reason.missing_output),
            "interrupted": bool(reason.incomplete_output),
            "settings": bool(reason.params_changed),
            "rules": bool(reason.code_changed),
            "changed": sorted(map(str, reason.updated_input - reason.updated_input_run)),
        }

    def _write(self, **content: Any) -> None:
        os.write(self.settings.pipe, json.dumps(content).encode() + b"\n")


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    LoggerPluginRegistry().register_plugin("snakemake_logger_plugin_robbertje", sys.modules[__name__])
    main(sys.argv[2:])
