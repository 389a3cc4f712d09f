"""Downloads PneumoniaMNIST once into the cache and checks its hash."""

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
    """Return the path of PneumoniaMNIST-224 in the cache, or None if it is not there."""
    path = cache_folder() / PNEUMONIAMNIST_224.name
    return path if path.is_file() else None


def fetch_medmnist(folder: Path, download: Download = PNEUMONIAMNIST_224) -> Path:
    """Download PneumoniaMNIST, unless it is already there and complete.

    Args:
        folder: Folder for the file.
        download: The file to download.

    Returns:
        The path of the file. The file has this name only when it is complete and its MD5 is right.

    Raises:
        DataError: The download failed, or the file has another MD5; the message says how to download it by hand.
        MissingExtraError: pooch is not installed.
        OSError: The folder cannot be written.
    """
    pooch, requests = extras.need("pooch", "data"), extras.need("requests", "data")
    path = folder / download.name
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_TIMEOUT)
    # Check that the folder can be written before downloading hundreds of megabytes.
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if not path.exists():
            # Limits the total time; the lookup of a host name has no timeout.
            connectivity.check(download.url)
        pooch.retrieve(download.url, f"md5:{download.md5}", fname=path.name, path=folder, downloader=downloader)
    except requests.HTTPError as error:
        raise _by_hand(path, download, f"the server answered {error.response.status_code}") from error
    except connectivity.UnreachableError as error:
        raise _by_hand(path, download, str(error)) from error
    except requests.RequestException as error:
        raise _by_hand(path, download, f"no connection to {urlsplit(download.url).netloc}") from error
    except ValueError as error:  # what pooch raises for a wrong hash
        raise _by_hand(path, download, "the downloaded file has another MD5") from error
    return path


def _by_hand(path: Path, download: Download, reason: str) -> DataError:
    return DataError(
        f"{download.url} could not be downloaded ({reason})",
        f"a file with the MD5 {download.md5}",
        f"Try again, or download it by hand, check its MD5, and put it at {path.absolute()}",
    )
