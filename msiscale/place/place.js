// The page: what its controls do, and what it says.
"use strict";

placing.App = class {
  constructor(content, levels, pictures) {
    Object.assign(this, { content, pictures, opacity: 0.4, tool: "points" });
    Object.assign(this, { selected: null, linked: true, overlay: false, mpp: content.slide.mpp });
    this.$ = (selector) => document.querySelector(selector);
    this.state = new placing.State(content);
    const shared = new placing.View();
    this.views = { slide: shared, msi: shared };
    this.panels = {};
    for (const side of ["slide", "msi"]) {
      this.panels[side] = new placing.Panel(this.$(`[data-side=${side}] canvas`), side, this);
    }
    this.msi = new placing.MsiImage(content, levels);
    this.shown = this.msi.canvas;
    this.input = new placing.Input(this);
    this.controls();
    this.image("0");
    this.act(content.start.kind === "none" || content.start.kind === "refused" ? "whole" : "onMsi");
    this.use("points");
  }

  // ---- controls

  controls() {
    const all = (selector, act) => document.querySelectorAll(selector).forEach(act);
    all("[data-tool]", (button) => {
      if (button.tagName === "BUTTON") button.onclick = () => this.use(button.dataset.tool);
    });
    all("[data-do]", (button) => { button.onclick = () => this.act(button.dataset.do); });
    all("[data-save]", (button) => {
      const { save, choose } = button.dataset;
      if (choose) button.hidden = !window.showSaveFilePicker;
      button.onclick = () => this.save(save, Boolean(choose));
    });
    const on = (name, kind, act) => this.set(name).addEventListener(kind, act);
    on("linked", "change", ({ target }) => this.link(target.checked));
    on("overlay", "change", ({ target }) => {
      this.overlay = target.checked;
      this.$(".app").classList.toggle("overlay", this.overlay);
      this.refresh();
    });
    on("image", "change", ({ target }) => this.image(target.value));
    on("mz", "change", ({ target }) => this.nearest(target.valueAsNumber));
    on("colours", "change", () => this.image(this.set("image").value));
    on("opacity", "input", ({ target }) => this.fade(target.valueAsNumber / 100));
    on("class", "change", () => this.named());
    on("own", "change", () => this.named());
    this.$("input[type=file]").addEventListener("change", ({ target }) => this.open(target));
    new ResizeObserver(() => this.redraw()).observe(this.$(".stage"));
    window.addEventListener("resize", () => this.redraw());
    window.addEventListener("beforeunload", (event) => {
      if (this.state.changed) event.preventDefault();
    });
  }

  set(name) { return this.$(`[data-set=${name}]`); }

  use(tool) {
    this.tool = tool;
    if (tool !== "outlines" && this.state.now.draft.length) this.giveUp();
    if (this.selected?.kind !== { points: "pair", outlines: "outline" }[tool]) this.selected = null;
    document.querySelectorAll("button[data-tool]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    });
    this.$(".stage").dataset.tool = tool;
    this.refresh();
  }

  act(what) {
    const { state, views } = this, step = Number(this.set("step").value);
    const each = new Set(Object.values(views)), one = 1 / (views.slide.k * this.mpp[0]);
    const does = {
      undo: () => { state.undo(); this.selected = null; },
      redo: () => { state.redo(); this.selected = null; },
      in: () => each.forEach((view) => view.zoom(1.5)),
      out: () => each.forEach((view) => view.zoom(1 / 1.5)),
      whole: () => each.forEach((view) => this.show(view, true)),
      onMsi: () => each.forEach((view) => this.show(view, false)),
      left: () => state.turn(-step),
      right: () => state.turn(step),
      mirror: () => state.mirror(),
      west: () => state.shift(-4 * one, 0),
      east: () => state.shift(4 * one, 0),
      north: () => state.shift(0, -4 * one * this.mpp[0] / this.mpp[1]),
      south: () => state.shift(0, 4 * one * this.mpp[0] / this.mpp[1]),
      follow: () => state.change("", (now) => { now.by = "pairs"; }),
    };
    does[what]();
    this.refresh();
  }

  // the MSI, and with `whole` the slide too
  show(view, whole) {
    const [w, h] = this.content.msi.size, { fit } = placing;
    const corners = [[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]];
    const points = corners.map((at) => fit.apply(this.state.matrix, at));
    if (whole) points.push([0, 0], this.content.slide.size);
    const [xs, ys] = [0, 1].map((k) => points.map((p) => p[k] * this.mpp[k]));
    view.fit([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)], this.panels.slide.size);
  }

  link(linked) {
    this.linked = linked;
    this.set("linked").checked = linked;
    const { slide } = this.views;
    this.views.msi = linked ? slide : Object.assign(new placing.View(), slide);
    this.redraw();
  }

  fade(opacity) {
    this.opacity = Math.min(1, Math.max(0, Math.round(opacity * 20) / 20));
    this.set("opacity").value = 100 * this.opacity;
    this.$(".percent").textContent = `${Math.round(100 * this.opacity)} %`;
    this.redraw();
  }

  // ---- the MSI's image

  nearest(mz) {
    const best = this.msi.nearest(mz);
    if (best === null) return;
    this.set("image").value = best;
    this.image(best);
  }

  image(value) {
    this.say(".shown", this.msi.show(value, this.set("colours").value));
    this.redraw();
  }

  // ---- points and outlines

  // whose points a panel has: on one panel those of the MSI too
  sides({ side }) { return this.overlay ? ["slide", "msi"] : [side]; }

  select(found) { this.selected = found; this.refresh(); }

  // a click beside everything; `keys`: the new point is chosen, to be moved by arrows
  click(panel, at, keys = false) {
    const { state } = this;
    if (this.tool === "points") {
      const open = state.now.pairs[state.open];
      let { side } = panel;
      if (this.overlay && open) side = open.slide ? "msi" : "slide";
      const seen = this.wholeSeen(panel);
      const i = state.add(side, panel.from(side, at));
      this.selected = { kind: "pair", i, side };
      if (seen && !this.wholeSeen(panel)) this.act("whole");  // it went out of sight
    } else if (this.tool === "outlines") {
      const { draft } = state.now, near = (k) => placing.fit.distance(panel.toScreen(draft.at(k)), at) < 9;
      if (draft.length >= 3 && near(0)) return this.close();
      if (draft.length && near(-1) && !keys) return;  // the second of a double click
      state.change("", (now) => { now.draft.push(panel.toSlide(at)); });
      this.selected = null;
    }
    this.refresh();
  }

  // whether all of the MSI is in view
  wholeSeen(panel) {
    const [w, h] = this.content.msi.size, [width, height] = panel.size;
    return [[0, 0], [w, 0], [w, h], [0, h]].every((corner) => {
      const [x, y] = panel.of("msi", corner);
      return x >= 0 && y >= 0 && x <= width && y <= height;
    });
  }

  put(panel, { kind, i, side, vertex }, at, name) {
    const { state } = this;
    if (kind === "pair") state.put(i, side, panel.from(side, at), name);
    else state.change(name, (now) => { now.outlines[i].ring[vertex] = panel.toSlide(at); });
    this.refresh();
  }

  nudge(panel, [x, y]) {
    const { state, selected } = this, { k } = panel.view;
    const by = ([p, q]) => [p + x, q + y];
    if (this.tool === "move") {
      state.shift(x / k / this.mpp[0], y / k / this.mpp[1]);
    } else if (this.tool === "outlines" && state.now.draft.length) {
      state.change("corner", ({ draft }) => { draft.push(panel.toSlide(by(panel.toScreen(draft.pop())))); });
    } else if (selected?.kind === "pair") {
      const { i, side } = selected, at = by(panel.of(side, state.now.pairs[i][side]));
      return this.put(panel, selected, at, `nudge ${i} ${side}`);
    } else if (selected?.kind === "outline" && selected.vertex !== null) {
      const at = by(panel.toScreen(state.now.outlines[selected.i].ring[selected.vertex]));
      return this.put(panel, selected, at, `nudge ${selected.i} ${selected.vertex}`);
    } else {
      panel.view.pan(-20 * x, -20 * y);
    }
    this.refresh();
  }

  // the next point of a panel (corner of an outline); false after the last one
  next(panel, by) {
    const { selected, state: { now } } = this;
    let all;
    if (this.tool === "outlines") {
      all = now.outlines.flatMap(({ ring }, i) => ring.map((_, vertex) => ({ kind: "outline", i, vertex })));
    } else {
      all = now.pairs.flatMap((pair, i) => this.sides(panel).filter((side) => pair[side])
        .map((side) => ({ kind: "pair", i, side })));
    }
    const at = all.findIndex((one) => JSON.stringify(one) === JSON.stringify(selected));
    const to = at < 0 && by < 0 ? -1 : at + by;
    if (!all[to]) {
      this.select(null);
      return false;
    }
    this.select(all[to]);
    return true;
  }

  close() {
    const { state } = this, { draft } = state.now;
    if (draft.length < 3) return;
    state.change("", (now) => {
      now.outlines.push({ name: this.className, ring: now.draft });
      now.draft = [];
    });
    this.select({ kind: "outline", i: state.now.outlines.length - 1, vertex: null });
  }

  insert(i, vertex, at) {
    this.state.change("", ({ outlines }) => { outlines[i].ring.splice(vertex, 0, at); });
    this.select({ kind: "outline", i, vertex });
  }

  giveUp() {
    if (this.state.now.draft.length) this.state.change("", (now) => { now.draft = []; });
    this.select(null);
  }

  remove() {
    const { selected, state } = this, { draft } = state.now;
    if (draft.length) {
      state.change("", (now) => { now.draft.pop(); });
    } else if (selected?.kind === "pair") {
      state.remove(selected.i);
    } else if (selected?.kind === "outline") {
      const { i, vertex } = selected;
      state.change("", ({ outlines }) => {
        if (vertex === null || outlines[i].ring.length <= 3) outlines.splice(i, 1);
        else outlines[i].ring.splice(vertex, 1);
      });
    }
    this.select(null);
  }

  get className() {
    return this.set("class").value || this.set("own").value.trim() || "Tumor";
  }

  named() {
    this.$(".own").hidden = this.set("class").value !== "";
    const { selected } = this;
    if (selected?.kind === "outline") {
      this.state.change("", ({ outlines }) => { outlines[selected.i].name = this.className; });
    }
    this.refresh();
  }

  // ---- files

  async save(kind, choose) {
    const { state, content: { name, given } } = this, { files } = placing;
    const [file, text, type, column] = {
      landmarks: [`${name}_landmarks.csv`, () => files.landmarks(state.complete, this.content.origin), "text/csv", "landmarks"],
      matrix: [`${name}_matrix.json`, () => files.matrix(state.matrix), "application/json", "matrix"],
      outlines: [`${name}.geojson`, () => files.outlines(state.now.outlines), "application/geo+json", "annotation"],
    }[kind];
    try {
      const saved = await files.save(file, text(), type, choose);
      if (saved === null) return;
      state.keep(kind);
      const other = { landmarks: "matrix", matrix: "landmarks" }[kind];
      const clear = other && given[other] ? ` Clear its column ${other}: the manifest has one.` : "";
      const from = kind === "landmarks" && this.content.unsaid ? " Write level0 in its column annotation_origin." : "";
      const own = kind === "landmarks" && !state.followed
        ? " It holds the pairs, not what was placed by hand: for that, save the matrix." : "";
      this.say(".saved", `${saved} is saved. Give it in the row ${name} of the manifest, column ${column}; then run msiscale register, or run.${clear}${from}${own}`);
    } catch (error) {
      this.say(".saved", `${file} is not saved: ${error.message}`);
    }
  }

  async open(input) {
    const [file] = input.files;
    if (!file) return;
    try {
      const { pairs, matrix, outlines } = placing.files.opened(await file.text(), this.content.origin);
      this.state.change("", (now) => {
        if (pairs) Object.assign(now, { pairs, by: "pairs" });
        if (matrix) Object.assign(now, { base: matrix, by: "hand" });
        if (outlines) now.outlines = outlines;
      });
      this.selected = null;
      this.say(".saved", `${file.name} is open.`);
    } catch (error) {
      this.say(".saved", `${file.name} is not opened: ${error.message}.`);
    }
    input.value = "";
    this.refresh();
  }

  // ---- what is said

  say(selector, text) {
    const line = this.$(selector);
    if (line.textContent !== text) line.textContent = text;
  }

  refresh() {
    placing.words(this);
    this.redraw();
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      for (const panel of Object.values(this.panels)) panel.draw();
    });
  }
};

(async () => {
  const line = document.querySelector("main").previousElementSibling;
  try {
    const content = JSON.parse(document.getElementById("content").textContent);
    const { levels } = await msiscale.arrays(content.packed);
    const pictures = await Promise.all(content.slide.pictures.map(async ({ uri, ...place }) => {
      const image = new Image();
      image.src = uri;
      await image.decode();
      return { image, ...place };
    }));
    placing.app = new placing.App(content, levels, pictures);
    document.body.dataset.ready = "yes";
  } catch (error) {
    line.textContent = `The page cannot be drawn: ${error.message}`;
    line.hidden = false;
    throw error;
  }
})();
