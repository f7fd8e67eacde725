// Mouse, fingers, pen and keys on the panels.
"use strict";

placing.Input = class {
  constructor(app) {
    this.app = app;
    this.pointers = new Map();
    for (const panel of Object.values(app.panels)) {
      const { canvas } = panel, on = (kind, act) => canvas.addEventListener(kind, act, { passive: false });
      on("pointerdown", (event) => this.down(panel, event));
      on("pointermove", (event) => this.move(panel, event));
      on("pointerup", (event) => this.up(panel, event));
      on("pointercancel", (event) => this.up(panel, event, false));
      on("dblclick", (event) => this.double(panel, this.at(panel, event)));
      on("wheel", (event) => {
        event.preventDefault();
        const lines = event.deltaMode === 1 ? 33 : 1;
        panel.view.zoom(Math.exp(-event.deltaY * lines / 500), this.fromMiddle(panel, this.at(panel, event)));
        app.redraw();
      });
      on("contextmenu", (event) => event.preventDefault());
    }
    document.addEventListener("keydown", (event) => this.key(event));
  }

  at({ canvas }, { clientX, clientY }) {
    const box = canvas.getBoundingClientRect();
    return [clientX - box.left - canvas.clientLeft, clientY - box.top - canvas.clientTop];
  }

  fromMiddle({ size: [w, h] }, [x, y]) { return [x - w / 2, y - h / 2]; }

  // what lies under a place of a panel: a point of a pair, a corner, an outline
  hit(panel, at, reach) {
    const { app } = this, near = (xy) => placing.fit.distance(xy, at) <= reach;
    const { pairs, outlines, draft } = app.state.now;
    if (app.tool === "points") {
      for (const side of app.sides(panel)) {
        for (let i = pairs.length - 1; i >= 0; i--) {
          // on one panel the other point of a pair may come to lie just there
          if (app.overlay && i === app.state.open) continue;
          if (pairs[i][side] && near(panel.of(side, pairs[i][side]))) return { kind: "pair", i, side };
        }
      }
    }
    if (app.tool === "outlines" && !draft.length) {
      const screens = outlines.map(({ ring }) => ring.map((xy) => panel.toScreen(xy)));
      const { selected } = app;
      if (selected?.kind === "outline") {
        const vertex = screens[selected.i].findIndex(near);
        if (vertex >= 0) return { kind: "outline", i: selected.i, vertex };
      }
      for (let i = outlines.length - 1; i >= 0; i--) {
        const ring = screens[i];
        if (ring.some((a, k) => this.beside(at, a, ring[(k + 1) % ring.length]) <= reach)) {
          return { kind: "outline", i, vertex: null };
        }
      }
    }
    return null;
  }

  beside([x, y], [ax, ay], [bx, by]) {  // distance from a side
    const [dx, dy] = [bx - ax, by - ay], n = dx * dx + dy * dy;
    const t = n > 0 ? Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / n)) : 0;
    return Math.hypot(x - ax - t * dx, y - ay - t * dy);
  }

  // closes what is drawn; a line of the chosen outline gets a corner more
  double(panel, at) {
    const { app } = this, found = this.hit(panel, at, 12);
    if (app.tool !== "outlines") return;
    if (app.state.now.draft.length) {
      app.close();
    } else if (found && found.vertex === null && app.selected?.i === found.i) {
      const ring = app.state.now.outlines[found.i].ring.map((xy) => panel.toScreen(xy));
      const off = ring.map((a, k) => this.beside(at, a, ring[(k + 1) % ring.length]));
      app.insert(found.i, off.indexOf(Math.min(...off)) + 1, panel.toSlide(at));
    }
  }

  down(panel, event) {
    const { app, pointers } = this, at = this.at(panel, event);
    panel.canvas.focus({ preventScroll: true });
    try {
      panel.canvas.setPointerCapture(event.pointerId);
    } catch { /* a pointer that is gone already */ }
    pointers.set(event.pointerId, at);
    if (pointers.size > 1) {
      this.drag = { kind: "pinch", moved: true };
      return;
    }
    const touch = event.pointerType === "touch", whole = event.button === 0;
    const found = whole ? this.hit(panel, at, touch ? 24 : 12) : null;
    let kind = "pan";
    if (found) kind = found.kind === "outline" && found.vertex === null ? "pan" : "point";
    else if (whole && app.tool === "move") kind = event.shiftKey ? "turn" : "shift";
    // by how much the point is missed, so that it does not jump
    let off = [0, 0];
    if (found?.kind === "pair") {
      const there = panel.of(found.side, app.state.now.pairs[found.i][found.side]);
      off = [there[0] - at[0], there[1] - at[1]];
    }
    this.drag = { kind, found, off, start: at, last: at, moved: false, whole, name: `drag ${event.timeStamp}` };
    if (found) app.select(found);
  }

  move(panel, event) {
    const { app, pointers, drag } = this, at = this.at(panel, event);
    if (!pointers.has(event.pointerId) || !drag) return;
    if (drag.kind === "pinch") return this.pinch(panel, event.pointerId, at);
    pointers.set(event.pointerId, at);
    if (!drag.moved && placing.fit.distance(at, drag.start) < (event.pointerType === "touch" ? 8 : 4)) return;
    drag.moved = true;
    const by = [at[0] - drag.last[0], at[1] - drag.last[1]];
    if (drag.kind === "pan") {
      panel.view.pan(...by);
      app.redraw();
    } else if (drag.kind === "shift") {
      const { k } = panel.view;
      app.state.shift(by[0] / k / app.mpp[0], by[1] / k / app.mpp[1], drag.name);
      app.refresh();
    } else if (drag.kind === "turn") {
      const [x, y] = panel.of("msi", app.state.middle);
      const angle = ([p, q]) => Math.atan2(q - y, p - x);
      const turned = (angle(at) - angle(drag.last)) * 180 / Math.PI;
      app.state.turn(((turned + 540) % 360) - 180);
      app.refresh();
    } else {
      app.put(panel, drag.found, [at[0] + drag.off[0], at[1] + drag.off[1]], drag.name);
    }
    drag.last = at;
  }

  pinch(panel, id, at) {
    const { pointers } = this;
    const before = [...pointers.values()];
    pointers.set(id, at);
    const [a, b] = [...pointers.values()], [c, d] = before;
    const middle = (p, q) => [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2];
    const [now, then] = [middle(a, b), middle(c, d)];
    panel.view.pan(now[0] - then[0], now[1] - then[1]);
    const by = placing.fit.distance(a, b) / Math.max(placing.fit.distance(c, d), 1);
    panel.view.zoom(by, this.fromMiddle(panel, now));
    this.app.redraw();
  }

  up(panel, event, done = true) {
    const { app, pointers, drag } = this;
    pointers.delete(event.pointerId);
    if (pointers.size || !drag) return;
    this.drag = null;
    if (done && !drag.moved && drag.whole && !drag.found) app.click(panel, this.at(panel, event));
    if (drag.moved) app.state.last = null;  // the next change is one of its own
  }

  key(event) {
    const { app } = this, { target, key } = event;
    if (target.matches("input:not([type=checkbox]):not([type=range]), select, textarea")) return;
    const panel = Object.values(app.panels).find(({ canvas }) => canvas === target);
    if ((event.ctrlKey || event.metaKey) && !event.altKey) {
      const back = key.toLowerCase() === "z" && !event.shiftKey;
      if (back || ["z", "y"].includes(key.toLowerCase())) {
        event.preventDefault();
        app.act(back ? "undo" : "redo");
      }
      return;
    }
    if (event.altKey) return;
    // one letter does nothing while the page is read: only on a panel, a tool, or before any focus
    if (!panel && target !== document.body && !target.closest(".tools")) return;
    const handled = panel ? this.onPanel(panel, event) || this.anywhere(key) : this.anywhere(key);
    if (handled) event.preventDefault();
  }

  onPanel(panel, { key, shiftKey }) {
    const { app } = this;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    if (arrow) {
      app.nudge(panel, arrow.map((v) => v * (shiftKey ? 10 : 1)));
    } else if (key === "Tab") {
      return app.next(panel, shiftKey ? -1 : 1);  // else the focus goes on
    } else if (key === "n" || (key === "Enter" && app.tool === "points")) {
      app.click(panel, panel.size.map((v) => v / 2), true);
    } else if (key === "Enter") {
      app.close();
    } else if (key === "Escape") {
      app.giveUp();
    } else if (key === "Delete" || key === "Backspace") {
      app.remove();
    } else {
      return false;
    }
    return true;
  }

  anywhere(key) {
    const { app } = this;
    const tool = { p: "points", g: "move", d: "outlines" }[key];
    const act = {
      "+": "in", "=": "in", "-": "out", 0: "whole", 9: "onMsi", r: "right", R: "left", m: "mirror",
    }[key];
    if (tool) app.use(tool);
    else if (act) app.act(act);
    else if (key === "o" || key === "O") app.fade(app.opacity + (key === "o" ? 0.1 : -0.1));
    else return false;
    return true;
  }
};
