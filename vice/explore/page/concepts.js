"use strict";
/* The concepts: their vectors, which regions they own, how they are changed, undo and redo. */
(() => {
  const vectors = new Map();
  const past = [], future = [];
  let concepts = [], compared = [], listeners = [], nextVector = 0, nextConcept = 0;
  let ids = null, best = null, changedSinceSave = false, summary = null;

  const ROUNDING = 1e-5;
  /** Where only directions count, a vector at unit length; one that has it stays as it is. */
  function direction(values) {
    const most = values.reduce((size, value) => Math.max(size, Math.abs(value)), 0);
    if (!Explorer.facts.spherical || !most) return values;
    const length = (each) => Math.sqrt(Explorer.dot(each, each));
    if (Math.abs(length(values) - 1) < ROUNDING) return values;
    const scaled = values.map((value) => value / most), size = length(scaled);
    return scaled.map((value) => value / size);
  }

  /** A vector in the model's space, with what is needed to compare regions with it. */
  function addVector(values) {
    const { facts } = Explorer, { width, directions } = facts;
    const vector = Float64Array.from(direction(Float64Array.from(values)), Math.fround);
    const real = new Float64Array(width);
    for (let d = 0; d < vector.length; d++) {
      for (let p = 0; p < width; p++) real[p] += vector[d] * directions[d * width + p];
    }
    const id = nextVector++;
    const bias = facts.spherical ? 0 : -Explorer.dot(vector, vector) / 2;
    vectors.set(id, { id, vector, real, bias, weights: Explorer.fold(real) });
    return id;
  }

  /** The vector in the model's space of a point in the space of the directions. */
  function lift(point) {
    const { width, directions, dim } = Explorer.facts;
    return Float64Array.from({ length: dim }, (_, d) => {
      let sum = 0;
      for (let p = 0; p < width; p++) sum += directions[d * width + p] * point[p];
      return sum;
    });
  }

  /** `family`: the first of the concepts that this one was split from, itself if of none. */
  function make({ name, color, vectors: own, dropped = false, named = false, family = null }) {
    const id = nextConcept++;
    return { id, name, color, vectors: own, dropped, named, family: family ?? id };
  }

  /** Starts anew with concepts whose vectors are in the model's space. */
  function reset(given) {
    return given.map((each) =>
      make({ ...each, vectors: each.vectors.map(addVector), family: null }));
  }

  /** Compares regions with the vectors of these concepts; only what has changed is computed. */
  function assign(next) {
    const { codes, facts } = Explorer;
    const wanted = next.flatMap((concept) => concept.vectors);
    const before = new Set(compared), after = new Set(wanted);
    const added = wanted.filter((id) => !before.has(id)).map((id) => vectors.get(id));
    const whole = ids === null;
    if (whole) { ids = new Int32Array(facts.regions); best = new Float32Array(facts.regions); }
    if (whole || !compared.some((id) => after.has(id))) {
      Explorer.nearest(codes, facts.width, wanted.map((id) => vectors.get(id)), ids, best, null, false);
    } else {
      const lost = [];
      for (let i = 0; i < ids.length; i++) if (!after.has(ids[i])) lost.push(i);
      if (added.length) Explorer.nearest(codes, facts.width, added, ids, best, null, true);
      if (lost.length) {
        const all = wanted.map((id) => vectors.get(id));
        Explorer.nearest(codes, facts.width, all, ids, best, lost, false);
      }
    }
    compared = wanted;
  }

  /** Shares of the pixels, and the most typical regions of each concept, one an image at first. */
  function summarize() {
    const { facts } = Explorer;
    const of = new Map();
    concepts.forEach((concept, k) => concept.vectors.forEach((id) => of.set(id, k)));
    const area = new Float64Array(concepts.length);
    const inImage = concepts.map(() => new Float32Array(facts.images.length));
    const typical = concepts.map(() => []);
    let total = 0;
    facts.images.forEach((image, number) => {
      const cells = image.rows * image.columns, weight = image.width * image.height / cells;
      const top = new Int32Array(concepts.length).fill(-1);
      for (let i = image.start; i < image.start + cells; i++) {
        const k = of.get(ids[i]);
        area[k] += weight;
        inImage[k][number] += 1 / cells;
        if (top[k] < 0 || best[i] > best[top[k]]) top[k] = i;
      }
      total += weight * cells;
      top.forEach((region, k) => { if (region >= 0) insert(typical[k], region); });
    });
    summary = { shares: Array.from(area, (value) => value / total), inImage, typical };
  }

  const PATCHES = 6;
  function insert(list, region) {
    let at = list.length;
    while (at > 0 && best[list[at - 1]] < best[region]) at--;
    if (at < PATCHES) { list.splice(at, 0, region); list.length = Math.min(list.length, PATCHES); }
  }

  function show(next) {
    assign(next);
    concepts = next;
    summarize();
    listeners.forEach((listener) => listener());
  }

  /** Makes a change that can be undone. */
  function change(next, said) {
    past.push({ concepts, said });
    future.length = 0;
    changedSinceSave = true;
    show(next);
  }

  function step(from, to) {
    if (!from.length) return null;
    const { concepts: next, said } = from.pop();
    to.push({ concepts, said });
    changedSinceSave = true;
    show(next);
    return said;
  }

  /** The name, or with a number behind it if another concept has it. */
  function unique(name, except) {
    const taken = new Set(concepts.filter((c) => !except.includes(c.id)).map((c) => c.name));
    if (!taken.has(name)) return name;
    let number = 2;
    while (taken.has(`${name} ${number}`)) number++;
    return `${name} ${number}`;
  }

  const find = (id) => concepts.find((concept) => concept.id === id);
  const replace = (id, ...by) => concepts.flatMap((c) => (c.id === id ? by : [c]));

  /* What no line of text takes: controls, marks of direction and the like, halves of characters.
     Joiners and tags are what some scripts, emoji and flags are made with. */
  const UNSHOWN = new RegExp("[\\p{Cc}\\p{Cs}\\p{Co}\\p{Noncharacter_Code_Point}]"
    + "|(?![\\u200c\\u200d\\u{e0020}-\\u{e007f}])\\p{Cf}", "gu");
  /** A name as it can be given: on a line, and not too long. */
  function clean(text) {
    const line = text.replace(/\s+/g, " ").replace(UNSHOWN, "").trim();
    return Array.from(line).slice(0, 80).join("").trim();
  }

  /** A new name; returns the one it was given, which no other concept has. */
  function rename(id, text) {
    const concept = find(id), wanted = clean(text);
    if (!wanted || wanted === concept.name) return concept.name;
    const name = unique(wanted, [id]);
    change(replace(id, { ...concept, name, named: true }), `naming ${name}`);
    return name;
  }

  function recolor(id, color) {
    const concept = find(id);
    if (color !== concept.color) {
      change(replace(id, { ...concept, color }), `the color of ${concept.name}`);
    }
  }

  /** One concept with the vectors of all; named as the first that a person has named. */
  function merge(chosen) {
    const members = concepts.filter((concept) => chosen.includes(concept.id));
    if (members.length < 2) return null;
    const first = members.find((c) => c.named) || members.reduce((a, b) => (share(a) >= share(b) ? a : b));
    const merged = make({ ...first, vectors: members.flatMap((c) => c.vectors), dropped: false });
    const next = concepts.filter((c) => c === members[0] || !members.includes(c))
      .map((c) => (c === members[0] ? merged : c));
    change(next, `merging ${members.map((c) => c.name).join(", ")}`);
    return merged;
  }

  /** Several concepts by k-means on the regions of one; null where they do not differ. */
  function split(id, parts) {
    const { codes, facts } = Explorer, parent = find(id), own = new Set(parent.vectors);
    const points = [];
    for (let i = 0; i < ids.length; i++) {
      if (own.has(ids[i])) points.push(Explorer.real(codes, i, facts.steps));
    }
    const centers = points.length < 2 ? [] : Explorer.kmeans(points, parts, facts.spherical, id);
    if (centers.length < 2) return null;
    const taken = new Set(concepts.filter((c) => c !== parent).map((c) => c.color));
    const free = [parent.color, ...facts.palette].filter((color) => !taken.has(color));
    const numbered = /\d$/.test(parent.name) ? `${parent.name}.` : `${parent.name} `;
    const children = centers.map((center, number) => make({
      name: unique(numbered + (number + 1), [id]),
      color: [...new Set(free)][number] || parent.color,
      vectors: [addVector(lift(center))],
      family: parent.family,
    }));
    change(replace(id, ...children), `splitting ${parent.name}`);
    return children;
  }

  /** A new concept: the mean of some regions, or of none a point (in real units). */
  function add(members, point) {
    const { codes, facts } = Explorer, sum = new Float64Array(facts.width);
    const count = (vector) => vector.forEach((value, p) => { sum[p] += value; });
    members.forEach((region) => count(Explorer.real(codes, region, facts.steps)));
    if (!members.length) count(point);
    const length = facts.spherical ? Math.sqrt(Explorer.dot(sum, sum)) || 1 : members.length || 1;
    const taken = new Set(concepts.map((concept) => concept.color));
    const made = make({
      name: unique(`concept ${concepts.length + 1}`, []),
      color: facts.palette.find((color) => !taken.has(color)) || "#808080",
      vectors: [addVector(lift(sum.map((value) => value / length)))],
    });
    change([...concepts, made], `making ${made.name}`);
    return made;
  }

  function setDropped(chosen, dropped) {
    const names = concepts.filter((c) => chosen.includes(c.id)).map((c) => c.name);
    const next = concepts.map((c) => (chosen.includes(c.id) ? { ...c, dropped } : c));
    change(next, `${dropped ? "dropping" : "taking back"} ${names.join(", ")}`);
  }

  const share = (concept) => summary.shares[concepts.indexOf(concept)];

  /** The concepts whose vectors are nearest to those of one, with their similarity. */
  function neighbors(concept, count = 2) {
    const closeness = (a, b) => {
      const one = vectors.get(a).real, other = vectors.get(b).real;
      if (Explorer.facts.spherical) {
        return Explorer.dot(one, other)
          / Math.sqrt(Explorer.dot(one, one) * Explorer.dot(other, other) || 1);
      }
      return -Math.sqrt(one.reduce((sum, value, p) => sum + (value - other[p]) ** 2, 0));
    };
    return concepts.filter((c) => c !== concept && !c.dropped).map((other) => ({
      concept: other,
      value: Math.max(...concept.vectors.flatMap((a) => other.vectors.map((b) => closeness(a, b)))),
    })).sort((a, b) => b.value - a.value).slice(0, count);
  }

  /** The concept of each cell of a dense map, as a number in `list`. */
  function segment(map) {
    const count = map.rows * map.columns;
    const cells = new Int32Array(count);
    const all = compared.map((id) => vectors.get(id));
    Explorer.nearest(map.codes, Explorer.facts.width, all, cells, new Float32Array(count), null, false);
    const of = new Map();
    concepts.forEach((concept, k) => concept.vectors.forEach((id) => of.set(id, k)));
    return cells.map((id) => of.get(id));
  }

  Explorer.concepts = {
    start(given) { show(reset(given)); },
    replaceAll(given, said) { change(reset(given), said); },
    clean, rename, recolor, merge, split, add, setDropped, neighbors, segment, share, find,
    undo: () => step(past, future),
    redo: () => step(future, past),
    onChange(listener) { listeners.push(listener); },
    vector: (id) => vectors.get(id).vector,
    typical: (concept) => summary.typical[concepts.indexOf(concept)],
    inImage: (concept) => summary.inImage[concepts.indexOf(concept)],
    saved() { changedSinceSave = false; },
    get list() { return concepts; },
    get canUndo() { return past.length > 0; },
    get canRedo() { return future.length > 0; },
    get unsaved() { return changedSinceSave; },
    /** The concept that each region belongs to, as a number in `list`. */
    get regionConcepts() {
      const of = new Map();
      concepts.forEach((concept, k) => concept.vectors.forEach((id) => of.set(id, k)));
      return ids.map((id) => of.get(id));
    },
  };
})();
