"use strict";
/* concepts.json: what `vice segment --concepts` reads, written and read again; and what is kept of
   it in the browser, so that a crash or a closed page takes nothing along. */
(() => {
  const FORMAT = "vice-concepts-1";

  function content() {
    const { facts, concepts } = Explorer;
    const said = (concept) => ({
      name: concept.name,
      color: concept.color,
      named: concept.named,
      vectors: concept.vectors.map((id) => Array.from(concepts.vector(id))),
    });
    return {
      format: FORMAT,
      model: facts.model,
      clusters: facts.clusters,
      metric: facts.metric,
      concepts: concepts.list.filter((concept) => !concept.dropped).map(said),
      dropped: concepts.list.filter((concept) => concept.dropped).map(said),
    };
  }

  /** Hands the file to the browser. */
  function download() {
    const text = JSON.stringify(content());
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "concepts.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    Explorer.concepts.saved();
  }

  /** Goes on with a file; returns why it cannot, or nothing. */
  function open(text, said = "opening a file") {
    const { facts, concepts: { clean } } = Explorer;
    let file;
    try {
      file = JSON.parse(text);
    } catch {
      return "This file is no JSON.";
    }
    if (!file || file.format !== FORMAT) return "This file holds no concepts of ViCE.";
    if (!file.model || file.model.weights !== facts.model.weights) {
      return "These concepts belong to another model.";
    }
    const given = [...(file.concepts || []).map((each) => ({ ...each, dropped: false })),
      ...(file.dropped || []).map((each) => ({ ...each, dropped: true }))];
    const whole = given.length && given.every((each) =>
      typeof each.name === "string" && clean(each.name) && /^#[0-9a-f]{6}$/i.test(each.color)
      && Array.isArray(each.vectors) && each.vectors.length
      && each.vectors.every((vector) => Array.isArray(vector) && vector.length === facts.dim
        && vector.every((value) => Number.isFinite(value) && Number.isFinite(Math.fround(value)))
        && (!facts.spherical || vector.some((value) => value !== 0))));
    if (!whole) return "This file is not whole.";
    const named = given.map((each) => ({ ...each, name: clean(each.name) }));
    Explorer.concepts.replaceAll(named, said);
    return "";
  }

  /** Where it is kept: another model, or other clusters, have a place of their own. */
  const place = () => `${FORMAT} ${Explorer.facts.model.weights} ${Explorer.facts.clusters.digest}`;

  /** Keeps what has been made; some browsers give pages from disk no place for it. */
  function keep() {
    try {
      localStorage.setItem(place(), JSON.stringify(content()));
    } catch { /* The download is what counts. */ }
  }

  /** Goes on with what was kept, in a step that can be undone; whether there was any. */
  function restore() {
    try {
      const text = localStorage.getItem(place());
      return text !== null && text !== JSON.stringify(content())
        && open(text, "going on with what was made here before") === "";
    } catch {
      return false;
    }
  }

  Explorer.saved = { content, download, open, keep, restore };
})();
