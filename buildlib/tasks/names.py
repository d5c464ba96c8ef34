"""Names: which step a word of the command line stands for (a task, a group, a wildcard, a target).

Knows names and paths. Does not know what steps do.
"""

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from buildlib.plan import Record
from buildlib.steps import verb, verbs
from buildlib.steps.workshop import Facts
from buildlib.workspace.model import Project

ALL = "build"
"""The task that a bare `doit` stands for."""


class Names:
    """The names of all steps.

    Attributes:
        steps: verb and project of every step, by step name, upstream verbs first.
        groups: the steps that each name stands for which is no step itself: `build`, `build:PROJECT`, each verb.
    """

    def __init__(self, steps: Iterable[str], projects: Mapping[str, Project]) -> None:
        self.steps = {name: (name.partition(":")[0], name.partition(":")[2]) for name in steps}
        self._projects = projects
        # A project of which nothing is made (no package) can be asked for all the same.
        groups: dict[str, list[str]] = {ALL: list(self.steps), **{f"{ALL}:{name}": [] for name in projects}}
        for name, (verb_name, project) in self.steps.items():
            groups.setdefault(verb_name, []).append(name)
            groups.setdefault(f"{ALL}:{project}", []).append(name)
        self.groups = {name: tuple(members) for name, members in groups.items()}

    @classmethod
    def of(cls, facts: Facts) -> "Names":
        """Return the names of all steps of the workspace."""
        projects = facts.workspace.projects
        return cls([f"{v.VERB}:{p.name}" for v in verbs() for p in projects.values() if v.applies(p, facts)], projects)

    def resolve(self, word: str, records: Mapping[str, Record]) -> tuple[str, ...]:
        """Return the steps that `word` stands for; none if it is neither task, group, wildcard nor target."""
        if word in self.steps:
            return (word,)
        if word in self.groups:
            return self.groups[word]
        if "*" in word:
            every = (*self.steps, *self.groups)
            return tuple(s for name in every if fnmatchcase(name, word) for s in self.resolve(name, records))
        return self._makers(os.path.relpath(word), records) if word else ()

    def _makers(self, path: str, records: Mapping[str, Record]) -> tuple[str, ...]:
        """Return the step that makes the file at `path`: as recorded, else by the place it lies in."""
        recorded = [n for n, r in records.items() if n in self.steps and any(o.path == path for o in r.outputs)]
        return tuple(recorded) or tuple(name for name in self.steps if self._may_make(name, path))[:1]

    def _may_make(self, name: str, path: str) -> bool:
        verb_name, project = self.steps[name]
        file = os.path.basename(path)
        places = [p for n in (file, f"deps/{file}") for p in verb(verb_name).paths(self._projects[project], n)]
        own = file.startswith(f"{project.replace('-', '_')}-") or not file.endswith(".whl") or "/deps/" in path
        return path in places and own
