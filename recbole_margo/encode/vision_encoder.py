"""Image encoders of the library transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_margo.encode.encoder import Encoder
from recbole_margo.encode.image_files import decode_image
from recbole_margo.encode.torch_models import (
    choose_device,
    enough_memory,
    loading,
    short_name,
    weights_hash,
)
from recbole_margo.encode.unreadable_content_error import UnreadableContentError
from recbole_margo.errors import ConfigError
from recbole_margo.optional import import_optional


class VisionEncoder(Encoder):
    """A vision model of transformers, by name or folder: CLIP, SigLIP, DINOv2, ViT and others.

    The vector is the projected image embedding of models that have one (CLIP, SigLIP), else the
    class token of the last layer (ViT, DINOv2), else the model's own pooling (Swin, ConvNeXt).

    Sources: Radford et al., ICML 2021 (CLIP); Zhai et al., ICCV 2023 (SigLIP); Oquab et al., TMLR
    2024 (DINOv2); Dosovitskiy et al., ICLR 2021 (ViT).
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        """Load the model and its image processor.

        Args:
            name: name on the Hugging Face hub, or folder.
            device: of torch; None takes a GPU where there is one.

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
        result: NDArray[np.float32] = vectors.float().cpu().numpy()
        return result

    def _embed(self, pixels: Tensor) -> Tensor:
        if self._pooling == "projection":
            output = self._model.get_image_features(pixel_values=pixels)
            # A tensor until transformers 4, an output with pooling since 5.
            vectors: Tensor = output if isinstance(output, Tensor) else output.pooler_output
            return vectors
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
