"""doit's reporter: a line a step when its record is committed, one line of summary, one line an error.

Knows doit's reporter interface and the words of `said`. The user's own tasks are reported as doit's console reporter does.
"""

from typing import Any

from doit.exceptions import BaseFail, UnmetDependency
from doit.reporter import ConsoleReporter

from buildlib.tasks import said


class Reporter(ConsoleReporter):  # type: ignore[misc]  # doit has no type hints
    """Lines of steps on stdout, errors on stderr; nothing for what is up to date but its count."""

    desc = "a line a step with its reason, and a summary"
    engine: Any = None
    """The run that is reported, set by it before doit makes the reporter."""

    def initialize(self, tasks: dict[str, Any], selected_tasks: list[str]) -> None:
        """Note the columns, and say what is skipped for want of an engine and was not said before."""
        super().initialize(tasks, selected_tasks)
        self.session = self.engine.session
        names = [*self.session.runnable(), *self.session.refused] if self.session else []
        self.width = max((len(name) for name in names), default=0)
        self.colour = said.coloured(self.outstream)
        self.progress: Any = None
        if self.session:
            self._say_refused()
            self.progress = self.engine.progress(len(self.session.runnable()))

    def _say_refused(self) -> None:
        for name, why in self.session.refused.items():
            record = self.session.records.get(name)
            if record is None or record.word != "skipped":
                self.session.database.skipped(name, why)
                self._line(name, "skipped", 0.0, why)

    def execute_task(self, task: Any) -> None:
        """Show that a task began (on a terminal's progress bar; the user's as doit does)."""
        if not self._is_step(task):
            super().execute_task(task)
        elif self.progress:
            self.progress.begin(task.name)

    def add_success(self, task: Any) -> None:
        """Say what happened to a step, and why; its record is committed."""
        if self._is_step(task):
            record = self.session.records[task.name]
            self.session.ended[task.name] = record.word
            self._end(task.name, record.word, record.seconds, record.reason)

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """Say that a step failed, and its error on stderr; or that it was skipped, and which other failed."""
        if not self._is_step(task):
            super().add_failure(task, fail)
        elif isinstance(fail, UnmetDependency):
            self.session.ended[task.name] = "skipped"
            self._end(task.name, "skipped", 0.0, self._culprit(task.name))
        else:
            self.session.ended[task.name] = "failed"
            self._end(task.name, "failed", 0.0, self.session.plan[task.name].reason)
            self._error(task.name, fail)

    def _culprit(self, name: str) -> str:
        for needed in self.session.step(name).needs:
            word = self.session.ended.get(needed)
            if word in ("failed", "skipped"):
                return f"{needed.replace(':', ' ', 1)} {word}"
        return "what it needs failed"

    def _error(self, name: str, fail: BaseFail) -> None:
        error = getattr(fail, "error", None)
        if error is None:  # a fault of ours: the whole story helps more than a short line
            said.err(fail.get_msg().rstrip())
            return
        if error.detail:
            said.err(error.detail.rstrip())
        if str(error) not in self.engine.said:  # one cause that several steps meet is said once
            self.engine.said.add(str(error))
            said.err(str(error))

    def skip_uptodate(self, task: Any) -> None:
        """Say nothing of a step that is up to date: it is counted."""
        if not self._is_step(task) and task.actions:
            super().skip_uptodate(task)

    def complete_run(self) -> None:
        """Say the summary; a failed run has one too."""
        progress = getattr(self, "progress", None)
        if progress:
            progress.close()
        self.engine.summarise(self.outstream)
        if not self.session or self.failures or self.runtime_errors:
            super().complete_run()

    def _end(self, name: str, word: str, seconds: float, reason: str) -> None:
        if self.progress:
            self.progress.end(name)
        self._line(name, word, seconds, reason)

    def _line(self, name: str, word: str, seconds: float, reason: str) -> None:
        said.out(said.step_line(name, word, seconds, reason, self.width, self.colour), self.outstream)
        record = self.session.records.get(name)
        made = [o.path for o in record.outputs] if record and word not in ("failed", "skipped") else []
        self.session.log.step(task=name, word=word, reason=reason, seconds=round(seconds, 3), outputs=made)

    def _is_step(self, task: Any) -> bool:
        return self.session is not None and task.name in self.session.names.steps
