"""Low-rank deltas as pairs of factors: their exact weighted sum, and the best approximation of a given rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from evomerge.errors import MergeError


def concatenate(parts: Sequence[tuple[float, torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of w_i B_i A_i, exactly, as factors whose ranks add up.

    parts: (weight, B (m, r_i), A (r_i, n)). Returns B (m, sum r) and A (sum r, n). Raises MergeError without parts or
    for unequal shapes.
    """
    if not parts:
        raise MergeError("no factors to sum. Give one part or more.")
    made = {(b.shape[0], a.shape[1]) for _, b, a in parts}
    if len(made) > 1 or any(b.shape[1] != a.shape[0] for _, b, a in parts):
        shapes = ", ".join(f"{tuple(b.shape)} @ {tuple(a.shape)}" for _, b, a in parts)
        raise MergeError(f"factors of unequal shapes cannot be summed: {shapes}. Wanted (m, r) @ (r, n), one m and n.")
    # The weight goes into one factor: in both it would count squared, and -1 would be lost.
    left = torch.cat([w * b for w, b, _ in parts], dim=1)
    return left, torch.cat([a for _, _, a in parts], dim=0)


def truncate(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The best approximation of a matrix by factors of at most `rank` (Eckart and Young 1936), by SVD in float64.

    delta: (m, n). Returns float32 B (m, k), A (k, n) with k = min(rank, m, n), and |delta - BA| / |delta| (Frobenius;
    0 for a zero delta), measured on what is returned. Raises MergeError for rank < 1.
    """
    exact = delta.double()
    u, s, v = torch.linalg.svd(exact, full_matrices=False)
    b, a = _balanced(u, s, v, rank)
    return b, a, _share(torch.linalg.norm(exact - b.double() @ a.double()), torch.linalg.norm(exact))


def compress(b: torch.Tensor, a: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """`truncate` of the product b @ a without making it: the SVD is of a core no larger than its rank.

    b: (m, r), a: (r, n). Costs about (m + n) r^2 instead of m n min(m, n).
    """
    q_left, q_right, core = _core(b.double(), a.double())
    u, s, v = torch.linalg.svd(core, full_matrices=False)
    left, right = _balanced(q_left @ u, s, v @ q_right.T, rank)
    # The residual is a product as well: [b, -left] @ [a; right], whose core has its norm.
    residual = _core(torch.cat([b.double(), -left.double()], 1), torch.cat([a.double(), right.double()], 0))[2]
    return left, right, _share(torch.linalg.norm(residual), torch.linalg.norm(s))


def _core(b: torch.Tensor, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Orthonormal Q (m, k), P (n, l) and the small core (k, l) with b @ a == Q @ core @ P.T."""
    q_left, r_left = torch.linalg.qr(b)
    q_right, r_right = torch.linalg.qr(a.T)
    return q_left, q_right, r_left @ r_right.T


def _balanced(u: torch.Tensor, s: torch.Tensor, v: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The leading `rank` directions; each factor takes the root of the singular values, so both suit small dtypes."""
    if rank < 1:
        raise MergeError(f"rank {rank} is no rank. Wanted 1 or more.")
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).float(), (root[:, None] * v[:rank]).float()


def _share(part: torch.Tensor, whole: torch.Tensor) -> float:
    return float(part / whole) if whole > 0 else 0.0
