"""Defences that protect nothing, around any network for the digits: each breaks an attack, none helps an image."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from tests.evaluation.defences import digits

EPS = 0.1


class Around(nn.Module):
    """A network behind something that is done to its images."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(self.seen(x)))

    def seen(self, x: Tensor) -> Tensor:
        return x


class Constant(Around):
    """Class 3 for every image, by a margin that no perturbation closes."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(x) + 1e3 * torch.eye(10)[3])


class Coin(Around):
    """The network's answer to another image: right by chance, and nothing that is done to the image matters."""

    def seen(self, x: Tensor) -> Tensor:
        return (x * 0.01).flip(-1).sin() + 0.3 * (x.mean((1, 2, 3), keepdim=True) * 1e3).sin()


class Remembering(Around):
    """Answers what is near an image it saw before as that image, with a third of the perturbation: a gradient leads on.

    What it saw is kept in a buffer, or, `plain`, in an attribute that no state dictionary knows.
    """

    memory: Tensor

    def __init__(self, model: nn.Module, plain: bool = False):
        super().__init__(model)
        self.plain = plain
        self.kept: list[Tensor] = []
        self.register_buffer("memory", torch.zeros(0, 1, 8, 8))

    def seen(self, x: Tensor) -> Tensor:
        memory = torch.stack(self.kept) if self.plain and self.kept else self.memory
        apart = (x.detach()[:, None] - memory[None]).flatten(2).abs().amax(2)
        known = apart.amin(1) <= 1.01 * EPS if len(memory) else torch.zeros(len(x), dtype=torch.bool)
        new = x.detach()[~known]
        if self.plain:
            self.kept += list(new)
        else:
            self.memory = torch.cat([self.memory, new])
        if not known.any():
            return x
        near = torch.where(known[:, None, None, None], memory[apart.argmin(1)], x)
        return near + (x - near) / 5


class Learning(Around):
    """Shifts what it sees by a mean of all that it saw, in a buffer."""

    mean: Tensor

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.register_buffer("mean", torch.zeros(1, 8, 8))

    def seen(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return x - self.mean + 0.3


class Sized(Around):
    """Another network answers where more than four images come at once."""

    def __init__(self, model: nn.Module, other: nn.Module):
        super().__init__(model)
        self.other = other

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(x) if len(x) <= 4 else self.other(x))


class Moving(Around):
    """Each query for a gradient is led towards another class."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.queries = 0

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return cast(Tensor, logits)
        self.queries += 1
        led = logits.roll(self.queries, 1)
        return cast(Tensor, logits.detach() + led - led.detach())


class Rippled(Around):
    """A ripple on each pixel, much finer than eps: gradients point anywhere, answers stay."""

    def __init__(self, model: nn.Module, height: float = 0.01, length: float = 0.02):
        super().__init__(model)
        self.height, self.length = height, length

    def seen(self, x: Tensor) -> Tensor:
        return x + self.height * (x * (2 * torch.pi / self.length)).sin()


class Resetting(Around):
    """The same noise each time, by the global generator that it sets back: who else draws from it repeats himself."""

    def seen(self, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return x + 0.01 * torch.randn_like(x[:1])


class Pathless(Around):
    """No way leads from its logits back to the image."""

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(x).detach())


class Knowing(Around):
    """Knows the test set by heart and pulls what is within eps of one of its images towards that image."""

    images: Tensor

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.register_buffer("images", digits(449)[0])

    def seen(self, x: Tensor) -> Tensor:
        apart = (x[:, None] - self.images[None]).flatten(2).abs().amax(2)
        near = self.images[apart.argmin(1)]
        known = (apart.amin(1) <= 1.001 * EPS)[:, None, None, None]
        return torch.where(known, near + (x - near) / 8, x)


class Centred(Around):
    """Less the mean image of the batch."""

    def seen(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True) + 0.3


class Mixed(Around):
    """A little of the neighbour's logits."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return cast(Tensor, logits + 0.3 * logits.roll(1, 0))


class Watching(Around):
    """Other answers where somebody asks for a gradient."""

    def seen(self, x: Tensor) -> Tensor:
        return x.flip(-1) if torch.is_grad_enabled() and x.requires_grad else x


class Shaken(Around):
    """Noise on every pixel, new with each query (as randomised smoothing has it, without its vote)."""

    def seen(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


class Shifted(Around):
    """Images moved by a random pixel or none, new with each query (Xie et al., ICLR 2018)."""

    def seen(self, x: Tensor) -> Tensor:
        return x.roll(int(torch.randint(-1, 2, ())), -1)


class Voted(Around):
    """How many of twenty answers under the same noise each class has: counts, which no gradient passes."""

    noise: Tensor

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.register_buffer("noise", 0.1 * torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        counts = [nn.functional.one_hot(self.model(x + noise).argmax(1), 10) for noise in self.noise]
        return torch.stack(counts).sum(0).float()


class Seeded(Around):
    """Noise that the image itself seeds: the same each time, another one a step away."""

    def seen(self, x: Tensor) -> Tensor:
        seeds = (x.detach().flatten(1) * torch.arange(1, 65)).sum(1, keepdim=True) * 1e4
        return x + 0.05 * (seeds * torch.arange(1, 65)).sin().view_as(x)


class Compressed(Around):
    """JPEG's transform of 8 x 8 pixels, coefficients rounded to a fifth."""

    waves: Tensor

    def __init__(self, model: nn.Module):
        super().__init__(model)
        at = torch.arange(8.0)
        waves = (torch.pi / 8 * (at[None] + 0.5) * at[:, None]).cos() * (2 / 8) ** 0.5
        waves[0] /= 2**0.5
        self.register_buffer("waves", waves)

    def seen(self, x: Tensor) -> Tensor:
        coefficients = self.waves @ x @ self.waves.T
        return self.waves.T @ ((5 * coefficients).round() / 5) @ self.waves


class Thermometer(Around):
    """Each pixel as how many of ten marks it reaches (Buckman et al., ICLR 2018)."""

    def seen(self, x: Tensor) -> Tensor:
        return (x[..., None] >= torch.arange(0.05, 1, 0.1)).float().mean(-1)


class Straight(Around):
    """Ten grey levels, whose rounding passes gradients as if it were none."""

    def seen(self, x: Tensor) -> Tensor:
        return x + ((x * 5).round() / 5 - x).detach()


class Cooled(Around):
    """Logits over a temperature that no gradient knows of, so low that the softmax is 0 and 1 in float32."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return cast(Tensor, logits / (1e-4 * logits.detach().abs().amax(1, keepdim=True)))


class Saturated(Around):
    """A sigmoid so steep that it is flat wherever the network is sure, and orders its answers no longer elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return cast(Tensor, (40 * (logits - logits.amax(1, keepdim=True).detach() + 3)).sigmoid())


class Hooked(Around):
    """What comes back to the image as its gradient is the opposite."""

    def seen(self, x: Tensor) -> Tensor:
        return 2 * x.detach() - x


class Patchy(Around):
    """Gradients reach every eighth pixel alone, and are right there."""

    def seen(self, x: Tensor) -> Tensor:
        known = (torch.arange(64) % 8 == 0).view(8, 8)
        return torch.where(known, x, x.detach())


class Crowded(Around):
    """Recognises an attacked batch, most of whose pixels lie off the 255 steps of a file's, and blurs it."""

    def seen(self, x: Tensor) -> Tensor:
        off = (255 * x - (255 * x).round()).abs() > 0.01
        if off.float().mean() < 0.3:
            return x
        return x - (x - nn.functional.avg_pool2d(x, 3, 1, 1)) * 0.6


class Helpful(Around):
    """Steps back from every image along its own gradient, as far as eps: an attack on it is an attack on another."""

    def seen(self, x: Tensor) -> Tensor:
        image = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.model(image)
            sure = logits.amax(1).sum() - logits.logsumexp(1).sum()
        return x + EPS * torch.autograd.grad(sure, image)[0].sign()


def stuck(model: nn.Module) -> nn.Module:
    """Batch norm that eval mode does not reach."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    return model


BROKEN: dict[str, Callable[[nn.Module], nn.Module]] = {
    "constant": Constant,
    "coin": Coin,
    "remembering": Remembering,
    "remembering, no buffer": lambda model: Remembering(model, plain=True),
    "learning": Learning,
    "moving": Moving,
    "rippled": Rippled,
    "rippled, coarser": lambda model: Rippled(model, 0.02, 0.05),
    "rippled, finer": lambda model: Rippled(model, 0.003, 0.004),
    "resetting": Resetting,
    "pathless": Pathless,
    "knowing": Knowing,
    "centred": Centred,
    "mixed": Mixed,
    "watching": Watching,
    "shaken": Shaken,
    "shifted": Shifted,
    "voted": Voted,
    "seeded": Seeded,
    "compressed": Compressed,
    "thermometer": Thermometer,
    "straight": Straight,
    "cooled": Cooled,
    "saturated": Saturated,
    "hooked": Hooked,
    "patchy": Patchy,
    "crowded": Crowded,
    "helpful": Helpful,
}
