"""Class boundaries made straight, and the nearest points of a hyperplane inside a box: the geometry of FAB."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harp.attacks.losses import gradient
from harp.threats import Threat

# The norm in which a gradient tells how far a boundary is, for each norm of the distance.
DUAL = {math.inf: 1, 2: 2, 1: math.inf}


def straighten(model: nn.Module, x: Tensor, y: Tensor, aims: Tensor, norm: float) -> tuple[Tensor, Tensor, Tensor]:
    """The logits at `x`, and of the boundary that looks nearest from there the lead and its gradient.

    The lead [n] is the logit of another class, one of `aims` (int64 [n, r]), less that of `y` (int64 [n]), so that at a
    small `delta` it is lead + <gradient, delta>; the gradient is flat, [n, d]. Each column of `aims` costs a backward
    pass. What is not finite counts as 0: a network that overflows shows no boundary, and must not send a point nowhere.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        leads = (logits.gather(1, aims) - logits.gather(1, y[:, None])).unbind(1)
        totals = [each.sum() for each in leads]
    lead, w, nearest = torch.zeros_like(leads[0]), torch.zeros_like(x).flatten(1), x.new_full([len(x)], torch.inf)
    for rank, total in enumerate(totals):
        grad = gradient(total, x, again=rank + 1 < len(totals))
        grad, here = grad.flatten(1).nan_to_num(0, 0, 0), leads[rank].detach().nan_to_num()
        # Scaled first: in float32 the square of 1e-25 is 0. A gradient of 0 gives NaN, which is not closer.
        size = length(grad, math.inf)
        far = here.abs() / size / length(grad / size[:, None], DUAL[norm])
        closer = far < nearest
        nearest = torch.where(closer, far, nearest)
        lead, w = torch.where(closer, here, lead), torch.where(closer[:, None], grad, w)
    return logits.detach(), lead.detach(), w


def boundaries(model: nn.Module, x: Tensor, y: Tensor, aims: Tensor, norm: float) -> Tensor:
    """How far the boundary to each of `aims` (int64 [n, r]) looks from `x` in the norm, [n, r]; inf where none shows.

    (logit of `y` - logit of the aim) over the dual norm of that difference's gradient: exact for a linear network. Each
    column costs a backward pass.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        leads = (logits.gather(1, y[:, None]) - logits.gather(1, aims)).unbind(1)
        totals = [each.sum() for each in leads]
    far = []
    for rank, (total, lead) in enumerate(zip(totals, leads, strict=True)):
        grad = gradient(total, x, again=rank + 1 < len(totals)).flatten(1).nan_to_num(0, 0, 0)
        size = length(grad, math.inf).clamp(min=1e-30)  # scaled first, as above
        far.append((lead.detach() / size / length(grad / size[:, None], DUAL[norm])).nan_to_num(torch.inf, torch.inf))
    return torch.stack(far, 1)


def towards(x: Tensor, w: Tensor, shift: Tensor, threat: Threat) -> Tensor:
    """The least perturbation of each `x` that moves <w, x> by `shift` and stays in the threat's box, [..., n, d].

    `x` [..., n, d] in the box, `w` [n, d], `shift` [..., n]; least in the threat's norm, its eps has no say. Where the
    box ends before `shift` is reached, all that helps is moved to its edge; entries of weight 0 never move. Croce &
    Hein (ICML 2020, section 2.2) sort the entries; norms inf and 2 need no order: what is sought is one number a row.
    """
    # Scaled, which leaves the answer as it is, for the same reason as above.
    size = w.abs().amax(-1, keepdim=True)
    size = torch.where(size > 0, size, 1)
    w, shift = w / size, shift[..., None] / size
    size, ahead = w.abs(), w.sign() * shift.sign()
    room = (threat.high - x).mul_(ahead)
    room = torch.maximum(room, (threat.low - x).mul_(ahead), out=room)  # one of the two is negative
    if threat.norm == 1:
        return _greedy(size, room, shift.abs()).mul_(ahead)
    if threat.norm == math.inf:
        return room.minimum(_level(size, room, shift.abs())).mul_(ahead)
    # 1e-30 stands for 0: a finite room for entries that do not move.
    room = room.div_(size.clamp(min=1e-30))
    return room.minimum(_level(size.square(), room, shift.abs())).mul_(ahead.mul_(size))


def length(rows: Tensor, norm: float) -> Tensor:
    """The norm of each row, [..., n] of [..., n, d]."""
    # torch's own inf-norm takes twenty times as long on a CPU.
    norms: Tensor = rows.abs().amax(-1) if norm == math.inf else torch.linalg.vector_norm(rows, norm, dim=-1)
    return norms


def _level(weight: Tensor, room: Tensor, total: Tensor) -> Tensor:
    """The least level with sum weight min(level, room) = total, [..., n, 1]; inf where the room is too small.

    The sum is concave and made of straight pieces, so Newton's steps from 0 never overshoot, and each but the last
    passes a corner: a handful for images, never more than there are entries.
    """
    level, slope = torch.zeros_like(total), total.new_full((), torch.nan)
    # Signs and not comparisons, and one piece of memory: on a CPU choosing by bool costs ten times the arithmetic, and
    # so does new memory.
    work = torch.empty_like(room)
    while True:
        free = torch.sub(room, level, out=work).sign_().clamp_(min=0)
        before, slope = slope, free.mul_(weight).sum(-1, keepdim=True)
        if torch.equal(slope, before):
            return level
        missing = total - torch.minimum(room, level, out=work).mul_(weight).sum(-1, keepdim=True)
        further = level + missing.clamp(min=0) / slope
        level = torch.where(slope > 0, further, torch.where(missing > 0, torch.inf, level))


def _greedy(weight: Tensor, room: Tensor, total: Tensor) -> Tensor:
    """How far each entry moves if those of the largest weight go first, each to the end of its room, [..., n, d]."""
    weight, order = weight.sort(-1, descending=True)
    order = order.expand_as(room)
    room = room.gather(-1, order)
    gained = pad((weight * room)[..., :-1].cumsum(-1), (1, 0))  # by those before
    moved = ((total - gained).clamp(min=0) / weight.clamp(min=1e-30)).minimum(room)
    return torch.empty_like(room).scatter_(-1, order, moved)
