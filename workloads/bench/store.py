"""Finished runs of a benchmark, kept until it is complete so that an interrupted one can be continued."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from workloads.bench import BenchError
from workloads.bench.document import commit, write


class Store:
    """The work folder of benchmark ``bench``; a context manager that holds it for one process alone.

    ``resume`` keeps what is there if it was measured with equal ``settings`` on the same commit; otherwise the folder
    is emptied; ``continued`` tells which. Raises :class:`BenchError` when another process holds it or it cannot be written.
    """

    def __init__(self, bench: str, settings: dict[str, Any], resume: bool, home: Path | None = None) -> None:
        home = home or Path(os.environ.get("OWL_HOME") or Path.home() / ".owl")
        self.folder = home / "bench" / bench
        self._bench = bench
        self._resume = resume
        # Runs of different code are not comparable.
        self._key = hashlib.sha256(json.dumps([settings, commit()], sort_keys=True).encode()).hexdigest()
        self._lock: int | None = None
        self.continued = False

    def __enter__(self) -> Self:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise BenchError(
                f"another `owl bench {self._bench}` is running; two at once would measure each other"
            ) from None
        except OSError as error:
            self._release()
            raise BenchError(f"cannot use {self.folder}: {error.strerror}; OWL_HOME may name another folder") from error
        key = self.folder / "key"
        self.continued = self._resume and key.is_file() and key.read_text() == self._key
        if not self.continued:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(exist_ok=True)
            key.write_text(self._key)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def __len__(self) -> int:
        return len(list(self.folder.glob("*.json")))

    def load(self, name: str) -> dict[str, Any] | None:
        """What :meth:`save` kept under ``name``; None where there is nothing."""
        file = self.folder / f"{name}.json"
        try:
            return json.loads(file.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise BenchError(f"{file} cannot be read ({error}); run without --resume") from error

    def save(self, name: str, data: dict[str, Any]) -> None:
        write(self.folder / f"{name}.json", data)

    def complete(self) -> None:
        """Forget the runs; the logs beside them stay until the next benchmark."""
        for file in self.folder.glob("*.json"):
            file.unlink()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
