"use strict";
/* What the parts of the page have to do with one another, and the keyboard. */
(() => {
  const byId = (id) => document.getElementById(id);
  let silent = 0;

  /** Says something for some seconds; the last of it stays in `told`. */
  Explorer.tell = (text) => {
    byId("status").textContent = Explorer.told = text;
    clearTimeout(silent);
    silent = setTimeout(() => { byId("status").textContent = ""; }, 6000);
  };

  function showPart(part) {
    document.querySelector("main").dataset.shown = part;
    for (const each of ["concepts", "images"]) {
      byId(`show-${each}`).setAttribute("aria-pressed", String(each === part));
    }
    if (part === "images") Explorer.grid.draw();
  }

  function openImage(number, focus = false) {
    showPart("images");
    const opening = Explorer.viewer.open(number);
    window.scrollTo({ top: byId("viewer").offsetTop - 8 });
    Explorer.grid.draw();
    if (focus) byId("heat").focus({ preventScroll: true });
    return opening;
  }

  function inOrder() {
    Explorer.grid.setOrder(Explorer.facts.images.map((_, number) => number),
      `All ${Explorer.facts.images.length} images`);
    byId("all").hidden = true;
  }

  /** Orders the images by a value of each, greatest first. */
  function orderBy(values, title, badge, regions) {
    const numbers = Array.from(values, (_, number) => number)
      .sort((a, b) => values[b] - values[a] || a - b);
    Explorer.grid.setOrder(numbers, title, Array.from(values, badge), regions);
    byId("all").hidden = false;
  }

  function showConcept(concept) {
    const shares = Explorer.concepts.inImage(concept);
    orderBy(shares, `Most of ${concept.name}`, Explorer.cards.percent, null);
    Explorer.viewer.setLayer("concepts");
    showPart("images");
    window.scrollTo({ top: 0 });
  }

  const act = {
    merge() {
      const merged = Explorer.concepts.merge([...Explorer.cards.ticked]);
      if (merged) Explorer.tell(`Merged into ${merged.name}.`);
    },
    split() {
      const [id] = Explorer.cards.ticked;
      if (Explorer.cards.ticked.size !== 1) return;
      const children = Explorer.concepts.split(id, Number(byId("parts").value));
      Explorer.tell(children ? `Split into ${children.map((child) => child.name).join(", ")}.`
        : "Its regions do not differ: there is nothing to split.");
    },
    drop() {
      const chosen = [...Explorer.cards.ticked];
      if (!chosen.length) return;
      if (chosen.length === Explorer.concepts.list.filter((c) => !c.dropped).length) {
        Explorer.tell("At least one concept has to stay.");
        return;
      }
      Explorer.concepts.setDropped(chosen, true);
      Explorer.tell("Dropped: its pixels become background.");
    },
    make() {
      const { concepts, viewer, cards } = Explorer;
      if (!viewer.query) { Explorer.tell("Click a pixel of an image first."); return; }
      const { vector, reached } = viewer.query, made = concepts.add(reached.members, vector);
      viewer.setLayer("concepts");
      showPart("concepts");
      cards.rename(made.id);
      Explorer.tell(`Made of ${cards.percent(reached.share)} of the pixels, it has `
        + `${cards.percent(concepts.share(made))}. Name it.`);
    },
    undo() { const said = Explorer.concepts.undo(); if (said) Explorer.tell(`Undone: ${said}.`); },
    redo() { const said = Explorer.concepts.redo(); if (said) Explorer.tell(`Done again: ${said}.`); },
    download() {
      Explorer.saved.download();
      const kept = Explorer.concepts.list.filter((concept) => !concept.dropped).length;
      Explorer.tell(`concepts.json with ${kept} concepts is with your downloads.`);
    },
    beside(by) {
      if (Explorer.viewer.number < 0) return;
      const other = Explorer.grid.beside(Explorer.viewer.number, by);
      if (other !== undefined) Explorer.viewer.open(other);
    },
  };

  function onKey(event) {
    const typing = event.target.matches("input[type=text], input[type=color], select");
    const control = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
    const run = (what) => { event.preventDefault(); what(); };
    if (control && key === "s") run(act.download);
    else if (typing || event.altKey) return;
    else if (control && (key === "y" || (key === "z" && event.shiftKey))) run(act.redo);
    else if (control && key === "z") run(act.undo);
    else if (control) return;
    else if (key === "escape" && Explorer.viewer.number >= 0) run(Explorer.viewer.close);
    else if (key === "m") run(act.merge);
    else if (key === "s") run(act.split);
    else if (key === "d") run(act.drop);
    else if (key === "c") run(act.make);
    else if (key === "[") run(() => act.beside(-1));
    else if (key === "]") run(() => act.beside(1));
  }

  function describe() {
    const { facts } = Explorer;
    const model = facts.model.name;
    document.title = `${facts.images.length} images by ${model}`;
    const early = facts.model.unfinished;
    byId("about").textContent = `${facts.images.length} images by ${model}`
      + (early ? ` (${early}, not the end of its training)` : "")
      + (facts.unread.length ? `, ${facts.unread.length} left out` : "");
    byId("command").textContent =
      "vice segment MODEL FOLDER --concepts concepts.json --out masks";
    byId("exactness").textContent = facts.exactness;
    if (facts.unread.length) {
      byId("unread").hidden = false;
      byId("unread").textContent = `Left out, since they could not be read: ${facts.unread.join("; ")}`;
    }
  }

  function connect() {
    const { concepts, cards, grid, viewer, saved } = Explorer;
    for (const name of ["merge", "split", "drop", "make", "undo", "redo", "download"]) {
      byId(name).addEventListener("click", act[name]);
    }
    concepts.onChange(() => {
      cards.draw();
      byId("undo").disabled = !concepts.canUndo;
      byId("redo").disabled = !concepts.canRedo;
      viewer.paint();
    });
    cards.onShow(showConcept);
    cards.onPatch((place, concept) => {
      viewer.setLayer("concepts");
      openImage(place.number).then(() => Explorer.tell(`${concept.name}: a typical image.`));
      viewer.frame(place);
    });
    grid.onOpen(openImage);
    viewer.onQuery((found, number) => {
      orderBy(found.score, `Most similar to a pixel of ${Explorer.facts.images[number].name}`,
        (value) => value.toFixed(2), found.region);
      grid.setOpened(number);
    });
    document.querySelectorAll("[data-layer]").forEach((button) => {
      button.addEventListener("click", () => viewer.setLayer(button.dataset.layer));
    });
    byId("close").addEventListener("click", viewer.close);
    byId("previous").addEventListener("click", () => act.beside(-1));
    byId("next").addEventListener("click", () => act.beside(1));
    byId("all").addEventListener("click", () => { viewer.forget(); inOrder(); });
    byId("show-concepts").addEventListener("click", () => showPart("concepts"));
    byId("show-images").addEventListener("click", () => showPart("images"));
    byId("help").addEventListener("click", () => {
      byId("helped").hidden = !byId("helped").hidden;
      byId("help").setAttribute("aria-expanded", String(!byId("helped").hidden));
      grid.draw();
    });
    byId("open").addEventListener("click", () => byId("file").click());
    byId("file").addEventListener("change", async (event) => {
      const [file] = event.target.files;
      if (file) Explorer.tell(saved.open(await file.text()) || `Opened ${file.name}.`);
      event.target.value = "";
    });
    document.addEventListener("keydown", onKey);
    window.addEventListener("beforeunload", (event) => {
      if (concepts.unsaved) event.preventDefault();
    });
  }

  Explorer.start = () => {
    if (!Explorer.facts || !Explorer.codes) {
      byId("about").textContent = "Its data is missing: keep the folder whole, or make it again.";
      return;
    }
    describe();
    connect();
    Explorer.concepts.start(Explorer.facts.concepts);
    if (Explorer.saved.restore()) {
      Explorer.tell("Gone on with what was made here before; Undo begins anew.");
    }
    Explorer.concepts.onChange(Explorer.saved.keep);
    inOrder();
    showPart("images");
    Explorer.started = performance.now();
  };
})();
