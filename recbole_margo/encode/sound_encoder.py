"""Audio encoders of the library transformers."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_margo.encode.encoder import Encoder, UnreadableContentError
from recbole_margo.encode.pretrained import (
    choose_device,
    enough_memory,
    loading,
    projected,
    short_name,
    weights_hash,
)
from recbole_margo.errors import ConfigError
from recbole_margo.optional import import_optional

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

        Args:
            name: name on the Hugging Face hub, or folder.
            device: of torch; None takes a GPU where there is one.

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
        result: NDArray[np.float32] = torch.cat(vectors).float().cpu().numpy()
        return result

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
