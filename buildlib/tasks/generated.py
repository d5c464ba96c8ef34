"""doit's tasks for our steps and for the groups that stand for them.

Knows doit's tasks and the session. Does not decide which of them are loaded.
"""

import os
from typing import Any

from doit.task import Task

DOC = {
    "wheel": "wheel",
    "requirements": "third-party packages, exact and hashed,",
    "stage": "build context (dist/)",
    "image": "container image",
    "build": "everything",
}
"""What each verb makes, for `doit list`."""

_OF_SERVICES = ("requirements", "stage", "image")


def stand_in(name: str, needs: list[str]) -> Task:
    """Return a task that does nothing itself; it is up to date, so that doit keeps no record of it."""
    return Task(name, None, task_dep=needs, uptodate=[True])


def step_task(session: Any, name: str) -> Task:
    from buildlib.tasks.dependency import StepAction

    needs = [n for n in session.step(name).needs if n in session.plan and session.plan[n].certainty != "clean"]
    record = session.records.get(name)
    targets = [o.path for o in record.outputs if not o.path.startswith("image:")] if record else []
    return Task(name, [StepAction(session, name)], task_dep=needs, targets=targets)


def full_task(session: Any, name: str, described: bool) -> Task:
    """Return the task as a correct Makefile rule would name it: what it reads, what it makes, what it needs."""
    from buildlib.tasks.dependency import StepAction, StepTask

    verb_name, project = session.names.steps[name]
    record = session.records.get(name)
    outputs = [o.path for o in record.outputs] if record else []
    step = session.step(name) if described else None
    upstream = [o.path for n in step.needs if n in session.records for o in session.records[n].outputs] if step else []
    files = sorted({*(step.files if step else ()), *upstream})
    return StepTask(
        session,
        name,
        [StepAction(session, name)],
        file_dep=[f for f in files if os.path.isfile(f)],
        task_dep=list(step.needs) if step else [],
        targets=[p for p in outputs if not p.startswith("image:")],
        subtask_of=verb_name,
        doc=f"{DOC.get(verb_name, verb_name)} of {project}",
    )


def group_task(session: Any, name: str) -> Task:
    head, colon, project = name.partition(":")
    steps = list(session.names.groups.get(name, ()))
    if colon:
        kind = session.workspace.projects[project].kind
        return Task(
            name, None, task_dep=steps, subtask_of=head, doc=f"{kind} {session.workspace.projects[project].path}"
        )
    members = [n for n in session.names.groups if n.startswith(f"{name}:")] if name == "build" else steps
    of = "service" if name in _OF_SERVICES else "project"
    return Task(name, None, task_dep=members, has_subtask=True, doc=f"{DOC.get(name, name)} of every {of}")
