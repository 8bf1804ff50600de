const box = document.getElementById(ID), data = DATA;
const [slider, strip] = ["input[type=range]", ".ost-plot"].map((s) => box.querySelector(s));
const radios = [...box.querySelectorAll("input[type=radio]")];
const human = data.texts[data.texts.length - 1];
const put = (signal, words) => { box.querySelector(`output[data-signal="${signal}"]`).textContent = words; };

const word = (text, t) => {
  const span = document.createElement("span");
  const looped = text.loops.some(([a, b]) => a <= t && t < b);
  const [, space, rest] = /^( *)([^]*)$/.exec(data.pieces[text.pieces[t]]);
  // The space between two words has no colour, unless it is all there is; the line under a loop goes through.
  const apart = rest && !looped ? space : "";
  span.textContent = (apart ? "" : space) + rest;
  if (looped) span.className = "ost-loop";
  span.setAttribute("style", `--e:${text.entropy[t]}`);
  span.title = `${(text.entropy[t] / 10).toFixed(1)} nats`;
  return [apart, span];
};
const fill = (side, text, place) => {
  const start = data.starts[place];
  const words = Array.from({length: data.window}, (_, i) => word(text, start + i)).flat();
  box.querySelector(`.ost-pane[data-side="${side}"] pre`).replaceChildren(...words.filter((w) => w));
  const [mean, share, looped] = text.readings[place];
  Object.entries({entropy: `${mean} nats`, repeats: share, loop: `${looped} of ${data.window}`})
    .forEach(([signal, words]) => put(`${side}-${signal}`, words));
};
const show = () => {
  const place = Number(slider.value), start = data.starts[place];
  const text = data.texts[radios.findIndex((r) => r.checked)];
  fill("rule", text, place);
  fill("human", human, place);
  put("rule-name", text.name);
  put("position", data.places[place]);
  const path = (name, d) => box.querySelector(`.ost-strip .${name}`).setAttribute("d", d);
  path("ost-line", text.curve);
  path("ost-looped", text.looped);
  path("ost-window", `M${start} 0H${start + data.window}V${data.height}H${start}Z`);
  const [mean, other] = [text, human].map((one) => one.readings[place][0]);
  slider.setAttribute("aria-valuetext", `${data.places[place]}: ${mean} nats, ${human.name} ${other}`);
};
[slider, ...radios].forEach((control) => control.addEventListener("input", show));
// A press on the strip moves the window there, and so does dragging along it.
const move = (event) => {
  if (!(event.buttons & 1)) return;
  const {left, width} = strip.getBoundingClientRect();
  const start = (event.clientX - left) / width * data.length - data.window / 2;
  slider.value = Math.round(start / data.step);
  show();
};
["pointerdown", "pointermove"].forEach((kind) => strip.addEventListener(kind, move));
show();
box.dataset.ready = "true";
