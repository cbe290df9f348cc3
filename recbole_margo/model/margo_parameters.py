"""The hyper-parameters of MARGO: what each means, its bounds and where to search."""

from __future__ import annotations

from dataclasses import dataclass

from recbole_margo.model.backbone import BACKBONES
from recbole_margo.model.dragon import DRAGONParameters
from recbole_margo.model.parameters import hyperparameter

EVIDENCE = ("trained", "held_out")
EVIDENCE_SCALES = ("raw", "standardized")


@dataclass(frozen=True, kw_only=True)
class MARGOParameters(DRAGONParameters):
    """Hyper-parameters of MARGO, beside those of its backbones."""

    backbone: str = hyperparameter(
        "what represents users and items", choices=tuple(BACKBONES), paper="DRAGON"
    )
    interaction_layers: int = hyperparameter(
        "products with the interaction graph in the LightGCN backbone", low=0
    )
    reg_weight: float = hyperparameter(
        "lambda, weight of the backbone's regulariser", low=0.0, search=(1e-5, 1e-1, "log")
    )
    alpha: float = hyperparameter(
        "weight of the calibration loss; 0 is the ablation w/o L_cal",
        low=0.0,
        search=(1e-3, 10.0, "log"),
    )
    tau: float = hyperparameter(
        "sensitivity of the confidence, in units of the score", low=1e-6, search=(0.05, 20.0, "log")
    )
    beta: float = hyperparameter("weight of the mean square of the weight logits", low=0.0)
    weight_learning_rate: float | None = hyperparameter(
        "learning rate of the weight logits; none: the global one", low=1e-12, search=[1e-3, 1e-2]
    )
    weight_init_std: float = hyperparameter(
        "standard deviation of the initial weight logits", low=0.0
    )
    item_weights: bool = hyperparameter("false is the ablation w/o weight: stage 1 only")
    two_stage: bool = hyperparameter("false is the ablation w/o two-stage")
    stop_gradient: bool = hyperparameter("false is the ablation w/o nograd")
    evidence: str = hyperparameter(
        "what supervises the weights: scores of the backbone that is trained, or the evidence of "
        "regressions that never saw the item",
        choices=EVIDENCE,
        paper="trained",
    )
    evidence_temperature: float = hyperparameter(
        "divisor of the log odds of held-out evidence", low=1e-3
    )
    evidence_scale: str = hyperparameter(
        "trained evidence as it is, or each modality's in units of its own spread",
        choices=EVIDENCE_SCALES,
        paper="raw",
    )
    keep_optimizer: bool = hyperparameter(
        "whether stage 2 goes on with the optimiser's state of stage 1's best epoch", paper=False
    )
    weight_warmup_epochs: int = hyperparameter(
        "epochs at the start of stage 2 in which the weights alone move", low=0, paper=0
    )
