
// The rollouts page: filters, a list of which only what is in sight exists, the chosen group. The address keeps it all.
(() => {
  const source = document.getElementById("run-data");
  if (!source) return;
  const run = JSON.parse(source.textContent);
  const form = document.querySelector("[data-pick]"), count = form.querySelector("output");
  const list = document.querySelector("[data-list]"), rows = list.querySelector("[data-rows]");
  const sorts = document.querySelector("[data-sort]"), shown = document.querySelector("[data-group]");
  const empty = document.querySelector("[data-empty]"), tip = document.querySelector("[data-tip]");
  const ROW = 56; // pixels, as in the style sheet
  const FIELDS = ["from", "to", "text", "flat", "problem", "kept", "cut"];
  const there = run.rewards.filter((name, i) => run.groups.some((group) => group.mean[i] !== null));
  let found = [], chosen = null, sort = "step", falling = true;

  const words = (group) => group.words ??= [group.question, group.id, ...group.options,
    ...group.rollouts.map((one) => one.pieces.join(""))].join("\n").toLowerCase();
  const isFlat = (group) => group.flat.every((flat) => flat !== false);
  const fails = (group) => group.rollouts.filter((one) => one.problems.length).length;
  const cuts = (group) => group.rollouts.filter((one) => !one.finished).length;

  // --- what the filters offer ---
  const options = (name, entries) => form.elements[name].append(...entries.map(([value, label]) => make("option", { value }, label)));
  options("flat", there.map((name) => [name, "in " + name]));
  const codes = new Map();
  for (const group of run.groups) for (const one of group.rollouts) {
    for (const code of one.problems) codes.set(code, (codes.get(code) || 0) + 1);
  }
  options("problem", [...codes].sort((a, b) => b[1] - a[1]).map(([code, n]) => [code, code.replaceAll("_", " ") + " (" + n + ")"]));

  const passes = (values) => {
    const number = (name) => (values[name] === "" || values[name] === undefined ? null : Number(values[name]));
    const from = number("from"), to = number("to"), text = (values.text || "").trim().toLowerCase();
    const reward = run.rewards.indexOf(values.flat);
    return (group) => (from === null || group.step >= from) && (to === null || group.step <= to)
      && (!values.flat || (values.flat === "all" ? isFlat(group) : group.flat[reward] === true))
      && (!values.problem || group.rollouts.some((one) => values.problem === "some" ? one.problems.length : one.problems.includes(values.problem)))
      && (!values.kept || group.kept === (values.kept === "kept"))
      && (!values.cut || cuts(group) > 0)
      && (!text || words(group).includes(text));
  };

  // --- sorting ---
  const key = (group) => sort === "step" ? group.step : sort === "spread" ? group.spread : group.mean[run.rewards.indexOf(sort)];
  const compare = (a, b) => ((key(a) ?? -1) - (key(b) ?? -1) || a.step - b.step || a.index - b.index) * (falling ? -1 : 1);
  const columns = ["step", ...there, "spread"];
  list.style.setProperty("--cells", there.length + 1);
  sorts.style.setProperty("--cells", there.length + 1);
  const drawSorts = () => sorts.replaceChildren(...columns.map((name) => {
    const button = make("button", { type: "button", "aria-pressed": String(sort === name) }, name + (sort === name ? (falling ? " ↓" : " ↑") : ""));
    button.addEventListener("click", () => {
      falling = sort === name ? !falling : true;
      sort = name;
      apply();
      sorts.children[columns.indexOf(name)].focus();
    });
    return button;
  }));

  // --- the list ---
  const drawRow = (group, place) => {
    const bad = fails(group), cut = cuts(group);
    const row = make("div", { class: "row", role: "option", id: "row-" + place, "aria-selected": String(group === chosen), "aria-setsize": found.length, "aria-posinset": place + 1 },
      make("div", { class: "about" }, make("span", {}, group.question.replace(/\s+/g, " ")),
        group.kept ? null : make("span", { class: "mark soft" }, "dropped"),
        bad ? make("span", { class: "mark", title: plural(bad, "rollout") + " with a parse failure" }, "⚠ " + bad) : null,
        cut ? make("span", { class: "mark", title: plural(cut, "rollout") + " cut off" }, "cut " + cut) : null),
      make("div", { class: "numbers" }, make("span", {}, String(group.step)), ...there.map((name) => {
        const i = run.rewards.indexOf(name), value = group.mean[i];
        return make("span", { class: "value" + (group.flat[i] ? " flat" : ""), "--share": value ?? 0, title: name + (group.flat[i] ? ", the same in all rollouts" : "") },
          (group.flat[i] ? "= " : "") + fixed(value));
      }), make("span", { class: "value", "--share": 0 }, fixed(group.spread))));
    row.style.top = place * ROW + "px";
    row.addEventListener("click", () => { choose(group); reach(); });
    return row;
  };
  const drawRows = () => {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
    const last = Math.min(found.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
    rows.style.height = found.length * ROW + "px";
    rows.replaceChildren(...found.slice(first, last).map((group, i) => drawRow(group, first + i)));
    const place = found.indexOf(chosen);
    if (place >= first && place < last) list.setAttribute("aria-activedescendant", "row-" + place);
    else list.removeAttribute("aria-activedescendant");
  };
  const reveal = () => {
    const top = found.indexOf(chosen) * ROW;
    if (top < 0) return;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  };
  // Where list and group lie below each other, choosing leads to the group.
  const reach = () => {
    if (shown.getBoundingClientRect().top > list.getBoundingClientRect().bottom) shown.scrollIntoView({ block: "start" });
  };

  // --- the group ---
  const choose = (group) => {
    chosen = group;
    tip.hidden = true;
    const place = found.indexOf(group);
    const move = (by, label) => {
      const next = found[place + by];
      const button = make("button", { type: "button", disabled: !next || place < 0 }, label);
      button.addEventListener("click", () => {
        choose(next);
        const [before, after] = shown.querySelectorAll(".turn button");
        const same = by < 0 ? before : after;
        (same.disabled ? (by < 0 ? after : before) : same).focus({ preventScroll: true });
      });
      return button;
    };
    const turn = make("span", { class: "turn" }, move(-1, "‹ previous"), move(1, "next ›"));
    shown.replaceChildren(...(group ? drawGroup(group, run, turn) : []));
    reveal();
    drawRows();
    remember();
  };

  // --- state in the address, so that a view can be sent to somebody ---
  const remember = () => {
    const state = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value) state.set(name, value);
    if (sort !== "step" || !falling) state.set("sort", (falling ? "" : "-") + sort);
    if (chosen) state.set("group", chosen.index);
    history.replaceState(null, "", "#" + state);
  };
  const recall = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const name of FIELDS) {
      const field = form.elements[name], value = state.get(name) || "";
      if (field.type === "checkbox") field.checked = Boolean(value);
      else field.value = value;
    }
    const wish = state.get("sort") || "step";
    falling = !wish.startsWith("-");
    sort = columns.includes(wish.replace("-", "")) ? wish.replace("-", "") : "step";
    return run.groups.find((group) => String(group.index) === state.get("group"));
  };
  const apply = (wanted) => {
    found = run.groups.filter(passes(Object.fromEntries(new FormData(form)))).sort(compare);
    count.textContent = plural(found.length, "group") + (found.length < run.groups.length ? " of " + run.groups.length.toLocaleString("en") : "");
    empty.hidden = found.length > 0;
    list.hidden = !found.length;
    drawSorts();
    list.scrollTop = 0;
    choose(wanted || (found.includes(chosen) ? chosen : found[0] || null));
  };

  let waiting = 0;
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 150); });
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  addEventListener("hashchange", () => apply(recall()));
  let drawing = 0;
  list.addEventListener("scroll", () => { cancelAnimationFrame(drawing); drawing = requestAnimationFrame(drawRows); }, { passive: true });
  addEventListener("resize", drawRows);
  list.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || !found.length) return;
    event.preventDefault();
    choose(found[Math.min(found.length - 1, Math.max(0, found.indexOf(chosen) + by))]);
  });

  // --- reading a token off ---
  let current = null;
  const point = (token) => {
    if (current) current.classList.remove("current");
    current = token;
    tip.hidden = !token;
    if (!token) return;
    token.classList.add("current");
    tip.textContent = token.dataset.say;
    const box = token.getClientRects()[0] || token.getBoundingClientRect(), room = document.documentElement.clientWidth;
    tip.style.left = Math.max(8, Math.min(box.left, room - tip.offsetWidth - 8)) + scrollX + "px";
    tip.style.top = (box.top > tip.offsetHeight + 8 ? box.top - tip.offsetHeight - 4 : box.bottom + 4) + scrollY + "px";
  };
  const pointAt = (event) => {
    const token = event.target.closest(".tokens .t");
    if (token !== current) point(token);
  };
  shown.addEventListener("pointerover", pointAt);
  shown.addEventListener("click", pointAt); // a finger that has left points no more
  shown.addEventListener("pointerleave", () => point(null));
  shown.addEventListener("focusout", () => point(null));
  shown.addEventListener("scroll", () => point(null), { capture: true, passive: true });
  shown.addEventListener("keydown", (event) => {
    const text = event.target.closest(".tokens"), by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!text || !by) return;
    event.preventDefault();
    const tokens = [...text.querySelectorAll(".t")];
    const next = tokens[Math.min(tokens.length - 1, Math.max(0, tokens.indexOf(current) + by))];
    if (!next) return;
    next.scrollIntoView({ block: "nearest" });
    point(next);
  });

  readCurves(run.curves, (step) => {
    const steps = run.groups.map((group) => group.step);
    const at = steps.reduce((best, one) => Math.abs(one - step) < Math.abs(best - step) ? one : best, steps[0]);
    form.elements.from.value = form.elements.to.value = at;
    apply();
    form.scrollIntoView({ block: "start" });
  });
  apply(recall());
})();
