// The page: choosing and uploading a video, the question, and what was asked before.
let state = null, video = null, question = null, answers = [], shown = null, upload = null;

const say = (id, text) => { $(id).textContent = text || ""; $(id).hidden = !text; };
const saved = { get: () => sessionStorage.getItem("video"), set: (id) => sessionStorage.setItem("video", id) };

// --- videos ---
const card = (one, mine) => {
  const button = make("button", { type: "button", class: "card-video", "aria-pressed": String(Boolean(video && video.id === one.id)), "data-video": one.id }, one.name);
  button.addEventListener("click", () => choose(one.id));
  if (!mine) return button;
  const gone = make("button", { type: "button", class: "gone", title: "Remove " + one.name, "aria-label": "Remove " + one.name }, "×");
  gone.addEventListener("click", () => forget(one));
  return make("span", { class: "mine" }, button, gone);
};
const drawShelf = () => {
  const drop = make("button", { type: "button", class: "drop", id: "drop" }, make("b", {}, "Drop a video"), make("span", { class: "hint" }, "or choose a file, up to " + number(state.limits.upload_mb) + " MB"));
  drop.addEventListener("click", () => $("file").click());
  const shelf = state.listed.filter((one) => !one.example), few = shelf.length <= 12;
  const parts = [drop, ...state.mine.map((one) => card(one, true)), ...state.listed.filter((one) => one.example || few).map((one) => card(one, false))];
  if (!few) {
    const pick = make("select", { "aria-label": "Videos of this server" }, make("option", { value: "" }, plural(shelf.length, "video")), ...shelf.map((one) => make("option", { value: one.id, selected: Boolean(video && video.id === one.id) }, one.name)));
    pick.addEventListener("change", () => { if (pick.value) choose(pick.value); });
    parts.push(make("label", { class: "pick" }, pick));
  }
  $("shelf").replaceChildren(...parts);
};
const refresh = async () => {
  state = await (await fetch("state")).json();
  $("model").textContent = state.model;
  $("keeping").textContent = "Your videos and answers are yours alone and are removed after " + Math.round(state.limits.age_s / 60) + " idle minutes.";
  drawShelf();
};
const choose = async (id) => {
  if (question) return;
  const reply = await fetch("videos/" + encodeURIComponent(id));
  if (!reply.ok) return say("upload-problem", await reply.text());
  say("upload-problem", "");
  video = await reply.json();
  saved.set(video.id);
  $("watch").hidden = false;
  for (const part of ["verdict", "compare", "frames", "costs", "words", "live"]) $(part).hidden = true;
  say("problem", "");
  $("about-video").textContent = video.name + " · " + clock(video.duration_s) + " · " + video.width + " × " + video.height;
  $("video-notes").replaceChildren(...video.notes.map((note) => make("li", {}, note)));
  $("video-notes").hidden = !video.notes.length;
  timeline.open(video);
  drawShelf();
  suggest();
  answers = await (await fetch("videos/" + encodeURIComponent(id) + "/answers")).json();
  drawHistory();
  if (answers.length) pick(answers[answers.length - 1]);
};
const forget = async (one) => {
  if (question) return;
  await fetch("videos/" + encodeURIComponent(one.id), { method: "DELETE" });
  if (video && video.id === one.id) { video = null; $("watch").hidden = true; for (const part of ["compare", "frames", "costs", "words", "history"]) $(part).hidden = true; }
  await refresh();
};
const send = (file) => {
  if (!file || upload) return;
  say("upload-problem", "");
  if (file.size > state.limits.upload_mb * 1e6) return say("upload-problem", file.name + " is larger than " + number(state.limits.upload_mb) + " MB.");
  upload = new XMLHttpRequest();
  upload.open("POST", "upload?name=" + encodeURIComponent(file.name));
  upload.upload.onprogress = (event) => { $("uploading-bar").value = event.total ? event.loaded / event.total : 0; };
  const over = () => { upload = null; $("uploading").hidden = true; $("file").value = ""; };
  upload.onload = async () => {
    const { status, responseText } = upload;
    over();
    if (status !== 200) return say("upload-problem", responseText || "The upload failed.");
    await refresh();
    await choose(JSON.parse(responseText).id);
  };
  upload.onerror = () => { over(); say("upload-problem", "The upload broke off."); };
  upload.onabort = over;
  $("uploading-name").textContent = file.name;
  $("uploading-bar").value = 0;
  $("uploading").hidden = false;
  upload.send(file);
};

// --- the question ---
const offers = () => [...$("offers").querySelectorAll("input")];
const letterOf = (i) => String.fromCharCode(65 + i);
const numberOffers = () => offers().forEach((input, i) => { input.parentElement.querySelector(".letter").textContent = letterOf(i); input.setAttribute("aria-label", "Option " + letterOf(i)); });
const offer = (text = "") => {
  if (offers().length >= 26) return null;
  const input = make("input", { type: "text", maxlength: "1000", value: text });
  const gone = make("button", { type: "button", class: "gone", "aria-label": "Remove this option" }, "×");
  gone.addEventListener("click", () => { input.parentElement.remove(); numberOffers(); });
  $("offers").append(make("li", {}, make("span", { class: "letter", "aria-hidden": "true" }), input, gone));
  numberOffers();
  return input;
};
const fill = (text, options) => {
  $("question").value = text;
  clear($("offers"));
  options.forEach((one) => offer(one));
};
const suggest = () => {
  const listed = state.listed.find((one) => one.id === video.id);
  const example = listed && listed.example;
  if (state.listed.some((one) => one.example && one.example.question === $("question").value)) fill("", []); // about another video
  $("examples").hidden = !example;
  if (!example) return clear($("examples"));
  if (!$("question").value.trim()) fill(example.question, example.options);
  if ($("question").value === example.question) { $("examples").hidden = true; return clear($("examples")); }
  const button = make("button", { type: "button", class: "quiet", id: "try" }, "Try: " + example.question);
  button.addEventListener("click", () => fill(example.question, example.options));
  $("examples").replaceChildren(button);
};
const drawWays = () => $("ways").replaceChildren(...state.modes.map((mode) => make("label", { class: "pill" },
  make("input", { type: "checkbox", name: "mode", value: mode, checked: mode === "zoom" }), make("span", {}, mode))));

const busy = (on) => {
  $("go").disabled = on;
  $("stop").hidden = !on;
  $("stop").disabled = false;
  if (!on) $("waiting").textContent = "";
};
const ask = async () => {
  if (!video || question) return;
  const modes = [...$("ways").querySelectorAll("input:checked")].map((one) => one.value);
  if (!modes.length) return say("problem", "Choose at least one way of looking.");
  const options = offers().map((one) => one.value.trim()).filter(Boolean), new_answers = [];
  say("problem", "");
  for (const part of ["verdict", "compare", "frames", "costs", "words"]) $(part).hidden = true;
  busy(true);
  question = { cancel: async () => {} };
  live.begin(video);
  toView("live");
  const on = (event) => {
    if (event.event === "queue") $("waiting").textContent = event.rank ? event.rank + " before you" : "next";
    else if (event.event === "start") $("waiting").textContent = "";
    else if (event.event === "error") say("problem", event.message);
    else if (event.event === "stopped") say("problem", "Stopped.");
    else if (event.event === "answer") { answers.push(event); new_answers.push(event); }
    else if (event.event === "end") finish(new_answers);
    else live.take(event);
  };
  try {
    const put = await putQuestion(video.id, $("question").value, options, modes, on);
    if (put && question) question = put;
  } catch (error) {
    say("problem", "The app cannot be reached.");
    finish([]);
  }
};
const finish = (fresh) => {
  question = null;
  busy(false);
  live.end();
  drawHistory();
  if (fresh.length) {
    showComparison(fresh, fresh[fresh.length - 1], (one) => compareAgain(fresh, one));
    pick(fresh[fresh.length - 1], true);
  }
};
const compareAgain = (fresh, one) => { showComparison(fresh, one, (other) => compareAgain(fresh, other)); pick(one); };

// --- what was asked before ---
const toView = (id) => { if (matchMedia("(max-width: 52rem)").matches) $(id).scrollIntoView({ block: "start", behavior: "smooth" }); };
const pick = async (answer, fresh = false) => {
  shown = answer;
  drawHistory();
  if (!answer.frames) {
    const reply = await fetch("answers/" + encodeURIComponent(answer.id) + "/view");
    answer.frames = reply.ok ? (await reply.json()).frames : [];
  }
  if (shown !== answer) return;
  showAnswer(answer);
  if (fresh) toView("verdict");
};
const alike = (answer) => answers.filter((one) => one.question === answer.question && one.options.join("\n") === answer.options.join("\n"));
const drawHistory = () => {
  $("history").hidden = !answers.length;
  $("asked").replaceChildren(...[...answers].reverse().map((one) => {
    const button = make("button", { type: "button", class: "past", "aria-current": one === shown ? "true" : null },
      make("span", { class: "asked-what" }, one.question), make("span", { class: "asked-said" }, one.option ? make("b", {}, one.option + " ") : null, one.answer === null ? "no answer" : one.answer),
      make("span", { class: "hint" }, one.mode + (one.confidence === null ? "" : " · " + percent(one.confidence)) + " · " + number(one.costs.prefill_tokens) + " tokens read"), strip(one));
    button.addEventListener("click", () => {
      fill(one.question, one.options);
      compareAgain(newestOfEachMode(alike(one), one), one);
    });
    return make("li", {}, button);
  }));
};
const newestOfEachMode = (some, chosen) => [...new Map([...some, chosen].map((one) => [one.mode, one])).values()];

// --- begin ---
$("file").addEventListener("change", () => send($("file").files[0]));
$("upload-stop").addEventListener("click", () => upload && upload.abort());
$("offer").addEventListener("click", () => { const input = offer(); if (input) input.focus(); });
$("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
$("stop").addEventListener("click", () => { $("stop").disabled = true; $("waiting").textContent = "stopping"; if (question) question.cancel(); });
for (const kind of ["dragover", "dragenter"]) document.addEventListener(kind, (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", (event) => { event.preventDefault(); document.body.classList.remove("over"); send(event.dataTransfer.files[0]); });
(async () => {
  await refresh();
  drawWays();
  const last = saved.get(), all = [...state.mine, ...state.listed];
  const first = all.find((one) => one.id === last) || state.listed.find((one) => one.example);
  if (first) await choose(first.id);
})();
