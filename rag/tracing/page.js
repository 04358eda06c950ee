"use strict";
const steps = () => document.querySelectorAll("details.step");
const button = document.getElementById("all");
if (button) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    steps().forEach((step) => { step.open = open; });
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "Close all steps" : "Open all steps";
  });
}
const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  for (let at = target; at; at = at.parentElement) {
    if (at.tagName === "DETAILS") { at.open = true; }
  }
  if (target) { target.scrollIntoView({ block: "center" }); }
};
addEventListener("hashchange", reveal);
reveal();
