"""doit's other commands, where they show or touch our steps (list, info, clean, dumpdb), and new ones: plan, why, lock.

Knows doit's command interface. Does not decide anything: it asks the session.
"""

import io
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from doit.cmd_base import Command, DoitCmdBase
from doit.cmd_clean import Clean as StockClean
from doit.cmd_info import Info as StockInfo
from doit.cmd_list import List as StockList
from doit.exceptions import InvalidCommand, InvalidDodoFile

from buildlib.errors import BuildlibError
from buildlib.plan import CLEAN, MAY, WILL, Decision
from buildlib.tasks import quick, said
from buildlib.tasks.run import in_one_line

OPT_JSON = {"name": "json", "long": "json", "type": bool, "default": False, "help": "print a list of JSON objects"}


class Parsed(Command):  # type: ignore[misc]  # doit has no type hints
    """A command whose faults on the command line are one line each."""

    def parse_execute(self, in_args: list[str]) -> int:
        """Execute what `in_args` say."""
        return in_one_line(self.name, super().parse_execute, in_args)


class List(Parsed, StockList):  # type: ignore[misc]  # doit has no type hints
    """doit's `list`: without `--all`, a line for each `build:PROJECT` and for each of the user's own tasks."""

    name = "list"

    def execute(self, params: Any, args: list[str]) -> int:
        """Print the list in one go."""
        return _in_one_go(self, super().execute, params, args)

    def _list_all(self, include_subtasks: bool) -> list[Any]:
        if include_subtasks:
            return list(self.task_list)
        groups = set(self.session.names.groups)
        return [t for t in self.task_list if t.name.startswith("build:") or not (t.subtask_of or t.name in groups)]


class Info(Parsed, StockInfo):  # type: ignore[misc]  # doit has no type hints
    """doit's `info`, with our reason."""

    name = "info"

    def execute(self, params: Any, args: list[str]) -> int:
        """Print what is known of one task."""
        return _in_one_go(self, super().execute, params, args)

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:
        for task in self.task_list:
            if task.name in pos_args and task.name in self.session.names.steps:
                task.file_dep = sorted(map(said.plain, task.file_dep))  # doit keeps a set, in another order each time
        return super()._execute(pos_args, hide_status)  # type: ignore[no-any-return]

    @staticmethod
    def get_reasons(reasons: Any) -> str:
        """Return the reasons why a task would run, a line each."""
        own = [f" * {reason}" for reason in reasons.pop("buildlib", ())]
        return "\n".join([*own, *filter(None, [StockInfo.get_reasons(reasons)])])


class Clean(Parsed, StockClean):  # type: ignore[misc]  # doit has no type hints
    """doit's `clean`: what the tasks made goes, and what is known of them; `build:x` means all steps of x."""

    name = "clean"

    def _execute(
        self, dryrun: bool, cleandep: bool, cleanall: bool, cleanforget: bool, pos_args: list[str] | None = None
    ) -> None:
        words = list(pos_args or ())
        names = [step for word in words for step in self.session.names.groups.get(word, (word,))]
        super()._execute(dryrun, cleandep, cleanall, cleanforget, names)
        if cleanall or not (words or self.sel_tasks):
            self._clean_vanished(dryrun)
        self.session.database.close()

    def _clean_vanished(self, dryrun: bool) -> None:
        """Remove what the steps of projects made that are gone from the workspace."""
        from buildlib.tasks.clean import clean

        for name in set(self.session.database.tasks()) - set(self.session.names.steps):
            for line in clean(self.session, name, dryrun):
                said.out(line)


class DumpDB(Parsed, Command):  # type: ignore[misc]  # doit has no type hints
    """doit's `dumpdb`: our records as JSON."""

    name = "dumpdb"
    doc_purpose = "print the records of all steps as JSON"

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Print one object a record."""
        del opt_values, pos_args
        from dataclasses import asdict

        from buildlib.tasks.session import database

        rows = [{"task": task, **asdict(record)} for task, record in sorted(database().records().items())]
        said.out(json.dumps(rows, indent=1))
        return 0


class _OfBuildlib(Parsed, DoitCmdBase):  # type: ignore[misc]  # doit has no type hints
    """A command of ours. Every repository has it whose doit comes with buildlib: where it has no sense it says so.

    Its options are switches, so they may stand after the tasks too.
    """

    # doit reads these, but to give another value is refused: they are no switches of ours.
    base_options = tuple({**option, "short": "", "long": "", "section": ""} for option in DoitCmdBase.base_options)

    def parse_execute(self, in_args: list[str]) -> int:
        """Execute what `in_args` say."""
        return super().parse_execute(sorted(in_args, key=lambda word: not word.startswith("-")))

    def execute(self, params: Any, args: list[str]) -> int:
        """Run it where the tasks are ours."""
        if not getattr(self.loader, "buildlib", False):
            raise InvalidDodoFile(
                'pyproject.toml: [tool.doit] has no loader = "buildlib" in this directory; '
                f"run doit {self.name} at the root of a workspace"
            )
        try:
            return super().execute(params, args)  # type: ignore[no-any-return]
        except BuildlibError as error:
            raise InvalidCommand(str(error)) from None


class Plan(_OfBuildlib):
    """What would run now, and why."""

    name = "plan"
    doc_purpose = "show what would run now, and why"
    doc_usage = "[TASK ...]"
    doc_description = "Without a task: build. `will` runs; `may` is known only after the step that its reason names."
    cmd_options = (OPT_JSON,)

    def _execute(self, json: bool, pos_args: list[str]) -> int:  # doit names the parameter by the option
        from buildlib.tasks.loader import step_names
        from buildlib.tasks.user import uses

        words = pos_args or ["build"]
        wanted = uses(self.user_tasks, words)
        decided = self.session.decide(step_names(self.session, words, wanted), bare=quick.is_bare(pos_args))
        dirty = [d for d in decided.values() if d.certainty != CLEAN]
        moving = self._not_ignored(dirty)
        skipped = len(self.session.refused) + len(dirty) - len(moving)
        moving += self._user_decisions(wanted, {d.task for d in moving})
        if json:
            _print_json([{"task": d.task, "certainty": d.certainty, "reason": d.reason} for d in moving])
            return 0
        width = max((len(d.task) for d in moving), default=0)
        for d in moving:
            said.out(f"{d.task.replace(':', ' ', 1):<{width}}  {d.certainty:<4}  {said.plain(d.reason)}")
        will = sum(d.certainty == WILL for d in moving)
        still = sum(d.certainty == CLEAN for d in decided.values())
        skips = f"{skipped} skipped, " if skipped else ""
        said.err(f"{will} will run, {len(moving) - will} may run, {skips}{still} up to date")
        return 0

    def _not_ignored(self, moving: list[Decision]) -> list[Decision]:
        """Leave out what `doit ignore` keeps from running, and what needs that."""
        ignored: set[str] = set()
        for d in moving:
            if self.session.database.values(d.task).get("ignore:") or not ignored.isdisjoint(
                self.session.step(d.task).needs
            ):
                ignored.add(d.task)
        return [d for d in moving if d.task not in ignored]

    def _user_decisions(self, wanted: Mapping[str, Any], moving: Collection[str]) -> Iterator[Decision]:
        """Decide about the user's own tasks as doit will: by their files, targets and `uptodate`."""
        from buildlib.tasks.loader import steps_of

        tasks = {task.name: task for task in self.task_list}
        for name, task in wanted.items():
            status = self.dep_manager.get_status(task, tasks, get_log=True)
            above = [s for path in sorted(task.file_dep) for s in steps_of(self.session, path) if s in moving]
            if task.actions and status.status != "up-to-date":
                yield Decision(name, WILL, _first_reason(status.reasons))
            elif task.actions and above:
                yield Decision(name, MAY, f"after {above[0].replace(':', ' ', 1)}")


def _first_reason(reasons: Mapping[str, Any]) -> str:
    said_so = {
        "changed_file_dep": "changed",
        "added_file_dep": "added",
        "removed_file_dep": "removed",
        "missing_file_dep": "is missing",
        "missing_target": "is missing",
    }
    for key, word in said_so.items():
        if reasons.get(key):
            return f"{min(reasons[key])} {word}"
    return "it has nothing to be up to date by" if reasons.get("has_no_dependencies") else "its uptodate says so"


class Why(_OfBuildlib):
    """Why a task last ran."""

    name = "why"
    doc_purpose = "show why a task last ran, when, how long, and what it made"
    doc_usage = "TASK ..."
    cmd_options = (OPT_JSON,)

    def _execute(self, json: bool, pos_args: list[str]) -> int:  # doit names the parameter by the option
        if not pos_args:
            raise InvalidCommand("why needs a task; `doit list --all` shows them")
        names = [step for word in pos_args for step in self.session.resolve(word) or (word,)]
        found = [self._story(name) for name in dict.fromkeys(names)]
        if json:
            _print_json(found)
            return 0
        for story in found:
            said.out(_told(story))
        return 0

    def _story(self, name: str) -> dict[str, Any]:
        record = self.session.records.get(name)
        last = self.session.log.last(name)
        if record is None and last is None:
            reason = "a task of dodo.py, of which doit keeps no reason" if name in self.user_tasks else "it never ran"
            return {"task": name, "reason": reason, "word": "", "seconds": 0.0, "finished": None, "outputs": []}
        if last is None and record is not None:
            last = {"reason": record.reason, "word": record.word, "seconds": record.seconds, "time": record.finished}
        last = last or {}
        outputs = [o.path for o in record.outputs] if record else []
        keys = {"reason": "reason", "word": "word", "seconds": "seconds", "finished": "time"}
        return {"task": name, **{key: last.get(old) for key, old in keys.items()}, "outputs": outputs}


def _told(story: dict[str, Any]) -> str:
    name = story["task"].replace(":", " ", 1)
    if not story["word"]:
        return f"{name}  {story['reason']}"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(story["finished"] or 0))
    made = f"  -> {', '.join(story['outputs'])}" if story["outputs"] else ""
    return f"{name}  {story['word']}  {story['seconds']:.2f}s  {when}  {said.plain(story['reason'])}{made}"


class Lock(_OfBuildlib):
    """Pin the build requirements of all projects in `buildlib.lock`."""

    name = "lock"
    doc_purpose = "pin what builds need in buildlib.lock; --upgrade takes newer versions"
    doc_usage = "[--upgrade]"
    cmd_options = (
        {"name": "upgrade", "long": "upgrade", "type": bool, "default": False, "help": "resolve everything anew"},
    )

    def _execute(self, upgrade: bool) -> int:
        from buildlib.steps.pins import pin_all

        session = self.session
        try:
            workshop = session.workshop
            pinned = pin_all(session.facts, workshop.executor, workshop.environments, upgrade)
        except BuildlibError as error:
            said.err(str(error))
            return 1
        finally:
            session.close()
        for problem in pinned.problems:
            said.err(f"{problem.detail.rstrip()}\n{problem}" if problem.detail else str(problem))
        for line in pinned.changes:
            said.out(line)
        said.err(
            f"buildlib.lock: {len(pinned.changes)} changes" if pinned.changes else "buildlib.lock: nothing to change"
        )
        return 1 if pinned.problems else 0


def _in_one_go(command: Any, execute: Callable[[Any, list[str]], int], params: Any, args: list[str]) -> int:
    """Execute doit's own command; its text is written at once, and names that the terminal cannot show are escaped."""
    command.outstream = io.StringIO()
    try:
        code = execute(params, args)
        text = command.outstream.getvalue()
        if text:
            said.out(text.removesuffix("\n"))
        return code
    except BuildlibError as error:
        raise InvalidCommand(str(error)) from None


def _print_json(objects: list[dict[str, Any]]) -> None:
    said.out(json.dumps(objects, indent=1))
