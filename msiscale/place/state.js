// What is placed: the map, pairs of points and outlines, with a history to undo.
"use strict";

placing.State = class {
  constructor(content) {
    const { fit } = placing;
    this.fit = fit;
    this.mpp = content.slide.mpp;
    this.pixel_um = content.msi.pixel_um;
    [this.w, this.h] = content.msi.size;
    this.now = {
      base: content.start.matrix.slice(0, 2),
      by: "pairs",  // what the map follows: pairs, or the hand
      pairs: content.pairs.map(([a, b, c, d]) => ({ slide: [a, b], msi: [c, d] })),
      outlines: [],
      draft: [],
    };
    this.past = [];
    this.future = [];
    this.saved = this.texts();
    this.update();
  }

  texts() {
    const { base, by, pairs, outlines } = this.now;
    return { place: JSON.stringify([base, by, pairs]), outlines: JSON.stringify(outlines) };
  }

  get changed() {
    const now = this.texts();
    return now.place !== this.saved.place || now.outlines !== this.saved.outlines;
  }

  // of what was saved, nothing is lost when the page is left
  keep(kind) {
    const part = kind === "outlines" ? kind : "place";
    this.saved[part] = this.texts()[part];
  }

  // changes by one name that follow each other at once are undone together
  change(name, act) {
    const at = performance.now(), { last } = this;
    if (!(last && last.name === name && name && at - last.at < 1000)) {
      this.past.push(JSON.stringify(this.now));
      if (this.past.length > 200) this.past.shift();
    }
    this.last = { name, at };
    this.future = [];
    act(this.now);
    this.update();
  }

  undo() { return this.step(this.past, this.future); }

  redo() { return this.step(this.future, this.past); }

  step(from, to) {
    if (!from.length) return false;
    to.push(JSON.stringify(this.now));
    this.now = JSON.parse(from.pop());
    this.last = null;
    this.update();
    return true;
  }

  get complete() { return this.now.pairs.filter(({ slide, msi }) => slide && msi); }

  // the pair that lacks its other point
  get open() { return this.now.pairs.findIndex(({ slide, msi }) => !slide || !msi); }

  update() {
    const { base, by } = this.now, pairs = this.complete, { fit } = this;
    this.fitted = fit.fit(pairs, this.mpp, this.pixel_um, fit.determinant(base) < 0);
    this.followed = by === "pairs" && this.fitted !== null;  // one pair moves nothing yet
    this.matrix = this.followed ? this.fitted.matrix : base;
    this.inverse = fit.inverse(this.matrix);
    this.residuals = fit.residuals(this.matrix, pairs, this.mpp);
    this.shape = fit.shape(this.matrix, this.mpp, this.pixel_um);
  }

  // the MSI as a whole

  get middle() { return [(this.w - 1) / 2, (this.h - 1) / 2]; }

  moved(name, matrix) {
    this.change(name, (now) => { now.base = matrix; now.by = "hand"; });
  }

  turn(degrees) {
    const { fit, mpp } = this, [x, y] = fit.apply(this.matrix, this.middle);
    const um = fit.rotation(degrees, [x * mpp[0], y * mpp[1]]);
    const turn = fit.after(fit.scaling(1 / mpp[0], 1 / mpp[1]), fit.after(um, fit.scaling(...mpp)));
    this.moved("turn", fit.after(turn, this.matrix));
  }

  mirror() {
    this.moved("", this.fit.after(this.matrix, [[-1, 0, this.w - 1], [0, 1, 0]]));
  }

  // by level-0 pixels of the slide
  shift(x, y, name = "shift") {
    this.moved(name, this.fit.after(this.fit.shift(x, y), this.matrix));
  }

  // pairs

  add(side, at) {
    const i = this.now.pairs.findIndex((pair) => !pair[side]);
    this.change("", (now) => {
      now.by = "pairs";
      if (i < 0) now.pairs.push({ slide: null, msi: null, [side]: at });
      else now.pairs[i][side] = at;
    });
    return i < 0 ? this.now.pairs.length - 1 : i;
  }

  put(i, side, at, name) {
    this.change(name, (now) => { now.by = "pairs"; now.pairs[i][side] = at; });
  }

  remove(i) {
    this.change("", (now) => {
      // what is left keeps the place where it was
      if (now.by === "pairs") now.base = this.matrix;
      now.pairs.splice(i, 1);
    });
  }
};
