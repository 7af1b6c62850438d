"""The real servers that can be started: what differs between them, and how their Java code makes a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from keytrail import jars
from keytrail.errors import NodeError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Server:
    """A server of one major version.

    ``stem`` is that of its files in ``poms/``, ``java`` the package that its classes lie in, ``settings`` what it needs
    beside what all do. ``plugins`` are classes of its class path, for a server that takes its modules from there;
    otherwise they lie in folders. ``version_of`` is the Java expression of its version: a class, and what to ask of it.
    """

    product: str
    stem: str
    java: str
    megabytes: int
    version_of: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The full version, as the pom file has it."""
        pom = ElementTree.parse(jars.POMS / f"{self.stem}.xml")
        return pom.getroot().findtext("{*}properties/{*}server", "")

    def __str__(self) -> str:
        return f"{self.product} {self.version}"


_ELASTIC: dict[str, Any] = {
    "product": "Elasticsearch",
    "java": "org.elasticsearch",
    "megabytes": 70,
    "version_of": ("Build", "current", "version"),
    "settings": {"xpack.security.enabled": "false"},
}
SERVERS: Mapping[str, Server] = {
    "8": Server(stem="elasticsearch-8", **_ELASTIC),
    "9": Server(stem="elasticsearch-9", **_ELASTIC),
    "opensearch-3": Server(
        product="OpenSearch",
        stem="opensearch-3",
        java="org.opensearch",
        megabytes=55,
        version_of=("Version", "CURRENT", "toString"),
        plugins=("transport.Netty4ModulePlugin", "painless.PainlessModulePlugin"),
    ),
}


# What follows runs in the node's own process, in which Java has been started.


def make(server: Server, root: Path, folder: Path, port: int) -> Any:
    """Make a node (an ``org.….node.Node``) of the jars in ``root``, which will keep its data in ``folder``."""
    environment = _environment(server, root, folder, port)
    jpype = jars.package("jpype")
    if server.plugins:
        plugins = jpype.JClass("java.util.ArrayList")()
        for name in server.plugins:
            plugins.add(jpype.JClass(f"{server.java}.{name}").class_)
        return jpype.JClass("org.codelibs.opensearch.runner.node.OpenSearchRunnerNode")(environment, plugins)
    loaders = jpype.JClass(f"{server.java}.plugins.PluginsLoader")
    modules = environment.modulesDir()
    # Version 9 asks beside the folder whether to load the modules into Java's own module system.
    taken = max(len(method.getParameterTypes()) for method in _methods(loaders, "loadModulesBundles"))
    bundles = loaders.loadModulesBundles(modules, *[False] * (taken - 1))
    nothing, none = jpype.JClass("java.util.Set").of(), jpype.JClass("java.util.Map").of()
    loader = loaders.createPluginsLoader(bundles, nothing, none, False)
    return jpype.JClass(f"{server.java}.node.Node")(environment, loader)


def _methods(java: Any, name: str) -> list[Any]:
    return [method for method in java.class_.getMethods() if method.getName() == name]


def _environment(server: Server, root: Path, folder: Path, port: int) -> Any:
    """Prepare the node's settings (an ``org.….env.Environment``)."""
    jpype = jars.package("jpype")
    settings = jpype.JClass(f"{server.java}.common.settings.Settings")
    builder = settings.builder()
    for name, value in {
        "cluster.name": "keytrail",
        "node.name": "keytrail",
        "path.home": root,
        "path.data": folder / "data",
        "path.logs": folder / "logs",
        "discovery.type": "single-node",
        "network.host": HOST,
        "http.port": port,  # 0 lets the system choose a free one: nobody can take it in between
        "transport.port": 0,
        # An almost full disk would make every index read-only.
        "cluster.routing.allocation.disk.threshold_enabled": "false",
        # Garbage that nobody has collected yet counts as memory in use; a node that refuses everything collects none.
        "indices.breaker.total.use_real_memory": "false",
        **server.settings,
    }.items():
        builder.put(name, str(value))
    (folder / "config").mkdir()
    jpype.JClass(f"{server.java}.common.logging.LogConfigurator").configureWithoutConfig(settings.EMPTY)
    return jpype.JClass(f"{server.java}.node.InternalSettingsPreparer").prepareEnvironment(
        builder.build(),
        jpype.JClass("java.util.Map").of(),
        jpype.JClass("java.nio.file.Path").of(str(folder / "config")),
        jpype.JProxy("java.util.function.Supplier", {"get": lambda: "keytrail"}),
    )


def run(server: Server, node: Any, port: str) -> tuple[str, str]:
    """Start the node and return the port that it listens on and its full version. Error: ``NodeError``."""
    jpype = jars.package("jpype")
    try:
        node.start()
    except jpype.JException as error:
        if "BindHttpException" not in str(type(error)):
            raise
        hint = "leave the port out to have a free one chosen"
        raise NodeError(f"port {port} of {HOST} is taken", hint=hint) from error
    transport = node.injector().getInstance(jpype.JClass(f"{server.java}.http.HttpServerTransport"))
    name, *steps = server.version_of
    found = jpype.JClass(f"{server.java}.{name}")
    for step in steps:
        found = getattr(found, step)
        found = found() if callable(found) else found
    return str(transport.boundAddress().publishAddress().getPort()), str(found)
