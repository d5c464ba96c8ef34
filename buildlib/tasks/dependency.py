"""doit's dependency manager: for our steps, freshness is ours; for the user's tasks it is doit's own.

Knows doit's interface and hands every question about a step to the session. Does not decide anything itself.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from doit.action import BaseAction
from doit.dependency import Dependency, DependencyStatus
from doit.exceptions import BaseFail, TaskFailed
from doit.task import Task

from buildlib.errors import BuildlibError
from buildlib.plan import CLEAN, Decision, outputs_digest
from buildlib.tasks import said
from buildlib.tasks.session import Session


class EngineDependency(Dependency):  # type: ignore[misc]  # doit has no type hints
    """doit's `Dependency` over the same database, which knows our steps."""

    def __init__(self, session: Session, stock: Dependency) -> None:
        self.__dict__.update(stock.__dict__)
        self.session = session
        self._looked: dict[str, Decision] = {}
        self._stock_get, self._get = stock._get, self._get_any
        self._stock_remove, self.remove = stock.remove, self._remove_any

    def _members(self, name: str) -> tuple[str, ...]:
        return self.session.names.groups.get(name, (name,))

    def _get_any(self, name: str, key: str) -> Any:
        """Return what `result_dep` compares of a step or a group: the digests of its outputs; else doit's own row."""
        steps = [n for n in self._members(name) if n in self.session.names.steps]
        if key != "result:" or not steps:
            return self._stock_get(name, key)
        return {n: outputs_digest(self.session.records[n].outputs) for n in steps if n in self.session.records}

    def _remove_any(self, name: str) -> None:
        """Forget a task; of a group, all its steps."""
        for member in self._members(name):
            self._stock_remove(member)

    def ignore(self, task: Any) -> None:
        """Mark a task to be ignored; of a group, all its steps."""
        for member in self._members(task.name):
            self._set(member, "ignore:", "1")

    def get_status(self, task: Any, tasks_dict: Any, get_log: bool = False) -> DependencyStatus:
        """Say whether `task` must run; a step that will is marked as running before it is dispatched."""
        group = not self.session.acts and task.name in self.session.names.groups
        if task.name not in self.session.names.steps and not group:
            return super().get_status(task, tasks_dict, get_log)
        status = DependencyStatus(get_log)
        if not self.session.acts:
            self._describe(task.name, status)
            return status
        decision = self.session.settle(task.name)
        if decision.certainty != CLEAN:
            # From here the reason is text for people and databases, whatever bytes the name of a file has.
            decision = self.session.plan[task.name] = replace(decision, reason=said.plain(decision.reason))
            status.status = "run"
            _ = self.session.workshop  # made here, once, before any thread asks for it
            self.session.database.begin(task.name, decision.reason)
        return status

    def _describe(self, name: str, status: DependencyStatus) -> None:
        if not self._looked:
            self._looked = self.session.decide(list(self.session.names.steps), bare=False)
        moving = [d for n in self._members(name) if (d := self._looked.get(n)) and d.certainty != CLEAN]
        if moving:
            status.status = "run"
            status.reasons["buildlib"] = [
                d.reason if d.task == name else f"{d.task.replace(':', ' ', 1)}: {d.reason}" for d in moving
            ]

    def save_success(self, task: Any, result_hash: str | None = None) -> None:
        """Commit the record of a step (or doit's own of a user's task)."""
        if task.name not in self.session.names.steps:
            super().save_success(task, result_hash)
            return
        record = self.session.commit(task.name)
        made = [output.path for output in record.outputs]
        self._ended(task.name, record.word, record.reason, record.seconds, made)

    def remove_success(self, task: Any) -> None:
        """Note a failure; a step that was only skipped keeps what its record proves."""
        if task.name not in self.session.names.steps:
            self._stock_remove(task.name)  # of a group, that is nobody's record: its steps speak for themselves
        elif self.session.ended.get(task.name) == "failed":
            self.session.database.failed(task.name)
            self._ended(task.name, "failed", self.session.plan[task.name].reason)
        else:
            self._ended(task.name, "skipped", culprit(self.session, task.name))

    def _ended(self, name: str, word: str, reason: str, seconds: float = 0.0, outputs: Sequence[str] = ()) -> None:
        self.session.ended[name] = word
        self.session.log.step(task=name, word=word, reason=reason, seconds=round(seconds, 3), outputs=list(outputs))

    def get_values(self, task_name: str) -> dict[str, Any]:
        """Return what other tasks may ask of a step (`getargs`): the paths of its outputs by name."""
        steps = [n for n in self._members(task_name) if n in self.session.names.steps]
        if not steps:
            return super().get_values(task_name)  # type: ignore[no-any-return]
        records = [self.session.records[n] for n in steps if n in self.session.records]
        return {"outputs": {o.name: o.path for record in records for o in record.outputs}} if records else {}

    def get_value(self, task_id: str, key_name: str) -> Any:
        """Return one of `get_values`."""
        ours = task_id in self.session.names.steps or task_id in self.session.names.groups
        return self.get_values(task_id)[key_name] if ours else super().get_value(task_id, key_name)


def culprit(session: Session, name: str) -> str:
    """Return why a step is skipped: which of those it needs failed or was skipped."""
    for needed in session.step(name).needs:
        word = session.ended.get(needed)
        if word in ("failed", "skipped"):
            return f"{needed.replace(':', ' ', 1)} {word}"
    return "what it needs failed"


class StepAction(BaseAction):  # type: ignore[misc]  # doit has no type hints
    """Runs one step. doit's own Python action would swap the whole process's stdout for each thread."""

    def __init__(self, session: Session, name: str) -> None:
        self.session, self.name = session, name
        self.task: Any = None
        self.out = self.err = ""
        self.result: Any = None
        self.values: dict[str, Any] = {}

    def execute(self, out: Any = None, err: Any = None) -> BaseFail | None:
        """Make the step's outputs; return the failure that doit reports, if any."""
        del out, err
        try:
            self.session.make(self.name)
        except BuildlibError as error:
            self.session.ended[self.name] = "failed"
            return StepFailed(error)
        except Exception as fault:  # ours, or the system's: it fails this step, and must not take the others with it
            import traceback

            self.session.ended[self.name] = "failed"
            cause = f"{type(fault).__name__}: {fault}"
            return StepFailed(
                BuildlibError(self.name, cause, "this is a fault of buildlib's: report it", traceback.format_exc())
            )
        self.values = self.get_outputs()
        return None

    def get_outputs(self) -> dict[str, Any]:
        """Return the paths of the outputs by name, as `getargs` hands them on."""
        return {"outputs": {o.name: o.path for o in self.session.ran[self.name].record.outputs}}


class StepFailed(TaskFailed):  # type: ignore[misc]  # doit has no type hints
    """A step that could not be made, with the error to show."""

    def __init__(self, error: BuildlibError) -> None:
        super().__init__(str(error))
        self.error = error


class StepTask(Task):  # type: ignore[misc]  # doit has no type hints
    """The task of a step, as commands other than `run` see it."""

    def __init__(self, session: Session, name: str, *arguments: Any, **settings: Any) -> None:
        super().__init__(name, *arguments, **settings)
        self.session = session

    def clean(self, outstream: Any, dryrun: bool) -> None:
        """Remove what the step made, and its record; say what goes, and nothing where nothing does."""
        from buildlib.tasks.clean import clean

        for line in clean(self.session, self.name, dryrun):
            said.out(line, outstream)
