"""`doit init`: writes the few lines that a repository needs, and says what it found.

First everything is read and decided, then written, each file whole; no line that is there is changed. Knows the files
that make `doit` this engine. Does not know what projects are made of.
"""

import ast
import json
import os
import posixpath
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from doit.exceptions import InvalidCommand

from buildlib.errors import BuildlibError
from buildlib.fingerprint.working import WorkingTree
from buildlib.tasks import extend, ignore, said
from buildlib.tasks.commands import Parsed
from buildlib.tasks.generated import DOC
from buildlib.workspace.discover import FOLDERS, Rules, children
from buildlib.workspace.globs import Globs, exact, globs_of, same_projects
from buildlib.workspace.graph import checked
from buildlib.workspace.locks import lock_files
from buildlib.workspace.metadata import parse_toml
from buildlib.workspace.model import Workspace
from buildlib.workspace.read import read_workspace, root_rules, template_reason
from buildlib.workspace.tree import Entry

PYPROJECT, DODO, IGNORE = "pyproject.toml", "dodo.py", ".gitignore"

DODO_TEXT = '''\
"""The build tasks come from the pyproject.toml files of this repository; add tasks of your own here."""

from buildlib.tasks.dodo import DOIT_CONFIG

__all__ = ["DOIT_CONFIG"]
'''

DOIT: extend.Tables = {
    "tool.doit": {
        "loader": "buildlib",
        "backend": "buildlib",
        "reporter": "buildlib",
        "dep_file": ".buildlib/state.db",
    },
    "tool.doit.plugins.loader": {"buildlib": "buildlib.tasks.loader:Loader"},
    "tool.doit.plugins.backend": {"buildlib": "buildlib.tasks.backend:Backend"},
    "tool.doit.plugins.reporter": {"buildlib": "buildlib.tasks.reporter:Reporter"},
    "tool.doit.plugins.command": {
        "run": "buildlib.tasks.run:Run",
        "list": "buildlib.tasks.commands:List",
        "info": "buildlib.tasks.commands:Info",
        "clean": "buildlib.tasks.commands:Clean",
        "dumpdb": "buildlib.tasks.commands:DumpDB",
    },
}
"""What makes `doit` in a directory this engine."""

SHOWN = 20
"""How many names of a long list are printed."""


@dataclass(frozen=True)
class Change:
    """One file to be written: its path, its new text, and what is new in it, for a person."""

    path: str
    text: str
    what: str


class Init(Parsed):
    """Make `doit` build this repository."""

    name = "init"
    doc_purpose = "write what doit needs to build this repository, and show what was found"
    doc_usage = ""
    doc_description = "Writes only what is missing, changes no line, asks nothing."

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Decide, write, pin, tell."""
        del opt_values
        if pos_args:
            raise InvalidCommand("init takes no arguments; run it in the directory that holds the projects")
        if os.name == "nt":
            raise InvalidCommand("buildlib: Windows is not supported; run it in WSL")
        try:
            return _init()
        except BuildlibError as error:
            raise InvalidCommand(str(error)) from None
        except OSError as error:
            place, cause = os.path.relpath(error.filename or "."), error.strerror or error
            raise InvalidCommand(f"{place}: {cause}; check its permissions, and free space") from None


def _init() -> int:
    tree = WorkingTree(os.getcwd())
    rules = root_rules(tree)
    workspace = checked(read_workspace(tree))
    changes = [c for c in (_pyproject(tree, rules, workspace), _dodo(tree), _ignore(tree, workspace)) if c]
    for change in changes:
        _write(change)
        said.out(f"wrote {change.path}: {change.what}")
    pinned, code = _pin() if workspace.projects else (False, 0)
    if not (changes or pinned or code):
        said.out("nothing to write: all is there")
    for line in _story(tree, workspace):
        said.out(line)
    for line in _complaints(tree, workspace):
        said.err(line)
    return code


# -- the three files


def _pyproject(tree: WorkingTree, rules: Rules, workspace: Workspace) -> Change | None:
    text = _text(tree, PYPROJECT)
    for globs in (globs_of(tree, rules, workspace), exact(workspace)):
        configured = {"libs": rules.config.libs, "services": rules.config.services}
        ours = {k: list(getattr(globs, k)) for k, now in configured.items() if now is None and workspace.projects}
        new = extend.extended(text, {**DOIT, **({"tool.buildlib": ours} if ours else {})}, PYPROJECT)
        if same_projects(read_workspace(_Edited(tree, new)), workspace):
            return Change(PYPROJECT, new, _what(tree, globs, ours)) if new != text else None
    cause = "no globs find exactly the projects that are there"
    raise BuildlibError(PYPROJECT, cause, "write libs and services of [tool.buildlib] yourself; nothing was written")


def _what(tree: WorkingTree, globs: Globs, ours: Mapping[str, Any]) -> str:
    new = "" if tree.entry(PYPROJECT) else "new, "
    return f"{new}[tool.doit]" + "".join(f", {key} = {json.dumps(getattr(globs, key))}" for key in ours)


class _Edited:
    """A tree with another `pyproject.toml` at its root (see `Tree`)."""

    def __init__(self, tree: WorkingTree, text: str) -> None:
        self._tree, self._data = tree, text.encode()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tree, name)

    def entry(self, path: str) -> Entry | None:
        """Return the file or link at `path`."""
        if path != PYPROJECT:
            return self._tree.entry(path)
        import hashlib

        return Entry(path, hashlib.sha256(self._data).hexdigest(), len(self._data), False)

    def read(self, path: str) -> bytes:
        """Return the content of the file at `path`."""
        return self._data if path == PYPROJECT else self._tree.read(path)


def _dodo(tree: WorkingTree) -> Change | None:
    text = _text(tree, DODO)
    if tree.entry(DODO) is None:
        return Change(DODO, DODO_TEXT, "new")
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        place = f"{DODO}:{getattr(error, 'lineno', None) or 1}"
        raise BuildlibError(place, f"not valid Python ({error})", "mend it; nothing was written") from None
    for name in _names(module):
        if name.removeprefix("task_") in DOC and name.startswith("task_"):
            cause = f"{name} makes a task whose name is one of buildlib's"
            raise BuildlibError(DODO, cause, "give it another name; nothing was written")
    imports = {n for node in ast.walk(module) for n in _imported(node)}
    if any(n.startswith("buildlib.tasks.dodo") for n in imports):
        return None
    # A DOIT_CONFIG of its own stays what it is.
    own = "DOIT_CONFIG" in _names(module)
    line = "import buildlib.tasks.dodo" if own else "from buildlib.tasks.dodo import DOIT_CONFIG"
    end = "\r\n" if "\r\n" in text else "\n"
    head = text if not text or text.endswith("\n") else text + end
    return Change(DODO, f"{head}{end}{line}  # noqa: E402, F401{end}", line)


def _names(module: ast.Module) -> set[str]:
    """Return the names that a module defines or imports at its top."""
    found: set[str] = set()
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {t.id for t in targets if isinstance(t, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def _imported(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def _ignore(tree: WorkingTree, workspace: Workspace) -> Change | None:
    text = _text(tree, IGNORE)
    entries = ignore.lacking(os.getcwd(), text, workspace.paths)
    return Change(IGNORE, ignore.extended(text, entries), " ".join(entries)) if entries else None


def _text(tree: WorkingTree, path: str) -> str:
    """Return the text of a file, its line ends as they are; empty where there is none."""
    if not os.path.lexists(path):
        return ""
    data = tree.read(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BuildlibError(f"{path}:{line}", "not UTF-8", "save the file as UTF-8; nothing was written") from None


def _write(change: Change) -> None:
    """Put the file in place, whole; a link stays one."""
    temporary, place = f".buildlib/tmp/{change.path}", os.path.realpath(change.path)
    os.makedirs(".buildlib/tmp", exist_ok=True)
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(change.text)
    if os.path.exists(place):
        shutil.copymode(place, temporary)
    os.replace(temporary, place)


# -- buildlib.lock


def _pin() -> tuple[bool, int]:
    """Pin what builds need; return whether the lock was written, and the exit code."""
    from buildlib.steps.pins import pin_all
    from buildlib.tasks.session import Session
    from buildlib.toolchain.uv import NETWORK

    session = Session(acts=False)
    try:
        session.begin()
        before = _content("buildlib.lock")
        pinned = pin_all(session.facts, session.workshop.executor, session.workshop.environments)
    finally:
        session.close()
    if wrote := _content("buildlib.lock") != before:
        said.out(f"wrote buildlib.lock: {len(pinned.changes)} packages pinned")
    for problem in pinned.problems:
        if problem.cure == NETWORK:
            problem = BuildlibError("buildlib.lock", problem.cause, "run `doit lock` once there is a network")
        said.err(str(problem))
    return wrote, 1 if pinned.problems else 0


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


# -- what was found


def _story(tree: WorkingTree, workspace: Workspace) -> Iterator[str]:
    projects = sorted(workspace.projects.values(), key=lambda p: p.path)
    for kind, many in (("library", "libraries"), ("service", "services")):
        yield _list(many, [f"{p.name} ({p.path or '.'})" for p in projects if p.kind == kind])
    locks = sorted({path for p in projects for path in lock_files(p.path) if tree.entry(path)})
    yield _list("locks", [p for p in locks if not p.endswith("requirements.txt") or b"--hash=" in tree.read(p)])
    dockerfiles = [p.inner(p.config.image.dockerfile) for p in projects if p.kind == "service"]
    yield _list("Dockerfiles", [path for path in dockerfiles if tree.entry(path)])


def _list(what: str, names: list[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{what}: {len(names)}" + (f": {', '.join(map(said.plain, names[:SHOWN]))}{more}" if names else "")


def _complaints(tree: WorkingTree, workspace: Workspace) -> Iterator[str]:
    """Yield what was skipped and why, what lies elsewhere, and what is wrong with a project: a line each."""
    yield from (str(problem.error()) for problem in workspace.problems)
    elsewhere, templates = _elsewhere(tree, workspace)
    yield from templates
    if elsewhere:
        cure = "add their folders to libs or services of [tool.buildlib] to build them"
        yield f"{_list('projects elsewhere', elsewhere)}; {cure}"
    if not workspace.projects:
        yield f"pyproject.toml: no projects; none is below {', '.join(FOLDERS)}, and no path dependency leads to one"
    yield from (str(p.problem.error()) for p in workspace.projects.values() if p.problem)


def _elsewhere(tree: WorkingTree, workspace: Workspace) -> tuple[list[str], list[str]]:
    """Return the directories of projects, by their file, that are none of the workspace's; and lines of templates."""
    told = {problem.place for problem in workspace.problems}
    found: list[str] = []
    templates: list[str] = []
    todo = [""]
    for directory in todo:
        inside, path = directory in workspace.paths, posixpath.join(directory, PYPROJECT)
        if directory and not inside and path not in told and tree.entry(path) is not None:
            data = tree.read(path)
            if _is_project(path, data):
                found.append(directory)
            elif reason := template_reason(data):
                templates.append(f"{path}: a template ({reason}); skipped")
        todo += [d for d in children(tree, directory, inside) if not os.path.islink(d)]
    return sorted(found), sorted(templates)


def _is_project(path: str, data: bytes) -> bool:
    try:
        raw = parse_toml(path, data)
    except BuildlibError:
        return False
    tool = raw.get("tool")
    table = raw.get("project", tool.get("poetry") if isinstance(tool, dict) else None)
    name = table.get("name") if isinstance(table, dict) else None
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None
