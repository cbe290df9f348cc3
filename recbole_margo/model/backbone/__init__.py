"""Late-fusion backbones: what MARGO's weights are put upon."""

from recbole_margo.model.backbone.base import LateFusionBackbone
from recbole_margo.model.backbone.dragon import DragonBackbone
from recbole_margo.model.backbone.lightgcn import LightGCNBackbone

BACKBONES: dict[str, type[LateFusionBackbone]] = {
    "DRAGON": DragonBackbone,
    "LightGCN": LightGCNBackbone,
}

__all__ = ["BACKBONES", "DragonBackbone", "LateFusionBackbone", "LightGCNBackbone"]
