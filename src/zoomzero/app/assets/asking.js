// Putting a question to the queue and following what happens, through gradio's own protocol.
const API = "api/gradio_api/";
const randomName = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
let watchIndex = null;
const findWatch = async () => {
  if (watchIndex === null) {
    const config = await (await fetch("api/config")).json();
    watchIndex = config.dependencies.find((one) => one.api_name === "watch").id;
  }
  return watchIndex;
};
const post = (address, body) => fetch(address, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

// One question under way: `on` is told every event of ours, and `{event: "queue", rank, size}` while it waits.
const putQuestion = async (video, question, options, modes, on) => {
  const fn_index = await findWatch(), session_hash = randomName();
  const joined = await post(API + "queue/join", { data: [video, question, options, modes], fn_index, session_hash, event_data: null, trigger_id: null, simple_format: true });
  if (!joined.ok) {
    const said = joined.status === 503 ? "Too many questions are waiting; try again in a minute." : "The app did not take the question (" + joined.status + ").";
    on({ event: "error", message: said });
    return on({ event: "end" });
  }
  const { event_id } = await joined.json();
  const source = new EventSource(API + "queue/data?session_hash=" + session_hash);
  let ended = false, running = false;
  const end = () => {
    if (ended) return;
    ended = true;
    source.close();
    window.removeEventListener("pagehide", leave);
    on({ event: "end" });
  };
  const take = (message) => {
    if (message.msg === "estimation" && !running) on({ event: "queue", rank: message.rank, size: message.queue_size });
    if (message.msg === "process_starts") { running = true; on({ event: "start" }); }
    if (["process_generating", "process_completed"].includes(message.msg)) {
      if (message.success === false) on({ event: "error", message: (message.output && message.output.error) || "The app failed on this question." });
      // The last message repeats what was told before it.
      const some = message.msg === "process_generating" && message.output ? message.output.data : null;
      for (const one of (some && some[0]) || []) {
        if (one.event === "end") return end();
        on(one);
      }
      if (message.msg === "process_completed") end();
    }
    if (message.msg === "unexpected_error") { on({ event: "error", message: "The connection to the app broke." }); end(); }
  };
  source.onmessage = (event) => take(JSON.parse(event.data));
  source.onerror = () => { if (!ended) { on({ event: "error", message: "The connection to the app broke." }); end(); } };
  const cancel = async () => {
    if (running) { await fetch("stop/" + session_hash, { method: "POST" }); return; }
    await post(API + "cancel", { session_hash, fn_index, event_id });
    on({ event: "stopped" });
    end();
  };
  const leave = () => navigator.sendBeacon("stop/" + session_hash);
  window.addEventListener("pagehide", leave);
  return { cancel };
};

// The passes of a question as they happen.
const live = (() => {
  let passes = new Map(), drawing = null, video = null;
  const entry = (name) => {
    if (!passes.has(name)) {
      const item = make("li", { class: "pass k-" + kindOf(name) },
        make("p", { class: "pass-name" }, make("span", { class: "dot k-" + kindOf(name), "aria-hidden": "true" }), make("b", {}, name), make("span", { class: "hint facts" })),
        make("div", { class: "reel" }), make("pre", { class: "typed", hidden: true }));
      $("passes").append(item);
      passes.set(name, item);
    }
    return passes.get(name);
  };
  const KINDS = { direct: "direct", coarse: "coarse", window: "window", candidate: "candidate", zoom: "zoom", verify: "zoom", context: "context", outside: "outside" };
  const kindOf = (name) => KINDS[name.split(" ")[0]] || "other";
  const facts = (name, text) => { entry(name).querySelector(".facts").textContent = text; };
  const redraw = () => timeline.draw(drawing);
  const begin = (chosen) => {
    video = chosen;
    mode();
    $("live").hidden = false;
  };
  const mode = () => {
    clear($("passes"));
    passes = new Map();
    const length = video.duration_s || 1;
    drawing = { axis_s: length, ticks: timeline.ticks(length), lanes: [], legend: [] };
    redraw();
  };
  const blockOf = (span, role, title) => {
    const left = (span[0] / drawing.axis_s) * 100, right = (span[1] / drawing.axis_s) * 100;
    return { left, width: Math.max(0, Math.min(100, right) - left), start_s: span[0], end_s: span[1], title: title + ", " + stretch(span), role, row: 0 };
  };
  const laneOf = (name) => {
    const kind = kindOf(name), many = ["window"].includes(kind) || drawing.lanes.filter((one) => one.kind === kind).length >= 4;
    const label = many ? kind + "s" : name;
    let lane = drawing.lanes.find((one) => one.label === label);
    if (!lane) {
      lane = { label, kind, blocks: [], marks: [], rows: 1, note: "" };
      drawing.lanes.push(lane);
    }
    return lane;
  };
  const take = (event) => {
    if (event.event === "mode") { mode(); $("live-title").textContent = "Looking: " + event.mode; }
    if (event.event === "pass") { entry(event.name); facts(event.name, "decoding"); }
    if (event.event === "decoding") { const last = [...passes.keys()].pop(); if (last) facts(last, "decoding " + event.done + " of " + event.total + " frames"); }
    if (event.event === "frames") {
      const item = entry(event.name), lane = laneOf(event.name);
      facts(event.name, plural(event.count, "frame") + ", " + event.width + " × " + event.height);
      item.querySelector(".reel").replaceChildren(...event.thumbs.map((one) => make("img", { src: one.url, alt: event.name + " at " + moment(one.time_s), title: moment(one.time_s), "data-seek": one.time_s })));
      lane.blocks.push(...event.spans.map((span) => blockOf(span, "seen", event.name + " looks here")));
      lane.marks.push(...event.thumbs.map((one) => Math.round((one.time_s / drawing.axis_s) * 1000) / 10));
      redraw();
    }
    if (event.event === "read") facts(event.name, entry(event.name).querySelector(".facts").textContent.split(" · ")[0] + " · " + number(event.new) + " new of " + number(event.prompt) + " tokens");
    if (event.event === "words") {
      const typed = entry(event.name).querySelector(".typed");
      typed.hidden = false;
      typed.textContent = event.text;
    }
    if (event.event === "passed") {
      const one = event.pass, item = entry(one.name), lane = laneOf(one.name);
      const said = one.option || one.answer || "no answer";
      facts(one.name, plural(one.frames, "frame") + " · " + number(one.new_tokens) + " new of " + number(one.prompt_tokens) + " tokens · " + said.slice(0, 60) + (one.confidence === null ? "" : " " + percent(one.confidence)));
      item.classList.add("over");
      if (one.text) { const typed = item.querySelector(".typed"); typed.hidden = false; typed.textContent = one.text; }
      if (!lane.blocks.length) lane.blocks.push(...one.spans.map((span) => blockOf(span, "seen", one.name + " looked here")));
      lane.blocks.push(...one.found.map((span) => blockOf(span, "found", one.name + " found")));
      redraw();
    }
  };
  const end = () => { $("live").hidden = true; };
  return { begin, take, end };
})();
