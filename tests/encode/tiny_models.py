"""Pretrained models of the real architectures, so small that they are made in a moment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "round", "flat", "long"]
LAYERS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
IMAGES = {"image_size": 16, "patch_size": 8}
TEXTS = {**LAYERS, "vocab_size": 20, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 2}


def save_vision_model(folder: Path, kind: str) -> Path:
    """Save a model with random weights and its image processor."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    if kind == "clip":
        vision = {**LAYERS, **IMAGES}
        config = transformers.CLIPConfig(text_config=TEXTS, vision_config=vision, projection_dim=12)
        model = transformers.CLIPModel(config)
    elif kind == "siglip":
        vision = {**LAYERS, **IMAGES}
        model = transformers.SiglipModel(
            transformers.SiglipConfig(text_config=TEXTS, vision_config=vision)
        )
    elif kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**LAYERS, **IMAGES))
    else:
        # Without the pooler, as most checkpoints of ViT are.
        config = transformers.ViTConfig(**LAYERS, **IMAGES)
        model = transformers.ViTModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_sentence_model(folder: Path) -> Path:
    """Save a BERT with random weights and mean pooling."""
    library = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed"
    )
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizerFast(vocab={w: i for i, w in enumerate(WORDS)})
    config = transformers.BertConfig(vocab_size=len(WORDS), **LAYERS)
    bert = folder / "bert"
    transformers.BertModel(config).save_pretrained(bert)
    tokenizer.save_pretrained(bert)
    library.SentenceTransformer(str(bert), device="cpu").save(str(folder / "sentences"))
    return folder / "sentences"


def save_audio_model(folder: Path, kind: str) -> Path:
    """Save a model with random weights and its feature extractor."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    torch.manual_seed(0)
    if kind == "wav2vec2":
        config = transformers.Wav2Vec2Config(
            **LAYERS,
            vocab_size=8,
            conv_dim=(8, 8),
            conv_kernel=(10, 4),
            conv_stride=(10, 4),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
        )
        model = transformers.Wav2Vec2Model(config)
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    else:
        config = transformers.WhisperConfig(
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            vocab_size=20,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
        model = transformers.WhisperModel(config)
        transformers.WhisperFeatureExtractor().save_pretrained(folder)
    model.save_pretrained(folder)
    return folder
