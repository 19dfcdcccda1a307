"use strict";
/* One image: a pixel is clicked, what is similar lights up. */
(() => {
  const byId = (id) => document.getElementById(id);
  const canvas = byId("heat"), stage = canvas.parentElement;
  let number = -1, map = null, layer = "similarity", query = null, cross = null, picked = -1;
  let onQuery = () => {}, wanted = 0;

  /** Where the threshold of a new concept begins, between the folder's mean and the same. */
  const BEGIN = 0.6;
  /** Red, green, blue, opacity of a similarity from 0 (the folder's mean) to 1 (the same). */
  const STOPS = [[12, 14, 34, 0.74], [70, 22, 92, 0.58], [200, 60, 60, 0.4], [255, 186, 40, 0.5]];
  const RAMP = new Uint8ClampedArray(4 * 256);
  for (let i = 0; i < 256; i++) {
    const at = i / 255 * (STOPS.length - 1), k = Math.min(Math.floor(at), STOPS.length - 2);
    STOPS[k].forEach((value, c) => {
      const mixed = value + (STOPS[k + 1][c] - value) * (at - k);
      RAMP[4 * i + c] = c === 3 ? 255 * mixed : mixed;
    });
  }

  /** Opens an image; resolves when its map is there. */
  async function open(which) {
    const { facts } = Explorer, image = facts.images[which], turn = ++wanted;
    number = which;
    map = null;
    cross = null;
    picked = -1;
    byId("viewer").hidden = false;
    byId("frame").hidden = true;
    byId("viewed").textContent = image.name;
    const picture = byId("picture");
    picture.width = image.width;
    picture.height = image.height;
    stage.style.setProperty("--aspect", String(image.width / image.height));
    picture.src = Explorer.picture(which);
    picture.alt = image.name;
    Explorer.grid.setOpened(which);
    paint();
    try {
      const found = await Explorer.getMap(which);
      if (turn !== wanted) return;
      map = found;
      paint();
    } catch (error) {
      Explorer.tell(`${error.message}: make the explorer again.`);
    }
  }

  function close() {
    wanted++;
    const last = number;
    number = -1;
    map = null;
    byId("viewer").hidden = true;
    Explorer.grid.setOpened(-1);
    Explorer.grid.draw();
    if (last >= 0) Explorer.grid.focusOn(last);
  }

  function setLayer(name) {
    layer = name;
    document.querySelectorAll("[data-layer]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.layer === name));
    });
    paint();
  }

  /** The concept of a cell of the map. */
  function conceptAt(cell) {
    const { width } = Explorer.facts, { list, segment } = Explorer.concepts;
    const codes = map.codes.subarray(cell * width, (cell + 1) * width);
    return list[segment({ rows: 1, columns: 1, codes })[0]];
  }

  /** Says what was clicked in the image that is open, by its concept's name of now. */
  function say() {
    const concept = map && picked >= 0 ? conceptAt(picked) : null;
    byId("said").textContent = concept
      ? `This pixel is ${concept.name}${concept.dropped ? " (dropped)" : ""}. `
        + "Images are ordered by their most similar part."
      : "Click a pixel to see what is similar to it.";
  }

  /** Frames a region of the image that is open. */
  function frame(place) {
    for (const side of ["left", "top", "width", "height"]) {
      byId("frame").style[side] = `${100 * place[side]}%`;
    }
    byId("frame").hidden = false;
  }

  /** The number of the cell at a place (shares of the sides). */
  function cellAt(x, y) {
    const column = Math.min(map.columns - 1, Math.floor(x * map.columns));
    const row = Math.min(map.rows - 1, Math.floor(y * map.rows));
    return row * map.columns + column;
  }

  /** Draws the layer that is chosen, a pixel of the canvas for each cell of the map. */
  function paint() {
    say();
    byId("making").hidden = !query;
    byId("cross").hidden = !cross;
    if (cross) {
      byId("cross").style.left = `${100 * cross.x}%`;
      byId("cross").style.top = `${100 * cross.y}%`;
    }
    const shown = map && (layer === "concepts" || (layer === "similarity" && query));
    canvas.width = shown ? map.columns : 1;
    canvas.height = shown ? map.rows : 1;
    if (!shown) return;
    canvas.style.imageRendering = layer === "concepts" ? "pixelated" : "auto";
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(map.columns, map.rows);
    if (layer === "concepts") paintConcepts(pixels.data);
    else paintSimilarity(pixels.data);
    context.putImageData(pixels, 0, 0);
  }

  /** With a threshold, what is less similar is as dark as the least similar. */
  function paintSimilarity(data) {
    const values = Explorer.similarity(map.codes, query.vector);
    const low = query.mean, range = Math.max(1 - low, 1e-6);
    values.forEach((value, i) => {
      const at = value < query.least ? 0 : 4 * Math.round(255 * Math.min(Math.max((value - low) / range, 0), 1));
      for (let c = 0; c < 4; c++) data[4 * i + c] = RAMP[at + c];
    });
  }

  function paintConcepts(data) {
    const { list, segment } = Explorer.concepts;
    const colors = list.map(({ color, dropped }) => (dropped ? [0, 0, 0, 200]
      : [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)).concat(150)));
    segment(map).forEach((k, i) => { data.set(colors[k], 4 * i); });
  }

  /** Says how much of the folder a concept of what was clicked would be made of. */
  function sayReach() {
    const least = Number(byId("least").value);
    query.reached = Explorer.reaching(query.values, least);
    byId("least-is").textContent = least.toFixed(2);
    byId("so-similar").textContent = `${Explorer.cards.percent(query.reached.share)} of the folder`;
  }

  /** Takes the vector at a place (shares of the sides) and orders the folder by it. */
  function pick(x, y) {
    if (!map) return;
    const start = performance.now();
    picked = cellAt(x, y);
    const column = picked % map.columns, row = Math.floor(picked / map.columns);
    const vector = Explorer.real(map.codes, picked, Explorer.facts.steps);
    const found = Explorer.rank(vector);
    query = { vector, mean: found.mean, values: found.values, least: -Infinity };
    const least = byId("least");
    least.min = Math.max(found.mean, 0).toFixed(2);
    least.max = 1;
    least.value = found.mean + BEGIN * (1 - found.mean);
    sayReach();
    cross = { x: (column + 0.5) / map.columns, y: (row + 0.5) / map.rows };
    if (layer === "none") setLayer("similarity"); else paint();
    onQuery(found, number);
    Explorer.lastPick = performance.now() - start;
  }

  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    // A click by the keyboard has no place.
    if (event.detail === 0 && event.clientX === 0) return;
    pick((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    const inside = map && layer === "concepts" && Math.min(x, y) >= 0;
    canvas.title = inside ? conceptAt(cellAt(x, y)).name : "";
  });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!map || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) {
      event.preventDefault();
      const [right, down] = steps[event.key], by = event.shiftKey ? 8 : 1;
      const from = cross || { x: 0.5, y: 0.5 };
      const move = (value, cells, count) =>
        Math.min(Math.max(value + cells * by / count, 0.5 / count), 1 - 0.5 / count);
      cross = { x: move(from.x, right, map.columns), y: move(from.y, down, map.rows) };
      byId("cross").hidden = false;
      byId("cross").style.left = `${100 * cross.x}%`;
      byId("cross").style.top = `${100 * cross.y}%`;
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pick(cross ? cross.x : 0.5, cross ? cross.y : 0.5);
    }
  });
  byId("least").addEventListener("input", () => {
    query.least = Number(byId("least").value);
    sayReach();
    if (layer !== "similarity") setLayer("similarity"); else paint();
  });
  stage.addEventListener("dragstart", (event) => event.preventDefault());

  Explorer.viewer = {
    open, close, setLayer, paint, pick, frame,
    forget() { query = null; cross = null; picked = -1; paint(); },
    onQuery(listener) { onQuery = listener; },
    get number() { return number; },
    /** What was clicked: its vector, and what is similar to it; null if nothing was. */
    get query() { return query; },
    get ready() { return map !== null; },
  };
})();
