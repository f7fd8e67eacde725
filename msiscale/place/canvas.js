// A panel: the slide, or the MSI laid on it, with points and outlines; in µm of the slide.
"use strict";

placing.COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
placing.CLASSES = {  // colour and dashes, so that neither alone tells them
  Tumor: ["#D55E00", []], Benign: ["#0072B2", [9, 5]], Exclude: ["#444444", [2, 4]],
};

placing.View = class {
  constructor() { Object.assign(this, { x: 0, y: 0, k: 1 }); }  // middle in µm, pixels of a µm

  fit([x0, y0, x1, y1], [width, height]) {
    this.x = (x0 + x1) / 2;
    this.y = (y0 + y1) / 2;
    this.k = 0.94 * Math.min(width / (x1 - x0), height / (y1 - y0));
    this.home = this.k;
  }

  // keeps the place under a point of the panel, given from its middle
  zoom(by, [px, py] = [0, 0]) {
    const k = Math.min(Math.max(this.k * by, this.home / 30), this.home * 400);
    this.x += px / this.k - px / k;
    this.y += py / this.k - py / k;
    this.k = k;
  }

  pan(px, py) { this.x -= px / this.k; this.y -= py / this.k; }
};

placing.Panel = class {
  constructor(canvas, side, app) {
    Object.assign(this, { canvas, side, app });
    this.context = canvas.getContext("2d");
  }

  get size() { return [this.canvas.clientWidth, this.canvas.clientHeight]; }

  get view() { return this.app.views[this.side]; }

  // level-0 pixels of the slide <-> CSS pixels of the panel

  toScreen([x, y]) {
    const { view, size: [w, h], app: { mpp } } = this;
    return [(x * mpp[0] - view.x) * view.k + w / 2, (y * mpp[1] - view.y) * view.k + h / 2];
  }

  toSlide([px, py]) {
    const { view, size: [w, h], app: { mpp } } = this;
    return [((px - w / 2) / view.k + view.x) / mpp[0], ((py - h / 2) / view.k + view.y) / mpp[1]];
  }

  // of a side's own coordinates
  of(side, at) { return this.toScreen(side === "slide" ? at : placing.fit.apply(this.app.state.matrix, at)); }

  from(side, screen) {
    const at = this.toSlide(screen);
    return side === "slide" ? at : placing.fit.apply(this.app.state.inverse, at);
  }

  draw() {
    const { canvas, context, size: [w, h], app } = this, dots = window.devicePixelRatio || 1;
    if (!w || !h) return;
    if (canvas.width !== Math.round(w * dots)) canvas.width = Math.round(w * dots);
    if (canvas.height !== Math.round(h * dots)) canvas.height = Math.round(h * dots);
    this.dots = dots;
    context.setTransform(dots, 0, 0, dots, 0, 0);
    context.fillStyle = "#e9ecef";
    context.fillRect(0, 0, w, h);
    if (this.side === "slide") {
      this.pictures();
      if (app.opacity > 0) this.msi(app.opacity);
    } else {
      this.msi(1);
    }
    context.setTransform(dots, 0, 0, dots, 0, 0);
    this.frame();
    this.outlines();
    this.residuals();
    app.state.now.pairs.forEach((pair, i) => this.point(pair, i));
    this.scaleBar();
  }

  // the canvas acts on level-0 pixels after this, or on what a map brings there
  under(matrix) {
    const { view, size: [w, h], dots, app: { mpp } } = this, { fit } = placing;
    const world = fit.after(fit.scaling(view.k, view.k), fit.after(fit.shift(-view.x, -view.y), fit.scaling(...mpp)));
    const all = fit.after(fit.scaling(dots, dots), fit.after(fit.shift(w / 2, h / 2), fit.after(world, matrix)));
    this.context.setTransform(all[0][0], all[1][0], all[0][1], all[1][1], all[0][2], all[1][2]);
  }

  pictures() {
    const { context, app } = this, { fit } = placing;
    const [w, h] = app.content.slide.size;
    for (const { image, x, y, dx, dy } of app.pictures) {
      this.under(fit.after(fit.shift(x, y), fit.scaling(dx, dy)));
      context.save();
      context.beginPath();  // its last pixels may reach beyond the slide
      context.rect(-x / dx, -y / dy, w / dx, h / dy);
      context.clip();
      context.imageSmoothingEnabled = this.view.k * dx * app.mpp[0] < 3;
      context.imageSmoothingQuality = "high";
      context.drawImage(image, 0, 0);
      context.restore();
    }
  }

  msi(opacity) {
    const { context, app } = this, { fit } = placing, { step } = app.content.msi;
    // an image's pixel covers `step` indices, and the first begins half an index before 0
    const pixels = fit.after(fit.shift(-0.5, -0.5), fit.scaling(step, step));
    this.under(fit.after(app.state.matrix, pixels));
    context.globalAlpha = opacity;
    context.imageSmoothingEnabled = false;
    context.drawImage(app.shown, 0, 0);
    context.globalAlpha = 1;
  }

  line(points, { colour, width = 1.5, dash = [], closed = false, halo = 2.5 }) {
    const { context } = this;
    if (points.length < 2) return;
    context.beginPath();
    points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (closed) context.closePath();
    context.setLineDash([]);
    context.lineJoin = "round";
    context.strokeStyle = "rgba(255, 255, 255, 0.9)";
    context.lineWidth = width + halo;
    context.stroke();
    context.setLineDash(dash);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
    context.setLineDash([]);
  }

  frame() {
    const [w, h] = this.app.content.msi.size;
    const corners = [[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]];
    const points = corners.map((at) => this.of("msi", at));
    this.line(points, { colour: "#222", width: 1, dash: [6, 4], closed: true, halo: 1.5 });
    const [x, y] = points[0];  // of the first pixel
    this.line([[x - 5, y], [x + 5, y]], { colour: "#222" });
    this.line([[x, y - 5], [x, y + 5]], { colour: "#222" });
  }

  residuals() {
    for (const { slide, msi } of this.app.state.complete) {
      this.line([this.of("slide", slide), this.of("msi", msi)], { colour: "#000", width: 1.5 });
    }
  }

  // shape, number and colour are those of the pair; crosses are where the other point comes to lie
  point(pair, i) {
    const { side } = this, other = side === "slide" ? "msi" : "slide", { selected } = this.app;
    const both = this.app.overlay && side === "slide";
    const mine = selected?.kind === "pair" && selected.i === i ? selected.side : null;
    if (pair[other]) {
      const at = this.of(other, pair[other]);
      if (both && !pair[side]) this.marker(at, i, mine === other, true);
      else if (!pair[side] || placing.fit.distance(at, this.of(side, pair[side])) > 3) this.cross(at, mine === other);
    }
    if (pair[side]) this.marker(this.of(side, pair[side]), i, mine === side, !pair[other]);
  }

  cross([x, y], selected) {
    const r = selected ? 7 : 4, style = { colour: "#000", width: selected ? 3 : 1.5 };
    this.line([[x - r, y - r], [x + r, y + r]], style);
    this.line([[x - r, y + r], [x + r, y - r]], style);
  }

  marker([x, y], i, selected, waiting) {
    const { context } = this, r = 8, colour = placing.COLOURS[i % placing.COLOURS.length];
    const sides = [24, 4, 3, 5][i % 4], points = [];
    for (let k = 0; k < sides; k++) {
      const t = 2 * Math.PI * k / sides - Math.PI / 2 + (sides === 4 ? Math.PI / 4 : 0);
      points.push([x + r * Math.cos(t), y + r * Math.sin(t)]);
    }
    const dash = waiting ? [3, 3] : [];
    this.line(points, { colour, width: 2.5, closed: true, dash, halo: 3 });
    if (selected) {
      const ring = points.map(([p, q]) => [x + (p - x) * 1.6, y + (q - y) * 1.6]);
      this.line(ring, { colour: "#000", width: 1.5, closed: true });
    }
    context.fillStyle = "#fff";
    context.fillRect(x - 2, y - 2, 4, 4);
    context.fillStyle = "#000";
    context.fillRect(x - 1, y - 1, 2, 2);
    this.label(String(i + 1), x + r + 4, y - r - 2);
  }

  label(text, x, y) {
    const { context } = this;
    context.font = "600 13px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "middle";
    const width = context.measureText(text).width + 6;
    context.fillStyle = "#fff";
    context.fillRect(x, y - 8, width, 16);
    context.strokeStyle = "#222";
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, y - 7.5, width - 1, 15);
    context.fillStyle = "#000";
    context.fillText(text, x + 3, y);
  }

  outlines() {
    const { outlines, draft } = this.app.state.now, { selected } = this.app;
    outlines.forEach(({ name, ring }, i) => {
      const [colour, dash] = placing.CLASSES[name] ?? ["#8a3b7d", [12, 3, 2, 3]];
      const chosen = selected?.kind === "outline" && selected.i === i;
      const points = ring.map((at) => this.of("slide", at));
      this.line(points, { colour, dash, width: chosen ? 3.5 : 2, closed: true });
      if (chosen) points.forEach((at, k) => this.vertex(at, selected.vertex === k));
      const top = points.reduce((a, b) => (b[1] < a[1] ? b : a));
      this.label(`${i + 1} ${name}`, top[0] + 4, top[1] - 10);
    });
    if (draft.length) {
      const points = draft.map((at) => this.of("slide", at));
      this.line(points, { colour: "#000", width: 2, dash: [5, 3] });
      points.forEach((at, k) => this.vertex(at, k === 0));
    }
  }

  vertex([x, y], marked) {
    const { context } = this, r = marked ? 6 : 4;
    context.fillStyle = marked ? "#000" : "#fff";
    context.fillRect(x - r, y - r, 2 * r, 2 * r);
    context.strokeStyle = marked ? "#fff" : "#000";
    context.lineWidth = 1.5;
    context.strokeRect(x - r, y - r, 2 * r, 2 * r);
  }

  scaleBar() {
    const { context, view, size: [w, h] } = this, most = Math.min(140, w / 3) / view.k;
    const ten = 10 ** Math.floor(Math.log10(most));
    const um = [5, 2, 1].map((n) => n * ten).find((n) => n <= most);
    const long = um * view.k, text = um >= 1000 ? `${um / 1000} mm` : `${um} µm`;
    context.fillStyle = "rgba(255, 255, 255, 0.85)";
    context.fillRect(8, h - 34, Math.max(long, context.measureText(text).width) + 16, 28);
    context.fillStyle = "#000";
    context.fillRect(16, h - 14, long, 3);
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillText(text, 16, h - 19);
  }
};
