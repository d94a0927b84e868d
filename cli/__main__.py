"""`larder`: every command with its options and its help; what they do is in a module each.

A command's module is imported when it runs: help, version and a wrong option cost no more than
this file.
"""

import sys
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

import typer

from cli import OutputForm

_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(
    name="larder",
    help="Look into Larder, the node-local model cache for KServe. Nothing here changes a cache.",
    epilog="Exit status: 0 fine, 1 a problem was found, 2 wrong use.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)
catalog_app = typer.Typer(
    help="Check a catalog, or print its JSON schema.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=_SETTINGS,
)
app.add_typer(catalog_app, name="catalog")

OutputOption = Annotated[
    OutputForm, typer.Option("--output", "-o", help="How to print: a table, or one JSON document.")
]
CatalogFile = Annotated[
    Path, typer.Option("--catalog", metavar="FILE", help="The catalog's file; - is standard input.")
]
CacheRoot = Annotated[
    Path, typer.Option("--cache-root", metavar="DIR", help="The agent's cache root on this node.")
]


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer hands over the flag's value
    if wanted:
        from runtime.version import version_text  # noqa: PLC0415 - only when asked for

        typer.echo(f"larder {version_text()}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Nothing by itself: a command does the work."""


@catalog_app.command(
    "validate", no_args_is_help=True, epilog="Example: larder catalog validate catalog.yaml"
)
def catalog_validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file; - is standard input.")],
    *,
    standalone: Annotated[
        bool,
        typer.Option(
            "--standalone/--cluster",
            help="Where it is meant for: one machine, or a cluster, where credentials are Secrets.",
        ),
    ] = True,
    output: OutputOption = "table",
) -> None:
    """Tell every mistake of a catalog, or what it says.

    Mistakes come with their line, their place and what is accepted.
    """
    from cli.catalog import validate  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(validate(file, standalone=standalone, output=output))


@catalog_app.command("schema", epilog="Example: larder catalog schema > larder-catalog.schema.json")
def catalog_schema(output: OutputOption = "json") -> None:
    """Print the catalog's JSON schema, for editors.

    The schema is JSON whatever the output form.
    """
    from cli.catalog import schema  # noqa: PLC0415 - see the module's docstring

    del output
    raise typer.Exit(schema())


@app.command("ls", no_args_is_help=True, epilog="Example: larder ls --cache-root /var/lib/larder")
def ls(cache_root: CacheRoot, output: OutputOption = "table") -> None:
    """List the models on this node's disk, and what they take.

    Reads beside a running agent and changes nothing.
    """
    from cli.ls import ls as run  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run(cache_root, output))


@app.command(
    "verify",
    no_args_is_help=True,
    epilog="Example: larder verify --cache-root /var/lib/larder 52a2d80d4bc5fa16",
)
def verify(
    cache_root: CacheRoot,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY]...", help="Slots to verify, as larder ls names them."),
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Hash every published file again and compare it with its manifest.

    Tells what is missing, extra, of another size or content, unreadable, or no file. Changes
    nothing.
    """
    from cli.verify import verify as run  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run(cache_root, keys or [], output))


@app.command("demo", epilog="Example: larder demo --size 64MB")
def demo(
    size: Annotated[
        str, typer.Option("--size", metavar="SIZE", help="Of the checkpoint that is made.")
    ] = "512MB",
    hub: Annotated[
        str, typer.Option("--hub", metavar="URL", help="Another hub: https://huggingface.co.")
    ] = "",
    model: Annotated[
        str, typer.Option("--model", metavar="OWNER/MODEL", help="A public model of that hub.")
    ] = "",
    revision: Annotated[
        str, typer.Option("--revision", metavar="REVISION", help="Its commit or branch; else main.")
    ] = "",
    output: OutputOption = "table",
) -> None:
    """Fill a cache, change a pod, start it with and without Larder, and compare.

    Makes two models and serves them from a hub of its own, or takes one of another hub. All of it
    is in a temporary directory (TMPDIR says where) and gone afterwards.
    """
    from cli.demo import demo as run  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run(size, hub, model, revision, output))


@app.command(
    "explain",
    no_args_is_help=True,
    epilog="Example: larder explain pod/llama-predictor-6d5c7 -n chat",
)
def explain(  # noqa: PLR0913 - an option each
    *,
    target: Annotated[
        str,
        typer.Argument(
            metavar="[TARGET]", help="In a cluster: pod/NAME, or isvc/NAME for all of its pods."
        ),
    ] = "",
    pod: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Instead: a pod in YAML or JSON, or an AdmissionReview; - is standard input.",
        ),
    ] = None,
    catalog: Annotated[
        Path | None,
        typer.Option(
            "--catalog", metavar="FILE", help="With --file: the catalog's file; - likewise."
        ),
    ] = None,
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace", "-n", metavar="NAME", help="The namespace, if not the one of the file."
        ),
    ] = "",
    namespace_label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="With --file: a label of the namespace, where they matter. Repeatable.",
        ),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The way to the cluster, if not that of KUBECONFIG or kubectl's."
        ),
    ] = None,
    cache_root: Annotated[
        str, typer.Option(metavar="DIR", help="The cache root that the webhook writes into pods.")
    ] = "/var/lib/larder",
    volumes: Annotated[
        Literal["HostPath", "ByNamespace"] | None,
        typer.Option(
            help="Where the webhook gives hostPath volumes; if not said, everywhere with --file, "
            "and by the namespace's labels in a cluster."
        ),
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Tell whether a pod is served from the cache, and why.

    Of a pod in a cluster, shows what was done to it and what its initializer did, which entries of
    the catalog were considered, and which nodes have the model. From files alone, decides as the
    webhook does when the pod is created, and shows how the pod would be changed. Exit status 0
    means that it is served from the cache.
    """
    from cli.output import refuse  # noqa: PLC0415 - see the module's docstring

    if target:
        if pod or catalog or namespace_label:
            refuse(f"{target} is read from a cluster, with its catalog and labels; or give --file")
        from cli import explain_live as live  # noqa: PLC0415 - see the module's docstring

        asked = live.Question(
            target=target,
            namespace=namespace,
            kubeconfig=kubeconfig,
            cache_root=PurePosixPath(cache_root),
            volumes=volumes or "ByNamespace",
        )
        raise typer.Exit(live.explain(asked, output))
    if pod is None or catalog is None or kubeconfig:
        refuse("nothing to explain; accepted: pod/NAME, isvc/NAME, or --file with --catalog")
    from cli import explain as module  # noqa: PLC0415 - see the module's docstring

    question = module.Question(
        pod=pod,
        catalog=catalog,
        namespace=namespace,
        namespace_labels=tuple(namespace_label or ()),
        cache_root=PurePosixPath(cache_root),
        volumes=volumes or "HostPath",
    )
    raise typer.Exit(module.explain(question, output))


@app.command(
    "plan",
    no_args_is_help=True,
    epilog="Example: larder plan --catalog catalog.yaml --cache-root /var/lib/larder "
    "--node-name worker-1",
)
def plan(  # noqa: PLR0913 - an option each
    *,
    catalog: CatalogFile,
    cache_root: CacheRoot,
    node_name: Annotated[str, typer.Option(metavar="NAME", help="The name of this node.")],
    node_label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="A label of this node, for node groups. Repeatable."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Most that models may take, like 50Gi or 80%."),
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Print what the agent would do next on this node.

    Tells what it would put off, too, and why. Reads beside a running agent and does none of it;
    what only the agent knows is named.
    """
    from cli import plan as module  # noqa: PLC0415 - see the module's docstring

    question = module.Question(
        catalog=catalog,
        cache_root=cache_root,
        node_name=node_name,
        node_labels=tuple(node_label or ()),
        budget=budget,
    )
    raise typer.Exit(module.plan(question, output))


@app.command("doctor", epilog="Example: larder doctor --kubeconfig ~/.kube/config")
def doctor(
    *,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The way to the cluster, if not that of KUBECONFIG or kubectl's."
        ),
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Look at a whole install: what is broken, and what to do about it.

    Reads with your own rights and changes nothing; what you may not read is named. Before an
    install it tells whether the cluster is new enough. Exit status 1 means that something is
    broken; warnings alone are 0.
    """
    from cli.doctor import doctor as run  # noqa: PLC0415 - see the module's docstring

    raise typer.Exit(run(kubeconfig, output))


def main() -> None:
    """The program. What the terminal's encoding lacks is printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    app()


if __name__ == "__main__":
    main()
