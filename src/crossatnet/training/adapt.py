"""Nearly frozen fine-tuning: of the units that training reaches, only the normalisation or low-rank updates learn.

Large vision transformers lose what they know when all their weights are tuned on few pictures. `train.adapt` says what
is tuned instead:

| adapt | learns |
|---|---|
| full | every weight |
| norm | weights and offsets of the normalisation layers |
| lora | updates of low rank of the attention's query and value layers (Hu et al., LoRA, 2021) |

The library `peft` is not used for this: it puts each layer inside another module, which renames the weights that our
state dictionaries name as the library's files do. Nor are torch's parametrizations: copies of a parametrized network
share a class, so merging the updates of one copy breaks the others. The layer below keeps the names of its weights.

Shapes: `O I` outputs and inputs of a linear layer, `R` the rank of its update.
"""

import copy
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.config import Config, TrainConfig
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.system.errors import UserError

NORMALISATIONS = (nn.LayerNorm, nn.BatchNorm2d)
QUERIES_AND_VALUES = ("q_proj", "query", "v_proj", "value")  # as versions of the library `transformers` call them


class LowRankLinear(nn.Linear):
    """A frozen linear layer W (O, I) with an update of low rank, the product of two small matrices, which are learned.

    y = W x + b + up (down x), with up (O, R) and down (R, I). At the start `up` is zero, so the layer is what it was.
    Source: Hu et al., LoRA: low-rank adaptation of large language models (2021), equation 3; our reading: without their
    factor alpha / R, as the learning rate does the same.
    """

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.down = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
        self.up = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + functional.linear(functional.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer of the same function, its weight W + up down."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        plain.weight, plain.bias = nn.Parameter(self.weight + self.up @ self.down), self.bias
        return plain


def freeze_the_rest(units: Sequence[nn.Module], settings: TrainConfig, name: str) -> None:
    """Let only that part of a backbone's trained units take gradients that `settings.adapt` names.

    `name` is the backbone's, for messages. Low-rank updates are added later, by `add_low_rank`. Raises `UserError`
    where the units have nothing to adapt.
    """
    if settings.adapt == "full":
        return
    for unit in units:
        unit.requires_grad_(False)
    if settings.adapt == "lora":
        widths = [min(layer.weight.shape) for layer in attention_layers(units).values()]
        if not widths:
            raise UserError(f"train.adapt: lora is for attention, and the backbone {name} has none; take norm or full")
        rank, width = settings.lora_rank, min(widths)
        if rank >= width:
            raise UserError(f"train.lora_rank: {rank} is not below the {width} of the backbone's layers; take less")
        return
    norms = [module for unit in units for module in unit.modules() if isinstance(module, NORMALISATIONS)]
    for norm in norms:
        norm.requires_grad_(True)
    if not norms:
        raise UserError(f"train.adapt: the trained units of {name} have no normalisation layers; take lora or full")


def attention_layers(units: Iterable[nn.Module]) -> dict[str, nn.Linear]:
    """The linear layers that make the queries and values of attention, by the number of the unit and their name."""
    return {
        f"{number}.{name}": module
        for number, unit in enumerate(units)
        for name, module in unit.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in QUERIES_AND_VALUES
    }


def add_low_rank(network: CrossATNet, config: Config, frozen: int) -> None:
    """Add the updates to the backbones after their `frozen` first units, if `train.adapt` asks for them."""
    if config.train.adapt != "lora":
        return
    for backbone in dict.fromkeys(network.encoder(modality) for modality in MODALITIES):
        units = nn.ModuleList(backbone.chain()[frozen:])
        for name, layer in attention_layers(units).items():
            units.set_submodule(name, LowRankLinear(layer, config.train.lora_rank))


def merged(network: CrossATNet) -> CrossATNet:
    """A copy in which all updates are part of the weights they belong to: nothing shows that there were any."""
    network = copy.deepcopy(network)
    for name, module in [*network.named_modules()]:
        if isinstance(module, LowRankLinear):
            network.set_submodule(name, module.merged())
    return network
