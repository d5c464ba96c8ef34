"""doit's backend plugin over our database: the same file for every doit command.

Knows doit's backend interface. Imports nothing else before a row is asked for: on a no-op none is.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buildlib.tasks.database import Database


class Backend:
    """doit's view of the database (its backend interface): one dictionary a task, every change committed at once."""

    desc = "records of steps and doit's own rows in one SQLite file"

    def __init__(self, name: str, codec: object, *, module_name: str | None = None) -> None:
        del codec, module_name  # doit's other backends use them
        self.name = name

    @cached_property
    def database(self) -> "Database":
        """Return the database, opened when a row is first asked for."""
        from buildlib.tasks.session import database

        return database()

    def get(self, task: str, key: str) -> Any:
        """Return what was set for `task` under `key`, or None."""
        return self.database.values(task).get(key)

    def set(self, task: str, key: str, value: Any) -> None:
        """Keep `value` for `task` under `key`."""
        self.database.set_values(task, {**self.database.values(task), key: value})

    def in_(self, task: str) -> bool:
        """Return whether anything is known of `task`."""
        return bool(self.database.values(task)) or self.database.record(task) is not None

    def remove(self, task: str) -> None:
        """Forget `task`."""
        self.database.forget(task)
        self.database.remove_values(task)

    def remove_all(self) -> None:
        """Forget all tasks."""
        for task in self.database.tasks():
            self.remove(task)

    def dump(self) -> None:
        """Close the file, if it was opened: all was committed before."""
        if "database" in self.__dict__:
            self.database.close()
