"""Bring the jars of a real server from Maven Central and lay them out as it expects.

``poms/elasticsearch-8.xml`` says what to bring, ``poms/elasticsearch-8.jars`` what that must amount to, jar
by jar with its SHA-256, and which module each belongs to. Used by the child process of ``keytrail.node``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from keytrail.errors import NodeError

if TYPE_CHECKING:
    from keytrail.servers import Server

POMS = Path(__file__).parent / "poms"
OTHERWISE = "or set ELASTICSEARCH_URL to an Elasticsearch that runs already"


class Tell(Protocol):
    """Passes a message on to whoever waits for the jars: ``report`` is for people, ``alive`` only a sign of
    life.
    """

    def __call__(self, **message: str) -> None: ...


def folder_name(server: Server) -> str:
    """Return the name of the folder that the jars of a server are kept in."""
    return f"{server.product.lower()}-{server.version}"


def package(name: str) -> ModuleType:
    """Import a module that ``keytrail[elasticsearch]`` brings. Error: ``NodeError`` when it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = name.partition(".")[0]
        raise NodeError(
            f"a real server needs the Python package {missing}: {error}",
            hint=f"pip install 'keytrail[elasticsearch]', {OTHERWISE}",
        ) from error


def lay_out(server: Server, home: Path, tell: Tell) -> Path:
    """Return the folder in ``home`` with the laid out jars of a server; fill it when it is not there yet.

    It is built under a lock and another name, so that two processes do not both bring the jars, and a folder
    with the final name is always complete. Errors: ``NodeError`` when the jars cannot be had, are not the
    pinned ones or cannot be stored.
    """
    name = folder_name(server)
    root = home / name
    if root.is_dir():
        return root
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f"{name}.lock", server, tell):
            if not root.is_dir():
                for left in home.glob(f"{name}.part-*"):  # by a process that was killed: the lock is ours
                    shutil.rmtree(left, ignore_errors=True)
                with tempfile.TemporaryDirectory(prefix=f"{name}.part-", dir=home) as part:
                    _build(server, Path(part), tell)
                    (Path(part) / "root").rename(root)
    except OSError as error:
        hint = "make room there, or set XDG_CACHE_HOME to a folder that can be written"
        raise NodeError(f"the jars of {server.product} cannot be kept in {home}: {error}", hint=hint) from error
    return root


@contextlib.contextmanager
def _locked(path: Path, server: Server, tell: Tell) -> Iterator[None]:
    """Hold the lock of a file; whoever else holds it is bringing the jars."""
    import fcntl  # POSIX only, as is starting a node; the rest of this package is not

    with path.open("w") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    tell(report=f"waiting for another process that brings the jars of {server.product}…")
                told = True
                tell(alive="waiting")
                time.sleep(1)
        yield


def _build(server: Server, part: Path, tell: Tell) -> None:
    """Bring the jars and lay them out in ``part/root``: server/ (class path) and modules/ (a class loader
    each).
    """
    tell(report=f"bringing the jars of {server} (about {server.megabytes} MB, once)…")
    modules = _pinned(server)
    wanted = {name for jars in modules.values() for name in jars}
    found = _download(server, wanted, part / "repository", tell)
    root = part / "root"
    for title, jars in modules.items():
        module, _, extends = title.partition(" extends ")
        folder = root / "server" if module == "server" else root / "modules" / module
        folder.mkdir(parents=True)
        for name, digest in jars.items():
            if name not in found or hashlib.sha256(found[name].read_bytes()).hexdigest() != digest:
                problem = "is not the pinned one" if name in found else "is missing"
                raise NodeError(f"the jar {name} of {server.product} {problem}", hint=f"try again later, {OTHERWISE}")
            shutil.copyfile(found[name], folder / name)
        if module != "server":
            jar = next(folder.glob(f"{module}-[0-9]*.jar"))
            (folder / "plugin-descriptor.properties").write_text(_descriptor(jar, module, extends), "utf-8")


def _pinned(server: Server) -> dict[str, dict[str, str]]:
    """Read which jars belong together: heading ("server", "MODULE" or "MODULE extends MODULE") -> jar ->
    SHA-256.
    """
    pinned: dict[str, dict[str, str]] = {}
    for line in (POMS / f"{server.stem}.jars").read_text("utf-8").splitlines():
        if line.startswith("["):
            jars = pinned.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            digest, name = line.split()
            jars[name] = digest
    return pinned


def _download(server: Server, wanted: set[str], repository: Path, tell: Tell) -> dict[str, Path]:
    """Let jgo resolve the pom file and download the wanted jars: file name -> path."""
    maven = package("jgo.maven")
    resolver = maven.PythonResolver(progress_callback=_signs_of_life(tell))
    context = maven.MavenContext(resolver=resolver, repo_cache=repository, timeout=60)
    found = {}
    try:
        pom = maven.POM(POMS / f"{server.stem}.xml")
        dependencies, _ = maven.Model(pom, context).dependencies()
        for dependency in dependencies:
            if dependency.artifact.filename in wanted:
                found[dependency.artifact.filename] = Path(dependency.artifact.resolve())
    except Exception as error:  # jgo lets anything through: requests' errors, parse errors, assertions
        raise NodeError(
            f"the jars of {server} could not be downloaded: {error}",
            hint=f"check the network (HTTPS_PROXY, if there is a proxy) and try again, {OTHERWISE}",
        ) from error
    return found


def _signs_of_life(
    tell: Tell,
) -> Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]:
    """Make jgo's progress callback: a sign of life a second, so that slow is not taken for stuck."""
    last = 0.0

    def advance(_: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 1:
            last = time.monotonic()
            tell(alive="downloading")

    @contextlib.contextmanager
    def progress(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield advance

    return progress


def _descriptor(jar: Path, module: str, extends: str) -> str:
    """Return the module's own descriptor, fit for a server that runs from a class path."""
    with zipfile.ZipFile(jar) as archive:
        text = archive.read(f"META-INF/es-plugins/{module}/plugin-descriptor.properties").decode()
    # Without `modulename` it is loaded from its class path, as a server outside Java's module system needs.
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "modulename", "extended"))]
    return "\n".join([*lines, *([f"extended.plugins={extends}"] if extends else []), ""])
