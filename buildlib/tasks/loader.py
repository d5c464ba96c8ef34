"""doit's loader: tasks generated from the workspace, beside the user's own from `dodo.py`.

For `doit run` it hands over only what may run: what was asked for, what is stale, what depends on that, and the user's
tasks that are needed. Every other command sees all tasks. Knows doit's loader interface. Does not decide what is stale
(the plan does).
"""

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from doit.cmd_base import NamespaceTaskLoader
from doit.exceptions import InvalidCommand, InvalidDodoFile
from doit.globals import Globals
from doit.loader import get_module
from doit.task import Task

from buildlib.errors import BuildlibError
from buildlib.fingerprint.index import RECORDS
from buildlib.tasks import quick, said
from buildlib.tasks.generated import DOC, full_task, group_task, stand_in, step_task
from buildlib.tasks.user import DODO, decides_later, defines_tasks, fault, named, referred, uses, words_of

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
        if os.name == "nt":
            raise InvalidDodoFile("buildlib: Windows is not supported; run it in WSL")
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
                raise fault(error) from None

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
        words = words_of(cmd.sel_tasks or (), user)
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
        session, wanted = _begun(cmd, proof), uses(user, asked)
        self._check(cmd.name, session, user, asked)
        bare = quick.is_bare(asked) or asked == self._meant()
        session.decide(step_names(session, asked or ["build"], wanted), bare=bare, always=cmd.engine.always)
        cmd.engine.choose_jobs(len(session.runnable()), bool(wanted))
        if not asked:
            cmd.sel_tasks = ["build"]
        return _loaded(session, asked or ["build"], wanted)

    def _meant(self) -> list[str]:
        """Return what `./doit` made of no task at all in a project's folder."""
        return (self.config or {}).get("GLOBAL", {}).get("meant", [])  # type: ignore[no-any-return]

    def _user_tasks(self, cmd: Any, pos_args: list[str]) -> dict[str, Task]:
        if not defines_tasks(self.namespace):
            return {}
        try:
            tasks = {task.name: task for task in super().load_tasks(cmd, pos_args)}
        except Exception as error:
            raise fault(error) from None
        for name in tasks:
            if name.partition(":")[0] in DOC:
                raise InvalidDodoFile(
                    f"{DODO}: a task is called {name}, which is a name of buildlib's; give it another name"
                )
        return tasks

    def _check(self, command: str, session: Any, user: Mapping[str, Task], words: Iterable[str]) -> None:
        """Raise if a word names nothing, with the nearest name that does."""
        for word in words:
            known = word in DOC or word in session.names.groups  # a verb may have no step here, nor a project
            if not known and not named(user, word) and not steps_of(session, word):
                raise InvalidCommand(
                    _unknown(command, word, [*session.names.steps, *session.names.groups, *user, *self.cmd_names])
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
        tasks = [full_task(session, name, name in described) for name in session.names.steps]
        empty = [word for word in {"build", *pos_args} if word in DOC and word not in session.names.groups]
        tasks += [group_task(session, name) for name in (*session.names.groups, *empty)]
        return [*tasks, *user.values()]

    def _name_tasks(self, cmd: Any, session: Any, user: Mapping[str, Task], pos_args: list[str]) -> None:
        """Replace wildcards and paths among `pos_args` by the names of tasks, which is all that most commands know."""
        if cmd.name not in ("clean", "forget", "ignore", "info", "list", "plan", "why"):
            return
        self._check(cmd.name, session, user, pos_args)
        known = dict.fromkeys((*session.names.steps, *session.names.groups, *DOC, *user))
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


def _begun(cmd: Any, proof: quick.Proof | None) -> Any:
    """Return the session of a run, begun; from here doit asks it whether a task is fresh."""
    from buildlib.tasks.dependency import EngineDependency
    from buildlib.tasks.session import Session

    session = cmd.engine.session = Session(acts=True, proof=proof)
    session.begin()
    if not session.workspace.projects:
        cure = "set libs and services in [tool.buildlib] to globs of their directories"
        said.err(f"pyproject.toml: no projects; {cure}")
    if cmd.engine.params.get("verbosity") == 2:
        session.stream = lambda text: said.err(text.rstrip("\n"))
    cmd.dep_manager = Globals.dep_manager = EngineDependency(session, cmd.dep_manager)
    return session


def _loaded(session: Any, asked: Iterable[str], wanted: Mapping[str, Task]) -> list[Task]:
    """Return the steps that may run, the wanted tasks of the user, and a stand-in for every other name they mention."""
    loaded = {name: step_task(session, name) for name in session.runnable()}
    _link(session, wanted.values(), loaded)
    open_ended = [*session.names.steps, *session.names.groups] if any(map(decides_later, wanted.values())) else []
    tasks = [*loaded.values(), *wanted.values()]
    for name in dict.fromkeys([*asked, *referred(wanted), *open_ended]):
        if name not in loaded and name not in wanted and "*" not in name:
            steps = steps_of(session, name)
            known = steps or name in DOC or name in session.names.groups
            tasks += [stand_in(name, [s for s in steps if s in loaded])] if known else []
    return tasks


def _refuse(options: Mapping[str, Any], place: str) -> None:
    for name, (value, switch, why) in REFUSED.items():
        if options.get(name, value) != value:
            raise InvalidCommand(f"{place}{name} = {options[name]!r} {why}" if place else f"{switch} {why}")


def _unknown(command: str, word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    if word.startswith("-"):
        return f"{word}: options go before the tasks; `doit help {command}` shows them"
    near = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"{said.plain(word)}: no such task, target or command; " + (
        f"did you mean {near[0]}?" if near else "`doit list --all` shows the tasks"
    )


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
    return [*named(user, word), *steps_of(session, word)]


def step_names(session: Any, asked: Iterable[str], user: Mapping[str, Task]) -> list[str]:
    words = [*asked, *referred(user), *(session.names.steps if any(map(decides_later, user.values())) else ())]
    return list(dict.fromkeys(step for word in words for step in steps_of(session, word)))


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
