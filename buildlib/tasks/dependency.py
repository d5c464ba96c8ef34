"""doit's dependency manager: for our steps, freshness is ours; for the user's tasks it is doit's own.

Knows doit's interface and hands every question about a step to the session. Does not decide anything itself.
"""

from collections.abc import Callable
from typing import Any

from doit.action import BaseAction
from doit.dependency import Dependency, DependencyStatus
from doit.exceptions import BaseFail, TaskFailed

from buildlib.errors import BuildlibError
from buildlib.plan import CLEAN
from buildlib.tasks import said
from buildlib.tasks.session import Session


class EngineDependency(Dependency):  # type: ignore[misc]  # doit has no type hints
    """doit's `Dependency` over the same database, which knows our steps."""

    def __init__(self, session: Session, stock: Dependency) -> None:
        self.__dict__.update(stock.__dict__)
        self.session = session

    def get_status(self, task: Any, tasks_dict: Any, get_log: bool = False) -> DependencyStatus:
        """Say whether `task` must run; a step that will is marked as running before it is dispatched."""
        if task.name not in self.session.names.steps:
            return super().get_status(task, tasks_dict, get_log)
        status = DependencyStatus(get_log)
        if get_log or not self.session.acts:
            self._describe(task.name, status)
            return status
        decision = self.session.settle(task.name)
        if decision.certainty != CLEAN:
            status.status = "run"
            self.session.database.begin(task.name, decision.reason)
        return status

    def _describe(self, name: str, status: DependencyStatus) -> None:
        decision = self.session.decide([name], bare=True).get(name)
        if decision is not None and decision.certainty != CLEAN:
            status.status = "run"
            status.reasons["buildlib"] = [decision.reason]

    def save_success(self, task: Any, result_hash: str | None = None) -> None:
        """Commit the record of a step (or doit's own of a user's task)."""
        if task.name in self.session.names.steps:
            self.session.commit(task.name)
        else:
            super().save_success(task, result_hash)

    def remove_success(self, task: Any) -> None:
        """Note a failure; a step that was only skipped keeps what its record proves."""
        if task.name not in self.session.names.steps:
            super().remove_success(task)
        elif self.session.ended.get(task.name) == "failed":
            self.session.database.failed(task.name)

    def get_values(self, task_name: str) -> dict[str, Any]:
        """Return what other tasks may ask of a step (`getargs`): the paths of its outputs by name."""
        if task_name not in self.session.names.steps:
            return super().get_values(task_name)  # type: ignore[no-any-return]
        record = self.session.records.get(task_name)
        return {"outputs": {o.name: o.path for o in record.outputs}} if record else {}

    def get_value(self, task_id: str, key_name: str) -> Any:
        """Return one of `get_values`."""
        values = self.get_values(task_id)
        return values[key_name] if task_id in self.session.names.steps else super().get_value(task_id, key_name)


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
            return StepFailed(BuildlibError(self.name, cause, "this is a fault of buildlib's: report it", traceback.format_exc()))
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


def clean_action(session: Session, name: str) -> Callable[[bool], None]:
    """Return doit's clean action of a step: remove what it made, and its record."""

    def clean(dryrun: bool) -> None:
        from buildlib.tasks.clean import clean as clean_step

        for line in clean_step(session, name, dryrun):
            said.out(line)

    return clean
