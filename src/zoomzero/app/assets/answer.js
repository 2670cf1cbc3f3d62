// One answer: what was said, what showed it, what was seen, what it cost. Everything is text; nothing is read as HTML.
const KIND_WORDS = { json: "JSON", html: "Page", srt: "Subtitles", edl: "Edit list" };
const sure = (confidence) => confidence === null
  ? make("p", { class: "sure" }, make("span", {}, "how sure the model is, is not known"))
  : make("p", { class: "sure" }, make("span", { class: "meter", "aria-hidden": "true" }, make("span", { "--share": confidence * 100 + "%" })), make("span", {}, percent(confidence) + " confident"));
const chip = (span) => make("button", { type: "button", class: "chip", "data-seek": span[0], "data-until": span[1], title: "Play " + stretch(span) }, stretch(span));
const verdictOf = (answer) => answer.right === null || answer.right === undefined ? null
  : make("span", { class: "tag " + (answer.right ? "good" : "bad") }, answer.right ? "right" : "wrong");

const showAnswer = (answer) => {
  timeline.draw(answer);
  const chances = answer.passes.filter((one) => one.option_probabilities.length === answer.options.length && answer.options.length);
  const scored = chances.find((one) => one.won) || chances[chances.length - 1];
  const letters = answer.options.map((_, i) => String.fromCharCode(65 + i));
  const parts = [
    answer.answer === null
      ? make("p", { class: "answer none" }, "No answer could be read from what the model wrote.")
      : make("p", { class: "answer" }, answer.option ? make("span", { class: "letter" }, answer.option) : null, make("span", {}, answer.answer), verdictOf(answer)),
    answer.answer === null ? null : sure(answer.confidence),
    make("h3", {}, "Evidence"),
    answer.spans.length ? make("p", { class: "chips" }, ...answer.spans.map(chip)) : make("p", { class: "none" }, "The model named no moment of the video as evidence."),
    answer.notes.length ? make("ul", { class: "warnings" }, ...answer.notes.map((note) => make("li", {}, note))) : null,
    make("h3", {}, "Why this answer"),
    make("p", { class: "reason" }, answer.reason),
    answer.options.length ? make("h3", {}, "Options", scored ? make("span", { class: "hint" }, " as " + scored.name + " judged them") : null) : null,
    answer.options.length ? make("ol", { class: "options" }, ...answer.options.map((text, i) => make("li", answer.option === letters[i] ? { class: "chosen", "aria-current": "true" } : {},
      make("span", { class: "letter" }, letters[i]), make("span", { class: "text" }, text),
      scored ? make("span", { class: "chance" }, percent(scored.option_probabilities[i])) : null,
      scored ? make("span", { class: "meter", "aria-hidden": "true" }, make("span", { "--share": scored.option_probabilities[i] * 100 + "%" })) : null))) : null,
    answer.kept ? make("h3", {}, "Take away") : make("p", { class: "hint" }, "This answer was not kept: there is no room left for your files."),
    answer.kept ? make("p", { class: "takes" }, answer.spans.length ? take(answer, "clip.mp4", "Clip") : null,
      ...Object.entries(KIND_WORDS).filter(([kind]) => answer.spans.length || !["srt", "edl"].includes(kind)).map(([kind, word]) => take(answer, "answer." + kind, word))) : null,
  ];
  $("said").replaceChildren(...parts.filter(Boolean));
  $("verdict").hidden = false;
  showFrames(answer.frames);
  if (answer.spans.length) timeline.seek(answer.spans[0][0]);
  showCosts(answer);
  showWords(answer);
};
const take = (answer, name, word) => make("a", { class: "take", href: "answers/" + encodeURIComponent(answer.id) + "/" + name, download: "", "data-take": name }, word);

const thumbOf = (group) => (one) => make("button", { type: "button", class: "thumb", "data-seek": one.time_s },
  make("img", { src: one.url, alt: group.name + " at " + moment(one.time_s), decoding: "async" }), make("span", { "aria-hidden": "true" }, moment(one.time_s)));
const showFrames = (groups) => {
  $("frames").hidden = !groups.length;
  $("sheets").replaceChildren(...groups.map((group) => make("details", { class: "sheet", open: true },
    make("summary", {}, make("span", { class: "dot k-" + group.kind, "aria-hidden": "true" }), group.name + " ", make("span", { class: "hint" }, plural(group.count, "frame") + ", " + group.width + " × " + group.height)),
    make("div", { class: "grid" }, ...group.thumbs.map(thumbOf(group))))));
};

const number = (value) => Math.round(value).toLocaleString("en");
const COLUMNS = [
  ["Looked at", (one) => one.spans.map(stretch).slice(0, 3).join(", ") + (one.spans.length > 3 ? " …" : ""), "times"],
  ["Found", (one) => one.found.map(stretch).slice(0, 3).join(", ") || "–", "times"],
  ["Said", (one) => one.option || (one.answer || "–").slice(0, 40), "said"],
  ["Confidence", (one) => (one.confidence === null || one.answer === null ? "–" : percent(one.confidence)), "n"],
  ["Frames", (one) => number(one.frames), "n"],
  ["Visual", (one) => number(one.visual_tokens), "n"],
  ["Prompt", (one) => number(one.prompt_tokens), "n"],
  ["New", (one) => number(one.new_tokens), "n"],
  ["Written", (one) => number(one.generated_tokens), "n"],
  ["Seconds", (one) => fixed(one.seconds), "n"],
];
const showCosts = (answer) => {
  const costs = answer.costs;
  const figures = [["visual tokens", costs.visual_tokens], ["tokens read", costs.prefill_tokens], ["tokens written", costs.generated_tokens], ["frames seen", costs.frames], ["frames decoded", costs.decoded_frames]];
  $("figures").replaceChildren(...[...figures.map(([word, value]) => [word, number(value)]), ["seconds", answer.seconds.toFixed(2)]]
    .map(([word, value]) => make("div", {}, make("dt", {}, word), make("dd", {}, value))));
  $("spent").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Pass"), ...COLUMNS.map(([title, , kind]) => make("th", { scope: "col", class: kind === "n" ? "n" : null }, title)))),
    make("tbody", {}, ...answer.passes.map((one) => make("tr", one.won ? { class: "winner" } : {},
      make("th", { scope: "row" }, make("span", { class: "dot k-" + one.kind, "aria-hidden": "true" }), one.name, one.won ? make("span", { class: "tag" }, "answer") : null),
      ...COLUMNS.map(([title, value, kind]) => make("td", { class: kind, "data-label": title }, value(one)))))));
  $("costs").hidden = false;
};
const showWords = (answer) => {
  $("wrote").replaceChildren(...answer.passes.map((one) => make("details", {},
    make("summary", {}, make("span", { class: "dot k-" + one.kind, "aria-hidden": "true" }), one.name + " ",
      make("span", { class: "hint" }, one.text ? plural(one.generated_tokens, "token") : "options scored")),
    make("div", { class: "body" }, one.text ? make("pre", { tabindex: "0" }, one.text) : make("p", { class: "hint" }, "Nothing was written: this pass only compared the options."),
      ...one.problems.map((text) => make("p", { class: "problem" }, text)), ...one.notes.map((text) => make("p", { class: "problem" }, text))))));
  $("words").hidden = !answer.passes.length;
};

// A thin strip of an answer's evidence, for lists.
const strip = (answer) => {
  const lane = answer.lanes.find((one) => one.kind === "final");
  return make("span", { class: "track strip" }, ...(lane ? lane.blocks : []).map((one) => make("span", { class: "block final", title: one.title, "--left": one.left + "%", "--width": one.width + "%", "--row": "0" })));
};
const showComparison = (answers, chosen, pick) => {
  $("compare").hidden = answers.length < 2;
  if (answers.length < 2) return;
  const most = Math.max(...answers.map((one) => one.shown_tokens), 1);
  $("compared").replaceChildren(
    make("thead", {}, make("tr", {}, ...["Look", "Answer", "Confidence", "Evidence", "Visual tokens", "Seconds"].map((title, i) => make("th", { scope: "col", class: i > 1 && i !== 3 ? "n" : null }, title)))),
    make("tbody", {}, ...answers.map((one) => {
      const button = make("button", { type: "button", class: "pick-mode" }, one.mode);
      button.addEventListener("click", () => pick(one));
      return make("tr", { class: one === chosen ? "winner" : null, "data-mode": one.mode }, make("th", { scope: "row" }, button),
        make("td", { class: "said", "data-label": "Answer" }, one.option ? make("b", {}, one.option + " ") : null, one.answer === null ? "–" : one.answer, verdictOf(one)),
        make("td", { class: "n", "data-label": "Confidence" }, one.confidence === null ? "–" : percent(one.confidence)),
        make("td", { class: "evidence", "data-label": "Evidence" }, strip(one), make("small", {}, one.spans.map(stretch).slice(0, 2).join(", ") || "none")),
        make("td", { class: "n", "data-label": "Visual tokens" }, number(one.shown_tokens), make("span", { class: "meter", "aria-hidden": "true" }, make("span", { "--share": (one.shown_tokens / most) * 100 + "%" })),
          one.costs.visual_tokens < one.shown_tokens ? make("small", {}, number(one.costs.visual_tokens) + " read anew") : null),
        make("td", { class: "n", "data-label": "Seconds" }, one.seconds.toFixed(2)));
    })));
};
