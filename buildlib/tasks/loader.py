"""doit's loader: tasks generated from the workspace, beside the user's own from `dodo.py`.

For `doit run` it hands over only what may run: what was asked for, what is stale, what depends on that, and the user's tasks that are
needed. Every other command sees all tasks. Knows doit's loader interface. Does not decide what is stale (the plan does).
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from doit.cmd_base import NamespaceTaskLoader
from doit.exceptions import InvalidCommand, InvalidDodoFile
from doit.globals import Globals
from doit.loader import get_module
from doit.task import Task

from buildlib.errors import BuildlibError
from buildlib.fingerprint.index import RECORDS
from buildlib.tasks import quick, said

REFUSED = {
    "single": "-s ignores what a task needs, and would leave stale outputs; run the task without it",
    "dep_file": "--db-file would hide what is known of past runs; leave it out",
    "backend": "--backend would hide what is known of past runs; leave it out",
    "par_type": "-P process cannot run these tasks; leave it out (-n runs threads, each heavy action in a process of its own)",
}
"""What bypasses the laws, by doit's name of the option: why, and the cure."""


class Loader(NamespaceTaskLoader):  # type: ignore[misc]  # doit has no type hints
    """Loads `dodo.py` and the workspace at the current directory."""

    cmd_options = ()

    def setup(self, opt_values: Any) -> None:
        """Import `dodo.py` (it may be missing) and refuse options that bypass the laws."""
        _refuse(opt_values)
        self.namespace = vars(get_module("dodo.py")) if os.path.exists("dodo.py") else {}

    def load_doit_config(self) -> dict[str, Any]:
        """Return doit's settings: other steps go on after a failure, parallel means threads; `dodo.py` has the last word."""
        user = super().load_doit_config() if self.namespace else {}
        return {"continue": True, "par_type": "thread", **user}

    def load_tasks(self, cmd: Any, pos_args: list[str]) -> list[Task]:
        """Return the tasks that `cmd` needs. Errors are one line each, and nothing was done."""
        if cmd.name == "reset-dep":
            raise InvalidCommand("reset-dep would bless stale outputs; run `doit` instead, it rebuilds only what changed")
        try:
            return self._run_tasks(cmd, pos_args) if cmd.execute_tasks else self._all_tasks(cmd, pos_args)
        except BuildlibError as error:
            raise InvalidCommand(str(error)) from None

    # -- doit run

    def _run_tasks(self, cmd: Any, pos_args: list[str]) -> list[Task]:
        if not hasattr(cmd, "engine"):
            raise InvalidDodoFile('pyproject.toml: [tool.doit.plugins.command] has no run; add run = "buildlib.tasks.run:Run"')
        asked = list(pos_args) or list(cmd.sel_tasks or ())
        user = self._user_tasks(cmd, pos_args)
        proof = None if cmd.engine.always or _uses(user, asked) else quick.prove(asked)
        if proof is not None and proof.counts is not None:
            cmd.engine.answered = proof.counts
            cmd.sel_tasks = []  # nothing is left to run; doit need not even look into the database
            return []
        return self._planned(cmd, asked, user, proof)

    def _planned(self, cmd: Any, asked: list[str], user: dict[str, Task], proof: quick.Proof | None) -> list[Task]:
        from buildlib.tasks.dependency import EngineDependency
        from buildlib.tasks.session import Session

        session = cmd.engine.session = Session(acts=True, proof=proof)
        session.begin()
        cmd.dep_manager = Globals.dep_manager = EngineDependency(session, cmd.dep_manager)
        wanted = _uses(user, asked)
        names = _step_names(session, asked or ["build"], wanted)
        session.decide(names, bare=quick.is_bare(asked), always=cmd.engine.always)
        cmd.engine.choose_jobs(len(session.runnable()), bool(wanted))
        loaded = {name: _task(session, name) for name in session.runnable()}
        tasks = [*loaded.values(), *wanted.values()]
        for name in dict.fromkeys([*(asked or ["build"]), *_referred(wanted)]):
            if name not in loaded and name not in wanted and (steps := session.resolve(name)) and "*" not in name:
                tasks.append(_stand_in(name, [s for s in steps if s in loaded]))
        if not asked:
            cmd.sel_tasks = ["build"]
        return tasks

    def _user_tasks(self, cmd: Any, pos_args: list[str]) -> dict[str, Task]:
        if not any(callable(v) and (n.startswith("task_") or hasattr(v, "create_doit_tasks")) for n, v in self.namespace.items()):
            return {}
        return {task.name: task for task in super().load_tasks(cmd, pos_args)}

    # -- every other command

    def _all_tasks(self, cmd: Any, pos_args: list[str]) -> list[Task]:
        from buildlib.tasks.dependency import EngineDependency
        from buildlib.tasks.session import Session

        session = Session(acts=False)
        if cmd.name in ("clean", "forget", "ignore", "info", "plan", "lock"):
            session.begin()
        else:
            session.read_only()
        cmd.session = session
        cmd.dep_manager = Globals.dep_manager = EngineDependency(session, cmd.dep_manager)
        described = set(pos_args) if cmd.name == "info" else set()
        tasks = [_full_task(session, name, name in described) for name in session.names.steps]
        tasks += [_group(session, name) for name in session.names.groups]
        return [*tasks, *self._user_tasks(cmd, pos_args).values()]


def _refuse(options: Any) -> None:
    given: set[str] = getattr(options, "_non_default_keys", set())
    default = {"dep_file": RECORDS, "backend": "buildlib", "par_type": "thread", "single": False}
    for name, why in REFUSED.items():
        if name in given and options.get(name) != default[name]:
            raise InvalidCommand(why)


def _step_names(session: Any, asked: Iterable[str], user: Mapping[str, Task]) -> list[str]:
    words = [*asked, *_referred(user)]
    return list(dict.fromkeys(step for word in words for step in session.resolve(word)))


def _uses(user: Mapping[str, Task], asked: Iterable[str]) -> dict[str, Task]:
    """Return the user's tasks that `asked` names, with the user's tasks that those need."""
    from fnmatch import fnmatchcase

    todo = [n for word in asked for n in user if n == word or ("*" in word and fnmatchcase(n, word)) or word in user[n].targets]
    found: dict[str, Task] = {}
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = user[name]
            makers = [t.name for t in user.values() if not user[name].file_dep.isdisjoint(t.targets)]
            todo += [n for n in (*_needs(user[name]), *makers) if n in user]
            todo += [n for pattern in user[name].wild_dep for n in user if fnmatchcase(n, pattern)]
    return {name: task for name, task in user.items() if name in found}


def _needs(task: Task) -> list[str]:
    return [*task.task_dep, *task.setup_tasks, *task.calc_dep, *(name for name, _ in task.getargs.values())]


def _referred(user: Mapping[str, Task]) -> list[str]:
    """Return every word by which the user's tasks may mean a step of ours: names, wildcards, paths of targets."""
    return [word for task in user.values() for word in (*_needs(task), *task.wild_dep, *sorted(task.file_dep)) if word not in user]


def _stand_in(name: str, needs: list[str]) -> Task:
    """Return a task that does nothing itself; it is up to date, so that doit keeps no record of it."""
    return Task(name, None, task_dep=needs, uptodate=[True])


def _task(session: Any, name: str) -> Task:
    from buildlib.tasks.dependency import StepAction

    needs = [n for n in session.step(name).needs if n in session.plan and session.plan[n].certainty != "clean"]
    record = session.records.get(name)
    targets = [o.path for o in record.outputs if not o.path.startswith("image:")] if record else []
    return Task(name, [StepAction(session, name)], task_dep=needs, targets=targets)


def _full_task(session: Any, name: str, described: bool) -> Task:
    """Return the task as a correct Makefile rule would name it: what it reads, what it makes, what it needs."""
    from buildlib.tasks.dependency import StepAction, clean_action

    verb_name, project = session.names.steps[name]
    record = session.records.get(name)
    outputs = [o.path for o in record.outputs] if record else []
    step = session.step(name) if described else None
    upstream = [o.path for n in step.needs if n in session.records for o in session.records[n].outputs] if step else []
    files = sorted({*(step.files if step else ()), *upstream})
    return Task(
        name,
        [StepAction(session, name)],
        file_dep=[f for f in files if os.path.isfile(f)],
        task_dep=list(step.needs) if step else [],
        targets=[p for p in outputs if not p.startswith("image:")],
        subtask_of=verb_name,
        clean=[clean_action(session, name)],
        doc=f"{_DOC[verb_name]} of {project}",
    )


_DOC = {
    "wheel": "wheel",
    "requirements": "third-party packages, exact and hashed,",
    "stage": "build context (dist/)",
    "image": "container image",
    "build": "everything",
}


def _group(session: Any, name: str) -> Task:
    head, colon, project = name.partition(":")
    steps = list(session.names.groups[name])
    if colon:
        kind = session.workspace.projects[project].kind
        return Task(name, None, task_dep=steps, subtask_of=head, doc=f"{kind} {session.workspace.projects[project].path}")
    members = [n for n in session.names.groups if n.startswith(f"{name}:")] if name == "build" else steps
    return Task(name, None, task_dep=members, has_subtask=True, doc=f"{_DOC.get(name, name)} of every project")


__all__ = ["Loader", "said"]
