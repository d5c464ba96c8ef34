"""The sources of a service that is no package, as they lie in `dist/app/` and in the image.

Knows which of a project's files an application is. Does not know who copies them.
"""

import posixpath
from collections.abc import Iterator, Mapping

from buildlib.errors import BuildlibError
from buildlib.steps.workshop import Facts
from buildlib.workspace.locks import lock_files
from buildlib.workspace.model import Project

RECIPES = (*lock_files(""), "buildlib.lock", "dodo.py")
"""What lies beside an application to build it, besides its Dockerfiles."""

TESTS = frozenset({"test", "tests", "conftest.py"})
"""What lies beside an application to test it: a changed test changes no image."""


def sources(project: Project, facts: Facts) -> Mapping[str, str]:
    """Return the files of the application: path in `app/` → path in the workspace, both sorted.

    All inputs of the project but tests, what builds it and hidden files at its top; and all that `inputs` in its
    `[tool.buildlib]` names, whatever it is called. Links are followed: an image has no use for one that leads out.

    Raises:
        BuildlibError: `inputs` or a link names a place outside the workspace.
    """
    found: dict[str, str] = {}
    for path in facts.inputs(project):
        inner = posixpath.relpath(path, project.path or ".")
        if not _is_beside(inner):
            found.update(_followed(path, inner, facts))
    for path in facts.configured(project):
        inner = posixpath.relpath(path, project.path or ".")
        found.update(_followed(path, inner.replace("../", ""), facts))
    return dict(sorted(found.items()))


def _is_beside(inner: str) -> bool:
    """Return whether a file lies beside the application rather than in it."""
    top, _, below = inner.partition("/")
    return top.startswith(".") or top in TESTS or (not below and (top in RECIPES or _is_recipe(top)))


def _is_recipe(name: str) -> bool:
    return name.startswith("Dockerfile") or name.endswith((".Dockerfile", ".dockerfile"))


def _followed(path: str, inner: str, facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield a file, by the place where its content is; of a link to a directory, the files in there."""
    real = _real(path, facts)
    if facts.tree.entry(real) is not None:
        yield inner, real
    elif facts.tree.is_directory(real):
        for file in facts.tree.listings([real], facts.nested)[real]:
            entry = facts.tree.entry(file)
            if entry is not None and entry.target is None:  # a link in there might lead round in a circle
                yield posixpath.join(inner, posixpath.relpath(file, real)), file


def _real(path: str, facts: Facts) -> str:
    """Return where a chain of links from `path` ends. Raises `BuildlibError` if that is outside the workspace."""
    seen = {path}
    end = path
    while (entry := facts.tree.entry(end)) is not None and entry.target is not None:
        end = posixpath.normpath(posixpath.join(posixpath.dirname(end), entry.target))
        if end.startswith(("../", "/")) or end in seen:
            raise BuildlibError(path, f"links to {entry.target}, no file of this workspace", "copy the file")
        seen.add(end)
    return end
