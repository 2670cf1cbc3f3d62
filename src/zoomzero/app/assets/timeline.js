// The player and the timeline below it: lanes of what was looked at and found; a click on either moves the other.
const $ = (id) => document.getElementById(id);
const clock = (s) => {
  const t = Math.max(0, Math.round(s)), h = Math.floor(t / 3600), two = (n) => String(n).padStart(2, "0");
  return (h ? h + ":" : "") + two(Math.floor(t / 60) % 60) + ":" + two(t % 60);
};
const moment = (s) => clock(Math.floor(s)) + "." + Math.floor((s % 1) * 10);
const stretch = ([from, to]) => moment(from) + " – " + moment(to);
const clear = (element) => element.replaceChildren();

const timeline = (() => {
  const player = $("player"), stage = $("stage"), lanes = $("lanes");
  let axis = 1, until = Infinity, scrub = null, head = null, offset = 0, plays = false, known = false;

  const place = (left, width, row) => ({ "--left": left + "%", "--width": width + "%", "--row": String(row) });
  const block = (one, kind) => make("button", {
    type: "button", class: "block " + one.role + " k-" + kind, title: one.title, "aria-label": one.title,
    "data-seek": one.start_s, "data-until": one.role === "final" ? one.end_s : null, ...place(one.left, one.width, one.row),
  });
  const marks = (places) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "marks");
    svg.setAttribute("viewBox", "0 0 100 1");
    svg.setAttribute("preserveAspectRatio", "none");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", places.map((x) => "M" + x + " 0v1").join(""));
    svg.append(path);
    return svg;
  };
  const row = (lane) => {
    const under = lane.blocks.filter((one) => one.role !== "found"), over = lane.blocks.filter((one) => one.role === "found");
    const track = make("div", { class: "track k-" + lane.kind, "--rows": String(lane.rows) },
      ...under.map((one) => block(one, lane.kind)), lane.marks.length ? marks(lane.marks) : null,
      ...over.map((one) => block(one, lane.kind)));
    return make("div", { class: "lane" + (["true", "final"].includes(lane.kind) ? " strong" : ""), role: "group", "aria-label": lane.label, "data-lane": lane.kind },
      make("span", { class: "label", title: lane.label }, lane.label, lane.note ? make("small", {}, lane.note) : null), track);
  };
  const ruler = (ticks) => {
    scrub = make("input", { type: "range", min: "0", max: String(axis), step: "any", value: "0", "aria-label": "Position in the video" });
    scrub.addEventListener("input", () => seek(Number(scrub.value)));
    return make("div", { class: "lane ruler" }, make("span", { class: "label" }),
      make("div", { class: "scrub" },
        make("div", { class: "axis", "aria-hidden": "true" }, ...ticks.map((tick) => make("span", { class: tickClass(tick.left), "--left": tick.left + "%" }, tick.label))), scrub));
  };
  const draw = (drawing) => {
    axis = drawing.axis_s;
    head = make("span", { class: "playhead" });
    lanes.replaceChildren(ruler(drawing.ticks), ...drawing.lanes.map(row), make("div", { class: "overlay", "aria-hidden": "true" }, head));
    $("legend").replaceChildren(...drawing.legend.map(([kind, role, meaning]) => make("li", {}, make("span", { class: "swatch " + role + " k-" + kind, "aria-hidden": "true" }), meaning)));
    follow(now());
  };
  const now = () => (plays ? player.currentTime - offset : Number(scrub ? scrub.value : 0));
  const follow = (time) => {
    if (!head) return;
    head.style.left = Math.min(100, Math.max(0, (time / axis) * 100)) + "%";
    scrub.value = String(time);
    scrub.setAttribute("aria-valuetext", clock(time));
    let nearest = null, gap = 2;
    for (const thumb of document.querySelectorAll("#sheets .thumb")) {
      const distance = Math.abs(Number(thumb.dataset.seek) - time);
      thumb.removeAttribute("aria-current");
      if (distance < gap) { nearest = thumb; gap = distance; }
    }
    if (nearest) nearest.setAttribute("aria-current", "true");
    if (!plays && nearest) show(nearest.querySelector("img"));
  };
  const show = (from) => {
    const to = stage.querySelector("img");
    to.src = from.src;
    to.alt = from.alt;
    to.hidden = false;
    stage.querySelector("figcaption").textContent = from.alt;
  };
  const seek = (time) => {
    until = Infinity;
    if (plays) player.currentTime = time + offset + 0.001;
    follow(time);
  };
  const play = (from, to) => {
    seek(from);
    if (!plays || to === null) return;
    until = to;
    player.play().catch(() => { until = Infinity; }); // a browser may refuse to play; the seek stands
  };
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-seek]");
    if (target) return play(Number(target.dataset.seek), target.dataset.until ? Number(target.dataset.until) : null);
    const track = event.target.closest(".track");
    if (!track || !lanes.contains(track)) return;
    const box = track.getBoundingClientRect();
    seek(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * axis);
  });
  const step = () => {
    const time = now();
    if (time >= until) { player.pause(); until = Infinity; }
    follow(time);
    if (!player.paused && !player.ended) requestAnimationFrame(step);
  };
  player.addEventListener("play", step);
  player.addEventListener("timeupdate", () => follow(now()));
  player.addEventListener("loadeddata", () => {
    if (known) return;
    known = true;
    offset = player.currentTime; // a browser keeps a file's start time; ours begin at 0
  });
  player.addEventListener("error", () => { if (plays) showFrames("This browser cannot play the video; click a frame or the timeline to see what was seen."); });
  const showFrames = (why) => {
    plays = false;
    player.hidden = true;
    stage.hidden = false;
    stage.querySelector("figcaption").textContent = why;
  };
  // A video is chosen: nothing was looked at yet.
  const open = (video) => {
    known = false;
    offset = 0;
    plays = video.plays;
    player.hidden = !plays;
    stage.hidden = plays;
    stage.querySelector("img").hidden = true;
    player.style.aspectRatio = video.width + " / " + video.height;
    if (plays) player.src = "videos/" + encodeURIComponent(video.id) + "/file";
    else { player.removeAttribute("src"); showFrames("Browsers do not play this kind of file; the frames that were seen are shown here."); }
    draw({ axis_s: video.duration_s || 1, ticks: ticks(video.duration_s || 1), lanes: [], legend: [] });
  };
  const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
  const ticks = (length) => {
    const step = STEPS.find((one) => length / one <= 8) || 86400;
    return Array.from({ length: Math.floor(length / step + 1e-9) + 1 }, (_, i) => ({ left: (i * step / length) * 100, label: clock(i * step) }));
  };
  return { draw, open, seek, ticks };
})();
