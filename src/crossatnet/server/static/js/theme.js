/*
 * Light or dark colours: those of the system, or those chosen here. A classic script in the head, so that the page
 * never shows the wrong colours first.
 */
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const current = () => root.dataset.theme ?? (system.matches ? "dark" : "light");

  function stored() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is blocked: the choice lasts as long as the page
    }
  }

  function choose(theme) {
    const follows = theme === (system.matches ? "dark" : "light");
    if (follows) delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      if (follows) localStorage.removeItem("theme");
      else localStorage.setItem("theme", theme);
    } catch {
      // as above
    }
    tell();
  }

  function tell() {
    document.getElementById("theme")?.setAttribute("aria-pressed", String(current() === "dark"));
    document.dispatchEvent(new Event("themechange"));
  }

  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();
  system.addEventListener("change", tell);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => choose(current() === "dark" ? "light" : "dark"));
    tell();
  });
})();
