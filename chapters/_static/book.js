// What scrolls sideways must be reachable by keyboard (WCAG 2.1.1): give it a place in the tab order and a name.
document.addEventListener("DOMContentLoaded", () => {
  const label = (element, text) => {
    if (element.scrollWidth > element.clientWidth && !element.hasAttribute("tabindex")) {
      element.tabIndex = 0;
      element.setAttribute("role", "region");
      element.setAttribute("aria-label", text);
    }
  };
  const visit = () => {
    document.querySelectorAll(".bd-content pre").forEach((e) => label(e, "code"));
    document.querySelectorAll(".bd-content table, .pst-scrollable-table-container").forEach((e) => label(e, "table"));
    document.querySelectorAll(".bd-content div.math, .bd-content mjx-container[display='true']").forEach((e) => label(e, "equation"));
  };
  visit();
  window.addEventListener("resize", visit);
  window.addEventListener("load", async () => {
    if (window.MathJax && MathJax.startup) await MathJax.startup.promise; // formulas have their widths once they are set
    visit();
  });
});
