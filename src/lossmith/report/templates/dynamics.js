"use strict";
{
  const page = JSON.parse(document.getElementById("data").textContent);
  const array = text => new Float32Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const sync = uPlot.sync("steps");
  const from = document.getElementById("from"), to = document.getElementById("to");
  const plots = [];
  let drawing = false;

  function show(low, high) {
    if (drawing || !(low < high)) return;
    drawing = true;
    plots.forEach(plot => plot.setScale("x", {min: low, max: high}));
    drawing = false;
    from.value = Math.round(low);
    to.value = Math.round(high);
  }

  function shade(plot) {
    for (const [start, stop] of page.unstable) {
      const left = plot.valToPos(start, "x", true), right = plot.valToPos(stop, "x", true);
      const {left: low, top, width, height} = plot.bbox;
      const a = Math.max(left, low), b = Math.min(right, low + width);
      if (b <= a) continue;
      plot.ctx.fillStyle = colour("--ink");
      plot.ctx.globalAlpha = 0.07;
      plot.ctx.fillRect(a, top, b - a, height);
      plot.ctx.globalAlpha = 1;
    }
  }

  page.panels.forEach((panel, place) => {
    const target = document.getElementById("panel" + place);
    const ink = () => colour("--soft"), line = () => colour("--line");
    const axis = {stroke: ink, grid: {stroke: line, width: 1}, ticks: {stroke: line, width: 1}, font: "12px system-ui, sans-serif"};
    const log = panel.log ? {distr: 3} : {};
    const plot = new uPlot({
      width: target.clientWidth, height: 230,
      cursor: {sync: {key: sync.key}, drag: {x: true, y: false, setScale: false}},
      scales: {x: {time: false}, y: log},
      axes: [axis, {...axis, size: 72}],
      series: [{label: "step"}, ...panel.lines.map(each => ({
        label: each.name, stroke: () => each.dashed ? ink() : colour(each.colour), width: 1.2,
        dash: each.dashed ? [4, 3] : undefined, points: {show: panel.steps.length < 400},
        value: (_, value) => value == null ? "" : Number(value.toPrecision(4)).toString(),
      }))],
      hooks: {
        drawClear: [shade],
        setSelect: [u => { if (u.select.width > 3) show(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")); u.setSelect({width: 0, height: 0}, false); }],
      },
    }, [array(panel.steps), ...panel.lines.map(each => Array.from(array(each.values), value => Number.isFinite(value) ? value : null))], target);
    plot.over.addEventListener("dblclick", () => show(...page.whole));
    plots.push(plot);
  });

  document.getElementById("window").addEventListener("submit", event => { event.preventDefault(); show(Number(from.value), Number(to.value)); });
  document.getElementById("whole").addEventListener("click", () => show(...page.whole));
  addEventListener("resize", () => plots.forEach((plot, place) => plot.setSize({width: document.getElementById("panel" + place).clientWidth, height: 230})));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(plot => plot.redraw(false, true)));
  show(...page.window);
}
