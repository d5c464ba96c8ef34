"""A folder as a queue. Every step is a rename: after a crash each job is in exactly one place."""

from __future__ import annotations

from pathlib import Path


class Inbox:
    """Jobs are `*.json` in `folder`, which is made if there is none; writers rename finished files into it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done, self.rejected = folder, folder / "done", folder / "rejected"
        for each in (self.done, self.rejected):
            each.mkdir(parents=True, exist_ok=True)

    def waiting(self) -> list[Path]:
        """The jobs that wait, in the order of their names."""
        return sorted(self.folder.glob("*.json"))

    def finish(self, job: Path) -> None:
        """Put a job away that was done."""
        job.replace(self.done / job.name)

    def reject(self, job: Path, reason: str) -> None:
        """Put a job away that cannot be done, with the reason: first the reason, so that none is ever without."""
        (self.rejected / f"{job.stem}.reason").write_text(f"{reason}\n", encoding="utf-8")
        job.replace(self.rejected / job.name)
