// Affine maps, and the least-squares map of pairs of points: as msiscale.registration.fit_landmarks.
"use strict";

window.placing = {};

placing.fit = (() => {
  // a map is [[a, b, c], [d, e, f]] and acts on (x, y, 1)
  const apply = (m, [x, y]) => [
    m[0][0] * x + m[0][1] * y + m[0][2], m[1][0] * x + m[1][1] * y + m[1][2],
  ];
  const after = (m, n) => m.map((row) => [  // first n, then m
    row[0] * n[0][0] + row[1] * n[1][0],
    row[0] * n[0][1] + row[1] * n[1][1],
    row[0] * n[0][2] + row[1] * n[1][2] + row[2],
  ]);
  const determinant = (m) => m[0][0] * m[1][1] - m[0][1] * m[1][0];
  const inverse = (m) => {
    const d = determinant(m);
    const [a, b, c, e] = [m[1][1] / d, -m[0][1] / d, -m[1][0] / d, m[0][0] / d];
    return [[a, b, -(a * m[0][2] + b * m[1][2])], [c, e, -(c * m[0][2] + e * m[1][2])]];
  };
  const scaling = (x, y) => [[x, 0, 0], [0, y, 0]];
  const shift = (x, y) => [[1, 0, x], [0, 1, y]];
  const rotation = (degrees, [x, y]) => {
    const t = degrees * Math.PI / 180, [c, s] = [Math.cos(t), Math.sin(t)];
    return after(shift(x, y), after([[c, -s, 0], [s, c, 0]], shift(-x, -y)));
  };

  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const dot = (a, b) => sum(a.map((v, i) => v * b[i]));
  const middle = (points) => [0, 1].map((k) => sum(points.map((p) => p[k])) / points.length);
  const centred = (points) => {
    const m = middle(points);
    return [0, 1].map((k) => points.map((p) => p[k] - m[k]));
  };
  const rms = (distances) => Math.sqrt(sum(distances.map((d) => d * d)) / distances.length);
  const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
  const misses = (m, from, to) => from.map((p, i) => distance(apply(m, p), to[i]));

  // singular values of [[a, b], [c, d]], the larger first
  const singular = (a, b, c, d) => {
    const large = (Math.hypot(a + d, b - c) + Math.hypot(a - d, b + c)) / 2;
    return [large, large > 0 ? Math.abs(a * d - b * c) / large : 0];
  };

  // columns u, v as q1, q2 times [[uu, uv], [0, vv]]; orthogonal twice over
  const factors = (u, v) => {
    const uu = Math.sqrt(dot(u, u)), q1 = u.map((x) => (uu > 0 ? x / uu : 0));
    const first = dot(q1, v), once = v.map((x, i) => x - first * q1[i]);
    const second = dot(q1, once), twice = once.map((x, i) => x - second * q1[i]);
    const vv = Math.sqrt(dot(twice, twice));
    return { q1, q2: twice.map((x) => (vv > 0 ? x / vv : 0)), uu, uv: first + second, vv };
  };

  const affine = (from, to) => {
    const { q1, q2, uu, uv, vv } = factors(...centred(from));
    const at = middle(from), there = middle(to);
    return centred(to).map((z, k) => {
      const b = dot(q2, z) / vv, a = (dot(q1, z) - uv * b) / uu;
      return [a, b, there[k] - a * at[0] - b * at[1]];
    });
  };

  const turned = (from, to) => {  // rotation, one scale, shift
    const [x, y] = centred(from), [p, q] = centred(to), n = dot(x, x) + dot(y, y);
    const a = (dot(x, p) + dot(y, q)) / n, b = (dot(x, q) - dot(y, p)) / n;
    const at = middle(from), there = middle(to);
    return [
      [a, -b, there[0] - a * at[0] + b * at[1]],
      [b, a, there[1] - b * at[0] - a * at[1]],
    ];
  };

  const MIRROR = scaling(-1, 1);

  // the better of the proper and the mirrored one; two pairs fit both ways: `mirrored` says which
  const similarity = (from, to, mirrored) => {
    const plain = turned(from, to);
    const flipped = after(turned(from.map((p) => apply(MIRROR, p)), to), MIRROR);
    if (from.length === 2) return mirrored ? flipped : plain;
    const [one, other] = [plain, flipped].map((m) => rms(misses(m, from, to)));
    return other < one - 1e-6 ? flipped : plain;
  };

  const degenerate = (kind, points) => {
    const { uu, uv, vv } = factors(...centred(points));
    const [large, small] = singular(uu, uv, 0, vv);
    const least = 1e-9 * (1 + Math.max(...points.flat().map(Math.abs)));
    return large < least || (kind === "affine" && small < 1e-6 * large);
  };

  // pairs of {slide, msi}; mpp and pixel_um as (x, y); null where no map can be made of them
  const fit = (pairs, mpp, pixel_um, mirrored = false) => {
    const n = pairs.length, kind = n >= 4 ? "affine" : "similarity";
    if (n < 2) return null;
    const from = pairs.map(({ msi }) => [msi[0] * pixel_um[0], msi[1] * pixel_um[1]]);
    const to = pairs.map(({ slide }) => [slide[0] * mpp[0], slide[1] * mpp[1]]);
    if (degenerate(kind, from) || degenerate(kind, to)) return null;
    const made = (a, b) => (kind === "affine" ? affine(a, b) : similarity(a, b, mirrored));
    const um = made(from, to);
    const without = (points, i) => points.filter((_, j) => j !== i);
    const left = from.map((p, i) => {
      if (n <= (kind === "affine" ? 3 : 2)) return NaN;
      const [a, b] = [without(from, i), without(to, i)];
      if (degenerate(kind, a) || degenerate(kind, b)) return NaN;
      return distance(apply(made(a, b), p), to[i]);
    });
    const matrix = after(scaling(1 / mpp[0], 1 / mpp[1]), after(um, scaling(...pixel_um)));
    return { kind, matrix, left };
  };

  // how far pairs are off under any map, in µm
  const residuals = (matrix, pairs, mpp) => pairs.map(({ slide, msi }) => {
    const [x, y] = apply(matrix, msi);
    return Math.hypot((x - slide[0]) * mpp[0], (y - slide[1]) * mpp[1]);
  });

  // stretch in the two main directions against the pixel sizes, rotation in degrees, mirrored
  const shape = (matrix, mpp, pixel_um) => {
    const um = after(scaling(...mpp), after(matrix, scaling(1 / pixel_um[0], 1 / pixel_um[1])));
    const flipped = determinant(um) < 0, sign = flipped ? -1 : 1;
    const [c, s] = [sign * um[0][0] + um[1][1], sign * um[1][0] - um[0][1]];
    return {
      scales: singular(um[0][0], um[0][1], um[1][0], um[1][1]),
      degrees: (Math.atan2(s, c) * 180 / Math.PI + 360) % 360,
      flipped,
    };
  };

  return { apply, after, inverse, determinant, scaling, shift, rotation, rms, distance, fit,
    residuals, shape };
})();
