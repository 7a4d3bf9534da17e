"use strict";
// Draws the rows that can be seen; all that is chosen stands in the URL's fragment, so that a view can be mailed.
(async () => {
  const $ = (id) => document.getElementById(id);
  const packed = Uint8Array.from(atob($("data").textContent.trim()), (c) => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const D = JSON.parse(await new Response(unpacked).text());
  const ABSENT = D.verdicts.length;
  const WORD = [...D.verdicts.map((each) => each[0]), "absent"];
  const LETTER = [...D.verdicts.map((each) => each[1] || ""), "-"];
  const GOOD = [...D.verdicts.map((each) => each[2]), true];
  const FAILS = [...D.verdicts.map((each) => each[3]), false];
  const CLASS = WORD.map((word) => "v-" + word.replace(/ /g, "_"));
  const CODES = D.cells.map((text) => Uint8Array.from(text, (c) => (c === "-" ? ABSENT : c.charCodeAt(0) - 97)));
  const COLUMNS = D.columns.length;
  const TESTS = D.tests.length;
  const HISTORY = new Map();
  for (const each of D.history) HISTORY.set(each[0], [...(HISTORY.get(each[0]) || []), each]);
  const VIEWS = ["differ", "failing", "changes", "all"];
  const DEFAULTS = { view: "", q: "", verdict: "", absence: "", sort: "", a: "", b: "", class: "", cell: "" };
  // Below so many tests everything is unfolded.
  const FEW = 150;

  const form = $("controls"), frame = $("frame"), grid = $("grid"), body = $("body"), head = $("head");
  const dialog = $("detail");
  let state = {}, toggled = new Set(), rows = [], tops = [0], drawn = [-1, -1], cursor = { row: 0, column: -1 }, chosen = [];

  const element = (name, attributes = {}, text = null) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  };
  const indexOf = (name, otherwise) => {
    const found = D.columns.findIndex((column) => column.name === name);
    return found < 0 ? otherwise : found;
  };
  const pair = () => [indexOf(state.a, 0), indexOf(state.b, COLUMNS - 1)];
  const changeOf = (test) => D.change[CODES[pair()[0]][test]][CODES[pair()[1]][test]];
  const differs = (test) => CODES.some((codes) => codes[test] !== CODES[0][test]);
  const fails = (test) => CODES.some((codes) => !GOOD[codes[test]]);
  const worst = (test) => Math.max(...CODES.map((codes) => (codes[test] === ABSENT ? -1 : codes[test])));
  const flips = (test) => Math.max(0, ...(HISTORY.get(test) || []).map((each) => each[4]));
  const slowest = (test) => Math.max(...D.seconds.map((seconds) => seconds[test] || 0));
  const told = (column, test) => D.said[column][test] || {};

  // ---- the state, and the fragment that it stands in

  function usual() {
    if (COLUMNS > 1 && [...Array(TESTS).keys()].some(differs)) return "differ";
    return [...Array(TESTS).keys()].some(fails) ? "failing" : "all";
  }
  const USUAL = usual();

  function read() {
    const said = new URLSearchParams(location.hash.slice(1));
    state = { ...DEFAULTS };
    for (const key of Object.keys(DEFAULTS)) if (said.has(key)) state[key] = said.get(key);
    if (!VIEWS.includes(state.view)) state.view = USUAL;
    toggled = new Set(said.getAll("x"));
  }

  function write() {
    const said = new URLSearchParams();
    for (const [key, value] of Object.entries(state))
      if (value && !(key === "view" && value === USUAL)) said.set(key, value);
    for (const key of toggled) said.append("x", key);
    const text = said.toString();
    history.replaceState(null, "", text ? "#" + text : location.pathname + location.search);
  }

  function show() {
    for (const radio of form.querySelectorAll("[name=view]")) radio.checked = radio.value === state.view;
    for (const key of ["q", "verdict", "absence", "sort"]) form.elements[key].value = state[key];
    const [a, b] = pair();
    form.elements.a.selectedIndex = a;
    form.elements.b.selectedIndex = b;
    $("pair").hidden = COLUMNS < 2;
  }

  // ---- which tests, in which order, as which rows

  function matching() {
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = words.filter((word) => !word.startsWith("-"));
    const refused = words.filter((word) => word.startsWith("-") && word.length > 1).map((word) => word.slice(1));
    const verdict = WORD.indexOf(state.verdict);
    const found = [];
    for (let test = 0; test < TESTS; test++) {
      if (state.view === "differ" && !differs(test)) continue;
      if (state.view === "failing" && !fails(test)) continue;
      if (state.verdict && !CODES.some((codes) => codes[test] === verdict)) continue;
      if (state.absence && !D.said.some((said) => said[test] && said[test].absence === state.absence)) continue;
      if (words.length) {
        const text = [D.tests[test], ...D.said.map((said) => (said[test] ? said[test].reason || "" : ""))]
          .join("\n").toLowerCase();
        if (!wanted.every((word) => text.includes(word)) || refused.some((word) => text.includes(word))) continue;
      }
      found.push(test);
    }
    return found;
  }

  function sorted(tests) {
    const by = {
      name: (a, b) => (D.tests[a] < D.tests[b] ? -1 : 1),
      worst: (a, b) => worst(b) - worst(a) || a - b,
      flips: (a, b) => flips(b) - flips(a) || a - b,
      slow: (a, b) => slowest(b) - slowest(a) || a - b,
    }[state.sort];
    return by ? tests.sort(by) : tests;
  }

  // tests/a/test_b.py::test_c[d] is tests/a, test_b.py, test_c, [d].
  function parts(id) {
    const [, path, rest] = /^([^:]*)(?:::(.*))?$/s.exec(id) || [null, id, ""];
    const slash = path.lastIndexOf("/");
    const names = slash < 0 ? [path] : [path.slice(0, slash), path.slice(slash + 1)];
    if (rest) {
      const bracket = rest.indexOf("[");
      names.push(...(bracket < 0 ? [rest] : [rest.slice(0, bracket), rest.slice(bracket)]));
    }
    return names;
  }

  function tree(tests) {
    const root = { key: "", kids: new Map(), tests: [] };
    for (const test of tests) {
      let node = root;
      for (const name of parts(D.tests[test])) {
        if (!node.kids.has(name)) node.kids.set(name, { key: node.key + "\u2044" + name, label: name, kids: new Map(), tests: [] });
        node = node.kids.get(name);
        node.tests.push(test);
      }
    }
    return root;
  }

  function unfold(node, level, open) {
    for (const kid of node.kids.values()) {
      // A single child says no more than the row above it.
      let last = kid, label = kid.label;
      while (last.kids.size === 1) {
        const only = last.kids.values().next().value;
        label += (label.endsWith(".py") ? "::" : only.label.startsWith("[") ? "" : label.includes("::") ? "::" : "/") + only.label;
        last = only;
      }
      const leaf = last.kids.size === 0;
      const expanded = !leaf && (open || level === 1) !== toggled.has(last.key);
      rows.push({ key: last.key, label, level, tests: last.tests, test: leaf ? last.tests[0] : -1, expanded, leaf });
      if (expanded) unfold(last, level + 1, open);
    }
  }

  function choose() {
    chosen = sorted(matching());
    const counts = new Map();
    if (state.view === "changes") {
      for (const test of chosen) counts.set(changeOf(test), (counts.get(changeOf(test)) || 0) + 1);
      const wanted = D.changes.indexOf(state.class);
      chosen = chosen.filter((test) => (wanted < 0 ? changeOf(test) >= 0 : changeOf(test) === wanted));
    }
    classes(counts);
    rows = [];
    if (state.view === "failing")
      rows = chosen.map((test) => ({ key: D.tests[test], label: D.tests[test], level: 1, tests: [test], test, expanded: false, leaf: true }));
    else unfold(tree(chosen), 1, chosen.length <= FEW);
    $("count").textContent = `${chosen.length} of ${TESTS} tests`;
    grid.setAttribute("aria-rowcount", rows.length + 1);
    grid.setAttribute("aria-colcount", COLUMNS + 1 + (state.view === "changes"));
    cursor.row = Math.min(cursor.row, Math.max(0, rows.length - 1));
    titles();
    layout();
    draw();
  }

  function classes(counts) {
    const place = $("classes");
    place.hidden = state.view !== "changes";
    place.replaceChildren(...D.changes.map((name, index) => {
      const button = element("button", { type: "button", "aria-pressed": String(state.class === name) }, `${name} ${counts.get(index) || 0}`);
      button.addEventListener("click", () => update({ class: state.class === name ? "" : name }));
      return button;
    }));
  }

  // ---- drawing

  // Names wrap, so rows are not equally high. Their heights are reckoned, not measured: most are never drawn. The font
  // has one width for all characters, but maybe not for those of other scripts, which count twice.
  const long = (text) => { let n = 0; for (const c of text) n += c > "\u02ff" ? 2 : 1; return n; };
  const lines = (text, most) => {
    let count = 1, used = 0;
    for (const word of text.split(" ")) {
      const size = long(word);
      if (used && used + 1 + size > most) { count++; used = 0; }
      used += (used ? 1 : 0) + size;
      while (used > most) { count++; used -= most; }
    }
    return count;
  };
  const label = (row) => (row.leaf ? "" : row.expanded ? "▾ " : "▸ ") + row.label;
  const indent = (row) => 0.4 + (row.level - 1) * 0.9;

  function layout() {
    const style = getComputedStyle(document.documentElement), rem = parseFloat(style.fontSize);
    const length = (name) => parseFloat(style.getPropertyValue(name)) * rem;
    const ruler = element("div", { class: "ruler" }, "0".repeat(100));
    grid.append(ruler);
    const { width, height } = ruler.getBoundingClientRect();
    ruler.remove();
    const extra = state.view === "changes" ? 1 : 0;
    const cell = Math.max(length("--cell"), (frame.clientWidth - length("--name")) / (COLUMNS + extra));
    const most = (room) => Math.max(1, Math.floor(((room - 1) / width) * 100));
    const inCell = most(cell - 0.8 * rem);
    const ofCode = WORD.map((word) => lines(word, inCell));
    tops = new Float64Array(rows.length + 1);
    rows.forEach((row, index) => {
      // Broken at any character (line-break: anywhere): no line but the last is shorter than it can be.
      let count = Math.ceil(long(label(row)) / most(length("--name") - (indent(row) + 0.5) * rem - 1));
      for (let column = 0; column < COLUMNS; column++)
        count = Math.max(count, row.leaf ? ofCode[CODES[column][row.test]] : lines(totals(column, row), inCell));
      if (extra && row.leaf && changeOf(row.test) >= 0) count = Math.max(count, lines(D.changes[changeOf(row.test)], inCell));
      tops[index + 1] = tops[index] + Math.max(length("--row"), Math.ceil(count * height + 0.5 * rem));
    });
    body.style.height = tops[rows.length] + "px";
    drawn = [-1, -1];
  }

  // The row at a height.
  function at(y) {
    let low = 0, high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (tops[middle + 1] > y) high = middle; else low = middle + 1;
    }
    return low;
  }

  function titles() {
    const row = element("div", { role: "row", "aria-rowindex": "1" });
    row.append(element("div", { role: "columnheader", class: "corner" }, state.view === "failing" ? "failing test" : "test"));
    if (state.view === "changes") row.append(element("div", { role: "columnheader" }, "change"));
    for (const column of D.columns) {
      const title = element("div", { role: "columnheader", title: `${column.name} ${column.release} ${column.run}` });
      column.name.split(/(?=@)/).forEach((part, index) => title.append(...(index ? [element("br"), part] : [part])));
      row.append(title);
    }
    head.replaceChildren(row);
  }

  function summary(column, tests) {
    const counts = new Array(ABSENT + 1).fill(0);
    for (const test of tests) counts[CODES[column][test]]++;
    return counts;
  }

  // A number for each verdict there is, and its letter.
  function totals(column, row) {
    const counts = summary(column, row.tests);
    if (counts[ABSENT] === row.tests.length) return "–";
    return counts.map((count, code) => (count && code !== ABSENT ? count + LETTER[code] : "")).filter(Boolean).join(" ");
  }

  function fill(cell, column, row) {
    if (row.leaf) {
      const code = CODES[column][row.test];
      cell.textContent = WORD[code];
      cell.className = CLASS[code] + (FAILS[code] ? (GOOD[code] ? " fill-k" : " fill-f") : GOOD[code] ? "" : " fill-f");
      const reason = told(column, row.test).reason;
      if (reason) cell.title = reason;
      return;
    }
    const counts = summary(column, row.tests), words = [];
    counts.forEach((count, code) => { if (count) words.push(`${count} ${WORD[code]}`); });
    cell.textContent = totals(column, row);
    cell.title = words.join(", ");
    cell.setAttribute("aria-label", words.join(", "));
    if (counts.some((count, code) => count && !GOOD[code])) cell.className = "v-failed fill-f";
  }

  function made(index) {
    const row = rows[index];
    const line = element("div", { role: "row", "aria-rowindex": index + 2, "aria-level": row.level, "data-row": index });
    if (!row.leaf) line.setAttribute("aria-expanded", String(row.expanded));
    line.style.top = tops[index] + "px";
    line.style.height = tops[index + 1] - tops[index] + "px";
    const name = element("div", { role: "rowheader", id: `r${index}c-1`, "data-column": -1, title: row.leaf ? D.tests[row.test] : row.label });
    name.style.paddingLeft = indent(row) + "rem";
    name.textContent = label(row);
    line.append(name);
    if (state.view === "changes") {
      const kind = row.leaf ? changeOf(row.test) : -1;
      line.append(element("div", { role: "gridcell", "data-column": -1 }, kind < 0 ? "" : D.changes[kind]));
    }
    for (let column = 0; column < COLUMNS; column++) {
      const cell = element("div", { role: "gridcell", id: `r${index}c${column}`, "data-column": column });
      fill(cell, column, row);
      line.append(cell);
    }
    return line;
  }

  function draw() {
    const first = Math.max(0, at(frame.scrollTop) - 8);
    const last = Math.min(rows.length, at(frame.scrollTop + frame.clientHeight) + 9);
    if (first !== drawn[0] || last !== drawn[1]) {
      const fresh = [];
      for (let index = first; index < last; index++) fresh.push(made(index));
      body.replaceChildren(...fresh);
      drawn = [first, last];
    }
    mark();
  }

  function mark() {
    for (const old of body.querySelectorAll(".current")) old.classList.remove("current");
    const cell = $(`r${cursor.row}c${cursor.column}`);
    if (cell) {
      if (document.activeElement === grid) cell.classList.add("current");
      grid.setAttribute("aria-activedescendant", cell.id);
    } else grid.removeAttribute("aria-activedescendant");
  }

  function reveal() {
    const top = tops[cursor.row], size = tops[cursor.row + 1] - top, room = frame.clientHeight - head.offsetHeight;
    if (top < frame.scrollTop) frame.scrollTop = top;
    else if (top + size > frame.scrollTop + room) frame.scrollTop = top + size - room;
    draw();
    const cell = $(`r${cursor.row}c${cursor.column}`);
    if (cell && cursor.column >= 0) {
      const left = cell.offsetLeft - body.querySelector("[role=rowheader]").offsetWidth;
      if (left < frame.scrollLeft) frame.scrollLeft = left;
      else if (cell.offsetLeft + cell.offsetWidth > frame.scrollLeft + frame.clientWidth) frame.scrollLeft = cell.offsetLeft + cell.offsetWidth - frame.clientWidth;
    }
  }

  function toggle(index) {
    const row = rows[index];
    if (row.leaf) return;
    if (!toggled.delete(row.key)) toggled.add(row.key);
    write();
    choose();
  }

  // ---- one cell

  function section(title, text, place) {
    if (!text) return;
    place.append(element("h3", {}, title), element("pre", { tabindex: "0" }, text));
  }

  function command(title, text, place) {
    if (!text) return;
    const box = element("pre", { class: "command", tabindex: "0" }, text);
    const copy = element("button", { type: "button" }, "copy");
    copy.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text); copy.textContent = "copied"; }
      catch { getSelection().selectAllChildren(box); copy.textContent = "selected"; }
    });
    place.append(element("h3", {}, title), box, copy);
  }

  function link(text, href) {
    return element("a", { href }, text);
  }

  function detail(test, column) {
    const said = told(column, test), code = CODES[column][test];
    const close = element("button", { type: "button", class: "close" }, "close");
    close.addEventListener("click", () => dialog.close());
    const title = element("h2", { id: "detail-title" }, D.tests[test]);
    const what = element("p", {});
    what.append(element("span", { class: `chip ${CLASS[code]}` }, WORD[code]), ` on ${D.columns[column].name} (${D.columns[column].release}), run ${D.columns[column].run}`);
    if (D.seconds[column][test]) what.append(`, ${D.seconds[column][test]} s`);
    dialog.replaceChildren(close, title, what);
    if (said.reason) dialog.append(element("p", {}, said.reason));
    if (said.absence) dialog.append(element("p", {}, `lacking: ${said.absence}`));
    if (said.issue) {
      const [name, since, fix, at, cve, cveAt] = said.issue;
      const line = element("p", {}, `known issue: ${name}, ${since} `);
      if (fix) line.append("fix ", link(fix, at), " ");
      if (cve) line.append(link(cve, cveAt));
      dialog.append(line);
    }
    for (const [kind, , fingerprint] of said.splats || []) dialog.append(element("p", {}, `${kind}: ${fingerprint}`));
    for (const [, kernel, letters, streak, count, since, flaky] of HISTORY.get(test) || [])
      dialog.append(element("p", {}, `${kernel}: ${letters}, ${count} flips, streak ${streak}${since ? `, first bad in ${since}` : ""}${flaky ? ", flaky" : ""}`));
    command("Run it again", said.rerun, dialog);
    command("Find what broke it", said.bisect, dialog);
    section("Splat", said.splat, dialog);
    section("Details", said.details, dialog);
    section("Kernel log", said.log, dialog);
    section(`Console of ${said.vm}`, said.console, dialog);
    if (said.consoleLink && said.consoleLink.length) {
      const line = element("p", {});
      line.append(link(said.consoleLink[0], said.consoleLink[0]), said.consoleLink[1] ? `, line ${said.consoleLink[1]}` : "");
      dialog.append(line);
    }
    if (said.more) dialog.append(element("p", {}, "The rest is in results.json: there are too many failures for one page."));
  }

  function open() {
    const [test, column] = [D.tests.indexOf(state.cell.slice(0, state.cell.lastIndexOf("@@"))), D.columns.findIndex((each) => each.name === state.cell.slice(state.cell.lastIndexOf("@@") + 2))];
    if (!state.cell || test < 0 || column < 0) {
      if (dialog.open) dialog.close();
      return;
    }
    detail(test, column);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }

  function activate(index, column) {
    const row = rows[index];
    if (!row) return;
    if (!row.leaf || column < 0) {
      if (row.leaf) update({ cell: `${D.tests[row.test]}@@${D.columns[Math.max(0, CODES.findIndex((codes) => !GOOD[codes[row.test]]))].name}` });
      else toggle(index);
      return;
    }
    update({ cell: `${D.tests[row.test]}@@${D.columns[column].name}` });
  }

  function update(changed) {
    const redraw = Object.keys(changed).some((key) => key !== "cell");
    Object.assign(state, changed);
    write();
    show();
    if (redraw) choose();
    open();
  }

  // ---- what people do

  form.addEventListener("input", () => {
    const view = form.querySelector("[name=view]:checked");
    update({
      view: view ? view.value : USUAL,
      q: form.elements.q.value, verdict: form.elements.verdict.value, absence: form.elements.absence.value,
      sort: form.elements.sort.value,
      a: form.elements.a.selectedIndex > 0 ? form.elements.a.value : "",
      b: form.elements.b.selectedIndex < COLUMNS - 1 ? form.elements.b.value : "",
    });
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  $("reset").addEventListener("click", () => { toggled.clear(); update({ ...DEFAULTS, view: USUAL }); });
  $("fold").addEventListener("click", () => {
    const open = chosen.length <= FEW;
    toggled.clear();
    for (const row of rows) if (!row.leaf && (open || row.level === 1)) toggled.add(row.key);
    write();
    choose();
  });
  body.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-column]"), line = event.target.closest("[data-row]");
    if (!cell || !line) return;
    cursor = { row: Number(line.dataset.row), column: Number(cell.dataset.column) };
    grid.focus({ preventScroll: true });
    activate(cursor.row, cursor.column);
    mark();
  });
  grid.addEventListener("keydown", (event) => {
    const row = rows[cursor.row];
    const page = Math.max(1, at(frame.scrollTop + frame.clientHeight) - at(frame.scrollTop) - 2);
    const move = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length }[event.key];
    if (move !== undefined) cursor.row = Math.min(Math.max(cursor.row + move, 0), Math.max(0, rows.length - 1));
    else if (event.key === "ArrowRight") {
      if (cursor.column < 0 && row && !row.leaf && !row.expanded) toggle(cursor.row);
      else cursor.column = Math.min(cursor.column + 1, COLUMNS - 1);
    } else if (event.key === "ArrowLeft") {
      if (cursor.column < 0 && row && !row.leaf && row.expanded) toggle(cursor.row);
      else if (cursor.column < 0 && row)
        for (let up = cursor.row - 1; up >= 0; up--) { if (rows[up].level < row.level) { cursor.row = up; break; } }
      else cursor.column--;
    } else if (event.key === "Enter" || event.key === " ") activate(cursor.row, cursor.column);
    else return;
    event.preventDefault();
    reveal();
  });
  grid.addEventListener("focus", mark);
  grid.addEventListener("blur", mark);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || dialog.open || event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    form.elements.q.focus();
  });
  dialog.addEventListener("close", () => { if (state.cell) { state.cell = ""; write(); } grid.focus({ preventScroll: true }); });
  let waiting = false;
  frame.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  });
  addEventListener("resize", () => { layout(); draw(); });
  addEventListener("hashchange", () => { read(); show(); choose(); open(); });

  // ---- the beginning

  const there = new Set(CODES.flatMap((codes) => [...new Set(codes)]));
  for (const code of there) if (code !== ABSENT) form.elements.verdict.append(element("option", { value: WORD[code] }, WORD[code]));
  const lacking = new Set(D.said.flatMap((said) => Object.values(said).map((each) => each.absence).filter(Boolean)));
  for (const name of D.absences) if (lacking.has(name)) form.elements.absence.append(element("option", { value: name }, name));
  form.elements.absence.closest("label").hidden = lacking.size === 0;
  for (const column of D.columns) for (const key of ["a", "b"]) form.elements[key].append(element("option", { value: column.name }, column.name));
  for (const name of ["differ", "changes"]) if (COLUMNS < 2) form.querySelector(`[value=${name}]`).closest("label").hidden = true;
  read();
  $("app").hidden = false;
  if ($("plain-differences")) $("plain-differences").hidden = true;
  show();
  choose();
  open();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
