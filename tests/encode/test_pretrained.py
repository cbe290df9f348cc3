from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from encode_world import png
from tiny_models import save_audio_model, save_sentence_model, save_vision_model

from recbole_margo.encode.encode_modality import load_encoder
from recbole_margo.encode.images import decode_image
from recbole_margo.encode.item_source import UnreadableContentError, decode_text
from recbole_margo.errors import ConfigError, DataError


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "vit"])
def test_vision_models_give_the_vectors_of_the_library(tmp_path: Path, kind: str) -> None:
    folder = save_vision_model(tmp_path / "model", kind)
    import transformers

    encoder = load_encoder("image", str(folder), "cpu")
    images = [png(1), png(2), png(3, mode="L")]
    found = encoder.encode([encoder.prepare(image) for image in images])
    assert found.dtype == np.float32

    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    inputs = processor([decode_image(image) for image in images], return_tensors="pt")
    with torch.no_grad():
        if kind == "clip":
            states = model.vision_model(**inputs).pooler_output
            expected = model.visual_projection(states)
        elif kind == "siglip":
            expected = model.vision_model(**inputs).pooler_output
        else:
            expected = model(**inputs).last_hidden_state[:, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_the_identity_is_that_of_the_weights(tmp_path: Path) -> None:
    first = save_vision_model(tmp_path / "first", "vit")
    copy = save_vision_model(tmp_path / "copy", "vit")
    identity = load_encoder("image", str(first), "cpu").identity
    assert load_encoder("image", str(copy), "cpu").identity == identity
    import transformers

    model = transformers.AutoModel.from_pretrained(copy, add_pooling_layer=False)
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    model.save_pretrained(copy)
    assert load_encoder("image", str(copy), "cpu").identity != identity
    (first / "preprocessor_config.json").write_text(
        (first / "preprocessor_config.json").read_text().replace("0.5", "0.4")
    )
    assert load_encoder("image", str(first), "cpu").identity != identity


def test_a_model_without_its_weights_is_refused(tmp_path: Path) -> None:
    folder = save_vision_model(tmp_path / "model", "dinov2")
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 missing, such as layernorm\.weight"):
        load_encoder("image", str(folder), "cpu")


def test_sentence_models_give_the_vectors_of_the_library(tmp_path: Path) -> None:
    folder = save_sentence_model(tmp_path / "model")
    import sentence_transformers

    encoder = load_encoder("text", str(folder), "cpu")
    texts = ["red round", "blue flat long green", "red"]
    found = encoder.encode([encoder.prepare(text.encode()) for text in texts])
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(found, model.encode(texts), atol=1e-5)
    assert load_encoder("text", str(folder), "cpu").identity == encoder.identity


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_audio_models_hear_a_difference(tmp_path: Path, kind: str) -> None:
    folder = save_audio_model(tmp_path / "model", kind)
    import soundfile

    def tone(hertz: float, rate: int) -> bytes:
        stream = io.BytesIO()
        samples = np.sin(2 * np.pi * hertz * np.arange(rate) / rate)
        soundfile.write(stream, np.stack([samples, samples], axis=1), rate, format="WAV")
        return stream.getvalue()

    encoder = load_encoder("audio", str(folder), "cpu")
    low, again, high = encoder.encode(
        [encoder.prepare(tone(*sound)) for sound in ((200, 16_000), (200, 48_000), (900, 16_000))]
    )
    assert low.shape == (16,)
    # The same tone at another rate is heard as nearly the same.
    assert np.linalg.norm(low - again) < 0.3 * np.linalg.norm(low - high)
    for content in (b"", b"RIFF", tone(0, 16_000)):
        with pytest.raises(UnreadableContentError):
            encoder.prepare(content)


@pytest.mark.parametrize(
    ("kind", "module"), [("text", "sentence_transformers"), ("image", "transformers")]
)
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=f"pip install {module.replace('_', '-')}"):
        load_encoder(kind, str(tmp_path))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder("image", str(tmp_path), "cpu")
    with pytest.raises(ConfigError, match="is none"):
        load_encoder("image", str(tmp_path / "nothing"), "cpu")
    with pytest.raises(ConfigError, match="--device"):
        load_encoder("image", str(tmp_path), "tpu9")


def test_text_that_is_not_utf8_or_empty_is_unreadable() -> None:
    assert decode_text("\ufeff Ünï \n".encode()) == "Ünï"
    for content in (b"", b" \n", b"\xff\xfe"):
        with pytest.raises(UnreadableContentError):
            decode_text(content)
