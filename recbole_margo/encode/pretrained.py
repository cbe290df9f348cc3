"""Pretrained encoders of texts, images and sounds, and what all encoders on torch share."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_margo.encode.images import decode_image
from recbole_margo.encode.item_encoding import Encoder
from recbole_margo.encode.item_source import UnreadableContentError, decode_text
from recbole_margo.errors import ConfigError, import_optional


def choose_device(name: str | None) -> torch.device:
    """Return the device of a name such as `cuda:1`; None takes a GPU where there is one.

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
        preparation: text that says how the input is prepared and the output is pooled.
        unused: names of weights that do not count, because they play no part.
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
    """Raise a `ConfigError` that says what was to be loaded when a pretrained model cannot be."""
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
    """Raise a `ConfigError` with the remedy when the device has too little memory for a batch."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"--batch_size: the device has not enough memory for {batch_size} items at once. Run "
            f"the command again with --batch_size {max(1, batch_size // 2)}; what is done is kept."
        ) from error


def projected(output: Any) -> Tensor:
    """Return the vectors [B, D] of a projection of transformers."""
    # A tensor until transformers 4, an output with pooling since 5.
    return output if isinstance(output, Tensor) else output.pooler_output


class SentenceEncoder(Encoder):
    """A sentence-transformers model, by name or folder; pooling is that of the model.

    Source: Reimers and Gurevych, "Sentence-BERT", EMNLP 2019.
    """

    batch_size = 64

    def __init__(self, name: str, device: str | None = None) -> None:
        """Load the model.

        Args:
            name: name on the Hugging Face hub, or folder.
            device: of torch; None takes a GPU where there is one.

        Raises:
            ConfigError: the model cannot be loaded.
            DataError: sentence-transformers is not installed.
        """
        library = import_optional(
            "sentence_transformers", "sentence-transformers", f"The text encoder {name!r}"
        )
        self._device = choose_device(device)
        with loading(name, "a sentence-transformers model"):
            self._model = library.SentenceTransformer(name, device=str(self._device)).float()
        self.identity = weights_hash(self._model, f"sentence {self._model}")
        self.description = f"sentence-transformers model {short_name(name)}"

    def prepare(self, content: bytes) -> str:
        """Return the text; texts beyond the model's length are cut off by the model."""
        return decode_text(content)

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Return the sentence vectors [B, D]."""
        with enough_memory(len(batch)):
            vectors = self._model.encode(
                list(batch), batch_size=len(batch), show_progress_bar=False, convert_to_numpy=True
            )
        result: NDArray[np.float32] = vectors.astype(np.float32)
        return result


class VisionEncoder(Encoder):
    """A vision model of transformers, by name or folder: CLIP, SigLIP, DINOv2, ViT and others.

    The vector is the projected image embedding of models that have one (CLIP, SigLIP), else the
    class token of the last layer (ViT, DINOv2), else the model's own pooling (Swin, ConvNeXt).

    Sources: Radford et al., ICML 2021 (CLIP); Zhai et al., ICCV 2023 (SigLIP); Oquab et al., TMLR
    2024 (DINOv2); Dosovitskiy et al., ICLR 2021 (ViT).
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        """Load the model and its image processor.

        Raises:
            ConfigError: the model cannot be loaded, is no vision model, or lacks weights.
            DataError: transformers is not installed.
        """
        library = import_optional("transformers", "transformers", f"The image encoder {name!r}")
        self._device = choose_device(device)
        with loading(name, "a vision model of transformers"):
            self._processor = library.AutoImageProcessor.from_pretrained(name)
            model, information = library.AutoModel.from_pretrained(name, output_loading_info=True)
        if getattr(model, "main_input_name", "") != "pixel_values" and not hasattr(
            model, "get_image_features"
        ):
            raise ConfigError(f"--encoder: expected a vision model, found {type(model).__name__}.")
        self._model = model.float().eval().to(self._device)
        parameters = [parameter for parameter, _ in model.named_parameters()]
        if hasattr(model, "get_image_features"):
            self._pooling = "projection"
        elif any(parameter.endswith("cls_token") for parameter in parameters):
            self._pooling = "class token"
        else:
            self._pooling = "pooler"
        unused = {p for p in parameters if self._pooling == "class token" and "pooler." in p}
        missing = set(information["missing_keys"]) - unused
        if missing:
            raise ConfigError(
                f"--encoder: expected all weights of {type(model).__name__} in {name!r}, found "
                f"{len(missing)} missing, such as {min(missing)}. Use the complete model."
            )
        preparation = f"vision {self._pooling} {self._processor.to_json_string()}"
        self.identity = weights_hash(model, preparation, unused)
        self.description = f"{type(model).__name__} {short_name(name)} ({self._pooling})"

    def prepare(self, content: bytes) -> Tensor:
        """Return the pixels [3, H, W] as the model wants them."""
        image = decode_image(content)
        try:
            pixels = self._processor(images=image, return_tensors="pt")["pixel_values"][0]
        except ValueError as error:
            raise UnreadableContentError(
                f"expected an image that the model's processor takes, found {image.size[0]} x "
                f"{image.size[1]} pixels ({error})"
            ) from error
        return torch.as_tensor(pixels)

    @torch.inference_mode()
    def encode(self, batch: Sequence[Tensor]) -> NDArray[np.float32]:
        """Return the image vectors [B, D]."""
        with enough_memory(len(batch)):
            vectors = self._embed(torch.stack(list(batch)).to(self._device))
        return vectors.float().cpu().numpy()

    def _embed(self, pixels: Tensor) -> Tensor:
        if self._pooling == "projection":
            return projected(self._model.get_image_features(pixel_values=pixels))
        output = self._model(pixel_values=pixels)
        if self._pooling == "class token":
            first: Tensor = output.last_hidden_state[:, 0]
            return first
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            states = output.last_hidden_state  # [B, T, D], or [B, D, H, W] of convolutions
            pooled = states.mean(dim=1) if states.ndim == 3 else states.mean(dim=(2, 3))
        flat: Tensor = pooled.flatten(1)
        return flat


LONGEST_SECONDS = 30
# A header may promise anything; what is read has to be in memory at once.
LARGEST_RATE = 384_000
LARGEST_BYTES = 1 << 28


class SoundEncoder(Encoder):
    """An audio model of transformers, by name or folder: CLAP, Whisper, wav2vec 2.0 and others.

    The beginning of a sound counts: as much as the model hears at once, 30 seconds at most. The
    vector is the projected audio embedding of models that have one (CLAP), else the mean of the
    last hidden states over time, of the encoder where there is also a decoder (Whisper).

    Sources: Wu et al., ICASSP 2023 (CLAP); Radford et al., ICML 2023 (Whisper); Baevski et al.,
    NeurIPS 2020 (wav2vec 2.0).
    """

    batch_size = 8

    def __init__(self, name: str, device: str | None = None) -> None:
        """Load the model and its feature extractor.

        Raises:
            ConfigError: the model cannot be loaded, or is no audio model.
            DataError: transformers or soundfile is not installed.
        """
        purpose = f"The audio encoder {name!r}"
        library = import_optional("transformers", "transformers", purpose)
        self._soundfile = import_optional("soundfile", "soundfile", purpose)
        self._device = choose_device(device)
        with loading(name, "an audio model of transformers"):
            self._extractor = library.AutoFeatureExtractor.from_pretrained(name)
            model = library.AutoModel.from_pretrained(name)
        rate = getattr(self._extractor, "sampling_rate", None)
        if rate is None:
            raise ConfigError(f"--encoder: expected an audio model, found {type(model).__name__}.")
        self._rate = int(rate)
        self._seconds = min(
            LONGEST_SECONDS, getattr(self._extractor, "max_length_s", LONGEST_SECONDS)
        )
        self._projects = hasattr(model, "get_audio_features")
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        self._model = model.float().eval().to(self._device)
        preparation = f"sound {self._projects} {self._seconds} {self._extractor.to_json_string()}"
        self.identity = weights_hash(self._model, preparation)
        self.description = f"{type(model).__name__} {short_name(name)}"

    def prepare(self, content: bytes) -> Mapping[str, Tensor]:
        """Return the model's inputs, each [1, ...]."""
        samples = self._decode(content)
        inputs: Mapping[str, Tensor] = self._extractor(
            samples, sampling_rate=self._rate, return_tensors="pt"
        )
        return inputs

    @torch.inference_mode()
    def encode(self, batch: Sequence[Mapping[str, Tensor]]) -> NDArray[np.float32]:
        """Return the vectors [B, D]; sounds differ in length, so they are encoded one by one."""
        with enough_memory(len(batch)):
            vectors = [self._embed(inputs) for inputs in batch]
        return torch.cat(vectors).float().cpu().numpy()

    def _embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        moved = {name: value.to(self._device) for name, value in inputs.items()}
        if self._projects:
            return projected(self._model.get_audio_features(**moved))
        states: Tensor = self._model(**moved).last_hidden_state
        return states.mean(dim=1)

    def _decode(self, content: bytes) -> NDArray[np.float32]:
        """Return the samples of the beginning, one channel at the model's rate."""
        from scipy.signal import resample_poly

        try:
            with self._soundfile.SoundFile(io.BytesIO(content)) as file:
                rate = int(file.samplerate)
                _check_size(rate, self._seconds, file.channels, file.frames)
                samples = file.read(rate * self._seconds, dtype="float32", always_2d=True)
        except (RuntimeError, OSError, ValueError, TypeError) as error:
            raise UnreadableContentError(f"expected a sound, found: {error}") from error
        if not samples.any() or not np.isfinite(samples).all():
            raise UnreadableContentError("expected a sound, found silence or no samples")
        divisor = math.gcd(rate, self._rate)
        mono: NDArray[np.float32] = resample_poly(
            samples.mean(axis=1), self._rate // divisor, rate // divisor
        ).astype(np.float32)
        return mono


def _check_size(rate: int, seconds: float, channels: int, frames: int) -> None:
    """Refuse a sound whose beginning takes too much memory, by its header alone."""
    if not 0 < rate <= LARGEST_RATE:
        raise UnreadableContentError(
            f"expected a sound of at most {LARGEST_RATE:,} samples a second, found {rate:,}"
        )
    size = 4 * channels * min(rate * seconds, frames)
    if size > LARGEST_BYTES:
        raise UnreadableContentError(
            f"expected a sound of at most {LARGEST_BYTES >> 20} MiB in memory, found "
            f"{int(size) >> 20} MiB ({channels} channels, {rate:,} samples a second)"
        )
