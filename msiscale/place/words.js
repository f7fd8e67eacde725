// What the page says of a placement: the hint, figures, warnings, the lists of pairs and outlines.
"use strict";

placing.words = (() => {
  const um = (v) => (Number.isFinite(v) ? (v < 10 ? v.toFixed(1) : v.toFixed(0)) : "–");
  const px = (v) => (Number.isFinite(v) ? v.toFixed(2) : "–");
  const both = (v, side) => (Number.isFinite(v) ? `${um(v)} µm = ${px(v / side)} MSI px` : "–");
  const percent = (v) => `${v >= 1 ? "+" : "−"}${Math.abs(100 * (v - 1)).toFixed(1)} %`;
  const element = (name, text = "", more = {}) => Object.assign(document.createElement(name), { textContent: text, ...more });
  const fill = (parent, children) => parent.replaceChildren(...children);

  const hint = ({ tool, selected, state: { now, open }, overlay }) => {
    if (tool === "move") return "Drag, or use the arrow keys, to move the MSI; drag with Shift, or r and R, to turn it; m mirrors it.";
    if (tool === "outlines") {
      if (now.draft.length) return `${now.draft.length} corner${now.draft.length === 1 ? "" : "s"}: double-click, Enter or the first corner closes the outline; Esc gives it up.`;
      if (selected?.kind === "outline") return `Outline ${selected.i + 1} is chosen: drag its corners; Delete removes ${selected.vertex === null ? "it" : "the corner"}.`;
      return "Click corner after corner around the cancer; click the line of an outline to choose it.";
    }
    if (open >= 0) {
      const missing = now.pairs[open].slide ? "in the MSI" : "on the slide";
      return `Pair ${open + 1}: now click the same place ${missing}${overlay ? ", on the same panel" : ""}.`;
    }
    if (selected?.kind === "pair") return `Pair ${selected.i + 1}, its point ${selected.side === "slide" ? "on the slide" : "in the MSI"}: drag it, or use the arrow keys; Delete removes the pair. Click elsewhere for the next pair.`;
    return "Click a place that you know again, on the slide or in the MSI; wheel, pinch or + and − zoom.";
  };

  const verdict = ({ state: { now, complete, fitted, followed } }) => {
    const n = complete.length, pairs = `${n} pair${n === 1 ? "" : "s"}`;
    if (followed) return `${pairs}: ${fitted.kind === "affine" ? "affine map, by least squares" : "rotation, one scale and shift"}.`;
    if (now.by === "hand") return `Placed by hand${n ? `; ${pairs} only measured` : ""}.`;
    if (n > 1) return `${pairs} in one place or on one line.`;
    return n ? "One pair; two and more place the MSI." : "As it starts.";
  };

  const numbers = ({ state }) => {
    const { residuals, fitted, followed, shape, pixel_um } = state, side = Math.sqrt(pixel_um[0] * pixel_um[1]);
    const rms = residuals.length ? placing.fit.rms(residuals) : NaN;
    const left = followed && fitted ? placing.fit.rms(fitted.left) : NaN;
    return [
      ["pairs off, rms", both(rms, side)],
      ["each left out, rms", both(left, side)],
      ["stretch from pixel sizes", shape.scales.map(percent).join(", ")],
      ["rotation", `${shape.degrees.toFixed(1)}°${shape.flipped ? ", mirror image" : ""}`],
    ];
  };

  const warnings = ({ state, content }) => {
    const { shape, fitted, followed, complete, residuals, pixel_um, mpp } = state, found = [];
    const { most_scale: most } = content, side = Math.sqrt(pixel_um[0] * pixel_um[1]);
    if (shape.scales.some((s) => Math.abs(s - 1) > most)) {
      const scale = Math.sqrt(shape.scales[0] * shape.scales[1]), own = Math.sqrt(mpp[0] * mpp[1]);
      const uniform = Math.abs(shape.scales[0] / shape.scales[1] - 1) <= most;
      found.push(`The MSI is stretched by ${shape.scales.map(percent).join(" and ")} against the pixel sizes, more than ${100 * most} %: ${uniform
        ? `${own.toPrecision(3)} µm a slide pixel are stated, this would need ${(own / scale).toPrecision(3)}`
        : "a pair is misplaced, or too few are far apart"}.`);
    }
    if (complete.length > 1 && !fitted) found.push("The points lie on one line or in one place: add a pair off the line.");
    if (followed && complete.length === 2 && shape.flipped) found.push("Two pairs do not tell a mirror image: register would take it for none. Add a pair, or save the matrix.");
    if (followed && fitted && complete.length > 2) {
      const worst = residuals.indexOf(Math.max(...residuals));
      if (placing.fit.rms(residuals) / side > 1) found.push(`The pairs fit to more than one MSI pixel: look at pair ${placing.number(state, worst) + 1}.`);
    }
    return found;
  };

  const pairs = (app) => {
    const { state, selected } = app, { pixel_um } = state, side = Math.sqrt(pixel_um[0] * pixel_um[1]);
    let k = -1;
    return state.now.pairs.map((pair, i) => {
      const whole = pair.slide && pair.msi, row = element("tr");
      if (whole) k++;
      const off = whole ? state.residuals[k] : NaN;
      const left = whole && state.followed && state.fitted ? state.fitted.left[k] / side : NaN;
      const chosen = selected?.kind === "pair" && selected.i === i;
      row.classList.toggle("chosen", chosen);
      const head = element("th", "", { scope: "row", className: "text" });
      const choose = element("button", String(i + 1), { type: "button", ariaLabel: `choose pair ${i + 1}`, ariaPressed: String(chosen) });
      choose.onclick = () => {
        const on = pair.slide ? "slide" : "msi";
        app.use("points");
        app.select({ kind: "pair", i, side: on });
        app.panels[app.overlay ? "slide" : on].canvas.focus();
      };
      head.append(choose);
      const last = element("td"), gone = element("button", "×", { type: "button", ariaLabel: `delete pair ${i + 1}` });
      gone.onclick = () => { app.selected = { kind: "pair", i }; app.remove(); };
      last.append(gone);
      row.append(head, ...(whole ? [um(off), px(off / side), px(left)] : ["half", "", ""]).map((t) => element("td", t)), last);
      return row;
    });
  };

  const area = ({ ring }, mpp) => {
    const n = ring.length, twice = ring.reduce((a, [x, y], i) => {
      const [p, q] = ring[(i + 1) % n];
      return a + x * q - p * y;
    }, 0);
    return Math.abs(twice) / 2 * mpp[0] * mpp[1] / 1e6;
  };

  const outlines = (app) => app.state.now.outlines.map((outline, i) => {
    const item = element("li"), chosen = app.selected?.kind === "outline" && app.selected.i === i;
    item.classList.toggle("chosen", chosen);
    const choose = element("button", "choose", { type: "button", ariaLabel: `choose outline ${i + 1}` });
    choose.onclick = () => { app.use("outlines"); app.select({ kind: "outline", i, vertex: null }); };
    const gone = element("button", "×", { type: "button", ariaLabel: `delete outline ${i + 1}` });
    gone.onclick = () => { app.selected = { kind: "outline", i, vertex: null }; app.remove(); };
    item.append(`${outline.name}, ${area(outline, app.mpp).toFixed(2)} mm² `, choose, gone);
    return item;
  });

  // lists are filled only where they change, so that a button keeps its focus
  const lists = new Map();
  const list = (app, selector, make) => {
    const { state: { now, residuals, fitted, followed }, selected } = app;
    const text = JSON.stringify([now.pairs, now.outlines, residuals, fitted?.left, followed, selected]);
    if (lists.get(selector) === text) return;
    lists.set(selector, text);
    fill(app.$(selector), make(app));
  };

  return (app) => {
    const { $, state } = app, enough = state.complete.length >= 2;
    app.say(".hint", hint(app));
    app.say(".verdict", verdict(app));
    const rows = numbers(app).map(([name, value]) => {
      const row = element("tr");
      row.append(element("th", name, { scope: "row" }), element("td", value));
      return row;
    });
    fill($(".numbers tbody"), rows);
    const warned = warnings(app), line = $(".warnings");
    if (line.dataset.text !== warned.join()) {
      line.dataset.text = warned.join();
      fill(line, warned.map((text) => element("li", text)));
    }
    list(app, ".pairs tbody", pairs);
    list(app, "ol.outlines", outlines);
    $(".empty").hidden = state.now.pairs.length > 0;
    $("[data-do=follow]").hidden = state.now.by !== "hand" || !state.fitted;
    $("[data-do=undo]").disabled = !state.past.length;
    $("[data-do=redo]").disabled = !state.future.length;
    document.querySelectorAll("[data-save=landmarks]").forEach((b) => { b.disabled = !enough; });
    document.querySelectorAll("[data-save=outlines]").forEach((b) => { b.disabled = !state.now.outlines.length; });
  };
})();

// which of all pairs the k-th complete one is
placing.number = (state, k) => state.now.pairs.indexOf(state.complete[k]);
