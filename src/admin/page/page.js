"use strict";
const live = document.getElementById("live");
const parser = new DOMParser();

async function refresh() {
  try {
    const answer = await fetch("/", { cache: "no-store" });
    const next = parser.parseFromString(await answer.text(), "text/html").getElementById("live");
    // What somebody has unfolded stays so.
    for (const one of next?.querySelectorAll("details") ?? []) {
      one.open = document.getElementById(one.id)?.open ?? false;
    }
    // Nobody's selection is taken away.
    if (next && document.getSelection().isCollapsed) live.replaceChildren(...next.childNodes);
    live.classList.remove("gone");
  } catch {
    live.classList.add("gone");
  }
  setTimeout(refresh, document.hidden ? 10000 : 1000);
}

setTimeout(refresh, 1000);
