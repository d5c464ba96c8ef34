"""doit's other commands, where they show or touch our steps: list, info, clean, dumpdb; and the new ones: plan, why, lock.

Knows doit's command interface. Does not decide anything: it asks the session.
"""

import json
import os
import time
from typing import Any

from doit.cmd_base import Command, DoitCmdBase
from doit.cmd_clean import Clean as StockClean
from doit.cmd_info import Info as StockInfo
from doit.cmd_list import List as StockList
from doit.exceptions import InvalidCommand

from buildlib.errors import BuildlibError
from buildlib.plan import CLEAN
from buildlib.tasks import quick, said

OPT_JSON = {"name": "json", "long": "json", "type": bool, "default": False, "help": "print a list of JSON objects"}


class List(StockList):  # type: ignore[misc]  # doit has no type hints
    """doit's `list`: without `--all`, a line for each `build:PROJECT` and for each of the user's own tasks."""

    name = "list"

    def _list_all(self, include_subtasks: bool) -> list[Any]:
        if include_subtasks:
            return list(self.task_list)
        groups = set(self.session.names.groups)
        return [t for t in self.task_list if t.name.startswith("build:") or not (t.subtask_of or t.name in groups)]


class Info(StockInfo):  # type: ignore[misc]  # doit has no type hints
    """doit's `info`, with our reason."""

    name = "info"

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:
        known = {t.name for t in self.task_list}
        if len(pos_args) == 1 and pos_args[0] not in known:
            raise InvalidCommand(not_found=pos_args[0])
        return super()._execute(pos_args, hide_status)  # type: ignore[no-any-return]

    @staticmethod
    def get_reasons(reasons: Any) -> str:
        """Return the reasons why a task would run, a line each."""
        own = [f" * {reason}" for reason in reasons.pop("buildlib", ())]
        return "\n".join([*own, *filter(None, [StockInfo.get_reasons(reasons)])])


class Clean(StockClean):  # type: ignore[misc]  # doit has no type hints
    """doit's `clean`: what the tasks made goes, and what is known of them; `build:x` means all steps of x."""

    name = "clean"

    def _execute(self, dryrun: bool, cleandep: bool, cleanall: bool, cleanforget: bool, pos_args: list[str] | None = None) -> None:
        words = list(pos_args or ())
        names = [step for word in words for step in self.session.names.groups.get(word, (word,))]
        super()._execute(dryrun, cleandep, cleanall, cleanforget, names)
        self.session.database.close()


class DumpDB(Command):  # type: ignore[misc]  # doit has no type hints
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


class Plan(DoitCmdBase):  # type: ignore[misc]  # doit has no type hints
    """What would run now, and why."""

    name = "plan"
    doc_purpose = "show what would run now, and why"
    doc_usage = "[TASK ...]"
    doc_description = "Without a task: build. `will` runs; `may` is known only after the step that its reason names."
    cmd_options = (OPT_JSON,)

    def _execute(self, json: bool, pos_args: list[str]) -> int:  # noqa: A002  # doit names the parameter by the option
        session = self.session
        asked = pos_args or ["build"]
        _check_names(session, asked)
        decided = session.decide([s for word in asked for s in session.resolve(word)], bare=quick.is_bare(pos_args))
        moving = [d for d in decided.values() if d.certainty != CLEAN]
        if json:
            _print_json([{"task": d.task, "certainty": d.certainty, "reason": d.reason} for d in moving])
            return 0
        width = max((len(d.task) for d in moving), default=0)
        for d in moving:
            said.out(f"{d.task.replace(':', ' ', 1):<{width}}  {d.certainty:<4}  {d.reason}")
        counts = {"will run": 0, "may run": 0} | _certainties(moving)
        said.err(f"{counts['will run']} will run, {counts['may run']} may run, {len(decided) - len(moving)} up to date")
        return 0


def _certainties(moving: list[Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for decision in moving:
        found[f"{decision.certainty} run"] = found.get(f"{decision.certainty} run", 0) + 1
    return found


class Why(DoitCmdBase):  # type: ignore[misc]  # doit has no type hints
    """Why a task last ran."""

    name = "why"
    doc_purpose = "show why a task last ran, when, how long, and what it made"
    doc_usage = "TASK ..."
    cmd_options = (OPT_JSON,)

    def _execute(self, json: bool, pos_args: list[str]) -> int:  # noqa: A002  # doit names the parameter by the option
        if not pos_args:
            raise InvalidCommand("why needs a task; `doit list --all` shows them")
        _check_names(self.session, pos_args)
        names = [step for word in pos_args for step in self.session.resolve(word)]
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
            return {"task": name, "reason": "it never ran", "word": "", "seconds": 0.0, "finished": None, "outputs": []}
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
    return f"{name}  {story['word']}  {story['seconds']:.2f}s  {when}  {story['reason']}{made}"


class Lock(DoitCmdBase):  # type: ignore[misc]  # doit has no type hints
    """Pin the build requirements of all projects in `buildlib.lock`."""

    name = "lock"
    doc_purpose = "pin what builds need in buildlib.lock; --upgrade takes newer versions"
    doc_usage = "[--upgrade]"
    cmd_options = (
        {"name": "upgrade", "long": "upgrade", "type": bool, "default": False, "help": "resolve everything anew"},
    )

    def _execute(self, upgrade: bool) -> int:
        from buildlib.steps.tools import Tools

        facts = self.session.facts
        projects = [p for p in self.session.workspace.projects.values() if p.problem is None]
        tools = Tools(facts.tree, self.session.workspace.projects, os.environ, self.session._cache, extend=True)
        before = tools.lock.versions()
        try:
            if upgrade:
                changes = tools.upgrade(projects)
            else:
                for project in projects:
                    tools.pins(project)
                changes = [f"{n} (new) -> {v}" for n, v in sorted(tools.lock.versions().items()) if before.get(n) != v]
        except BuildlibError as error:
            said.err(str(error))
            return 1
        for line in changes:
            said.out(line)
        said.err(f"buildlib.lock: {len(changes)} changes" if changes else "buildlib.lock: nothing to change")
        return 0


def _check_names(session: Any, words: list[str]) -> None:
    for word in words:
        if not session.resolve(word):
            raise InvalidCommand(not_found=word)


def _print_json(objects: list[dict[str, Any]]) -> None:
    said.out(json.dumps(objects, indent=1))
