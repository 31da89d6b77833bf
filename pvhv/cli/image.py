# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv image`: disk images, made, shown, converted, checked and made longer. The verbs and options are qemu-img's.

None of these needs the host process. An image that a domain has is locked, so only `info -U` looks at it meanwhile.

Read beside it: qemu-img(1).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import typer

from pvhv.cli.commands import AsJson, command, image_app
from pvhv.cli.output import print_json
from pvhv.toolstack.errors import ToolstackError, UsageError
from pvhv.toolstack.names import shown

FileArgument = Annotated[str, typer.Argument(help="The image.", metavar="FILE")]
FormatOption = Annotated[str, typer.Option("-f", "--format", help="Its format: raw or qcow2.", metavar="FORMAT")]
Options = Annotated[
    list[str] | None,
    typer.Option("-o", help="cluster_size=..., refcount_bits=..., compat=0.10 or 1.1.", metavar="NAME=VALUE,..."),
]
NO_CHECKS = 63  # the exit status of qemu-img check for a format that has nothing to check
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
PERCENT_WITHIN_S = 0.2


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with an image becomes a message."""
    from pvhv.images.image import BadImage

    try:
        yield
    except BadImage as bad:
        raise ToolstackError(bad.message, bad.hint) from None


@command("create", image_app)
def create(
    file: FileArgument,
    size: Annotated[str | None, typer.Argument(help="Of the disk: 64M, 1.5G, ...", metavar="[SIZE]")] = None,
    format_: FormatOption = "raw",
    backing: Annotated[str, typer.Option("-b", help="What is not in it is read from here.", metavar="FILE")] = "",
    backing_format: Annotated[str, typer.Option("-F", help="The format of that file.", metavar="FORMAT")] = "",
    options: Options = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Make an empty image. With -b, one above another image, which is only read from then on."""
    from pvhv.images import making

    if backing_format and not backing:
        raise UsageError("-F is the format of a backing file, and there is no -b")
    with _told():
        asked = None if size is None else making.parse_size(size)
        made = making.create(file, format_, asked, making.parse_options(options or []), backing, backing_format)
    if not quiet:
        print(f"{shown(file)} is there: {format_}, a disk of {_readable(made)}")


@command("info", image_app)
def info(
    file: FileArgument,
    format_: FormatOption = "",
    chain: Annotated[bool, typer.Option("--backing-chain", help="Show its backing files too.")] = False,
    force: Annotated[bool, typer.Option("-U", "--force-share", help="Even if somebody writes to it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an image is. The JSON has qemu-img's names."""
    from pvhv.images.facts import facts, facts_of_chain
    from pvhv.images.image import InUse
    from pvhv.images.making import require_format

    with _told():
        if format_:
            require_format(format_)
        try:
            found = facts_of_chain(file, format_, not force) if chain else [facts(file, format_, not force)]
        except InUse as used:
            raise ToolstackError(used.message, "-U shows it all the same, as it is at this moment") from None
    if as_json:
        print_json(found if chain else found[0])
        return
    print("\n\n".join("\n".join(f"{name}: {value}" for name, value in _lines(each)) for each in found))


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "image", shown(found["filename"])
    yield "file format", found["format"]
    yield "virtual size", f"{_readable(found['virtual-size'])} ({found['virtual-size']} bytes)"
    yield "disk size", _readable(found["actual-size"])
    if "cluster-size" in found:
        yield "cluster size", str(found["cluster-size"])
    if "backing-filename" in found:
        name, full = found["backing-filename"], found.get("full-backing-filename")
        yield "backing file", shown(name) + (f" (actual path: {shown(full)})" if full not in (None, name) else "")
        yield "backing file format", found.get("backing-filename-format", "not said")
    for each in found.get("snapshots", ()):
        date = time.strftime("%F %T", time.gmtime(each["date-sec"]))
        yield "snapshot", f"{shown(each['id'])} {shown(each['name'])}, {date} UTC"
    if found["dirty-flag"]:
        yield "was not closed", "its refcounts have to be repaired"
    for name, value in found.get("format-specific", {}).get("data", {}).items():
        yield name.replace("-", " "), str(value).lower() if isinstance(value, bool) else str(value)


def _readable(size: int) -> str:
    power = max(0, min(len(UNITS) - 1, (size.bit_length() - 1) // 10))
    return f"{size / 1024**power:.3g} {UNITS[power]}" if size >= 1000 or not power else f"{size} bytes"


@command("convert", image_app)
def convert(
    source: Annotated[str, typer.Argument(help="The image to read.", metavar="SOURCE")],
    target: Annotated[str, typer.Argument(help="The new image.", metavar="TARGET")],
    format_: FormatOption = "",
    output: Annotated[str, typer.Option("-O", help="The format of the new image.", metavar="FORMAT")] = "raw",
    compress: Annotated[bool, typer.Option("-c", "--compress", help="Compress its clusters (qcow2).")] = False,
    options: Options = None,
) -> None:
    """Make an image of another one, in another format or without its backing files."""
    from pvhv.build.progress import Progress
    from pvhv.images import convert as converting
    from pvhv.images import making
    from pvhv.images.opening import open_image

    with _told(), Progress("pvhv:") as progress:
        wanted = making.parse_options(options or [])
        image = open_image(source, format_ or _safe_format(source), False)
        drawn = time.monotonic()

        def at(share: float) -> None:
            nonlocal drawn
            if time.monotonic() - drawn > PERCENT_WITHIN_S:
                drawn = time.monotonic()
                progress.at(f"{share:.0%} of {source} is converted")

        try:
            converting.convert(image, target, output, wanted, compress, at)
        except OSError as error:
            raise ToolstackError(f"cannot read {source}: {error.strerror}") from None
        finally:
            image.close()


def _safe_format(path: str) -> str:
    """The format that a file looks like. A guest can make its raw image look like one with any backing file, so that is
    for the person to say. Raises BadImage."""
    from pvhv.images.facts import facts
    from pvhv.images.image import BadImage

    found = facts(path, lock=False)
    if "backing-filename" in found:
        raise BadImage(
            f"{path} looks like a qcow2 image above {found['backing-filename']}; a guest can make a raw image look so",
            "-f qcow2 or -f raw says which it is",
        )
    return str(found["format"])


@command("check", image_app)
def check(
    file: FileArgument,
    format_: FormatOption = "qcow2",
    repair: Annotated[
        Literal["leaks", "all"] | None, typer.Option("-r", "--repair", help="Repair it; leaks are harmless to repair.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a qcow2 image. The exit status is 0 if all is well, 1 if it could not be checked, 2 if it is corrupt, 3 if
    it has leaks, which take room and do no harm."""
    from pvhv.images import check as checking
    from pvhv.images.opening import open_checked
    from pvhv.images.qcow2 import header as headers

    if format_ != "qcow2":
        raise ToolstackError(f"an image of format {format_} has nothing to check", status=NO_CHECKS)
    with _told():
        opened = open_checked(file, repair is not None)
        try:
            found = checking.check(opened, headers.read(opened, file), repair)
        except OSError as error:
            raise ToolstackError(f"cannot check {file}: {error.strerror}") from None
        finally:
            opened.close()
    if as_json:
        print_json(_as_json(file, found))
    else:
        _tell(found, quiet)
    raise typer.Exit(found.status)


def _as_json(file: str, found: Any) -> dict[str, Any]:
    counts = {
        "corruptions": found.corruptions, "leaks": found.leaks, "corruptions-fixed": found.corruptions_fixed,
        "leaks-fixed": found.leaks_fixed, "allocated-clusters": found.allocated,
        "compressed-clusters": found.compressed,
    }  # fmt: skip
    return {
        "filename": file, "format": "qcow2", "check-errors": found.errors, "image-end-offset": found.end,
        "total-clusters": found.total, **{name: count for name, count in counts.items() if count},
    }  # fmt: skip


def _tell(found: Any, quiet: bool) -> None:
    for message in found.messages:
        print(message)
    if found.corruptions_fixed or found.leaks_fixed:
        print(f"repaired: {found.corruptions_fixed} corruptions, {found.leaks_fixed} leaks")
    if found.errors:
        print(f"{found.errors} parts of it could not be checked")
    if found.corruptions:
        print(f"{found.corruptions} errors were found: data may be corrupt. --repair all repairs what can be")
    if found.leaks:
        print(f"{found.leaks} leaked clusters were found: room is lost, no data. --repair leaks gives it back")
    if found.is_clean and not quiet:
        print("no errors were found")
    if not quiet and found.total:
        share = found.allocated / found.total
        print(f"{found.allocated} of {found.total} clusters are allocated ({share:.2%}), {found.compressed} compressed")


@command("resize", image_app)
def resize(
    file: FileArgument,
    size: Annotated[str, typer.Argument(help="The new size, or +SIZE: so much more.", metavar="SIZE")],
    format_: FormatOption = "",
) -> None:
    """Make the disk of an image longer. Its domain sees that in its next life."""
    from pvhv.images import making

    with _told():
        made = making.resize(file, format_ or _safe_format(file), size)
    print(f"{shown(file)} is a disk of {_readable(made)} now")
