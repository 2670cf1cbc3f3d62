
// One group, made with elements.js.
const signed = (value) => (value > 0 ? "+" : value < 0 ? "\u2212" : "") + Math.abs(value);
const brief = (value) => (value > 0 ? "+" : value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(3);
const colour = (value, scale) => ({
  class: value > 0 ? "plus" : value < 0 ? "minus" : "", "--a": Math.min(1, Math.abs(value || 0) / scale).toFixed(3),
});

const drawSpans = (spans, role, what) => spans.map(([left, width, label]) => {
  const block = make("span", { class: "block " + role, title: what + ", " + label });
  block.style.left = left + "%";
  block.style.width = width + "%";
  return block;
});

const verdict = (rollout) => make("span", { class: rollout.right ? "good" : "bad" }, rollout.right ? " ✓" : " ✗");

const drawTimeline = (group, rewards, cards) => {
  const axis = make("div", { class: "axis", "aria-hidden": "true" }, ...group.ticks.map(([left, label]) => {
    const tick = make("span", { class: tickClass(left) }, label);
    tick.style.left = left + "%";
    return tick;
  }));
  const lanes = make("div", { class: "lanes" },
    make("div", { class: "lane ruler" }, make("span", { class: "label hint" }, "answer, IoU"), axis));
  const band = make("div", { class: "overlay", "aria-hidden": "true" });
  band.append(...drawSpans(group.spans, "", "").map((block) => { block.className = "truth-band"; return block; }));
  lanes.append(band);
  lanes.append(make("div", { class: "lane strong" }, make("span", { class: "label" }, "true"),
    make("div", { class: "track k-true", "--rows": "1" }, ...drawSpans(group.spans, "true", "true evidence"))));
  group.rollouts.forEach((one, place) => {
    const iou = one.rewards[rewards.indexOf("iou")];
    const label = make("button", { class: "label", type: "button", title: "Go to rollout " + (place + 1) },
      place + 1 + ". ", one.option || "–", verdict(one), " " + fixed(iou));
    label.addEventListener("click", () => cards[place].scrollIntoView({ block: "start" }));
    lanes.append(make("div", { class: "lane" }, label,
      make("div", { class: "track k-coarse", "--rows": "1" }, ...drawSpans(one.spans, "found", "rollout " + (place + 1)))));
  });
  return make("section", { class: "timeline", "aria-label": "Spans" }, lanes, make("ul", { class: "legend" },
    make("li", {}, make("span", { class: "swatch true k-true", "aria-hidden": "true" }), "true evidence"),
    make("li", {}, make("span", { class: "swatch found k-coarse", "aria-hidden": "true" }), "named by the rollout")));
};

// The completion, one element a token. Its advantage and role are read off by pointing at it or with the arrow keys.
const drawTokens = (rollout, number, scale) => {
  const text = make("pre", { class: "tokens", tabindex: "0", "aria-label": "Completion " + number + ", token by token" });
  const plain = new Set(rollout.plain);
  let run = -1, left = 0, token = 0;
  rollout.pieces.forEach((piece, place) => {
    if (plain.has(place)) { text.append(piece); return; }
    while (!left) left = rollout.credit[++run][0];
    const [, advantage, answer] = rollout.credit[run];
    left -= 1;
    const { class: side, "--a": strength } = colour(advantage, scale);
    const one = document.createElement("span");
    const last = place === rollout.pieces.length - 1;
    one.className = "t " + side + (answer ? " is-answer" : "")
      + (piece ? (piece.includes("\n") ? " newline" : "") : last && rollout.finished ? " ends" : " part");
    if (side) one.style.setProperty("--a", strength);
    one.textContent = piece;
    one.dataset.say = "token " + (token += 1) + (piece.trim() ? " “" + piece.replaceAll("\n", "↵") + "”" : "") + "\n"
      + (answer ? "answer" : "rest") + ", " + (advantage === null ? "no advantage" : "advantage " + signed(advantage));
    text.append(one);
  });
  return text;
};

// The advantage of each role in words: one number where all its tokens have one, else the least and the largest.
const drawCredit = (rollout, scale) => [[0, "rest"], [1, "answer"]].flatMap(([role, name]) => {
  const values = rollout.credit.filter((run) => run[2] === role && run[1] !== null).map((run) => run[1]);
  if (!values.length) return [];
  const low = Math.min(...values), high = Math.max(...values);
  const shown = low === high ? [low] : [low, high];
  return [make("span", {}, name + " ", ...shown.flatMap((value, place) => {
    const { class: side, "--a": strength } = colour(value, scale);
    const mark = make("span", { class: "t " + side, "--a": strength }, brief(value));
    return place ? [" to ", mark] : [mark];
  }))];
});

const drawZoom = (group, zoom) => {
  if (!zoom) return null;
  const where = zoom.on ? "Zoomed into its spans: " : "No usable span; ";
  if (zoom.chances) {
    return make("p", { class: "zoomed" }, zoom.on ? where : where + "whole video: ", ...zoom.chances.map((chance, place) =>
      make("span", { class: "chance" + (group.labels[place] === group.truth ? " truth" : "") },
        (group.labels[place] || String(place + 1)) + " " + percent(chance))));
  }
  if (zoom.text !== null && zoom.text !== "") return make("p", { class: "zoomed" }, where + "wrote “" + zoom.text + "”");
  return make("p", { class: "zoomed" }, zoom.on ? where + "wrote nothing" : where + "nothing was looked at");
};

const drawRollout = (group, rollout, place, run) => {
  const tokens = rollout.pieces.length - rollout.plain.length;
  const card = make("section", { class: "rollout", "aria-label": "Rollout " + (place + 1) });
  card.append(make("h4", {},
    make("b", {}, "Rollout " + (place + 1)),
    make("span", {}, "answer ", make("b", {}, rollout.option || (group.labels.length ? "none" : "")), verdict(rollout)),
    make("span", {}, plural(tokens, "token")),
    make("span", { class: rollout.finished ? "" : "cut" }, rollout.finished ? "finished" : "cut off"),
    ...drawCredit(rollout, run.scale)));
  card.append(make("div", { class: "rewards" }, ...run.rewards.flatMap((name, i) => {
    const value = rollout.rewards[i];
    if (value === null) return [];
    const bar = make("span", {});
    bar.style.width = Math.min(1, Math.max(0, value)) * 100 + "%";
    return [make("div", { title: "group mean " + fixed(group.mean[i], 3) + ", deviation " + fixed(group.std[i], 3) },
      name, make("b", {}, fixed(value)), make("span", { class: "meter", "aria-hidden": "true" }, bar))];
  })));
  const zoom = drawZoom(group, rollout.zoom);
  if (zoom) card.append(zoom);
  card.append(drawTokens(rollout, place + 1, run.scale));
  if (rollout.outside) card.append(make("p", { class: "problem" }, plural(rollout.outside, "span") + " outside the video"));
  for (const code of rollout.problems) {
    card.append(make("p", { class: "problem" }, run.problems[code] || code, make("code", {}, code)));
  }
  return card;
};

const drawScale = (scale) => make("p", { class: "scale" },
  make("span", {}, "advantage \u2212" + scale, make("span", { class: "bar", "aria-hidden": "true" }), "+" + scale + " and beyond"),
  make("span", {}, make("span", { class: "t is-answer" }, "underlined"), " answer tokens"),
  make("span", {}, "point at a token, or use the arrow keys, for its number"));

const drawGroup = (group, run, turn) => {
  const cards = group.rollouts.map((rollout, place) => drawRollout(group, rollout, place, run));
  const [source, split, video, length] = group.facts;
  const head = make("div", { class: "group-head" },
    make("span", {}, "step " + group.step), make("span", {}, "group " + group.index),
    group.kept ? make("span", {}, "kept") : make("span", { class: "dropped" }, "dropped"),
    make("span", {}, "spread " + fixed(group.spread, 3)), turn);
  const choices = make("ul", { class: "choices" }, ...group.options.map((text, place) => {
    const right = group.labels[place] === group.truth;
    return make("li", { class: right ? "right" : null }, make("span", { class: "letter" }, group.labels[place]), " " + text,
      right ? make("span", { class: "visually-hidden" }, " (right)") : null);
  }));
  if (!group.options.length) choices.append(make("li", { class: "right" }, group.truth));
  return [head, make("h3", { class: "asked" }, group.question), choices,
    make("p", { class: "hint" }, [group.id, source, split, video, length].filter(Boolean).join(" · ")),
    make("details", {}, make("summary", {}, "Prompt ", make("span", { class: "hint" }, plural(group.prompt.length, "character"))),
      make("pre", { tabindex: "0" }, group.prompt)),
    drawTimeline(group, run.rewards, cards), drawScale(run.scale), ...cards];
};
