// Small comforts. Every page works without them.
"use strict";

// A filter answers as soon as a choice is made; its button is for those without this script.
for (const form of document.querySelectorAll("form.filter")) {
  for (const field of form.querySelectorAll("select")) field.addEventListener("change", () => form.requestSubmit());
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && field.value === "") field.disabled = true;
  });
}

// "/" goes to the first field of the page.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const field = document.querySelector("form.filter input");
  if (field) { event.preventDefault(); field.focus(); }
});

// A page that shows something still going on looks again by itself.
const going = document.querySelector("[data-refresh]");
if (going) setTimeout(() => { if (!document.hidden) location.reload(); }, 1000 * Number(going.dataset.refresh));
