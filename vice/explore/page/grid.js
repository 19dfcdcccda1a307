"use strict";
/* The images in a grid of which only what is seen exists. */
(() => {
  const grid = document.getElementById("grid");
  const GAP = 6, LEAST = 150, NARROW = 104, SPARE = 2;
  const tiles = new Map();
  let order = [], labels = null, marks = null, focus = 0, opened = -1, columns = 1, side = LEAST;
  let onOpen = () => {};

  /**
   * Shows images in an order.
   * `badges`: a text for each image number, or null; `regions`: a region of each to mark, or null.
   */
  function setOrder(numbers, title, badges = null, regions = null) {
    order = numbers;
    labels = badges;
    marks = regions;
    focus = 0;
    document.getElementById("order").textContent = title;
    draw(true);
  }

  function measure() {
    const width = grid.clientWidth;
    const least = width < 500 ? NARROW : LEAST;
    columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    side = (width - GAP * (columns - 1)) / columns;
    grid.style.height = `${Math.ceil(order.length / columns) * (height() + GAP)}px`;
  }

  const height = () => Math.round(side * 0.75);

  function draw(anew = false) {
    if (anew) { tiles.forEach((tile) => tile.remove()); tiles.clear(); }
    if (!grid.offsetParent) return;
    measure();
    const step = height() + GAP, above = grid.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-above / step) - SPARE) * columns;
    const last = (Math.ceil((window.innerHeight - above) / step) + SPARE) * columns;
    const wanted = new Set();
    for (let at = first; at < Math.min(last, order.length); at++) wanted.add(at);
    // The tile that has or takes the focus exists wherever it is, or no keyboard could reach it.
    if (focus < order.length) wanted.add(focus);
    tiles.forEach((tile, at) => { if (!wanted.has(at)) { tile.remove(); tiles.delete(at); } });
    wanted.forEach((at) => {
      if (!tiles.has(at)) { tiles.set(at, make(at)); grid.append(tiles.get(at)); }
      place(tiles.get(at), at);
    });
  }

  function make(at) {
    const number = order[at], image = Explorer.facts.images[number];
    const { element } = Explorer.cards;
    const label = labels ? labels[number] : "";
    const tile = element("button", {
      type: "button", class: "tile", "data-number": number,
      "aria-label": label ? `${image.name}, ${label}` : image.name, title: image.name,
      onclick: () => { focus = at; onOpen(number, true); },
      onfocus: () => { focus = at; setTabs(); },
    }, element("img", { src: Explorer.thumb(number), alt: "", decoding: "async" }));
    if (label) tile.append(element("span", { class: "badge" }, label));
    return tile;
  }

  function place(tile, at) {
    const number = order[at], row = Math.floor(at / columns);
    Object.assign(tile.style, {
      left: `${(at % columns) * (side + GAP)}px`, top: `${row * (height() + GAP)}px`,
      width: `${side}px`, height: `${height()}px`,
    });
    tile.tabIndex = at === focus ? 0 : -1;
    tile.classList.toggle("open", number === opened);
    if (marks) mark(tile, number, marks[number]);
  }

  /** A frame around a region; the picture covers its tile, and is cut on two sides. */
  function mark(tile, number, region) {
    const image = Explorer.facts.images[number], box = Explorer.box(region);
    const scale = Math.max(side / image.width, height() / image.height);
    const wide = image.width * scale, high = image.height * scale;
    const frame = tile.querySelector(".mark") || Explorer.cards.element("span", { class: "mark" });
    const left = box.left * wide - (wide - side) / 2, top = box.top * high - (high - height()) / 2;
    const right = Math.min(side, left + box.width * wide);
    const bottom = Math.min(height(), top + box.height * high);
    Object.assign(frame.style, {
      left: `${Math.max(0, left)}px`, top: `${Math.max(0, top)}px`,
      width: `${Math.max(8, right - Math.max(0, left))}px`,
      height: `${Math.max(8, bottom - Math.max(0, top))}px`,
    });
    tile.append(frame);
    // The number would lie over a frame below.
    tile.classList.toggle("low", bottom > height() / 2);
  }

  function setTabs() {
    tiles.forEach((tile, at) => { tile.tabIndex = at === focus ? 0 : -1; });
  }

  /** Puts the focus on a tile that may not exist yet. */
  function goTo(at) {
    focus = Math.min(Math.max(at, 0), order.length - 1);
    const top = grid.getBoundingClientRect().top + Math.floor(focus / columns) * (height() + GAP);
    const bar = document.querySelector(".order").offsetHeight + 60;
    if (top < bar) window.scrollBy(0, top - bar);
    const below = top + height() - window.innerHeight + GAP;
    if (below > 0) window.scrollBy(0, below);
    draw();
    tiles.get(focus).focus({ preventScroll: true });
  }

  grid.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const at = event.key === "Home" ? 0 : event.key === "End" ? order.length - 1
      : event.key in steps ? focus + steps[event.key] : null;
    if (at === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    goTo(at);
  });
  let asked = 0;
  const soon = () => {
    if (!asked) asked = requestAnimationFrame(() => { asked = 0; draw(); });
  };
  window.addEventListener("scroll", soon, { passive: true });
  window.addEventListener("resize", soon);

  Explorer.grid = {
    setOrder, draw,
    setOpened(number) {
      opened = number;
      tiles.forEach((tile, at) => tile.classList.toggle("open", order[at] === number));
    },
    /** The image before or after one in the order that is shown. */
    beside(number, by) { return order[order.indexOf(number) + by]; },
    focusOn(number) { const at = order.indexOf(number); if (at >= 0) goTo(at); },
    onOpen(listener) { onOpen = listener; },
    get order() { return order; },
  };
})();
