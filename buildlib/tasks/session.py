"""One invocation in one workspace: what was read, what was decided, what was done.

Read once, decide purely, then act. The session holds the tree, the workspace, the steps, the records and the plan,
and hands them to doit's parts (loader, dependency manager, reporter, commands). Knows all rooms below. Does not know
doit.
"""

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from buildlib.errors import BuildlibError
from buildlib.fingerprint import index
from buildlib.fingerprint.working import Memory, WorkingTree
from buildlib.plan import CLEAN, MAY, WILL, Decision, Output, Record, Step, changed, decide, outputs_digest
from buildlib.steps import verb
from buildlib.steps.code import digests
from buildlib.steps.dynamic import from_backends, from_locks
from buildlib.steps.publish import remove
from buildlib.steps.relock import compiler, relock
from buildlib.steps.slices import Slices
from buildlib.steps.tools import Tools
from buildlib.steps.workshop import Facts, Workshop
from buildlib.tasks import said
from buildlib.tasks.database import Database, Records
from buildlib.tasks.lock import Lock
from buildlib.tasks.log import Log
from buildlib.tasks.names import ALL, Names
from buildlib.tasks.remember import PACKAGE, remember
from buildlib.workspace.graph import checked
from buildlib.workspace.model import Problem, Workspace
from buildlib.workspace.read import read_workspace

if TYPE_CHECKING:
    from buildlib.execute.local import LocalExecutor
    from buildlib.image.engine import EngineState
    from buildlib.steps.run import Ran
    from buildlib.tasks.quick import Proof
    from buildlib.toolchain.environment import Environments

TMP = ".buildlib/tmp"
IGNORE = ".buildlib/.gitignore"
FEW = 100
"""Steps to plan below which the memory of the tree is not worth loading."""


class Session:
    """One invocation in the workspace at the current directory.

    Args:
        acts: whether it may change anything (a plan only looks): extend `buildlib.lock`, remove what a killed run left.
        proof: what the quick index proves of what was asked for, if anything.
    """

    def __init__(self, acts: bool, proof: "Proof | None" = None) -> None:
        self.acts, self.proof = acts, proof
        self.proven: frozenset[str] = frozenset()
        self.lock = Lock()
        self.log = Log()
        self.database = database()
        self.always: frozenset[str] = frozenset()
        self.plan: dict[str, Decision] = {}
        self.refused: dict[str, str] = {}
        self.ran: dict[str, Ran] = {}
        self.ended: dict[str, str] = {}
        self.active: set[str] = set()
        self.stream: Callable[[str], None] | None = None
        self.seen: dict[str, dict[str, int]] = {}  # directories that each step was described from
        self._steps: dict[str, Step] = {}
        self._engine: EngineState | None = None
        self._read = False

    def read_only(self) -> None:
        """Read the workspace without the lock: what is asked needs no certainty about a build that may be going on."""
        self._read_workspace()
        self._say_skipped()

    def begin(self) -> None:
        """Take the lock and read the workspace. Raises `BuildlibError` if its root configuration is wrong."""
        self.lock.acquire()
        if self.acts:
            _clean_state()
        if not self._read:
            self._read_workspace()
        if self.acts and self.proof is None:
            self._drop_vanished()

    def _read_workspace(self) -> None:
        kept = index.load_memory(index.WORKSPACE, PACKAGE)
        self.proven = self._proven(kept)
        few = self.proof is not None and len(self.proof.steps) - len(self.proven) <= FEW
        # What little has to be read again for a few steps costs less than loading what is known of all files.
        memory = None if few else index.load_memory(index.TREE, PACKAGE).get("tree")
        self.whole = not few
        self.tree = WorkingTree(os.getcwd(), memory if isinstance(memory, Memory) else None)
        self.kept = {"projects": {}, "slices": {}, "said": {}, "decisive": frozenset(), **kept}
        if not self.proof:
            self._read_projects()
        self.workspace: Workspace = self.kept["workspace"]
        self.facts = self._facts(self.workspace)
        self.records = Records(self.database)
        if self.whole:
            len(self.records)  # one query for all costs less than one each
        self._read = True

    def _say_skipped(self) -> None:
        """Name what looks like a project and is none; a run in which nothing has to be done has nothing to say."""
        for problem in self.workspace.problems:
            said.err(str(problem.error()))

    def _read_projects(self) -> None:
        """Read the workspace; what only a project's lock or backend knows of its dependencies comes from there."""
        workspace = read_workspace(self.tree, self.kept["projects"])
        workspace, asked = from_locks(workspace, Slices(self.tree, workspace))
        if asked:
            self.facts = self._facts(checked(workspace))
            workspace = from_backends(workspace, asked, self.kept["said"], self._new_workshop(), self.acts)
        self.kept["workspace"] = self._relocked(checked(workspace))
        locked = (name for name, project in workspace.projects.items() if project.config.lock == "auto")
        self.kept["decisive"] = frozenset(
            [f"wheel:{name}" for name in asked] + [f"requirements:{name}" for name in locked]
        )

    def _relocked(self, workspace: Workspace) -> Workspace:
        """Return `workspace` once each service with `lock = "auto"` has a lock that fits."""
        projects = dict(workspace.projects)
        services = [p for p in projects.values() if p.kind == "service" and p.config.lock == "auto" and not p.problem]
        if not (self.acts and services):
            return workspace
        facts, compiled = self._facts(workspace), compiler(os.environ, self._cache)
        for project in services:
            try:
                written = relock(project, facts, compiled)
            except BuildlibError as error:
                projects[project.name] = replace(project, problem=Problem.of(error))
                continue
            if written:
                self.tree.look_again([written], project.path)
                said.err(f"{written}: locked what {project.name} needs; commit it")
        return replace(workspace, projects=projects)

    def _facts(self, workspace: Workspace) -> Facts:
        slices = Slices(self.tree, workspace, dict(self.kept["slices"]))
        tools = Tools(self.tree, workspace.projects, os.environ, self._cache, self.acts)
        return Facts(workspace, self.tree, tools, slices, self.engine, digests())

    def _drop_vanished(self) -> None:
        """Remove what steps made that are no more (of a project removed or renamed): a build from nothing has none.

        Not while a project cannot be read: it may come back under its name. An image's name is left for `doit clean`.
        """
        if any(p.problem for p in self.workspace.projects.values()):
            return
        for name in [n for n in self.records if n not in self.names.steps and not n.startswith("image:")]:
            for path in (*(o.path for o in self.records[name].outputs), *self.records[name].intent):
                remove(path)
            self.database.drop(name)
            del self.records[name]

    def _proven(self, kept: Mapping[str, Any]) -> frozenset[str]:
        """Return the steps that need not be looked at: the quick index, which still stands, proves them.

        Not where a file moved that decides what is read: one of a project whose backend says what it needs, a lock that
        is ours to make.
        """
        proof = self.proof
        stands = proof is not None and proof.holds() and kept.get("common") == proof.quick.common
        if proof is not None and stands and kept["decisive"].isdisjoint(proof.steps - proof.proven):
            return frozenset(proof.proven)
        self.proof = None
        return frozenset()

    # -- names

    @cached_property
    def names(self) -> Names:
        """Return the names of all steps."""
        if self.proof is not None:
            return Names(self.proof.quick.members[ALL], self.workspace.projects)
        return Names.of(self.facts)

    def resolve(self, word: str) -> tuple[str, ...]:
        """Return the steps that a word of the command line stands for; none if it means nothing of ours."""
        return self.names.resolve(word, self.records)

    # -- steps

    def step(self, name: str) -> Step:
        """Return the step called `name`, described once."""
        if name not in self._steps:
            verb_name, project = self.names.steps[name]
            self.tree.seen = {}
            self._steps[name] = verb(verb_name).describe(self.workspace.projects[project], self.facts)
            self.seen[name] = self.tree.seen
        return self._steps[name]

    def closure(self, asked: Iterable[str]) -> list[Step]:
        """Return the steps called `asked` and all they need, upstream first, without those that are proven."""
        asked = [name for name in asked if name not in self.proven]
        self._list_projects(asked)
        ordered: dict[str, Step] = {}
        todo = [(name, False) for name in reversed(asked)]
        while todo:
            name, ready = todo.pop()
            if name in ordered or name in self.proven:
                continue
            step = self.step(name)
            if ready or all(n in ordered or n in self.proven for n in step.needs):
                ordered[name] = step
            else:
                todo += [(name, True), *((n, False) for n in reversed(step.needs))]
        return list(ordered.values())

    def _describe_keyed(self, steps: Iterable[Step]) -> None:
        """Describe all that keys of stored results reach, proven steps too: a build may run with other wheels."""
        todo = [name for step in steps if verb(step.verb).STORED for name in step.needs]
        for name in todo:
            todo += [n for n in self.step(name).needs if n not in todo]

    def _trusted_closure(self, asked: Collection[str]) -> list[Step]:
        """Return the `closure`; without any proof if the database has lost a record of what is proven and needed."""
        steps = self.closure(asked)
        if all(n in self.records for step in steps for n in step.needs if n in self.proven):
            return steps
        self.proof = None
        self._steps.clear()
        self.__dict__.pop("names", None)
        self._read_workspace()
        return self.closure(asked)

    def _list_projects(self, asked: Iterable[str]) -> None:
        """List the files of all projects that `asked` reach in one go: one call of git, not one each."""
        names = {self.names.steps[n][1] for n in asked}
        if len(names) < len(self.workspace.projects):
            names |= {d for n in names for d in self.facts.closure(n) if f"wheel:{d}" not in self.proven}
        names = {n for n in names if f"wheel:{n}" not in self.proven}
        paths = [p.path for n in names if (p := self.workspace.projects[n]).problem is None]
        self.tree.listings(paths, self.facts.nested)

    def engine(self) -> "EngineState":
        """Return what the container engine holds; asked once, at the first question."""
        if self._engine is None:
            from buildlib.image.endpoint import find_endpoint
            from buildlib.image.engine import inspect_engine

            self._engine = inspect_engine(find_endpoint(os.environ))
        return self._engine

    # -- the plan

    def decide(self, asked: Collection[str], bare: bool, always: bool = False) -> dict[str, Decision]:
        """Decide about `asked` (step names) and all they need, upstream first.

        Args:
            bare: nobody asked for a single thing by name: what cannot be made for want of an engine is skipped then.
            always: whether the asked ones run whatever their state.
        """
        tolerant = bare and not os.environ.get("CI")
        self.always = frozenset(asked) if always else frozenset()
        steps = []
        described = self._trusted_closure(asked)
        self._describe_keyed(described)
        for step in described:
            if step.refusal and tolerant:
                self.refused[step.name] = step.refusal
                continue
            if step.refusal:
                problem = Problem(
                    step.name.replace(":", " ", 1), step.refusal, "start Docker, or set DOCKER_HOST or a docker context"
                )
                step = self._steps[step.name] = replace(step, problem=problem)
            steps.append(step)
        self.plan = decide(steps, self.records, self.damage, self.database.parts, self.always, self.proven)
        if self.runnable():
            self._say_skipped()
        return self.plan

    def damage(self, record: Record) -> str | None:
        """Return what is wrong with the recorded outputs as they are now, or None."""
        return next((wrong for o in record.outputs if (wrong := self._damage(o))), None)

    def _damage(self, output: Output) -> str | None:
        if output.path.startswith("image:"):
            there = self.engine().find(output.name)
            wrong = "is not in the engine" if there is None else "was retagged"
            return None if there == output.sha256 else f"{output.name} {wrong}"
        entry = self.tree.entry(output.path)
        if entry is None:
            return f"{output.path} is missing"
        if entry.target is not None:
            return f"{output.path} was replaced by a link"
        same = (entry.sha256, entry.executable) == (output.sha256, output.executable)
        return None if same else f"{output.path} was changed"

    def runnable(self) -> list[str]:
        """Return the steps that will or may run, upstream first."""
        return [name for name, decision in self.plan.items() if decision.certainty != CLEAN]

    def settle(self, name: str) -> Decision:
        """Decide about a step whose upstream has finished: no `may` is left."""
        decision = self.plan[name]
        record = self.records.get(name)
        if decision.certainty == MAY and record is not None:
            digests = {n: outputs_digest(self.records[n].outputs) for n in self.step(name).needs}
            reason = changed(self.step(name), record, digests, self.database.parts)
            decision = Decision(name, WILL, reason) if reason else Decision(name, CLEAN)
        elif decision.certainty == MAY:
            decision = Decision(name, WILL, decision.reason)
        self.plan[name] = decision
        return decision

    # -- acting

    @cached_property
    def workshop(self) -> Workshop:
        """Return what steps are made with."""
        return self._new_workshop()

    @cached_property
    def _executor(self) -> "LocalExecutor":
        from buildlib.execute.local import LocalExecutor

        return LocalExecutor()

    @cached_property
    def _environments(self) -> "Environments":
        from buildlib.toolchain.environment import Environments

        return Environments(self._cache, os.environ)

    def _new_workshop(self) -> Workshop:
        from buildlib.store.directory import DirectoryStore, default_store

        store = default_store(os.environ)
        return Workshop(
            facts=self.facts,
            executor=self._executor,
            environments=self._environments,
            store=DirectoryStore(store) if store else None,
            ledger=self.tree,
            steps=self._steps,
            look_again=self.tree.look_again,
            outputs=lambda name: self.records[name].outputs,
            warn=said.err,
            stream=self.stream,
        )

    @cached_property
    def _cache(self) -> str:
        from buildlib.store.directory import default_cache

        return default_cache(os.environ)

    def make(self, name: str) -> None:
        """Run the step called `name` (in any thread). Raises `BuildlibError`."""
        from buildlib.steps.run import run

        def announce(paths: Iterable[str]) -> None:
            self.database.announce(name, paths)

        before, reason = self.records.get(name), self.plan[name].reason
        self.active.add(name)
        try:
            self.ran[name] = run(
                self.step(name), self.workshop, before, announce, reason, fetch=name not in self.always
            )
        finally:
            self.active.discard(name)

    def commit(self, name: str) -> Record:
        """Keep the success of the step called `name`."""
        ran = self.ran[name]
        self.database.done(name, ran.record, ran.parts)
        self.records[name] = ran.record
        self._steps[name] = ran.step
        return ran.record

    def stop(self) -> None:
        """End what runs, now: its threads find their commands killed. Waits a moment for them to notice."""
        executor: LocalExecutor | None = self.__dict__.get("_executor")
        if executor is not None:
            executor.kill()
        until = time.monotonic() + 1
        while self.active and time.monotonic() < until:
            time.sleep(0.01)
        shutil.rmtree(TMP, ignore_errors=True)

    def counts(self) -> dict[str, int]:
        """Return how many steps ended how, by the words of the summary."""
        found: dict[str, int] = {}
        for word in self.ended.values():
            found[word] = found.get(word, 0) + 1
        found["skipped"] = found.get("skipped", 0) + len(self.refused)
        found["up to date"] = sum(d.certainty == CLEAN for d in self.plan.values()) + len(self.proven)
        store = self.__dict__["workshop"].store if "workshop" in self.__dict__ else None
        found["refused"] = getattr(store, "refused", 0)
        return found

    def close(self, default: tuple[str, ...] = ()) -> None:
        """Remember what was read and concluded, end what was started, release the lock.

        Args:
            default: what a bare `doit` stands for; empty if only `dodo.py` can tell.
        """
        workshop: Workshop | None = self.__dict__.pop("workshop", None)
        executor: LocalExecutor | None = self.__dict__.pop("_executor", None)
        if executor is not None:
            executor.close()
        if workshop is not None:
            from buildlib.store.directory import DirectoryStore

            if isinstance(workshop.store, DirectoryStore):
                workshop.store.prune_sometimes()
        self.database.close()
        if self._read and self.acts:
            remember(self, default)
        self.lock.release()


_DATABASE: list[Database] = []


def database() -> Database:
    """Return the database of the workspace at the current directory; one for all of doit's parts."""
    if not _DATABASE:
        _DATABASE.append(Database(before_write=index.drop_quick))
    return _DATABASE[0]


def _clean_state() -> None:
    """Remove what a killed run left, and see to it that git never asks about our directory."""
    if os.path.isdir(TMP) and os.listdir(TMP):
        shutil.rmtree(TMP, ignore_errors=True)
    if not os.path.exists(IGNORE):
        with open(IGNORE, "w") as file:
            file.write("*\n")
