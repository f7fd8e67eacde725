// What is drawn by Bokeh: plots of the cohort, and the panels of a specimen.
"use strict";

(() => {
  const LEVELS = 254, NO_VALUE = 255, NO_SCORE = -32768;  // as in packing.py
  const PERCENTILE = 0.995;  // of an image, drawn brightest
  const LABELS = 8, LABEL_WIDTH = 80;  // m/z written into a spectrum, at most; pixels of each
  const NARROW = 600;  // pixels: below, legends stand and axes have fewer ticks
  const MODEL_WORDS = { cancer: "annotated" };
  const $ = (where, selector) => where.querySelector(selector);
  const $$ = (where, selector) => [...where.querySelectorAll(selector)];
  const json = (element) => JSON.parse(element.textContent);

  const say = (where, text) => {
    const line = $(where, ".message");
    if (line) { line.textContent = text; line.hidden = !text; }
  };

  // ---- Bokeh

  // words and lines of a plot in the colours of the page
  const INKED = ["#333333", "black", "#000000"];
  const documents = [];
  const tint = (drawn) => {
    const css = getComputedStyle(document.documentElement);
    const [ink, soft, line] = ["--ink", "--soft", "--line"].map((n) => css.getPropertyValue(n).trim());
    const models = new Set(drawn.roots().flatMap((root) => [...root.references()]));
    const axis = { axis_label_text_color: ink, major_label_text_color: ink, axis_line_color: soft,
      major_tick_line_color: soft, minor_tick_line_color: soft };
    for (const model of models) {
      if (model.type.endsWith("Axis")) {
        model.setv(axis);
        if (model.type === "CategoricalAxis") model.setv({ group_text_color: ink, separator_line_color: line });
      } else if (model.type === "Grid") {
        model.setv({ grid_line_color: model.grid_line_color === null ? null : line });
      } else if (model.type === "Legend") {
        model.setv({ background_fill_color: null, label_text_color: ink });
      } else if (model.type === "Span" || model.type === "Line") {
        const colour = model.line_color?.value ?? model.line_color;
        if (model.inked || INKED.includes(colour)) {
          model.inked = true;
          model.line_color = model.type === "Span" ? ink : { value: ink };
        }
      } else if (model.type === "Text") {
        model.text_color = { value: ink };
      }
    }
  };
  document.addEventListener("themed", () => documents.forEach(tint));

  // what a plot has drawn, on the ground of the page
  const pictureOf = (host) => {
    const { canvas: drawn } = host.bokeh.export("png");
    const [canvas, context] = msiscale.canvasOf(drawn.width, drawn.height);
    context.drawImage(drawn, 0, 0);
    return canvas;
  };

  const onPaper = (hosts) => hosts.filter((h) => h.clientWidth).map((h) => [h, pictureOf(h)]);

  // what a plot is drawn from, a row a point; of each set its name, where it has one
  const rowsOf = (host) => {
    const drawn = host.bokeh.model.renderers.filter((r) => r.type === "GlyphRenderer");
    const named = new Map();
    for (const legend of host.bokeh.model.above.filter((m) => m.type === "Legend")) {
      for (const item of legend.items) for (const r of item.renderers) named.set(r, item.label?.value ?? "");
    }
    const sets = new Map();  // a line and its points are one
    for (const r of drawn) {
      if (!sets.get(r.data_source)) sets.set(r.data_source, named.get(r) || r.name || "");
    }
    const columns = [...new Set([...sets.keys()].flatMap((source) => [...Object.keys(source.data)]))];
    const rows = [];
    for (const [source, name] of sets) {
      const n = Math.max(0, ...Object.values(source.data).map((values) => values.length));
      for (let i = 0; i < n; i++) {
        rows.push([name, ...columns.map((c) => {
          const value = source.data[c]?.[i];
          return Array.isArray(value) ? value.join(" / ") : Number.isNaN(value) ? "" : value;
        })]);
      }
    }
    return msiscale.csv(["set", ...columns], rows);
  };

  const embed = async ({ doc, roots }, hosts) => {
    const there = Object.entries(roots).filter(([name]) => hosts[name]);
    const item = {
      docid: "doc",
      root_ids: there.map(([, id]) => id),
      roots: Object.fromEntries(there.map(([name, id]) => [id, hosts[name]])),
    };
    const [views] = await Bokeh.embed.embed_items({ doc }, [item]);
    for (const [name] of there) hosts[name].dataset.drawn = "yes";
    const { document: drawn } = views.roots[0].model;
    there.forEach(([name], i) => { hosts[name].bokeh = views.roots[i]; });
    documents.push(drawn);
    tint(drawn);
    fit(there.map(([name, id]) => [hosts[name], drawn.get_model_by_id(id)]));
    return drawn;
  };

  // plots as their width allows
  const fitted = [];
  const fit = (made) => {
    fitted.push(...made);
    for (const [host, plot] of made) {
      const narrow = host.clientWidth < NARROW;
      for (const legend of [...plot.above].filter((m) => m.type === "Legend")) {
        legend.orientation = narrow ? "vertical" : "horizontal";
      }
      for (const axis of plot.below) {
        if (axis.ticker && "desired_num_ticks" in axis.ticker) {
          axis.ticker.desired_num_ticks = narrow ? 3 : 6;
        }
      }
    }
  };
  window.matchMedia(`(max-width: ${NARROW}px)`).addEventListener("change", () => {
    fit(fitted.splice(0));
  });

  const plots = async () => {
    const source = document.getElementById("plots");
    if (!source) return;
    const hosts = Object.fromEntries($$(document, "[data-plot]").map((e) => [e.dataset.plot, e]));
    await embed(json(source), hosts);
    for (const host of Object.values(hosts)) {
      const png = () => pictureOf(host), printed = () => onPaper([host]);
      msiscale.keeping(host.closest("figure"), { png, printed, csv: () => rowsOf(host) });
    }
  };

  // ---- a specimen

  class Specimen {
    constructor(section, content, arrays) {
      Object.assign(this, { section, content, arrays });
      [this.h, this.w] = content.shape;
      this.n = arrays.at.length;
      this.place = new Map([...arrays.at].map((flat, i) => [flat, i]));
      this.ndarray = Bokeh.require("core/util/ndarray").ndarray;
    }

    async draw(made) {
      const hosts = Object.fromEntries(
        $$(this.section, "[data-panel]").map((e) => [e.dataset.panel, e]));
      this.doc = await embed(made, hosts);
      this.x = this.model("x_range");
      this.y = this.model("y_range");
      this.home = [this.x.start, this.x.end, this.y.start, this.y.end];
      const { slide, outline, size_um: [w, h] } = this.content;
      if (slide) this.model("slide").data = { url: [slide], w: [w], h: [h] };
      this.model("outline").data = { x: outline.map((l) => l[0]), y: outline.map((l) => l[1]) };
      for (const name of Object.keys(this.content.models)) {
        this.show(name, this.fraction(name), 0, 1);
      }
      for (const panel of this.doc.roots()) {
        panel.on_event("tap", (event) => this.taps(panel, event));
      }
      for (const [name, host] of Object.entries(hosts)) {
        if (name !== "spectrum") {
          host.addEventListener("wheel", (event) => this.wheel(event, host), { passive: false });
        }
      }
      this.controls();
      this.span();
      if (this.content.ions.length || this.content.modes.length) this.choose();
      this.pick(this.first());
      this.keeping();
      this.section.dataset.ready = "yes";
    }

    // panels and spectrum as pictures, and as tables
    keeping() {
      for (const figure of $$(this.section, "[data-figure]")) {
        const hosts = $$(figure, "[data-panel]");
        const rows = figure.matches(".of-spectrum") ? () => this.spectrumCsv() : () => this.mapsCsv();
        const png = () => this.pictures(hosts), printed = () => onPaper(hosts);
        msiscale.keeping(figure, { png, printed, csv: rows });
      }
    }

    pictures(hosts) {
      const drawn = hosts.map((host) => [host, pictureOf(host)]);
      const width = Math.max(...drawn.map(([, c]) => c.width)), height = Math.max(...drawn.map(([, c]) => c.height));
      const [canvas, context] = msiscale.canvasOf(drawn.length * (width + 16) - 16, height + 30);
      context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
      context.font = "16px sans-serif";
      drawn.forEach(([host, c], i) => {
        context.fillText(host.parentElement.querySelector(".called")?.textContent ?? "", i * (width + 16), 20, width);
        context.drawImage(c, i * (width + 16), 30);
      });
      return canvas;
    }

    // a row a pixel: everything that the panels show
    mapsCsv() {
      const { step, models } = this.content, names = ["cancer", ...Object.keys(models)].filter((n) => this.arrays[n]);
      const maps = names.map((n) => this.fraction(n)), { measured, predicted, words } = this.chosen ?? {};
      const shown = [measured && [`${words} measured`, measured], predicted && [`${words} predicted`, predicted]].filter(Boolean);
      const rows = [...this.arrays.at.keys()].map((i) => {
        const [y, x] = this.yx(i), plain = (v) => (Number.isNaN(v) ? "" : Number(v.toPrecision(6)));
        return [y * step, x * step, ...maps.map((m) => plain(m[i])), ...shown.map(([, values]) => plain(values[i]))];
      });
      const titles = names.map((n) => (n === "cancer" ? "annotated cancer" : `cancer ${models[n]}`));
      return msiscale.csv(["row", "column", ...titles, ...shown.map(([title]) => title)], rows);
    }

    spectrumCsv() {
      const rows = ["measured", "reconstructed", "predicted"].flatMap((name) => {
        const source = this.model(`${name}_spectrum`);
        return source ? [...source.data.mz].map((mz, i) => [name, mz, source.data.value[i]]) : [];
      });
      return msiscale.csv(["spectrum", "mz", "intensity"], rows);
    }

    model(name) { return this.doc.get_model_by_name(name); }

    // values of the pixels that are kept, as an image that a panel shows
    show(name, values, low, high) {
      const image = new Float32Array(this.h * this.w).fill(NaN);
      this.arrays.at.forEach((flat, i) => { image[flat] = values[i]; });
      const colours = this.model(`${name}_colours`);
      colours.setv({ low, high });
      const shape = [this.h, this.w];
      this.model(`${name}_map`).data = {
        image: [this.ndarray(image, { dtype: "float32", shape })],
      };
    }

    fraction(name) {
      return Float32Array.from(this.arrays[name], (v) => (v === NO_VALUE ? NaN : v / LEVELS));
    }

    ion(k) {
      const { ions, tops } = this.arrays, values = new Float32Array(this.n);
      for (let i = 0; i < this.n; i++) values[i] = this.intensity(ions[k * this.n + i], tops[k]);
      return values;
    }

    intensity(level, top) { return level === NO_VALUE ? NaN : top * (level / LEVELS) ** 2; }

    // row k of 16-bit values
    scores(name, k) {
      const steps = this.arrays[name], step = this.arrays[`${name}_step`][k];
      const values = new Float32Array(this.n);
      for (let i = 0; i < this.n; i++) values[i] = this.score(steps[k * this.n + i], step);
      return values;
    }

    score(steps, step) { return steps === NO_SCORE ? NaN : steps * step; }

    get modes() { return this.content.modes.length; }

    // the image of the m/z at `index`, from the modes
    fromModes(name, index) {
      const { mean, components, components_step: step, mz } = this.arrays;
      const values = new Float32Array(this.n).fill(mean[index]);
      for (let k = 0; k < this.modes; k++) {
        const weight = components[k * mz.length + index] * step[k];
        const scores = this.scores(name, k);
        for (let i = 0; i < this.n; i++) values[i] += weight * scores[i];
      }
      return values.map((v) => Math.max(v, 0));
    }

    // the spectrum of a pixel, from the modes
    spectrum(name, i) {
      const { mean, components, components_step: step, mz } = this.arrays;
      const values = Float64Array.from(mean);
      for (let k = 0; k < this.modes; k++) {
        const score = this.score(this.arrays[name][k * this.n + i], this.arrays[`${name}_step`][k]);
        for (let j = 0; j < mz.length; j++) values[j] += score * step[k] * components[k * mz.length + j];
      }
      return values.map((v) => Math.max(v, 0));
    }

    // of the model's m/z (in order), or of those that are measured (in any order)
    nearest(mz, axis = this.arrays.mz) {
      if (!axis) return -1;
      if (axis === this.arrays.mz) {
        let [low, high] = [0, axis.length - 1];
        while (high - low > 1) {
          const middle = (low + high) >> 1;
          if (axis[middle] > mz) high = middle; else low = middle;
        }
        return mz - axis[low] <= axis[high] - mz ? low : high;
      }
      let best = 0;
      axis.forEach((v, i) => { if (Math.abs(v - mz) < Math.abs(axis[best] - mz)) best = i; });
      return best;
    }

    // where the model has just this m/z, else -1
    same(mz) {
      const index = this.nearest(mz);
      return index >= 0 && Math.abs(this.arrays.mz[index] - mz) < 1e-9 ? index : -1;
    }

    // ---- what is chosen

    choose() {
      const value = $(this.section, ".choice").value, kind = value[0], k = Number(value.slice(1));
      let measured, predicted = null, words, note = "";
      if (kind === "i" || (kind === "a" && this.content.whole)) {
        const { measured_mz: listed } = this.arrays;
        const row = kind === "i" ? k : this.nearest(this.asked, listed), mz = listed[row];
        const index = this.same(mz);
        measured = this.ion(row);
        words = `m/z ${this.content.ions[row]?.label ?? mz.toFixed(4)}`;
        if (index >= 0) predicted = this.fromModes("predicted", index);
        else if (!this.arrays.mz) note = "No prediction of the MSI is in the store.";
        else note = "The model of this fold does not have this m/z: no prediction.";
      } else if (kind === "m") {
        measured = this.scores("scores", k);
        predicted = this.scores("predicted", k);
        words = `${this.content.modes[k]}: score`;
      } else {
        const index = this.nearest(this.asked);
        measured = this.fromModes("scores", index);
        predicted = this.fromModes("predicted", index);
        words = `m/z ${this.arrays.mz[index].toFixed(4)}`;
        note = "The measured image of this m/z is not embedded: it is drawn from its modes.";
      }
      const known = measured.filter((v) => !Number.isNaN(v)).sort();
      const at = (q) => known[Math.round(q * (known.length - 1))];
      const low = kind === "m" ? at(1 - PERCENTILE) : 0;
      let high = at(PERCENTILE);
      if (!(high > low)) high = low + 1;
      const nothing = new Float32Array(this.n).fill(NaN);
      this.show("measured", measured, low, high);
      this.show("predicted", predicted ?? nothing, low, high);
      this.chosen = { measured, predicted, words };
      for (const e of $$(this.section, ".chosen")) e.textContent = words;
      for (const e of $$(this.section, ".ions .low")) e.textContent = this.number(low);
      for (const e of $$(this.section, ".ions .high")) e.textContent = this.number(high);
      say($(this.section, ".ions"), note);
      if (this.picked !== undefined) this.pick(this.picked);
    }

    number(value) {
      if (Number.isNaN(value) || value === undefined) return "–";
      return value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e4)
        ? value.toExponential(2) : value.toPrecision(3);
    }

    // the most certain annotated pixel, near the middle of such
    first() {
      const cancer = this.arrays.cancer ? this.fraction("cancer") : new Float32Array(this.n);
      const most = cancer.reduce((a, b) => (b > a ? b : a), 0);
      const these = [...cancer.keys()].filter((i) => most === 0 || cancer[i] === most);
      const [y, x] = [0, 1].map((axis) =>
        these.reduce((sum, i) => sum + this.yx(i)[axis], 0) / Math.max(these.length, 1));
      let best = these[0] ?? 0, least = Infinity;
      for (const i of these) {
        const [a, b] = this.yx(i), away = (a - y) ** 2 + (b - x) ** 2;
        if (away < least) [best, least] = [i, away];
      }
      return best;
    }

    yx(i) {
      const flat = this.arrays.at[i];
      return [Math.floor(flat / this.w), flat % this.w];
    }

    taps(panel, event) {
      if (panel.x_range !== this.x) return;  // the spectrum
      const [px, py] = this.content.pixel_um;
      this.go(Math.floor(event.y / py), Math.floor(event.x / px));
    }

    go(y, x) {
      if (x < 0 || y < 0 || x >= this.w || y >= this.h) return;
      const i = this.place.get(y * this.w + x);
      if (i === undefined) this.announce(`row ${y}, column ${x}: no tissue there`);
      else this.pick(i);
    }

    pick(i) {
      if (i === undefined || this.n === 0) return;
      this.picked = i;
      const [y, x] = this.yx(i), [px, py] = this.content.pixel_um, step = this.content.step;
      this.model("marker").data = { x: [(x + 0.5) * px], y: [(y + 0.5) * py] };
      const [row, column] = $$(this.section, ".at");
      row.value = y * step;
      column.value = x * step;
      const words = [`row ${y * step}, column ${x * step}`];
      for (const [name, text] of Object.entries({ ...MODEL_WORDS, ...this.content.models })) {
        if (this.arrays[name]) {
          const level = this.arrays[name][i];
          const value = level === NO_VALUE ? "unknown" : (level / LEVELS).toFixed(2);
          words.push(name === "cancer" ? `annotated ${value}` : `cancer ${text} ${value}`);
        }
      }
      if (this.chosen) {
        const { measured, predicted, words: what } = this.chosen;
        const guess = predicted ? `, predicted ${this.number(predicted[i])}` : "";
        words.push(`${what} measured ${this.number(measured[i])}${guess}`);
      }
      const alike = this.spectra(i);
      if (alike !== null) words.push(`cosine of the two spectra ${alike.toFixed(3)}`);
      this.announce(`${words.join("; ")}.`);
    }

    announce(text) { $(this.section, ".pixel").textContent = text; }

    // both spectra of pixel i; the cosine of what is measured and what is predicted of it
    spectra(i) {
      const { ions, tops, mz, measured_mz: axis } = this.arrays;
      const set = (name, x, y, sign) => {
        const end = Array.from(y, (v) => sign * v), source = this.model(`${name}_spectrum`);
        if (source) source.data = { mz: Array.from(x), value: Array.from(y), end };
      };
      if (!this.doc.get_model_by_name("measured_spectrum")) return null;
      const listed = Array.from(axis ?? []);
      const seen = listed.map((_, k) => this.intensity(ions[k * this.n + i], tops[k]))
        .map((v) => (Number.isNaN(v) ? 0 : v));
      set("measured", listed, seen, 1);
      this.label(listed, seen);
      const known = mz && this.arrays.predicted[i] !== NO_SCORE && this.arrays.scores[i] !== NO_SCORE;
      const guess = known ? this.spectrum("predicted", i) : [];
      const rebuilt = known && !this.content.whole ? this.spectrum("scores", i) : [];
      set("reconstructed", rebuilt.length ? mz : [], rebuilt, 1);
      set("predicted", known ? mz : [], guess, -1);
      const most = (values) => values.reduce((a, b) => Math.max(a, b), 0);
      const high = Math.max(most(seen), most(rebuilt)), low = most(guess);
      const start = -1.05 * low, end = 1.15 * high || 1;  // above: room for the labels
      this.model("intensity_range").setv({ start, end, reset_start: start, reset_end: end });
      if (!known) return null;
      let dot = 0, a = 0, b = 0;
      listed.forEach((v, k) => {
        const index = this.same(v);
        if (index >= 0) {
          dot += seen[k] * guess[index];
          a += seen[k] ** 2;
          b += guess[index] ** 2;
        }
      });
      return a && b ? dot / Math.sqrt(a * b) : null;
    }

    // m/z of the highest peaks, as many as find room
    label(listed, seen) {
      const { start, end } = this.model("mz_range");
      const room = (LABEL_WIDTH * (end - start)) / Math.max(this.host("spectrum").clientWidth, 1);
      const apart = [];
      for (const k of [...seen.keys()].sort((a, b) => seen[b] - seen[a]).slice(0, 4 * LABELS)) {
        const free = apart.every((other) => Math.abs(listed[k] - listed[other]) > room);
        const inside = listed[k] - start > room / 2 && end - listed[k] > room / 2;
        if (free && inside && apart.length < LABELS && seen[k] > 0) apart.push(k);
      }
      this.model("labels").data = {
        mz: apart.map((k) => listed[k]), end: apart.map((k) => seen[k]),
        text: apart.map((k) => listed[k].toFixed(4)),
      };
    }

    host(name) { return $(this.section, `[data-panel=${name}]`); }

    // the m/z that the spectrum shows
    span() {
      const range = this.model("mz_range");
      if (!range) return;
      const all = [...(this.arrays.mz ?? []), ...(this.arrays.measured_mz ?? [])];
      const low = Math.min(...all), high = Math.max(...all), room = 0.03 * (high - low) || 1;
      const start = low - room, end = high + room;
      range.setv({ start, end, reset_start: start, reset_end: end });
    }

    // ---- controls

    controls() {
      const on = (selector, event, act) => {
        for (const e of $$(this.section, selector)) e.addEventListener(event, () => act(e));
      };
      on(".opacity", "input", (e) => this.opacity(Number(e.value) / 100));
      on(".choice", "change", () => this.choose());
      on(".any", "change", (e) => {
        if (e.value === "") return;
        this.asked = Number(e.value);
        const list = $(this.section, ".choice"), other = $(list, "option[value=a]");
        other.hidden = false;
        list.value = "a";
        this.choose();
      });
      on(".in", "click", () => this.zoom(0.5));
      on(".out", "click", () => this.zoom(2));
      on(".whole", "click", () => this.ranges(...this.home));
      const step = this.content.step, [row, column] = $$(this.section, ".at");
      on(".at", "change", () => this.go(
        Math.floor(Number(row.value) / step), Math.floor(Number(column.value) / step)));
      for (const panels of $$(this.section, ".panels")) {
        panels.addEventListener("keydown", (event) => this.key(event));
      }
      this.opacity(Number($(this.section, ".opacity").value) / 100);
    }

    opacity(alpha) {
      for (const name of [...Object.keys(this.content.models), "measured", "predicted"]) {
        const drawn = this.model(`${name}_image`);
        if (drawn) drawn.glyph.global_alpha = alpha;
      }
      $(this.section, ".percent").textContent = `${Math.round(100 * alpha)} %`;
    }

    key(event) {
      const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const keys = { "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
        0: () => this.ranges(...this.home) };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (moves[event.key] && this.picked !== undefined) {
        const [y, x] = this.yx(this.picked), [dy, dx] = moves[event.key];
        this.go(y + dy, x + dx);
      } else if (keys[event.key]) {
        keys[event.key]();
      } else {
        return;
      }
      event.preventDefault();
    }

    ranges(x0, x1, y0, y1) {
      this.x.setv({ start: x0, end: x1 });
      this.y.setv({ start: y0, end: y1 });
    }

    // about the chosen pixel where it is seen, else about the middle
    zoom(factor, at = null) {
      const { x, y } = this, [px, py] = this.content.pixel_um;
      let [cx, cy] = at ?? [(x.start + x.end) / 2, (y.start + y.end) / 2];
      if (!at && this.picked !== undefined && factor < 1) {
        const [row, column] = this.yx(this.picked);
        [cx, cy] = [(column + 0.5) * px, (row + 0.5) * py];
      }
      const width = (x.end - x.start) * factor;
      if (width > this.home[1]) return this.ranges(...this.home);
      if (width < 4 * px) return;
      const next = (from, c) => c + (from - c) * factor;
      return at
        ? this.ranges(next(x.start, cx), next(x.end, cx), next(y.start, cy), next(y.end, cy))
        : this.ranges(cx - width / 2, cx + width / 2,
          cy + (y.start - y.end) * factor / 2, cy - (y.start - y.end) * factor / 2);
    }

    wheel(event, host) {
      if (!event.ctrlKey && !event.metaKey) return;  // the page scrolls
      event.preventDefault();
      const box = host.getBoundingClientRect(), { x, y } = this;
      const cx = x.start + ((event.clientX - box.left) / box.width) * (x.end - x.start);
      const cy = y.start + ((event.clientY - box.top) / box.height) * (y.end - y.start);
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, [cx, cy]);
    }
  }

  const start = async (section) => {
    if (section.dataset.started) return;
    section.dataset.started = "yes";
    try {
      const content = json($(section, "script.content"));
      const made = json($(section, "script.made"));
      const specimen = new Specimen(section, content, await msiscale.arrays(content.packed));
      await specimen.draw(made);
      say(section, "");
    } catch (error) {
      say(section, `The panels cannot be drawn: ${error.message}`);
      throw error;
    }
  };

  // sections are drawn when they are opened
  const sections = () => {
    for (const section of $$(document, ".viewer")) {
      const folded = section.closest("details");
      if (!folded || folded.open) start(section);
      folded?.addEventListener("toggle", () => { if (folded.open) start(section); });
    }
  };

  const opened = () => {
    const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
    const folded = target?.closest("details");
    if (folded) { folded.open = true; target.scrollIntoView(); }
  };

  (async () => {
    try {
      await msiscale.ready;
      await plots();
      sections();
      window.addEventListener("hashchange", opened);
      opened();
      document.body.dataset.ready = "yes";
    } catch (error) {
      say(document, `The plots cannot be drawn: ${error.message}`);
      throw error;
    }
  })();
})();
