
// The evaluation report: filters over the embedded questions, of which only one page exists as elements at a time.
(() => {
  const source = document.getElementById("evaluation-data");
  if (!source) return;
  const run = JSON.parse(source.textContent);
  const form = document.querySelector("[data-browse]"), count = form.querySelector("output");
  const list = document.querySelector("[data-cards]"), empty = document.querySelector("[data-none]");
  const pagers = [...document.querySelectorAll("[data-pages]")];
  const drawCard = cardsOf(run);
  const SIZE = 20; // questions a page
  let found = [], page = 0;

  const words = (question) => question.words ??= [question.id, question.text, ...question.options,
    run.videos[question.video][0], ...question.answers.map((one) => one.said || "")].join("\n").toLowerCase();
  const passes = (values, wanted) => {
    const text = (values.get("text") || "").trim().toLowerCase(), result = values.get("result");
    const group = values.get("group"), failure = values.get("failure"), set = values.get("set");
    const suits = (one) => result === "all" || result === one.result || (result === "wrong" && one.result === "unread");
    return (question) => {
      const shown = question.answers.filter((one) => wanted.has(one.entry));
      if (!shown.length) return false;
      if (result === "differ" ? !(shown.some((one) => one.result === "right") && shown.some((one) => one.result !== "right")) : !shown.some(suits)) return false;
      return (!group || question.groups.includes(Number(group))) && (!set || question.set === Number(set))
        && (!failure || shown.some((one) => one.failure === Number(failure)))
        && (!text || words(question).includes(text));
    };
  };
  const least = (pick, none) => (question) => Math.min(...question.answers.map((one) => pick(one) ?? none));
  const most = (pick) => (question) => -Math.max(...question.answers.map((one) => pick(one) ?? -1));
  const orders = {
    iou: least((one) => one.iou, 2),
    sure: (question) => -Math.max(...question.answers.map((one) => (one.result === "wrong" ? one.confidence : -1) ?? -1)),
    seconds: most((one) => one.seconds),
    tokens: most((one) => one.tokens),
  };

  const turn = (to, focus) => {
    page = Math.min(Math.max(0, to), Math.max(0, Math.ceil(found.length / SIZE) - 1));
    draw();
    if (focus) document.getElementById("questions").scrollIntoView();
  };
  const drawPager = (pager) => {
    const last = Math.max(0, Math.ceil(found.length / SIZE) - 1);
    pager.hidden = last === 0;
    const step = (label, name, to, off) => {
      const button = make("button", { type: "button", "aria-label": name, disabled: off }, label);
      button.addEventListener("click", () => turn(to, pager === pagers[1]));
      return button;
    };
    const input = make("input", { type: "number", min: 1, max: last + 1, value: page + 1, "aria-label": "Page" });
    input.addEventListener("change", () => turn(Number(input.value) - 1, pager === pagers[1]));
    pager.replaceChildren(step("‹ Back", "Page before", page - 1, page === 0), make("span", {}, "Page ", input, " of " + (last + 1).toLocaleString("en")),
      step("Next ›", "Next page", page + 1, page === last));
  };
  const wantedEntries = (values) => new Set(values.getAll("entry").map(Number));
  const draw = () => {
    const values = new FormData(form), wanted = wantedEntries(values);
    list.replaceChildren(...found.slice(page * SIZE, (page + 1) * SIZE).map((question) => drawCard(question, wanted)));
    pagers.forEach(drawPager);
  };
  const apply = () => {
    const values = new FormData(form), order = orders[values.get("order")];
    found = run.questions.filter(passes(values, wantedEntries(values)));
    if (order) {
      const keys = new Map(found.map((question) => [question, order(question)]));
      found.sort((a, b) => keys.get(a) - keys.get(b));
    }
    count.textContent = plural(found.length, "question") + (found.length === run.questions.length ? "" : " of " + run.questions.length.toLocaleString("en"));
    empty.hidden = found.length > 0;
    turn(0, false);
  };

  let waiting = 0;
  form.addEventListener("change", apply);
  form.addEventListener("input", (event) => {
    if (event.target.name !== "text") return;
    clearTimeout(waiting);
    waiting = setTimeout(apply, 150);
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  form.addEventListener("reset", () => setTimeout(apply));

  // A failure's button shows its questions; an address that ends with #ID shows that question.
  for (const button of document.querySelectorAll("[data-failure]")) {
    button.addEventListener("click", () => {
      form.reset();
      form.elements.failure.value = button.dataset.failure;
      apply();
      document.getElementById("questions").scrollIntoView();
    });
  }
  const byAddress = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    if (!run.questions.some((question) => question.id === id)) return;
    form.reset();
    form.elements.text.value = id;
    apply();
    document.getElementById("questions").scrollIntoView();
  };
  addEventListener("hashchange", byAddress);
  apply();
  byAddress();
})();
