"""Which files a run has done with, so that the next one goes on where it was stopped.

A line of JSON each, after a first one that says what the run was about: the path, for whoever reads it, and the
fingerprint of the file, by which one that has changed since is not done with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from keytrail.errors import UsageError
from keytrail.files import fingerprint


class Journal:
    """The journal at ``path``, made where there is none. ``about`` says what the run does: another one needs its own.

    ``of`` tells what the files went into from what takes its place later: nothing is in there that was done before.
    ``begun`` says that there has been a run before.

    Errors: :class:`UsageError`, with the line, for a file that is no such journal, or one of another run.
    """

    def __init__(self, path: Path, about: Mapping[str, str], of: str | None = "") -> None:
        self._path = path
        self._about = {"keytrail": "journal 2", **about, "of": str(of)}
        self.begun = False
        self._prints: dict[str, str] = {}
        self._done = self._read()
        self._file: IO[str] | None = None

    def _read(self) -> set[str]:
        try:
            lines = self._path.read_text("utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return set()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot be read: {error}", path=self._path) from error
        whole = [line for line in lines if line.endswith("\n")]  # a run that was killed may have cut off the last one
        done: set[str] = set()
        for number, line in enumerate(whole, 1):
            try:
                found = json.loads(line)
                if number > 1:
                    done.add(str(found["file"]))
                    continue
                about = {str(key): str(value) for key, value in found.items()}
                if about["keytrail"] != self._about["keytrail"]:
                    raise ValueError
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                hint = "name another file, or remove this one to begin anew"
                raise UsageError("is no journal of Keytrail", path=self._path, line=number, hint=hint) from error
            if about != self._about:
                raise self._of_another_run(about)
            self.begun = True
        return done

    def _of_another_run(self, about: Mapping[str, str]) -> UsageError:
        said = ", ".join(f"{key} {value}" for key, value in self._about.items() if key not in ("keytrail", "of"))
        if {**about, "of": ""} != {**self._about, "of": ""}:
            return UsageError(f"is no journal of this run ({said})", path=self._path, line=1, hint="name another file")
        what = f"is about what was there before under the same name, and is gone ({said})"
        return UsageError(what, path=self._path, line=1, hint="remove it, and everything is done anew")

    def left(self, files: Iterable[Path]) -> list[Path]:
        """Return the files that are not done with, and remember how they are now."""
        found = []
        for file in files:
            name = fingerprint(file)
            if name is None:
                found.append(file)  # standard input, or one that is gone: whoever reads it will say so
            elif name not in self._done:
                self._prints[str(file)] = name
                found.append(file)
        return found

    def __enter__(self) -> Journal:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("r+" if self._path.exists() else "w+", encoding="utf-8", newline="\n")
            self._cut()
        except OSError as error:
            raise UsageError(f"cannot be written: {error.strerror}", path=self._path) from error
        return self

    def _cut(self) -> None:
        """Remove a last line that is not whole, and begin a new journal."""
        assert self._file is not None
        text = self._file.read()
        kept = text[: text.rfind("\n") + 1]
        self._file.seek(0)
        self._file.truncate()
        self._file.write(kept or json.dumps(self._about) + "\n")
        self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()

    def done(self, file: str) -> None:
        """Note that all of a file has been done with."""
        name = self._prints.get(file)
        if name is not None and self._file is not None:
            self._file.write(json.dumps({"path": file, "file": name}) + "\n")
            self._file.flush()
