const box = document.getElementById(ID);
window.vegaEmbed(box.querySelector(".ost-plot"), DATA, {actions: false, renderer: "svg"}).then(({view}) => {
  const controls = box.querySelectorAll("input[data-signal]");
  const show = () => {
    box.querySelectorAll("output[data-signal]").forEach((o) => { o.textContent = view.signal(o.dataset.signal); });
    controls.forEach((c) => { if (c.dataset.says) c.setAttribute("aria-valuetext", view.signal(c.dataset.says)); });
  };
  controls.forEach((c) => c.addEventListener("input", () => {
    view.signal(c.dataset.signal, c.type === "radio" ? c.value : Number(c.value)).runAsync().then(show);
  }));
  show();
  box.dataset.ready = "true";
});
