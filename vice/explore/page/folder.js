"use strict";
/* What the folder holds: images, vectors of regions, and maps that are loaded when they are needed. */
(() => {
  const maps = new Map(), waiting = new Map();
  const MOST_MAPS = 40;
  let facts = null, codes = null, norms = null, spread = 1;

  /** Called by data/folder.js. */
  function loadFolder(content) {
    facts = content;
    facts.steps = Float32Array.from(facts.steps);
    facts.width = facts.steps.length;
    facts.spherical = facts.metric === "cosine";
    // Rows: the model's dimensions; columns: the directions.
    facts.directions = new Float32Array(Explorer.decode(facts.directions).buffer);
    let start = 0;
    facts.images = facts.images.map(([name, width, height, rows, columns, large]) => {
      const image = { name, width, height, rows, columns, large, start };
      start += rows * columns;
      return image;
    });
    facts.regions = start;
    facts.owner = new Int32Array(start);
    facts.images.forEach((image, number) => {
      facts.owner.fill(number, image.start, image.start + image.rows * image.columns);
    });
  }

  /** Called by data/regions.js: (regions, width) signed bytes. */
  function loadRegions(text) {
    codes = new Int8Array(Explorer.decode(text).buffer);
    if (facts.spherical) return;
    norms = squares(codes);
    spread = Math.sqrt(norms.reduce((a, b) => a + b, 0) / norms.length) || 1;
  }

  /** Called by data/maps/NUMBER.js. */
  function loadMap(number, rows, columns, text) {
    const map = { rows, columns, codes: new Int8Array(Explorer.decode(text).buffer) };
    maps.set(number, map);
    if (maps.size > MOST_MAPS) maps.delete(maps.keys().next().value);
  }

  /** The dense map of an image. A script element loads it: fetch is not allowed from a disk. */
  function getMap(number) {
    if (maps.has(number)) return Promise.resolve(maps.get(number));
    if (!waiting.has(number)) {
      waiting.set(number, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/maps/${number}.js`;
        const done = () => { script.remove(); waiting.delete(number); };
        script.onload = () => { done(); resolve(maps.get(number)); };
        script.onerror = () => { done(); reject(new Error(`${script.src} is missing`)); };
        document.head.append(script);
      }));
    }
    return waiting.get(number);
  }

  function squares(rows) {
    const { width, steps } = facts;
    const out = new Float32Array(rows.length / width);
    for (let i = 0, at = 0; i < out.length; i++) {
      let sum = 0;
      for (let p = 0; p < width; p++) sum += (rows[at++] * steps[p]) ** 2;
      out[i] = sum;
    }
    return out;
  }

  /** Weights that rows of codes are multiplied with, of a vector in real units. */
  function fold(vector) {
    return Float32Array.from(vector, (value, p) => value * facts.steps[p]);
  }

  /**
   * Similarity of each row with a vector in real units, 1 for the same one: the cosine, or for a
   * model whose lengths count 1 / (1 + distance / spread of the folder).
   */
  function similarity(rows, vector) {
    const size = Explorer.dot(vector, vector);
    const length = Math.sqrt(size) || 1;
    const products = Explorer.dots(rows, facts.width, fold(vector));
    if (facts.spherical) return products.map((product) => product / length);
    const own = rows === codes ? norms : squares(rows);
    return products.map((product, i) =>
      1 / (1 + Math.sqrt(Math.max(0, size + own[i] - 2 * product)) / spread));
  }

  /** For each image its most similar region and that similarity; of all regions theirs, and the mean. */
  function rank(vector) {
    const values = similarity(codes, vector);
    const score = new Float32Array(facts.images.length), region = new Int32Array(score.length);
    let total = 0;
    facts.images.forEach((image, number) => {
      let best = -Infinity;
      const end = image.start + image.rows * image.columns;
      for (let i = image.start; i < end; i++) {
        total += values[i];
        if (values[i] > best) { best = values[i]; region[number] = i; }
      }
      score[number] = best;
    });
    return { score, region, values, mean: total / values.length };
  }

  /** The regions whose value is at least so great, and their share of the pixels. */
  function reaching(values, least) {
    const members = [];
    let area = 0, total = 0;
    facts.images.forEach((image) => {
      const cells = image.rows * image.columns, weight = image.width * image.height / cells;
      for (let i = image.start; i < image.start + cells; i++) {
        if (values[i] >= least) { members.push(i); area += weight; }
      }
      total += weight * cells;
    });
    return { members, share: area / total };
  }

  /** Where a region lies, in shares of its image's sides. */
  function box(region) {
    const number = facts.owner[region], image = facts.images[number];
    const within = region - image.start;
    const row = Math.floor(within / image.columns), column = within % image.columns;
    return {
      number, left: column / image.columns, top: row / image.rows,
      width: 1 / image.columns, height: 1 / image.rows,
    };
  }

  const thumb = (number) => `data/thumbs/${number}.jpg`;
  const picture = (number) =>
    facts.images[number].large ? `data/images/${number}.jpg` : thumb(number);

  Object.assign(Explorer, {
    loadFolder, loadRegions, loadMap, getMap, similarity, rank, reaching, fold, box, thumb,
    picture,
  });
  // Object.assign would take the values that these have now.
  Object.defineProperties(Explorer, { facts: { get: () => facts }, codes: { get: () => codes } });
})();
