"""One minimisation that is asked for its next point and told the value there.

Limited-memory BFGS (Nocedal and Wright 2006, algorithm 7.4) on top of a guess of the inverse
Hessian that the caller gives, with a backtracking search. Turned inside out, so that thousands of
them can advance on one reading of the data, each with its own steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from msiscale.grid import Floats

MEMORY = 12
SUFFICIENT = 1e-4
NOISY = 100  # a step that promised so many times the noise may fail because of the noise
SHORTEST = 1e-6  # of a step: the search has failed


class Descent:
    """State of one convex minimisation.

    Parameters
    ----------
    start : (d,) float64
    tolerance : float
        Done when the norm of the gradient is below this.
    max_steps : int
        Evaluations at most.
    noise : float
        Relative accuracy of the values told. Done, too, when the decrease that the next step
        promises is below it: nothing that could be told would show it.

    Attributes
    ----------
    point, trial : (d,) float64
        The best point so far, and the one to evaluate next.
    value, gradient : at `point`.
    steps : int
        Evaluations told so far.
    done : bool
    converged : bool
        Done because of the gradient or of the promised decrease.
    """

    def __init__(
        self, start: Floats, *, tolerance: float, max_steps: int, noise: float = 1e-16
    ) -> None:
        self.point = self.trial = start
        self.value = np.inf
        self.gradient = np.full_like(start, np.nan)
        self.tolerance, self.max_steps, self.noise = tolerance, max_steps, noise
        self.steps = 0
        self.done = self.converged = False
        self._pairs: list[tuple[Floats, Floats, float]] = []
        self._direction = np.zeros_like(start)
        self._length = 1.0

    @property
    def grad_norm(self) -> float:
        return float(np.linalg.norm(self.gradient))

    def tell(self, value: float, gradient: Floats, solve: Callable[[Floats], Floats]) -> None:
        """Take the value and gradient at `trial`, and choose the next one.

        Parameters
        ----------
        value
            Of the function at `trial`.
        gradient
            (d,) float64, at `trial`.
        solve
            A guess of (inverse Hessian) @ vector, (d,) to (d,) float64.
        """
        self.steps += 1
        if self.steps == 1:
            self._accept(value, gradient)
        else:
            slope = float(self._direction @ self.gradient)
            floor = max(self.noise, 1e-15) * abs(self.value)
            level = value <= self.value + SUFFICIENT * self._length * slope
            # within the noise only the slope can tell that we have not gone past the minimum
            flat = value <= self.value + floor and self._direction @ gradient <= -0.8 * slope
            if not (level or flat):
                self._shorten(value, slope)
                self.converged = -slope / 2 <= NOISY * self.noise * abs(self.value)
                failed = self._length < SHORTEST or self.steps >= self.max_steps
                self.done = self.converged or failed
                return
            self._remember(gradient)
            self._accept(value, gradient)
        self._aim(solve)
        promised = -float(self._direction @ gradient) / 2
        self.converged = self.grad_norm < self.tolerance or promised <= self.noise * abs(value)
        self.done = self.converged or self.steps >= self.max_steps

    def _accept(self, value: float, gradient: Floats) -> None:
        self.point, self.value, self.gradient = self.trial, value, gradient

    def _remember(self, gradient: Floats) -> None:
        step, change = self.trial - self.point, gradient - self.gradient
        product = float(step @ change)
        if product > 1e-12 * np.linalg.norm(step) * np.linalg.norm(change):
            self._pairs = [*self._pairs[1 - MEMORY :], (step, change, 1.0 / product)]

    def _aim(self, solve: Callable[[Floats], Floats]) -> None:
        q = self.gradient.copy()
        weights = []
        for step, change, inverse in reversed(self._pairs):
            weights.append(inverse * (step @ q))
            q -= weights[-1] * change
        q = solve(q)
        for (step, change, inverse), weight in zip(self._pairs, reversed(weights), strict=True):
            q += (weight - inverse * (change @ q)) * step
        self._direction, self._length = -q, 1.0
        self.trial = self.point + self._direction

    def _shorten(self, value: float, slope: float) -> None:
        # minimum of the parabola through the two values and the slope
        t = self._length
        excess = value - self.value - t * slope
        best = -slope * t * t / (2 * excess) if excess > 0 and np.isfinite(excess) else 0.1 * t
        self._length = float(np.clip(best, 0.1 * t, 0.5 * t))
        self.trial = self.point + self._length * self._direction
