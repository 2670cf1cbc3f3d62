
// One question with the truth, every answer to it on one time axis, and on request every pass behind the answers.
const cardsOf = (run) => {
  const clock = (time, tenths) => {
    const units = tenths ? Math.round(time * 10) : Math.round(time) * 10;
    const minutes = Math.floor(units / 600), rest = (units % 600) / 10, two = (n) => String(n).padStart(2, "0");
    const seconds = tenths ? rest.toFixed(1).padStart(4, "0") : two(rest);
    return (minutes >= 60 ? Math.floor(minutes / 60) + ":" : "") + two(minutes % 60) + ":" + seconds;
  };
  const spanLabel = ([start, end]) => {
    const tenths = end < 3600 && (start % 1 || end % 1);
    return clock(start, tenths) + " – " + clock(end, tenths);
  };
  const spansText = (spans) => spans.map(spanLabel).join(", ") || "–";
  const kindOf = (name) => run.kinds[name.toLowerCase().split(" ")[0]] || "other";
  const place = (time, axis) => Math.min(100, Math.max(0, time / axis * 100)).toFixed(3) + "%";
  const block = (span, axis, role, kind, what) => {
    const one = make("span", { class: "block " + role + " k-" + kind, title: what + ", " + spanLabel(span) });
    one.style.left = place(span[0], axis);
    one.style.width = (Math.min(100, span[1] / axis * 100) - Math.min(100, Math.max(0, span[0] / axis * 100))).toFixed(3) + "%";
    return one;
  };
  const inside = (spans, axis) => spans.filter(([start, end]) => end > 0 && start < axis);
  const track = (kind, ...blocks) => make("div", { class: "track k-" + kind, "--rows": "1" }, ...blocks);
  const axisOf = (length) => {
    const days = Math.ceil(length / 86400 / run.axis.max_ticks) * 86400;
    const step = run.axis.steps_s.find((one) => length / one <= run.axis.max_ticks) || days;
    const ticks = Array.from({ length: Math.floor(length / step + 1e-9) + 1 }, (_, i) => i * step);
    return make("div", { class: "axis", "aria-hidden": "true" }, ...ticks.map((time) => {
      const share = time / length * 100;
      const tick = make("span", { class: tickClass(share) }, clock(time, step < 1));
      tick.style.left = share + "%";
      return tick;
    }));
  };
  // Without a known length the axis ends with the last thing on it.
  const lengthOf = (question) => question.length || Math.max(1, ...question.spans.map((span) => span[1]),
    ...question.answers.flatMap((one) => (one.spans || []).map((span) => span[1])));
  const dot = (entry) => make("span", { class: "dot k-" + entry.kind + (entry.mark ? " " + entry.mark : ""), "aria-hidden": "true" });
  const marks = { right: "✓", wrong: "✗", unread: "✗", failed: "✗" };

  const failureText = (question, answer) =>
    run.failures[answer.failure].replaceAll("VIDEO", run.videos[question.video][0]);

  const said = (question, answer) => {
    const mark = marks[answer.result]
      ? [make("span", { class: "verdict-mark", "aria-hidden": "true" }, marks[answer.result]), make("span", { class: "visually-hidden" }, answer.result + ": ")] : [];
    const sure = answer.confidence == null ? null : make("small", {}, percent(answer.confidence));
    if (answer.result === "failed") return [...mark, make("span", { class: "none" }, "failed")];
    if (!answer.answer) return [...mark, answer.said || make("span", { class: "none" }, "no answer")];
    const text = question.options[question.labels.indexOf(answer.answer)] || "";
    return [...mark, make("b", {}, answer.answer), " " + (text.length > 60 ? text.slice(0, 57) + "…" : text) + " ", sure];
  };

  const drawAnswer = (question, answer, axis) => {
    const entry = run.entries[answer.entry];
    const close = answer.close || [], found = answer.spans || [];
    const problem = (text) => make("p", { class: "problem" }, text);
    return make("div", { class: "result " + (answer.result === "unread" || answer.result === "failed" ? "wrong " : "") + answer.result },
      make("span", { class: "mode" }, dot(entry), entry.name),
      make("span", { class: "said", title: answer.why || null }, ...said(question, answer)),
      make("span", { class: "n" }, make("span", { class: "unit" }, "IoU "), found.length ? fixed(answer.iou) : "–"),
      make("span", { class: "n" }, answer.tokens === undefined ? "–" : answer.tokens.toLocaleString("en"), make("span", { class: "unit" }, " tokens")),
      make("span", { class: "n" }, fixed(answer.seconds), make("span", { class: "unit" }, " s")),
      make("div", { class: "strip" }, track("zoom",
        ...inside(close, axis).map((span) => block(span, axis, "seen", "zoom", "zoomed in")),
        ...inside(found, axis).map((span) => block(span, axis, "final", "zoom", "found")))),
      ...(answer.failure === undefined ? [] : [problem(failureText(question, answer))]),
      ...(answer.notes || []).map(problem));
  };

  const drawPass = (one, axis) => {
    const [name, seen, found, answer, confidence, seconds, tokens, frames, text, problems] = one, kind = kindOf(name);
    return make("div", { class: "pass" },
      make("div", { class: "lane" }, make("span", { class: "label", title: name }, name),
        track(kind, ...inside(seen, axis).map((span) => block(span, axis, "seen", kind, "looked here")),
          ...inside(found, axis).map((span) => block(span, axis, "found", kind, "found")))),
      make("div", { class: "about" },
        make("p", { class: "hint" }, (answer ? "said " + answer + (confidence === null ? "" : ", " + percent(confidence)) : "no answer")
          + (found.length ? " · found " + spansText(found) : "") + " · " + plural(frames, "frame") + ", " + plural(tokens, "visual token") + ", " + fixed(seconds) + " s"),
        ...(problems || []).map((code) => make("p", { class: "problem" }, run.problems[code] || code)),
        text ? make("pre", {}, text) : null));
  };

  const gaps = ["looked at again, a random span gave the right answer and its own did not",
    "looked at again, a random span did as well as its own", "looked at again, its own spans gave the right answer and a random one did not"];
  const drawTruth = (question, axis) => {
    const truth = inside(question.spans, axis).map((span) => block(span, axis, "true", "true", "true evidence"));
    return make("div", { class: "lane strong" }, make("span", { class: "label" }, "true"), track("true", ...truth));
  };
  const drawPasses = (question, shown, axis) => shown.filter((answer) => answer.passes).map((answer) => make("div", { class: "look" },
    make("h4", {}, dot(run.entries[answer.entry]), run.entries[answer.entry].name),
    make("p", { class: "hint" }, [answer.why, answer.spans.length ? "evidence " + spansText(answer.spans) : "no evidence named",
      answer.hit === undefined ? "" : percent(answer.hit) + " of the close frames show the true evidence",
      answer.gap === undefined ? "" : gaps[answer.gap + 1],
    ].filter(Boolean).join(" · ")),
    question.spans.length ? drawTruth(question, axis) : null,
    ...answer.passes.map((one) => drawPass(one, axis))));

  const drawHead = (question) => {
    const [name, link] = run.videos[question.video], dividing = () => make("span", { "aria-hidden": "true" }, " · ");
    const groups = question.groups.map((i) => run.groups[i]).filter((text) => !text.startsWith("video length"));
    const parts = [...(run.sets.length > 1 ? [run.sets[question.set]] : []), ...groups.map((text) => text.split(": ").slice(1).join(": ")),
      ...(question.length ? [clock(question.length, false)] : []), link ? make("a", { href: link }, name) : name,
      make("a", { href: "#" + encodeURIComponent(question.id), class: "id", title: "Link to this question" }, question.id)];
    return make("header", {}, make("h3", {}, question.text),
      make("p", { class: "hint" }, ...parts.flatMap((part, i) => (i ? [dividing(), part] : [part]))),
      question.options.length ? make("ul", { class: "choices" }, ...question.options.map((text, i) => {
        const right = question.right.includes(question.labels[i]);
        return make("li", { class: right ? "right" : null }, make("span", { class: "letter" }, question.labels[i]), " " + text,
          right ? make("span", { class: "visually-hidden" }, " (right)") : null);
      })) : null);
  };

  // The card of a question with the answers of the entries in `wanted`.
  return (question, wanted) => {
    const axis = lengthOf(question), shown = question.answers.filter((one) => wanted.has(one.entry));
    const more = make("details", { class: "passes" }, make("summary", {}, "Every pass"));
    more.addEventListener("toggle", () => {
      if (more.open && more.children.length === 1) more.append(...drawPasses(question, shown, axis));
    });
    const truth = inside(question.spans, axis);
    return make("article", { class: "card" }, drawHead(question), make("div", { class: "results" },
      make("div", { class: "result head", "aria-hidden": "true" }, make("span"), make("span"), make("span", { class: "n" }, "IoU"),
        make("span", { class: "n" }, "tokens"), make("span", { class: "n" }, "seconds"),
        make("div", { class: "strip" }, axisOf(axis), truth.length ? track("true", ...truth.map((span) => block(span, axis, "true", "true", "true evidence"))) : null)),
      ...shown.map((answer) => drawAnswer(question, answer, axis))),
      shown.some((answer) => answer.passes) ? more : null);
  };
};
