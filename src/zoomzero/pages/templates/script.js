
"use strict";
// Evidence page: everything with data-seek moves the player, or the nearest frame where there is no player.
(() => {
  const timeline = document.querySelector("[data-timeline]");
  if (!timeline) return;
  const axis = Number(timeline.dataset.axis);
  const scrub = timeline.querySelector("[data-scrub]");
  const playhead = timeline.querySelector("[data-playhead]");
  const stage = document.querySelector("[data-stage]");
  const thumbs = [...document.querySelectorAll(".thumb")];
  let player = document.querySelector("[data-player]");
  let until = Infinity;
  let now = 0;
  let offset = 0; // the player's time of the first frame: browsers keep a file's start time, our times begin at 0
  let ready = false;

  const clock = (s) => {
    const t = Math.max(0, Math.round(s)), h = Math.floor(t / 3600), two = (n) => String(n).padStart(2, "0");
    return (h ? h + ":" : "") + two(Math.floor(t / 60) % 60) + ":" + two(t % 60);
  };
  const show = (thumb) => {
    if (!stage || !thumb) return;
    const from = thumb.querySelector("img"), to = stage.querySelector("img");
    if (to.src !== from.src) to.src = from.src;
    to.alt = from.alt;
    to.hidden = false;
    stage.querySelector("figcaption").textContent = thumb.dataset.frame + ", " + thumb.textContent.trim();
  };
  // The picture of a moment: among the sheets that are open, the frame nearest to it. A player shows the moment
  // itself, so beside one a frame more than two seconds away is no picture of it.
  const nearest = () => {
    let best = null, gap = player ? 2 : Infinity;
    for (const thumb of thumbs) {
      const distance = Math.abs(Number(thumb.dataset.seek) - now);
      if (thumb.closest("details").open && distance < gap) { best = thumb; gap = distance; }
    }
    return best;
  };
  // Bring a frame into its own scrolling sheet without moving the page.
  const reveal = (thumb) => {
    for (const pane of [thumb.closest(".sheets"), thumb.closest(".grid")]) {
      const inner = thumb.getBoundingClientRect(), outer = pane.getBoundingClientRect();
      if (inner.top < outer.top || inner.bottom > outer.bottom) pane.scrollTop += inner.top - outer.top - 8;
      if (inner.left < outer.left || inner.right > outer.right) pane.scrollLeft += inner.left - outer.left - 8;
    }
  };
  const draw = (picked) => {
    const share = Math.min(1, Math.max(0, now / axis));
    playhead.style.left = share * 100 + "%";
    scrub.value = String(now);
    scrub.setAttribute("aria-valuetext", clock(now));
    const current = picked || nearest();
    for (const thumb of thumbs) {
      if (thumb === current) thumb.setAttribute("aria-current", "true");
      else thumb.removeAttribute("aria-current");
    }
    show(current);
    if (current && current !== picked) reveal(current);
  };
  const seek = (time, picked) => {
    now = time;
    until = Infinity;
    if (player && ready) player.currentTime = time + offset;
    draw(picked);
  };

  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-seek]");
    if (target) {
      seek(Number(target.dataset.seek), target.matches(".thumb") ? target : null);
      if (target.dataset.until && player) {
        until = Number(target.dataset.until);
        player.play().catch(() => { until = Infinity; }); // a browser may refuse to play; the seek stands
      }
      return;
    }
    const track = event.target.closest(".track");
    if (track && timeline.contains(track)) {
      const box = track.getBoundingClientRect();
      seek(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * axis);
    }
  });
  scrub.addEventListener("input", () => seek(Number(scrub.value)));
  for (const thumb of thumbs) {
    thumb.addEventListener("mouseenter", () => show(thumb));
    thumb.addEventListener("mouseleave", () => show(document.querySelector(".thumb[aria-current]")));
    thumb.addEventListener("focus", () => show(thumb));
  }
  for (const sheet of document.querySelectorAll(".sheet")) sheet.addEventListener("toggle", () => draw());

  const opening = thumbs.find((thumb) => thumb.closest("details").open);
  const first = document.querySelector("[data-until]") || opening;
  const start = first ? Number(first.dataset.seek) : 0;
  if (player) {
    const refused = () => {
      player = null;
      document.querySelector("[data-player-error]").hidden = false;
    };
    player.addEventListener("error", refused);
    const follow = () => {
      if (!ready) return;
      const time = player.currentTime - offset;
      if (time >= until) { player.pause(); until = Infinity; }
      // Seeking to a picked frame must not unpick it for its neighbour.
      if (Math.abs(time - now) > 0.002) { now = time; draw(); }
    };
    const run = () => {
      follow();
      if (!player.paused && !player.ended) requestAnimationFrame(run);
    };
    player.addEventListener("play", run);
    player.addEventListener("timeupdate", follow); // also while hidden, and when its own controls seek
    const begin = (first) => {
      if (ready) return;
      ready = true;
      offset = first;
      player.currentTime = now + offset;
    };
    // The first shown frame tells its time exactly; where none is shown before playing, the initial position does.
    const loaded = () => setTimeout(() => begin(player.currentTime), 600);
    if (player.requestVideoFrameCallback) player.requestVideoFrameCallback((_, frame) => begin(frame.mediaTime));
    if (player.error) refused();
    else if (player.readyState > 0) loaded();
    else player.addEventListener("loadedmetadata", loaded, { once: true });
  }
  now = start;
  show(opening);
  draw();
})();

// A pane that has more below fades out at its lower edge.
for (const pane of document.querySelectorAll("[data-fade]")) {
  const fade = () => pane.classList.toggle("fades", pane.scrollHeight - pane.clientHeight - pane.scrollTop > 4);
  pane.addEventListener("scroll", fade, { passive: true });
  new ResizeObserver(fade).observe(pane);
  pane.addEventListener("toggle", fade, true);
  fade();
}

// Report: the filters hide answers, and questions that have none left.
(() => {
  const form = document.querySelector("[data-filters]");
  if (!form) return;
  const cards = [...document.querySelectorAll("[data-card]")];
  const count = form.querySelector("output");
  const apply = () => {
    const values = new FormData(form);
    const modes = new Set(values.getAll("mode")), result = values.get("result"), kind = values.get("kind");
    let shown = 0, questions = 0;
    for (const card of cards) {
      let left = 0;
      for (const row of card.querySelectorAll("[data-mode]")) {
        const keep = modes.has(row.dataset.mode)
          && (result === "all" || result === row.dataset.result)
          && (!kind || kind === card.dataset.kind);
        row.hidden = !keep;
        left += keep ? 1 : 0;
      }
      card.hidden = !left;
      questions += left ? 1 : 0;
      shown += left;
    }
    count.textContent = shown + (shown === 1 ? " answer" : " answers") + " to " + questions + (questions === 1 ? " question" : " questions");
    const empty = document.querySelector("[data-empty]");
    if (empty) empty.hidden = shown > 0;
  };
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
