"""doit's reporter: a line a step when its record is committed, one line of summary, one line an error.

Knows doit's reporter interface and the words of `said`. The user's own tasks are reported as doit's console reporter
does.
"""

from typing import Any

from doit.exceptions import BaseFail, TaskFailed, UnmetDependency
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
        self.engine.erred = False
        names = [*self.session.runnable(), *self.session.refused] if self.session else []
        self.width = max((len(name) for name in names), default=0)
        self.colour = said.coloured(self.outstream)
        self.progress: Any = None
        if self.session:
            self._say_refused()
            others = any(t.actions and not self._is_step(t) for t in tasks.values())  # they write what they like
            self.progress = None if others else self.engine.progress(len(self.session.runnable()))

    def _say_refused(self) -> None:
        for name, why in self.session.refused.items():
            self._skip(name, why)

    def _skip(self, name: str, why: str) -> None:
        """Say that a step is skipped, and why; what is skipped again is only counted."""
        record = self.session.records.get(name)
        if record is None or (record.word, record.reason) != ("skipped", why):
            self.session.database.skipped(name, why)
            self._line(name, "skipped", 0.0, why)
            self.session.log.step(task=name, word="skipped", reason=why, seconds=0.0, outputs=[])

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
            self._end(task.name, record.word, record.seconds, record.reason)

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """Say that a step failed, and its error on stderr; or that it was skipped, and which other failed."""
        if not isinstance(fail, (TaskFailed, UnmetDependency)):
            self.engine.erred = True
        if not self._is_step(task):
            if task.actions or not isinstance(fail, UnmetDependency):  # else a group: its steps have their lines
                self.session.ended[task.name] = "skipped" if isinstance(fail, UnmetDependency) else "failed"
                super().add_failure(task, fail)
        elif isinstance(fail, UnmetDependency):
            from buildlib.tasks.dependency import culprit

            self._end(task.name, "skipped", 0.0, culprit(self.session, task.name))
        else:
            self._end(task.name, "failed", 0.0, self.session.plan[task.name].reason)
            self._error(fail)

    def _error(self, fail: BaseFail) -> None:
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

    def runtime_error(self, msg: str) -> None:
        """Keep an error of doit's own for the end of the run."""
        self.engine.erred = True
        super().runtime_error(msg)

    def skip_ignore(self, task: Any) -> None:
        """Say that a step is ignored (`doit ignore`), or that one it needs is."""
        if self._is_step(task):
            own = self.session.database.values(task.name).get("ignore:")
            self.session.ended[task.name] = "skipped"
            self._skip(task.name, f"ignored until `doit forget {task.name}`" if own else "what it needs is ignored")
        elif task.actions:
            super().skip_ignore(task)

    def complete_run(self) -> None:
        """Say the summary; a failed run has one too."""
        progress = getattr(self, "progress", None)
        if progress:
            progress.close()
        super().complete_run()
        counts = self.engine.counts()
        if counts is not None:
            said.out(said.summary(counts, self.engine.seconds()), self.outstream)

    def _end(self, name: str, word: str, seconds: float, reason: str) -> None:
        if self.progress:
            self.progress.end(name)
        self._line(name, word, seconds, reason)

    def _line(self, name: str, word: str, seconds: float, reason: str) -> None:
        line = said.step_line(name, word, seconds, reason, self.width, self.colour)
        if self.progress:
            self.progress.above(lambda: said.out(line, self.outstream))
        else:
            said.out(line, self.outstream)

    def _is_step(self, task: Any) -> bool:
        return self.session is not None and task.name in self.session.names.steps
