"""Interval bound propagation: what a network's logits can be while each pixel moves within its bounds, for certain.

Every value of the graph is held between two numbers (Gowal et al., ICCV 2019). The bounds hold for exact arithmetic and
for arithmetic whose operations each err by no more than `unit`, in whatever order sums are made (`rounding`).
"""

import torch
from torch import Tensor

from harp.ambient import precise
from harp.certify.passing import EXACT, RULES
from harp.certify.rounding import FLOAT32, Interval, Rounding
from harp.errors import HarpError
from harp.graph import Graph, Node, Ref, dtype
from harp.graph.interpret import Step, carry_out, steps
from harp.graph.operators import operator
from harp.graph.propagating import filled
from harp.threats import Threat


class Bounds:
    """Bounds of what `graph` computes, in float64 on the CPU; `unit` is the rounding of whoever runs the network.

    Raises `HarpError`, naming it, for an operator that no rule is known for, and for a network that computes in less
    than float32.
    """

    def __init__(self, graph: Graph, unit: float = FLOAT32):
        if (kind := dtype(graph)) not in (torch.float32, torch.float64):
            raise HarpError(f"the network computes in {str(kind).removeprefix('torch.')}; bounds are for float32")
        self.graph, self.rounding = graph, Rounding(unit)
        tensors = {name: graph.tensor(name) for name in graph.tensors}
        self._tensors = {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}
        self._steps = list(zip(graph.nodes, steps(graph, torch.device("cpu")), strict=True))
        self._check()

    def _check(self) -> None:
        """Raises `HarpError` for the first operator without a rule, before anything is computed."""
        for node in self.graph.nodes:
            if node.op not in EXACT and node.op not in RULES and operator(node.op).kind != "int":
                raise HarpError(
                    f"intervals have no rule for the operator {node.op!r} (node {node.name!r}), so nothing is proved "
                    f"of this network by them; they know {', '.join(sorted(RULES))}, and what moves or picks numbers"
                )

    @precise()
    @torch.no_grad()
    def margins(self, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Of each image, how far its class's logit stays above every other's, at least, within the threat: [n].

        float64; above 0 it is proved that the network answers the class `y` at every image of the ball, which begins
        with `x`. Minus infinity where nothing is known. `x` floating point [n, ...], `y` int64 [n]. The last linear
        layer is taken together with the difference of logits, so for a network that is one linear layer the margin is
        exact but for the slack of rounding. Raises `HarpError` for a threat that is not of the inf-norm.
        """
        size = self.graph.batch or max(len(x), 1)
        parts = zip(torch.split(x.cpu(), size), torch.split(y.cpu(), size), strict=True)
        found = torch.cat([self._margins(ball(images, threat, self.rounding.unit), labels) for images, labels in parts])
        return torch.where(found.isnan(), -torch.inf, found)

    @precise()
    @torch.no_grad()
    def logits(self, box: Interval) -> Interval:
        """Bounds of the logits, float64 [n, classes] twice, of images between those of `box`."""
        return self._reached(box, self.graph.output)

    def _margins(self, box: Interval, y: Tensor) -> Tensor:
        last = next((node for node in self.graph.nodes if node.name == self.graph.output), None)
        if last is not None and self._is_head(last):
            return self._differences(self._reached(box, last.args[0].name), last, y)
        low, high = self._reached(box, self.graph.output)
        own = low.gather(1, y[:, None])
        return _least(self.rounding.widened(own - high, own - high, 1).low, y)

    def _is_head(self, node: Node) -> bool:
        return node.op == "linear" and all(value is None or value.name in self._tensors for value in node.args[1:])

    def _differences(self, x: Interval, head: Node, y: Tensor) -> Tensor:
        """The margins by one layer whose weights are the class's own less another's; rounding is that of both logits.

        One image at a time: these weights are as many as the layer's, for each.
        """
        if x.low.ndim != 2:
            raise HarpError(f"the network's logits are of {x.low.ndim} axes; expected [n, classes]")
        weight = self._tensors[head.args[1].name]
        bias = self._tensors[head.args[2].name] if head.args[2] else weight.new_zeros(len(weight))
        centre, radius = x.middle()
        rows = []
        for c, r, label in zip(centre, radius, y, strict=True):
            apart, above = weight[label] - weight, bias[label] - bias
            slack = self.rounding.slack(weight.abs() @ (c.abs() + r) + bias.abs(), len(c))
            rows.append(apart @ c + above - apart.abs() @ r - slack - slack[label])
        return _least(torch.stack(rows), y)

    def _reached(self, box: Interval, wanted: str) -> Interval:
        """The bounds of the value `wanted`; numbers that no image changes are the same in both."""
        lows = {**self._tensors, self.graph.input: box.low.double()}
        highs = {**self._tensors, self.graph.input: box.high.double()}
        moved = {self.graph.input}
        for node, step in self._steps:
            if wanted in lows:
                break
            self._pass(node, step, lows, highs, moved)
        return Interval(lows[wanted], highs[wanted])

    def _pass(self, node: Node, step: Step, lows: dict[str, Tensor], highs: dict[str, Tensor], moved: set[str]) -> None:
        if operator(node.op).kind == "int" or node.op in EXACT:
            if node.op in EXACT and not moved.isdisjoint(node.refs()):
                moved.add(node.name)
            lows[node.name], highs[node.name] = carry_out(step, lows), carry_out(step, highs)
            return

        def ends(value: object) -> object:
            if isinstance(value, Ref) and value.name in moved:
                return Interval(lows[value.name], highs[value.name])
            return filled(value, lows)

        made = RULES[node.op](node, tuple(map(ends, node.args)), self.rounding)
        lows[node.name], highs[node.name] = made
        moved.add(node.name)
        for name in step.last:
            lows.pop(name, None)
            highs.pop(name, None)


def ball(x: Tensor, threat: Threat, unit: float) -> Interval:
    """The images that the threat allows around each of `x`, and what rounding by `unit` makes of them, float64.

    Raises `HarpError` for another norm than inf, whose ball no interval is.
    """
    if threat.norm != torch.inf:
        raise HarpError(f"intervals hold balls of the inf-norm; expected one, and the threat is {threat}")
    room = threat.eps + 4 * unit * max(1.0, abs(threat.low), abs(threat.high))
    x = x.double()
    return Interval((x - room).clamp(min=threat.low), (x + room).clamp(max=threat.high))


def _least(margins: Tensor, y: Tensor) -> Tensor:
    """The smallest margin over the other classes, [n]; NaN where one is."""
    return margins.scatter(1, y[:, None], torch.inf).amin(1)
