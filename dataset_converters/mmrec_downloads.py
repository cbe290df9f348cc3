"""Where the data sets that are published in MMRec's layout can be fetched."""

from __future__ import annotations

from dataset_converters.public_files import PublicFiles

FEATURES = ("image_feat.npy", "text_feat.npy")
# Named by MMRec's author: https://github.com/enoche/FREEDOM/issues/1
AMAZON = "https://drive.google.com/drive/folders/13cBy1EA_saTUuXxVllKgtfci2A09jyaG"
# Named by the contributor of the data set: https://github.com/enoche/MMRec/issues/29
MICROLENS = "https://drive.google.com/drive/folders/14UyTAh_YyDV8vzXteBJiy9jv8TBDK43w"
URLS = {
    "baby": AMAZON,
    "sports": AMAZON,
    "clothing": AMAZON,
    "elec": AMAZON,
    "microlens": MICROLENS,
}


def mmrec_files(name: str, mirror: str | None = None) -> PublicFiles:
    """Return the files of a published data set.

    Args:
        name: a key of `URLS`.
        mirror: an address that holds `<name>/<file>`, in place of the published one.

    Returns:
        The interactions and both feature matrices.
    """
    url = f"{mirror.rstrip('/')}/{name}" if mirror else URLS[name]
    return PublicFiles(name, url, (f"{name}.inter", *FEATURES))
