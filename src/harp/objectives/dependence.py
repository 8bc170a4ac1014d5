"""How much one set of vectors tells of another: the normalised Hilbert-Schmidt independence criterion (HSIC)."""

import torch
from torch import Tensor

WIDTH = 5.0  # of the Gaussian kernel, for each dimension
RIDGE = 1e-5


def gaussian(values: Tensor) -> Tensor:
    """exp(-|a - b|^2 / (2 * 5^2 d)) of all pairs of `values` [n, ...], d their length; float64 [n, n]."""
    # Distances are divided by 50 d, so float32 is exact enough; bfloat16 is not.
    flat = values.flatten(1).to(torch.promote_types(values.dtype, torch.float32))
    squares = flat.square().sum(1)
    apart = (squares[:, None] + squares[None] - 2 * flat @ flat.T).clamp(min=0)
    return torch.exp(-apart.double() / (2 * WIDTH**2 * flat.shape[1]))


def linear(values: Tensor) -> Tensor:
    """The products of all pairs of `values` [n, d]; float64 [n, n]."""
    flat = values.flatten(1).double()
    return flat @ flat.T


def nhsic(first: Tensor, second: Tensor) -> Tensor:
    """tr(R S), float64, of two `normalised` kernels: 0 where one is constant, at most n - 1; differentiable."""
    return (first * second.T).sum()


def normalised(kernel: Tensor) -> Tensor:
    """C (C + 1e-5 n I)^-1, C the kernel [n, n] with centred rows."""
    centred = kernel - kernel.mean(1, keepdim=True)
    # float64 throughout: in float32 the ridge is hardly above what rounding leaves of the smallest eigenvalues.
    ridge = RIDGE * len(kernel) * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    solved: Tensor = torch.linalg.solve(centred + ridge, centred)
    return solved
