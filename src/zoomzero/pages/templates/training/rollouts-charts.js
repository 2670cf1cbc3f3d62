
// Curves: the same step is marked and read off in every chart; a click asks for that step's rollouts.
const readCurves = (curves, pickStep) => {
  const areas = [...document.querySelectorAll("[data-chart]")];
  if (!curves || !areas.length) return;
  const charts = areas.map((area) => {
    const lines = curves.charts[Number(area.dataset.chart)];
    const cross = document.createElement("span");
    cross.className = "cross";
    cross.hidden = true;
    area.append(cross);
    const outputs = [...area.closest("figure").querySelectorAll("[data-last] b")];
    return { area, lines, cross, outputs, last: outputs.map((one) => one.textContent) };
  });
  const span = curves.high - curves.low;
  const nearest = (points, step) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] <= step) low = middle; else high = middle;
    }
    return Math.abs(points[low][0] - step) <= Math.abs(points[high][0] - step) ? points[low] : points[high];
  };
  const stepAt = (event, area) => {
    const box = area.getBoundingClientRect();
    const step = curves.low + ((event.clientX - box.left) / box.width) * span;
    return Math.min(curves.last, Math.max(curves.first, step));
  };
  const read = (step, hovered) => {
    for (const { area, lines, cross, outputs } of charts) {
      cross.hidden = false;
      cross.style.left = ((step - curves.low) / span) * 100 + "%";
      if (area === hovered) cross.dataset.step = Math.round(step);
      else delete cross.dataset.step;
      lines.forEach((line, place) => {
        const value = line.points.length ? nearest(line.points, step)[1] : null;
        if (outputs[place]) outputs[place].textContent = value === null ? "–" : String(Number(value.toPrecision(3)));
      });
    }
  };
  const leave = () => {
    for (const { cross, outputs, last } of charts) {
      cross.hidden = true;
      outputs.forEach((one, place) => { one.textContent = last[place]; });
    }
  };
  for (const { area } of charts) {
    area.addEventListener("pointermove", (event) => read(stepAt(event, area), area));
    area.addEventListener("pointerleave", leave);
    area.addEventListener("click", (event) => pickStep(stepAt(event, area)));
  }
};
