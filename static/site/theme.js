// Loaded before the page is painted, so that a chosen theme does not flash the other one first.
const system = matchMedia("(prefers-color-scheme: dark)");
const current = () => localStorage.getItem("theme") ?? (system.matches ? "dark" : "light");

document.documentElement.dataset.theme = current();
system.addEventListener("change", () => {
  document.documentElement.dataset.theme = current();
});

addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    button.addEventListener("click", () => {
      const next = current() === "dark" ? "light" : "dark";
      localStorage.setItem("theme", next);
      document.documentElement.dataset.theme = next;
    });
  }
});
