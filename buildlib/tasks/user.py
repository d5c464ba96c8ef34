"""The user's own tasks of `dodo.py`: which of them a word means, what they need, and the errors of that file.

Knows doit's tasks. Does not know steps: a word that means no task of the user's is somebody else's to explain.
"""

import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from doit.cmdparse import CmdOption, CmdParseError, TaskParse
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask
from doit.task import Task

from buildlib.tasks.run import misparsed

DODO = "dodo.py"


def defines_tasks(namespace: Mapping[str, Any]) -> bool:
    """Return whether a `dodo.py` has tasks of its own: functions `task_…`, or what creates some."""
    return any(callable(v) and (n.startswith("task_") or hasattr(v, "create_doit_tasks")) for n, v in namespace.items())


def fault(error: Exception) -> Exception:
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


def words_of(selected: Iterable[str], user: Mapping[str, Task]) -> dict[str, list[str]]:
    """Return the names among `selected`, each once, with the options and arguments that follow a user's task."""
    rest, names = list(selected), dict[str, list[str]]()
    while rest:
        name = rest.pop(0)
        task, before = user.get(name), rest
        if task is not None and task.pos_arg is not None:
            rest = []
        elif task is not None and rest:
            options = TaskParse([CmdOption(option) for option in (*task.creator_params, *task.params)])
            try:
                rest = list(options.parse(rest)[1])
            except CmdParseError as error:
                raise misparsed(error, name) from None
        names.setdefault(name, before[: len(before) - len(rest)])
    return names


def decides_later(task: Task) -> bool:
    """Return whether what `task` needs is known only while it runs: any step may have to be there then."""
    return bool(task.calc_dep or task.loader)


def named(user: Mapping[str, Task], word: str) -> list[str]:
    """Return the user's tasks that `word` means: by name, wildcard, target, or what `@create_after` may make."""
    if word in user:
        return [word]
    found = [n for n, task in user.items() if word in task.targets or ("*" in word and fnmatchcase(n, word))]
    return found or [n for n, task in user.items() if task.loader and _may_create(n, task.loader, word)]


def _may_create(name: str, loader: Any, word: str) -> bool:
    return word.startswith(f"{name}:") or bool(loader.target_regex and re.match(loader.target_regex, word))


def uses(user: Mapping[str, Task], asked: Iterable[str]) -> dict[str, Task]:
    """Return the user's tasks that `asked` names, with the user's tasks that those need."""
    todo = [name for word in asked for name in named(user, word)]
    found: dict[str, Task] = {}
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = user[name]
            makers = [t.name for t in user.values() if not user[name].file_dep.isdisjoint(t.targets)]
            todo += [n for n in (*_needs(user[name]), *makers) if n in user]
            todo += [n for pattern in user[name].wild_dep for n in user if fnmatchcase(n, pattern)]
            todo += user if decides_later(user[name]) else ()
    return {name: task for name, task in user.items() if name in found}


def _needs(task: Task) -> list[str]:
    return [*task.task_dep, *task.setup_tasks, *task.calc_dep, *(name for name, _ in task.getargs.values())]


def referred(user: Mapping[str, Task]) -> list[str]:
    """Return every word by which the user's tasks may mean a step of ours: names, wildcards, paths of targets."""
    return [
        word
        for task in user.values()
        for word in (*_needs(task), *task.wild_dep, *sorted(task.file_dep))
        if word not in user
    ]
