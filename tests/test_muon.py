"""Muon: steps of kernels that are orthogonal as matrices."""

import pytest
import torch
from torch import nn

from emgen.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonal(matrix)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = left.T @ found @ right.T
    assert values.diag().min() > 0.6 and values.diag().max() < 1.3
    torch.testing.assert_close(values, values.diag().diag(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(12, 30, 3, 3), (40, 12, 1, 1)])
def test_a_step_is_that_of_the_published_one(shape):
    """torch's, on the kernel as a matrix; it orthogonalises in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    kernel = nn.Parameter(torch.randn(shape, generator=generator))
    matrix = nn.Parameter(kernel.detach().permute(0, 2, 3, 1).reshape(shape[0], -1).clone())
    ours = Muon([kernel], rate=0.1, weight_decay=0.2)
    published = torch.optim.Muon([matrix], lr=0.1, weight_decay=0.2, momentum=0.95)
    for _ in range(3):
        kernel.grad = torch.randn(shape, generator=generator)
        matrix.grad = kernel.grad.permute(0, 2, 3, 1).reshape(matrix.shape).contiguous()
        ours.step()
        published.step()
    found = kernel.detach().permute(0, 2, 3, 1).reshape(matrix.shape)
    torch.testing.assert_close(found, matrix.detach(), atol=0.02, rtol=0)
