const box = document.getElementById(ID), frames = DATA;
const find = (what) => box.querySelector(what), slider = find("input");
const [back, next] = box.querySelectorAll("button");
const show = () => {
  const k = Number(slider.value), frame = frames[k];
  find(".ost-say").innerHTML = frame.say;
  find(".ost-table").innerHTML = frame.table;
  [...box.querySelectorAll("svg g")].reverse().forEach((g, i) => {
    g.setAttribute("class", frame.kinds[i]);
    (frame.texts[i] || []).forEach((words, j) => { g.querySelectorAll("text")[j].textContent = words; });
  });
  slider.setAttribute("aria-valuetext", frame.at);
  back.disabled = k === 0;
  next.disabled = k === frames.length - 1;
};
const move = (by) => () => { slider.value = Number(slider.value) + by; show(); };
back.addEventListener("click", move(-1));
next.addEventListener("click", move(1));
slider.addEventListener("input", show);
show();
box.dataset.ready = "true";
