// What the browser tests ask of a page. Run in the page; leaves its functions in `look`.
window.look = (() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const start = (element) => element.outerHTML.slice(0, 120);
  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);

  // The text of the page that a reader sees as prose: no code, and no mathematics that has been set.
  function prose() {
    const copy = document.querySelector("article").cloneNode(true);
    copy.querySelectorAll("pre, code, script, style, mjx-container").forEach((e) => e.remove());
    return copy.textContent;
  }

  // Elements that scroll sideways and cannot be reached by keyboard.
  function unreachable() {
    const inside = "a[href], button, input, select, textarea, [tabindex='0']";
    return all(".bd-content *")
      .filter((e) => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1 && scrolls(e))
      .filter((e) => e.tabIndex < 0 && !e.querySelector(inside))
      .map(start);
  }

  // How far the page reaches beyond its right edge, and the elements that do so without being inside something that scrolls.
  function tooWide() {
    const width = document.documentElement.clientWidth;
    const contained = (e) => {
      for (let p = e; p && p !== document.body; p = p.parentElement) {
        if (scrolls(p) || ["hidden", "clip"].includes(getComputedStyle(p).overflowX)) return true;
      }
      return false;
    };
    const out = all(".bd-content *").filter((e) => {
      const box = e.getBoundingClientRect();
      return box.width > 0 && (box.right > width + 1 || e.scrollWidth > width + 1) && !contained(e);
    });
    const deepest = out.filter((e) => !out.some((other) => other !== e && e.contains(other)));
    return { pixels: document.documentElement.scrollWidth - width, elements: deepest.map(start) };
  }

  // A colour as getComputedStyle writes it, as [red, green, blue, opacity].
  function channels(colour) {
    const [r, g, b, a = 1] = (colour.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    return [r, g, b, a];
  }

  // `over` laid on `under` with the opacity of `over`.
  function mixed(over, under) {
    const a = over[3];
    return [0, 1, 2].map((i) => a * over[i] + (1 - a) * under[i]).concat(1);
  }

  // Relative luminance (WCAG 2.1).
  function luminance(colour) {
    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  // Whether a shape of a figure is painted at a point of the screen.
  function covers(shape, x, y) {
    const box = shape.getBoundingClientRect();
    if (x < box.left || x > box.right || y < box.top || y > box.bottom) return false;
    if (!shape.isPointInFill) return true; // a marker that is used again
    return shape.isPointInFill(new DOMPoint(x, y).matrixTransform(shape.getScreenCTM().inverse()));
  }

  // The colour behind a text: the page, and on it the shapes that were painted before the text.
  function behind(text, page) {
    const box = text.getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    let colour = page;
    for (const shape of text.closest("svg").querySelectorAll("path, rect, circle, polygon, use")) {
      if (!(shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) break;
      const style = getComputedStyle(shape);
      if (shape.closest("defs, clipPath") || style.fill === "none" || !covers(shape, x, y)) continue;
      const [r, g, b, a] = channels(style.fill);
      colour = mixed([r, g, b, a * style.fillOpacity * style.opacity], colour);
    }
    return colour;
  }

  // The texts in figures: how large they are on the screen and how they stand out from what is behind them.
  function figureTexts() {
    const page = channels(getComputedStyle(document.body).backgroundColor);
    return all("article svg text")
      .filter((t) => t.textContent.trim() && t.getBoundingClientRect().width > 0)
      .map((t) => {
        const style = getComputedStyle(t);
        const matrix = t.getScreenCTM();
        const ground = behind(t, page);
        const [ink, under] = [luminance(mixed(channels(style.fill), ground)), luminance(ground)];
        return {
          text: t.textContent.trim().slice(0, 40),
          figure: (t.closest("[aria-label]") || t).getAttribute("aria-label").slice(0, 60),
          pixels: parseFloat(style.fontSize) * Math.hypot(matrix.a, matrix.b),
          contrast: (Math.max(ink, under) + 0.05) / (Math.min(ink, under) + 0.05),
        };
      });
  }

  // Leave the first entries of the library on the page: axe-core takes long over hundreds that Sphinx makes alike.
  function shorten() {
    all("article section > dl.py").slice(40).forEach((e) => e.remove());
    all(".bd-toc-nav > ul ul > li").slice(40).forEach((e) => e.remove());
  }

  return { prose, unreachable, tooWide, figureTexts, shorten };
})();
