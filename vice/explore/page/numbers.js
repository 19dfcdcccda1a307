"use strict";
/* Arithmetic on vectors of 8-bit numbers: decoding, scores, nearest vectors, k-means. */
const Explorer = {};
(() => {
  /** Base64 to bytes. */
  function decode(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  }

  /** Dot products of rows of `codes` (Int8Array, N x width) with `weights` (Float32Array). */
  function dots(codes, width, weights, from = 0, to = codes.length / width) {
    const out = new Float32Array(to - from);
    for (let row = from, at = from * width; row < to; row++) {
      let sum = 0;
      for (let p = 0; p < width; p++) sum += codes[at++] * weights[p];
      out[row - from] = sum;
    }
    return out;
  }

  /** A row of codes in real units. */
  function real(codes, row, steps) {
    const out = new Float32Array(steps.length);
    for (let p = 0; p < out.length; p++) out[p] = codes[row * out.length + p] * steps[p];
    return out;
  }

  function dot(a, b) {
    let sum = 0;
    for (let p = 0; p < a.length; p++) sum += a[p] * b[p];
    return sum;
  }

  /**
   * Nearest of several vectors for each row: the greatest of `codes . weights + bias`.
   * `vectors`: [{id, weights, bias}]. Writes ids and scores of the rows in `rows` (null: all).
   * With `challenge`, what stands in `ids` and `best` is compared as well.
   */
  function nearest(codes, width, vectors, ids, best, rows, challenge) {
    const count = rows ? rows.length : ids.length, many = vectors.length;
    // One array of all weights, and the row beside it: what the loop reads lies together.
    const weights = new Float32Array(many * width), point = new Float32Array(width);
    const biases = Float64Array.from(vectors, (vector) => vector.bias);
    vectors.forEach((vector, v) => weights.set(vector.weights, v * width));
    for (let k = 0; k < count; k++) {
      const row = rows ? rows[k] : k, start = row * width;
      for (let p = 0; p < width; p++) point[p] = codes[start + p];
      let greatest = challenge ? best[row] : -Infinity, chosen = -1;
      for (let v = 0, at = 0; v < many; v++) {
        let sum = biases[v];
        for (let p = 0; p < width; p++) sum += point[p] * weights[at++];
        if (sum > greatest) { greatest = sum; chosen = v; }
      }
      if (chosen >= 0) { best[row] = greatest; ids[row] = vectors[chosen].id; }
    }
  }

  /** Numbers in [0, 1) from a seed (mulberry32), so that a split is the same each time. */
  function random(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  const MOST_POINTS = 20000, ROUNDS = 25;

  /**
   * K-means with k-means++ on points in real units (Float32Array each).
   * Unit centers and inner products if `spherical`, else Euclidean.
   * Returns at most `k` centers; fewer where points do not differ.
   */
  function kmeans(points, k, spherical, seed = 0) {
    const draw = random(seed);
    const sample = points.length <= MOST_POINTS ? points : Array.from(
      { length: MOST_POINTS }, () => points[Math.floor(draw() * points.length)]);
    const width = sample[0].length;
    const distance = (a, b) => {
      let sum = 0;
      for (let p = 0; p < width; p++) sum += (a[p] - b[p]) ** 2;
      return sum;
    };
    let centers = [sample[Math.floor(draw() * sample.length)]];
    const far = sample.map((point) => distance(point, centers[0]));
    while (centers.length < k) {
      const total = far.reduce((a, b) => a + b, 0);
      if (!(total > 1e-9 * sample.length)) break;
      let left = draw() * total, chosen = 0;
      while (chosen < far.length - 1 && (left -= far[chosen]) > 0) chosen++;
      centers.push(sample[chosen]);
      sample.forEach((point, i) => { far[i] = Math.min(far[i], distance(point, sample[chosen])); });
    }
    let owner = new Int32Array(sample.length).fill(-1);
    for (let round = 0; round < ROUNDS; round++) {
      const halves = centers.map((center) => (spherical ? 0 : dot(center, center) / 2));
      let changed = 0;
      const next = new Int32Array(sample.length);
      sample.forEach((point, i) => {
        let best = -Infinity;
        centers.forEach((center, c) => {
          const score = dot(point, center) - halves[c];
          if (score > best) { best = score; next[i] = c; }
        });
        changed += next[i] !== owner[i];
      });
      owner = next;
      if (!changed) break;
      const sums = centers.map(() => new Float64Array(width));
      const counts = new Int32Array(centers.length);
      sample.forEach((point, i) => {
        counts[owner[i]]++;
        for (let p = 0; p < width; p++) sums[owner[i]][p] += point[p];
      });
      centers = centers.map((center, c) => {
        if (!counts[c]) return center;
        const length = spherical ? Math.sqrt(dot(sums[c], sums[c])) || 1 : counts[c];
        return Float32Array.from(sums[c], (value) => value / length);
      });
    }
    return centers;
  }

  Object.assign(Explorer, { decode, dots, dot, real, nearest, kmeans });
})();
