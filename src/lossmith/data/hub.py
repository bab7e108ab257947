"""Data sets of the Hugging Face Hub, fetched and kept by huggingface_hub as the Parquet files that the Hub makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lossmith.data.dataset import TRAIN
from lossmith.data.errors import DataError, listed
from lossmith.data.files import PARTS, FileSet

PREFIX: Final = "hf:"
_REVISION: Final = "refs/convert/parquet"
"""The branch on which the Hub keeps each public data set as CONFIGURATION/SPLIT/0000.parquet."""


def find_on_hub(source: str) -> tuple[FileSet, tuple[str, ...]]:
    """Fetch a data set of the Hub, or find it in the cache of huggingface_hub (HF_HOME).

    Args:
        source: "hf:OWNER/NAME", or "hf:OWNER/NAME/CONFIGURATION" where it has several.

    Returns:
        Its Parquet files, and what to tell.

    Raises:
        DataError: If it cannot be had, or it has several configurations and none is named.
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise DataError(
            f"{source!r} is fetched by huggingface_hub, which is not installed; pip install 'lossmith[data]'."
        ) from error
    owner, _, rest = source.removeprefix(PREFIX).partition("/")
    name, _, asked = rest.partition("/")
    name = f"{owner}/{name}" if name else owner
    try:
        config = _configuration(source, asked, _listed(hub, name))
        folder = Path(_snapshot(hub, name, f"{config}/*")) / config
    except DataError:
        raise
    except Exception as error:  # the network, the Hub's answer and the cache fail in many ways
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".") or type(error).__name__
        raise DataError(f"the data set {source!r} cannot be had ({reason}); check its name and the network.") from error
    splits = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    known = [
        (PARTS[path.name], file) for path in splits if path.name in PARTS for file in sorted(path.glob("*.parquet"))
    ]
    if TRAIN not in {part for part, _ in known}:
        raise DataError(
            f"{source!r} has no split 'train' in its configuration {config!r} (it has"
            f" {listed(path.name for path in splits)}); choose another data set or configuration."
        )
    known.sort(key=lambda each: each[0])
    parts, paths = tuple(part for part, _ in known), tuple(path for _, path in known)
    unused = [path.name for path in splits if path.name not in PARTS]
    notes = (f"the splits {listed(unused)} of {source} are not used",) if unused else ()
    return FileSet(name.rpartition("/")[2], "table", paths, parts if len(set(parts)) > 1 else None), notes


def _listed(hub: Any, name: str) -> list[str]:
    """The data set's files by path; those of the cache where the Hub cannot be reached."""
    try:
        return list(hub.HfApi().list_repo_files(name, repo_type="dataset", revision=_REVISION))
    except Exception:  # offline, or no such data set, which the next call says
        folder = Path(hub.snapshot_download(name, repo_type="dataset", revision=_REVISION, local_files_only=True))
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")]


def _snapshot(hub: Any, name: str, pattern: str) -> str:
    return str(hub.snapshot_download(name, repo_type="dataset", revision=_REVISION, allow_patterns=pattern))


def _configuration(source: str, asked: str, files: Sequence[str]) -> str:
    found = sorted({file.partition("/")[0] for file in files if file.endswith(".parquet")})
    if asked in found or (not asked and len(found) == 1):
        return asked or found[0]
    if not asked and "default" in found:
        return "default"
    if not found:
        raise DataError(f"{source!r} holds no Parquet files; choose another data set, or download its files.")
    wanted = f"has no configuration {asked!r}" if asked else "has several configurations"
    given = source.removesuffix(f"/{asked}") if asked else source
    raise DataError(f"{source!r} {wanted} (it has {listed(found)}); name one, such as {given}/{found[0]}.")
