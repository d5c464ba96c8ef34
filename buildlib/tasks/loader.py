"""doit's loader: tasks generated from the workspace, beside the user's own from `dodo.py`.

For `doit run` it hands over only what may run: what was asked for, what is stale, what depends on that, and the user's
tasks that are needed. Every other command sees all tasks. Knows doit's loader interface. Does not decide what is stale
(the plan does).
"""

import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from doit.cmd_base import NamespaceTaskLoader
from doit.cmdparse import CmdOption, TaskParse
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask
from doit.globals import Globals
from doit.loader import get_module
from doit.task import Task

from buildlib.errors import BuildlibError
from buildlib.fingerprint.index import RECORDS
from buildlib.tasks import quick, said

DODO = "dodo.py"
REFUSED = {
    "single": (False, "-s", "ignores what a task needs, and would leave stale outputs; run the task without it"),
    "dep_file": (RECORDS, "--db-file", "would hide what is known of past runs; leave it out"),
    "backend": ("buildlib", "--backend", "would hide what is known of past runs; leave it out"),
    "par_type": (
        "thread",
        "-P process",
        "cannot run these tasks; leave it out (-n runs threads, each heavy action in a process of its own)",
    ),
}
"""What bypasses the laws, by doit's name of the option: the only value it may have, its switch, why, and the cure."""


class Loader(NamespaceTaskLoader):  # type: ignore[misc]  # doit has no type hints
    """Loads `dodo.py` and the workspace at the current directory."""

    cmd_options = ()
    buildlib = True  # by this the commands know that the repository's tasks are ours

    def setup(self, opt_values: Any) -> None:
        """Import `dodo.py` (it may be missing) and refuse options that bypass the laws."""
        self.options = opt_values
        given: set[str] = getattr(opt_values, "_non_default_keys", set())
        _refuse({name: opt_values.get(name) for name in given}, "")
        for section in ("GLOBAL", "run"):
            _refuse((self.config or {}).get(section, {}), "pyproject.toml: [tool.doit] ")
        if opt_values.get("backend", "buildlib") != "buildlib":
            raise InvalidDodoFile('pyproject.toml: [tool.doit] names no backend; add backend = "buildlib"')
        self.namespace = {}
        if os.path.exists(DODO):
            try:
                self.namespace = vars(get_module(DODO))
            except Exception as error:
                raise _fault(error) from None

    def load_doit_config(self) -> dict[str, Any]:
        """Return doit's settings: after a failure others go on, parallel means threads; `dodo.py` has the last word."""
        user = super().load_doit_config() if self.namespace else {}
        _refuse(user, f"{DODO}: DOIT_CONFIG ")
        return {"continue": True, "par_type": "thread", **user}

    def load_tasks(self, cmd: Any, pos_args: list[str]) -> list[Task]:
        """Return the tasks that `cmd` needs. Errors are one line each, and nothing was done."""
        if cmd.name == "reset-dep":
            raise InvalidCommand(
                "reset-dep would bless stale outputs; run `doit` instead, it rebuilds only what changed"
            )
        try:
            return self._run_tasks(cmd, pos_args) if cmd.execute_tasks else self._all_tasks(cmd, pos_args)
        except BuildlibError as error:
            raise InvalidCommand(str(error)) from None
        except OSError as error:
            place, cause = error.filename or ".buildlib", error.strerror or error
            raise InvalidCommand(f"{place}: {cause}; check what is there, its permissions, and free space") from None

    # -- doit run

    def _run_tasks(self, cmd: Any, pos_args: list[str]) -> list[Task]:
        if cmd.name != "run":
            raise InvalidCommand(
                f"{cmd.name} would run tasks past the engine; `doit info TASK` shows what a task reads and makes"
            )
        if not hasattr(cmd, "engine"):
            raise InvalidDodoFile(
                'pyproject.toml: [tool.doit.plugins.command] has no run; add run = "buildlib.tasks.run:Run"'
            )
        user = self._user_tasks(cmd, pos_args)
        if cmd.engine.params.get("num_process") < 0:
            raise InvalidCommand("-n: the number of jobs cannot be below 0; give 1 or more")
        words = _words(cmd.sel_tasks or (), user)
        if words:  # doit drops all that follows a name given twice
            cmd.sel_tasks = [part for name, arguments in words.items() for part in (name, *arguments)]
        asked = list(words)
        proof = None if cmd.engine.always or uses(user, asked) else quick.prove(asked)
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
        if not session.workspace.projects:
            said.err(
                "pyproject.toml: no projects; make a directory with a pyproject.toml in libs/ or services/, "
                "or set libs and services in [tool.buildlib]"
            )
        if cmd.engine.params.get("verbosity") == 2:
            session.stream = lambda text: said.err(text.rstrip("\n"))
        cmd.dep_manager = Globals.dep_manager = EngineDependency(session, cmd.dep_manager)
        wanted = uses(user, asked)
        self._check(session, user, asked)
        names = step_names(session, asked or ["build"], wanted)
        session.decide(names, bare=quick.is_bare(asked), always=cmd.engine.always)
        cmd.engine.choose_jobs(len(session.runnable()), bool(wanted))
        loaded = {name: _task(session, name) for name in session.runnable()}
        _link(session, wanted.values(), loaded)
        tasks = [*loaded.values(), *wanted.values()]
        open_ended = [*session.names.steps, *session.names.groups] if any(map(_decides_later, wanted.values())) else []
        for name in dict.fromkeys([*(asked or ["build"]), *_referred(wanted), *open_ended]):
            if name not in loaded and name not in wanted and "*" not in name:
                steps = steps_of(session, name)
                tasks += [_stand_in(name, [s for s in steps if s in loaded])] if steps or name in _DOC else []
        if not asked:
            cmd.sel_tasks = ["build"]
        return tasks

    def _user_tasks(self, cmd: Any, pos_args: list[str]) -> dict[str, Task]:
        if not any(
            callable(v) and (n.startswith("task_") or hasattr(v, "create_doit_tasks"))
            for n, v in self.namespace.items()
        ):
            return {}
        try:
            tasks = {task.name: task for task in super().load_tasks(cmd, pos_args)}
        except Exception as error:
            raise _fault(error) from None
        for name in tasks:
            if name.partition(":")[0] in _DOC:
                raise InvalidDodoFile(
                    f"{DODO}: a task is called {name}, which is a name of buildlib's; give it another name"
                )
        return tasks

    def _check(self, session: Any, user: Mapping[str, Task], words: Iterable[str]) -> None:
        """Raise if a word names nothing, with the nearest name that does."""
        for word in words:
            if (
                not _named(user, word) and not steps_of(session, word) and word not in _DOC
            ):  # a verb may have no step here
                raise InvalidCommand(
                    _unknown(word, [*session.names.steps, *session.names.groups, *user, *self.cmd_names])
                )

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
        if cmd.dep_manager is not None:  # completion has none
            cmd.dep_manager = Globals.dep_manager = EngineDependency(session, cmd.dep_manager)
        user = cmd.user_tasks = self._user_tasks(cmd, pos_args)
        self._name_tasks(cmd, session, user, pos_args)
        described = self._described(cmd, session, pos_args)
        tasks = [_full_task(session, name, name in described) for name in session.names.steps]
        empty = [word for word in {"build", *pos_args} if word in _DOC and word not in session.names.groups]
        tasks += [_group(session, name) for name in (*session.names.groups, *empty)]
        return [*tasks, *user.values()]

    def _name_tasks(self, cmd: Any, session: Any, user: Mapping[str, Task], pos_args: list[str]) -> None:
        """Replace wildcards and paths among `pos_args` by the names of tasks, which is all that most commands know."""
        if cmd.name not in ("clean", "forget", "ignore", "info", "list", "plan", "why"):
            return
        self._check(session, user, pos_args)
        known = dict.fromkeys((*session.names.steps, *session.names.groups, *_DOC, *user))
        pos_args[:] = [name for word in pos_args for name in _tasks_named(session, known, user, word)]
        if cmd.name == "forget" and not cmd.sel_tasks:
            cmd.sel_tasks = ["build"]  # what a bare `doit` stands for

    def _described(self, cmd: Any, session: Any, pos_args: list[str]) -> set[str]:
        """Return the steps of which `cmd` has to know what they read and need: to describe all of them takes time."""
        follows = {
            "clean": self.options.get("cleandep") or (cmd.sel_tasks and not pos_args),
            "forget": self.options.get("forget_sub"),
            "list": self.options.get("list_deps"),
        }
        return set(session.names.steps) if follows.get(cmd.name) else set(pos_args) if cmd.name == "info" else set()


def _refuse(options: Mapping[str, Any], place: str) -> None:
    for name, (value, switch, why) in REFUSED.items():
        if options.get(name, value) != value:
            raise InvalidCommand(f"{place}{name} = {options[name]!r} {why}" if place else f"{switch} {why}")


def _fault(error: Exception) -> Exception:
    """Return the error of `dodo.py` as one line with its place, a file and line of the repository."""
    if isinstance(error, (InvalidDodoFile, InvalidTask, InvalidCommand)):
        return error  # type: ignore[no-any-return]
    place = f"{DODO}:{error.lineno}" if isinstance(error, SyntaxError) else DODO
    trace = error.__traceback__
    root = os.path.join(os.getcwd(), "")
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(root) and "/.venv/" not in file:
            place = f"{file.removeprefix(root)}:{trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{os.path.relpath(error.filename)}:{error.lineno}"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    text = f"{place}: {type(error).__name__}: {' '.join(text.split())}; mend it, or take it out of {DODO}"
    return InvalidDodoFile(text)  # type: ignore[no-any-return]


def _unknown(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    if word.startswith("-"):
        return f"{word}: options go before the tasks; `doit help run` shows them"
    near = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"{said.plain(word)}: no such task, target or command; " + (
        f"did you mean {near[0]}?" if near else "`doit list --all` shows the tasks"
    )


def _words(selected: Iterable[str], user: Mapping[str, Task]) -> dict[str, list[str]]:
    """Return the names among `selected`, each once, with the options and arguments that follow a user's task."""
    rest, names = list(selected), dict[str, list[str]]()
    while rest:
        name = rest.pop(0)
        task, before = user.get(name), rest
        if task is not None and task.pos_arg is not None:
            rest = []
        elif task is not None and rest:
            options = TaskParse([CmdOption(option) for option in (*task.creator_params, *task.params)])
            rest = list(options.parse(rest)[1])
        names.setdefault(name, before[: len(before) - len(rest)])
    return names


def steps_of(session: Any, word: str) -> tuple[str, ...]:
    """Return the steps that `word` stands for: a task, a group, a wildcard, the path of a target, absolute or not."""
    if not os.path.isabs(word):
        return session.resolve(word)  # type: ignore[no-any-return]
    folder, name = os.path.split(word)
    return session.resolve(os.path.relpath(os.path.join(os.path.realpath(folder), name)))  # type: ignore[no-any-return]


def _tasks_named(session: Any, known: Iterable[str], user: Mapping[str, Task], word: str) -> Iterable[str]:
    if word in known:
        return (word,)
    if "*" in word:
        return [name for name in known if fnmatchcase(name, word)]
    return [*_named(user, word), *steps_of(session, word)]


def step_names(session: Any, asked: Iterable[str], user: Mapping[str, Task]) -> list[str]:
    words = [*asked, *_referred(user), *(session.names.steps if any(map(_decides_later, user.values())) else ())]
    return list(dict.fromkeys(step for word in words for step in steps_of(session, word)))


def _decides_later(task: Task) -> bool:
    """Return whether what `task` needs is known only while it runs: any step may have to be there then."""
    return bool(task.calc_dep or task.loader)


def _named(user: Mapping[str, Task], word: str) -> list[str]:
    """Return the user's tasks that `word` means: by name, wildcard, target, or what `@create_after` may make."""
    if word in user:
        return [word]
    found = [n for n, task in user.items() if word in task.targets or ("*" in word and fnmatchcase(n, word))]
    return found or [n for n, task in user.items() if task.loader and _may_create(n, task.loader, word)]


def _may_create(name: str, loader: Any, word: str) -> bool:
    return word.startswith(f"{name}:") or bool(loader.target_regex and re.match(loader.target_regex, word))


def uses(user: Mapping[str, Task], asked: Iterable[str]) -> dict[str, Task]:
    """Return the user's tasks that `asked` names, with the user's tasks that those need."""
    todo = [name for word in asked for name in _named(user, word)]
    found: dict[str, Task] = {}
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = user[name]
            makers = [t.name for t in user.values() if not user[name].file_dep.isdisjoint(t.targets)]
            todo += [n for n in (*_needs(user[name]), *makers) if n in user]
            todo += [n for pattern in user[name].wild_dep for n in user if fnmatchcase(n, pattern)]
            todo += user if _decides_later(user[name]) else ()
    return {name: task for name, task in user.items() if name in found}


def _link(session: Any, wanted: Iterable[Task], loaded: Mapping[str, Task]) -> None:
    """Let the user's tasks wait for the steps whose outputs they read.

    Of a step never built, doit cannot know the targets; by `getargs` alone it would judge the task before the step ran.
    """
    for task in wanted:
        for path in sorted(task.targets):
            if any(
                path == o.path
                for step in steps_of(session, path)
                if step in session.records
                for o in session.records[step].outputs
            ):
                raise InvalidDodoFile(
                    f"{DODO}: task {task.name} has a target that is a step's, {path}; give it another place"
                )
        for path in (*sorted(task.file_dep), *(name for name, _ in task.getargs.values())):
            task.task_dep += [s for s in steps_of(session, path) if s in loaded and s not in task.task_dep]


def _needs(task: Task) -> list[str]:
    return [*task.task_dep, *task.setup_tasks, *task.calc_dep, *(name for name, _ in task.getargs.values())]


def _referred(user: Mapping[str, Task]) -> list[str]:
    """Return every word by which the user's tasks may mean a step of ours: names, wildcards, paths of targets."""
    return [
        word
        for task in user.values()
        for word in (*_needs(task), *task.wild_dep, *sorted(task.file_dep))
        if word not in user
    ]


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
    steps = list(session.names.groups.get(name, ()))
    if colon:
        kind = session.workspace.projects[project].kind
        return Task(
            name, None, task_dep=steps, subtask_of=head, doc=f"{kind} {session.workspace.projects[project].path}"
        )
    members = [n for n in session.names.groups if n.startswith(f"{name}:")] if name == "build" else steps
    return Task(name, None, task_dep=members, has_subtask=True, doc=f"{_DOC.get(name, name)} of every project")


__all__ = ["Loader", "said"]
