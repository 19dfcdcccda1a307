"use strict";
/* The concepts as cards. */
(() => {
  const byId = (id) => document.getElementById(id);
  const ticked = new Set();
  let onShow = () => {}, onPatch = () => {};

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value === true) made.setAttribute(key, "");
      else if (value !== false) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

  /** A square around a region, cut from the image's small picture by its background. */
  function patch(region, concept) {
    const { facts } = Explorer, place = Explorer.box(region), image = facts.images[place.number];
    // Three regions wide, so that what lies around is seen, and no wider than the image.
    const side = Math.min(3 * place.width * image.width, image.width, image.height);
    const clamp = (middle, whole) => Math.min(Math.max(middle - side / 2, 0), whole - side);
    const left = clamp((place.left + place.width / 2) * image.width, image.width);
    const top = clamp((place.top + place.height / 2) * image.height, image.height);
    const position = (offset, whole) => (whole > side ? 100 * offset / (whole - side) : 0);
    const made = element("button", {
      type: "button", class: "patch", "aria-label": `${concept.name} in ${image.name}`,
      title: image.name, onclick: () => onPatch(place, concept),
    });
    made.style.backgroundImage = `url("${Explorer.thumb(place.number)}")`;
    made.style.backgroundSize =
      `${100 * image.width / side}% ${100 * image.height / side}%`;
    made.style.backgroundPosition =
      `${position(left, image.width)}% ${position(top, image.height)}%`;
    return made;
  }

  /** Takes a name, and goes on to the name of the next card. */
  function nextName(name) {
    const next = name.closest("[data-id]").nextElementSibling;
    // The change draws all cards anew.
    name.blur();
    const target = next && byId("cards").querySelector(`[data-id="${next.dataset.id}"] input[type=text]`);
    if (target) rename(next.dataset.id);
  }

  function card(concept) {
    const { concepts } = Explorer;
    const name = element("input", {
      type: "text", value: concept.name, maxlength: 80, "aria-label": `Name of ${concept.name}`,
      autocomplete: "off", spellcheck: "false",
      onchange: () => {
        const wanted = concepts.clean(name.value), given = concepts.rename(concept.id, name.value);
        name.value = given;
        if (wanted && given !== wanted) {
          Explorer.tell(`Another concept is called ${wanted}: tick both and merge them to join them.`);
        }
      },
      onkeydown: (event) => { if (event.key === "Enter") nextName(name); },
    });
    const tick = element("input", {
      type: "checkbox", "aria-label": `Tick ${concept.name}`,
      onchange: () => toggle(concept.id, tick.checked),
    });
    tick.checked = ticked.has(concept.id);
    const near = concepts.neighbors(concept).map(({ concept: other, value }) => element("button", {
      type: "button", title: `Tick both, to merge them`,
      onclick: () => { ticked.add(concept.id); ticked.add(other.id); draw(); },
    }, Explorer.facts.spherical ? `${other.name} ${value.toFixed(2)}` : other.name));
    const patches = concepts.typical(concept).map((region) => patch(region, concept));
    return element("li", { class: `card${tick.checked ? " ticked" : ""}`, "data-id": concept.id },
      element("div", { class: "head" }, tick,
        element("input", {
          type: "color", value: concept.color, "aria-label": `Color of ${concept.name}`,
          onchange: (event) => concepts.recolor(concept.id, event.target.value),
        }),
        name, element("span", { class: "share" }, percent(concepts.share(concept)))),
      patches.length ? element("div", { class: "patches" }, ...patches)
        : element("p", { class: "soft" }, "No region is nearest to it."),
      element("div", { class: "foot" },
        element("button", { type: "button", "data-show": true, onclick: () => onShow(concept) }, "images"),
        element("span", { class: "soft" }, near.length ? "near:" : ""), ...near));
  }

  function gone(concept) {
    return element("li", { class: "gone", "data-id": concept.id },
      element("span", {}, `${concept.name} (${percent(Explorer.concepts.share(concept))})`),
      element("button", {
        type: "button", onclick: () => Explorer.concepts.setDropped([concept.id], false),
      }, "Take back"));
  }

  function toggle(id, on) {
    if (on) ticked.add(id); else ticked.delete(id);
    byId("cards").querySelector(`[data-id="${id}"]`).classList.toggle("ticked", on);
    drawActions();
  }

  function drawActions() {
    const count = ticked.size;
    // By name: what is ticked may be out of sight.
    const names = Explorer.concepts.list.filter(({ id }) => ticked.has(id)).map((c) => c.name);
    byId("ticked").textContent = count
      ? `${count} ticked: ${names.join(", ")}` : "Tick concepts to change them";
    byId("merge").disabled = count < 2;
    byId("split").disabled = count !== 1;
    byId("drop").disabled = count < 1;
  }

  /** What has the focus is found again among the new cards. */
  function focused() {
    const active = document.activeElement, item = active && active.closest("#cards [data-id]");
    if (!item) return () => {};
    const index = [...item.querySelectorAll("input, button")].indexOf(active);
    return () => {
      const again = byId("cards").querySelector(`[data-id="${item.dataset.id}"]`);
      const target = again && again.querySelectorAll("input, button")[index];
      if (target) target.focus({ preventScroll: true });
    };
  }

  function draw() {
    const { list, share } = Explorer.concepts;
    const kept = list.filter((concept) => !concept.dropped);
    const known = new Set(kept.map((concept) => concept.id));
    [...ticked].forEach((id) => { if (!known.has(id)) ticked.delete(id); });
    const refocus = focused();
    // What was split stays beside one another.
    const shares = new Map();
    kept.forEach((c) => shares.set(c.family, (shares.get(c.family) || 0) + share(c)));
    kept.sort((a, b) => shares.get(b.family) - shares.get(a.family)
      || a.family - b.family || share(b) - share(a));
    byId("cards").replaceChildren(...kept.map(card));
    const dropped = list.filter((concept) => concept.dropped);
    byId("gone").replaceChildren(...dropped.map(gone));
    byId("dropped").hidden = !dropped.length;
    refocus();
    drawActions();
  }

  /** Lets a concept be named. */
  function rename(id) {
    const name = byId("cards").querySelector(`[data-id="${id}"] input[type=text]`);
    name.scrollIntoView({ block: "center" });
    name.focus({ preventScroll: true });
    name.select();
  }

  Explorer.cards = {
    draw, rename, element, percent, ticked,
    onShow(listener) { onShow = listener; },
    onPatch(listener) { onPatch = listener; },
  };
})();
