"""What the encoders that run on torch share."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from recbole_margo.errors import ConfigError
from recbole_margo.optional import import_optional


def choose_device(name: str | None) -> torch.device:
    """Return the device of this name, or the best that there is.

    Args:
        name: such as `cpu` or `cuda:1`; None takes a GPU where there is one.

    Raises:
        ConfigError: there is no such device.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"--device: expected a device of torch such as cpu or cuda, found {name!r} ({reason})."
        ) from error
    return device


def weights_hash(
    model: torch.nn.Module, preparation: str, unused: Collection[str] = frozenset()
) -> str:
    """Return a hash of a model's weights and of how its input is prepared.

    The same model gives the same hash from a hub and from any folder.

    Args:
        model: the model.
        preparation: text that says how the input is prepared and the output is pooled.
        unused: names of weights that do not count, because they play no part.

    Returns:
        A SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256(preparation.encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name not in unused:
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(values.numpy().data)
    return digest.hexdigest()


def short_name(name: str) -> str:
    """Return the name of a model for people: without the folders above it, as on a hub."""
    path = Path(name).expanduser()
    return "/".join(path.resolve().parts[-2:]) if path.is_dir() else name


@contextmanager
def loading(name: str, purpose: str) -> Iterator[None]:
    """Say what is wrong when a pretrained model cannot be loaded.

    Args:
        name: name or path of the model, as the user gave it.
        purpose: what it should do, for the message.

    Raises:
        ConfigError: the block failed.
    """
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if looks_local and not Path(name).expanduser().is_dir():
        raise ConfigError(
            f"--encoder: expected the folder of a model, found that {name} is none. Give the "
            "folder that holds its config.json, or a name on the Hugging Face hub."
        )
    library = import_optional("transformers", "transformers", f"--encoder {name}")
    # What it has to say about weights that play no part would only unsettle.
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    try:
        yield
    except Exception as error:
        # The libraries report missing files, networks and kinds of models in many ways.
        lines = str(error).strip().splitlines() or [""]
        raise ConfigError(
            f"--encoder: expected {purpose}, a folder or a name on the Hugging Face hub; found "
            f"that {name!r} cannot be loaded ({type(error).__name__}: {lines[0]}). Without a "
            "network, fetch the folder of the model elsewhere and give its path."
        ) from error


@contextmanager
def enough_memory(batch_size: int) -> Iterator[None]:
    """Name the remedy when the device has too little memory for a batch.

    Raises:
        ConfigError: the block ran out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"--batch_size: the device has not enough memory for {batch_size} items at once. Run "
            f"the command again with --batch_size {max(1, batch_size // 2)}; what is done is kept."
        ) from error
