"""Leading eigenpairs of a large symmetric matrix that can only be multiplied with.

Randomised block Krylov (Musco and Musco 2015, NeurIPS 28) carried out as the block Lanczos method
of Golub and Underwood (1977) with full reorthogonalisation: from one product with a block of
vectors to the next it knows how far the leading pairs are from converged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from msiscale.grid import Floats
from msiscale.threads import one_blas_thread

SLAB = 1 << 12  # rows of a block of vectors worked on at once, so that nothing large is copied
ROUNDING = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues (k,), descending, and orthonormal eigenvectors (k, p), float64.

    Attributes
    ----------
    residual : float
        Largest ``|A v - value v| / value`` of the pairs: about the angle, in radians, between
        their span and the true one.
    products : int
        Times that a block was multiplied with the matrix.
    converged : bool
    """

    values: Floats
    vectors: Floats
    residual: float
    products: int
    converged: bool


def leading_eigenpairs(
    apply: Callable[[Floats], Floats],
    start: Floats,
    k: int,
    *,
    tol: float = 1e-4,
    max_products: int = 30,
    max_blocks: int = 8,
    floor: float = 1e-14,
) -> Eigenpairs:
    """The k largest eigenvalues of a symmetric positive semi-definite A, and their vectors.

    Parameters
    ----------
    apply : callable
        ``V (p, b) -> A V (p, b)``, a new array (it is written over).
    start : (p, b), b >= k
        Any block that is not orthogonal to what is sought, best a product of A with a Gaussian
        one; it is written over. The wider, the fewer products; half a dozen where b is 1.2 k and
        the spectrum decays.
    k : int
        Eigenpairs at most.
    tol : float
        Stop when the residual (see `Eigenpairs`) is no larger.
    max_products : int
        Stop then in any case.
    max_blocks : int
        Blocks of vectors held at once, 3 or more: when there are so many, their best combinations,
        two blocks of them, take their place (thick restart, Wu and Simon 2000, SIAM J. Matrix
        Anal. Appl. 22:602), at the price of a product or two more.
    floor : float
        Eigenvalues below it, relative to the largest, are noise and are left out.

    Returns
    -------
    Eigenpairs, fewer than k where the rank is lower.

    Notes
    -----
    All float64; holds at most ``8 p (b max_blocks + b + k)`` bytes.
    """
    p = len(start)
    with one_blas_thread():
        block, _ = _orthonormal(start, 0.0)
    basis: list[Floats] = []
    small, values, turned = np.zeros((0, 0)), np.zeros(0), np.zeros((0, 0))
    residual, products = 0.0, 0
    while block.shape[1]:
        basis.append(block)
        product = apply(block)
        products += 1
        with one_blas_thread():
            small = _bordered(small, _deflated(product, basis))
            every, turn = eigh((small + small.T) / 2)
            values, turned = every[::-1][:k], turn[:, ::-1][:, :k]
            kept = values > max(values[0] * floor, 0.0)
            values, turned = values[kept], turned[:, kept]
            last = turned[-block.shape[1] :]
            block, gram = _orthonormal(product, 32 * ROUNDING * abs(every[-1]))
        # A basis turned - basis turned values = product last
        left = np.sqrt(np.maximum(np.einsum("ik,ij,jk->k", last, gram, last), 0))
        residual = float((left / values).max(initial=0))
        if residual <= tol or products == max_products:
            break
        if len(basis) == max_blocks and block.shape[1]:
            with one_blas_thread():
                basis, small = _restarted(basis, every, turn)
    exhausted = not block.shape[1]
    del block
    with one_blas_thread():
        vectors = _combined(basis, turned, p)
    return Eigenpairs(values, vectors, residual, products, exhausted or residual <= tol)


def slabs(p: int, size: int = SLAB) -> Iterator[slice]:
    """Slices of `size` that cover 0 to p."""
    return (slice(start, start + size) for start in range(0, p, size))


def _orthonormal(block: Floats, least: float) -> tuple[Floats, Floats]:
    """An orthonormal basis (p, r) of the columns of `block`, and their Gram matrix (b, b)."""
    # Directions of norm `least` or smaller are left out; `block` is written over. By eigenvectors
    # of the Gram matrix (Stathopoulos and Wu 2002, SIAM J. Sci. Comput. 23:2165), twice.
    first = gram = _gram(block)
    smallest = least**2
    for _ in range(2):
        squares, vectors = eigh(gram)
        kept = squares > max(smallest, squares[-1] * 8 * ROUNDING)
        turn = vectors[:, kept] / np.sqrt(squares[kept])
        if not turn.size:
            return np.empty((len(block), 0)), first
        for s in slabs(len(block)):
            block[s, : turn.shape[1]] = block[s] @ turn
        block = block[:, : turn.shape[1]]
        gram, smallest = _gram(block), 0.0
    return np.ascontiguousarray(block), first


def _gram(block: Floats) -> Floats:
    found = np.zeros((block.shape[1], block.shape[1]))
    for s in slabs(len(block)):
        found += block[s].T @ block[s]
    return found


def _deflated(product: Floats, basis: Sequence[Floats]) -> Floats:
    """``basis^T product`` (m, b); takes its span out of `product`, in place."""
    # nearly all of it is in the last two blocks: then again, for what rounding left behind
    near = _taken_out(product, basis[-2:])
    found = _taken_out(product, basis)
    found[-len(near) :] += near
    return found


def _taken_out(product: Floats, basis: Sequence[Floats]) -> Floats:
    parts = [np.zeros((v.shape[1], product.shape[1])) for v in basis]
    for s in slabs(len(product)):
        for v, part in zip(basis, parts, strict=True):
            part += v[s].T @ product[s]
    for s in slabs(len(product)):
        for v, part in zip(basis, parts, strict=True):
            product[s] -= v[s] @ part
    return np.concatenate(parts)


def _bordered(small: Floats, columns: Floats) -> Floats:
    """The symmetric matrix with `columns` (m, b) as its last ones."""
    m, width = columns.shape
    found = np.empty((m, m))
    found[: len(small), : len(small)] = small
    found[:, m - width :] = columns
    found[m - width :, : m - width] = columns[: m - width].T
    return found


def _restarted(basis: list[Floats], every: Floats, turn: Floats) -> tuple[list[Floats], Floats]:
    """Two blocks of the best combinations in the place of `basis`, and their Rayleigh quotient."""
    kept = basis[0].shape[1] + basis[1].shape[1]
    best = np.split(turn[:, ::-1][:, :kept], np.cumsum([v.shape[1] for v in basis])[:-1])
    for s in slabs(len(basis[0])):
        rows = sum(v[s] @ part for v, part in zip(basis, best, strict=True))
        basis[0][s], basis[1][s] = np.split(rows, [basis[0].shape[1]], axis=1)
    return basis[:2], np.diag(every[::-1][:kept])


def _combined(basis: Sequence[Floats], coefficients: Floats, p: int) -> Floats:
    """``(basis @ coefficients)^T`` (k, p), made orthonormal to the last bit."""
    found = np.zeros((coefficients.shape[1], p))
    if not found.size or not basis:
        return found
    rows = np.split(coefficients.T, np.cumsum([v.shape[1] for v in basis])[:-1], axis=1)
    gram = np.zeros((len(found), len(found)))
    for s in slabs(p):
        for v, row in zip(basis, rows, strict=True):
            found[:, s] += row @ v[s].T
        gram += found[:, s] @ found[:, s].T
    squares, vectors = eigh(gram)
    nearest = (vectors / np.sqrt(squares)) @ vectors.T
    for s in slabs(p):
        found[:, s] = nearest @ found[:, s]
    return found
