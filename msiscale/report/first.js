// The first screen: colours, and the gallery and the table of specimens.
"use strict";

(() => {
  const AT_FIRST = 12;  // rows of the gallery that are shown before one asks for more
  const $$ = (where, selector) => [...where.querySelectorAll(selector)];
  const by = (id) => document.getElementById(id);

  // ---- colours

  const themes = () => {
    const button = by("theme"), root = document.documentElement;
    if (!button) return;
    const names = ["system", "light", "dark"];
    const say = () => { button.textContent = `Colours: ${root.dataset.theme ?? "system"}`; };
    const changed = () => document.dispatchEvent(new Event("themed"));
    button.hidden = false;
    say();
    button.addEventListener("click", () => {
      const next = names[(names.indexOf(root.dataset.theme ?? "system") + 1) % names.length];
      if (next === "system") delete root.dataset.theme; else root.dataset.theme = next;
      try { localStorage.setItem("msiscale-theme", next); } catch { /* it lasts for this page */ }
      say();
      changed();
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  };

  // ---- specimens

  const specimens = () => {
    const gallery = by("gallery"), table = by("specimen-list");
    if (!gallery) return;
    const rows = $$(gallery, ".row"), lines = $$(table, "tbody tr");
    const word = by("find"), state = by("state"), sort = by("sort"), turn = by("turn"), more = by("more");
    let all = false, down = false;

    const filter = () => {
      const wanted = word.value.trim().toLowerCase();
      const fits = (row) => (state.value === "" || row.dataset.state === state.value)
        && row.dataset.words.includes(wanted);
      let found = 0;
      for (const row of $$(gallery, ".row")) {
        const fit = fits(row);
        found += fit;
        row.hidden = !fit || (!all && found > AT_FIRST);
      }
      for (const line of lines) line.hidden = !fits(line);
      const shown = all ? found : Math.min(found, AT_FIRST);
      by("shown").textContent = `${shown} of ${rows.length} shown`;
      more.hidden = shown === found;
      more.textContent = `Show all ${found}`;
    };

    // a number each, those without one last
    const key = (row) => {
      if (sort.value === "place") return Number(row.dataset.place);
      const text = row.dataset.values.split("|")[Number(sort.value)];
      return text ? Number(text) : NaN;
    };
    const order = () => {
      const sign = down ? -1 : 1;
      turn.textContent = down ? "Highest first" : "Lowest first";
      turn.setAttribute("aria-pressed", String(down));
      const compare = (a, b) => {
        if (sort.value === "name") {
          return sign * a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true });
        }
        const [x, y] = [key(a), key(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return sign * (x - y);
      };
      gallery.append(...rows.sort(compare));
      filter();
    };

    word.addEventListener("input", filter);
    state.addEventListener("change", filter);
    sort.addEventListener("change", order);
    turn.addEventListener("click", () => { down = !down; order(); });
    more.addEventListener("click", () => {
      all = true;
      filter();
    });
    by("find").form.addEventListener("submit", (event) => event.preventDefault());
    filter();
    heads(table);
  };

  // a click on the head of a column sorts by it
  const heads = (table) => {
    const cells = $$(table, "thead th"), lines = $$(table, "tbody tr");
    cells.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (line) => line.cells[i].textContent.trim();
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)], [p, q] = [parseFloat(x), parseFloat(y)];
        if (Number.isNaN(p) || Number.isNaN(q)) {
          if (Number.isNaN(p) !== Number.isNaN(q)) return Number.isNaN(p) ? 1 : -1;
          return (down ? -1 : 1) * x.localeCompare(y, undefined, { numeric: true });
        }
        return (down ? -1 : 1) * (p - q);
      };
      table.tBodies[0].append(...lines.sort(compare));
    }));
  };

  themes();
  specimens();
  performance.mark("first screen");
  document.body.dataset.first = "yes";
})();
