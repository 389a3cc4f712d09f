"""PneumoniaMNIST from its archive: downloaded once, checked by its hash, kept in the cache."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pneumo_edge._util import connectivity, extras
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.errors import DataError

#: Seconds to connect, and between two pieces of the answer.
_TIMEOUT = (connectivity.SECONDS, 30.0)


@dataclass(frozen=True)
class Download:
    """A file on the web: its address, its name on disk, and the hexadecimal MD5 of its bytes."""

    url: str
    name: str
    md5: str


#: Address and MD5 are those of MedMNIST's own ``info.py``.
PNEUMONIAMNIST_224 = Download(
    url="https://zenodo.org/records/10519652/files/pneumoniamnist_224.npz?download=1",
    name="pneumoniamnist_224.npz",
    md5="d6a3c71de1b945ea11211b03746c1fe1",
)


def find_fetched() -> Path | None:
    """Where an earlier fetch, or a person, has put PneumoniaMNIST-224; None where it is not there."""
    path = cache_folder() / PNEUMONIAMNIST_224.name
    return path if path.is_file() else None


def fetch_medmnist(folder: Path, download: Download = PNEUMONIAMNIST_224) -> Path:
    """Download PneumoniaMNIST, unless it is already there and whole.

    Args:
        folder: Where it is kept.
        download: What to fetch.

    Returns:
        The path of the file. It has that name only when all of it has come and its MD5 is right.

    Raises:
        DataError: It cannot be fetched, or what came has another MD5; the message says how to do it by hand.
        MissingExtraError: pooch is not installed.
        OSError: The folder cannot be written.
    """
    pooch, requests = extras.need("pooch", "data"), extras.need("requests", "data")
    path = folder / download.name
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_TIMEOUT)
    # Before hundreds of megabytes have come for a folder that cannot take them.
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if not path.exists():
            # Within a bound as a whole: the look-up of a name has none of its own.
            connectivity.check(download.url)
        pooch.retrieve(download.url, f"md5:{download.md5}", fname=path.name, path=folder, downloader=downloader)
    except requests.HTTPError as error:
        raise _by_hand(path, download, f"the server said {error.response.status_code}") from error
    except connectivity.UnreachableError as error:
        raise _by_hand(path, download, str(error)) from error
    except requests.RequestException as error:
        raise _by_hand(path, download, f"no connection to {urlsplit(download.url).netloc}") from error
    except ValueError as error:  # what pooch raises for a wrong hash
        raise _by_hand(path, download, "what came has another MD5") from error
    return path


def _by_hand(path: Path, download: Download, reason: str) -> DataError:
    return DataError(
        f"{download.url} could not be fetched ({reason})",
        f"a file with the MD5 {download.md5}",
        f"Try again, or download it by hand, check its MD5, and put it at {path.absolute()}",
    )
