"""Late-fusion backbones: what MARGO's weights are put upon."""

from recbole_margo.model.backbone.base import (
    LateFusionBackbone,
    LateFusionRecommender,
    LightGCNBackbone,
)
from recbole_margo.model.backbone.dragon import DragonBackbone

BACKBONES: dict[str, type[LateFusionBackbone]] = {
    "DRAGON": DragonBackbone,
    "LightGCN": LightGCNBackbone,
}

__all__ = ["BACKBONES", "DragonBackbone", "LateFusionRecommender"]
