// Shows a rental as it is now, whenever something happens to it. Without this the page is as it was when it was loaded.

const KINDS = [
  "rental.paid", "rental.pulling", "rental.started", "rental.extended", "rental.changed", "rental.degraded", "rental.recovered",
  "rental.stopping", "rental.oom_killed", "rental.ended", "rental.settled",
];

const rental = document.getElementById("live").dataset.rental;

/** Takes the changing part out of the page as it is made now; what can't be had stays as it is. */
async function refresh() {
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
  const shown = document.getElementById("live");
  if (fresh === null || fresh.isEqualNode(shown)) return;
  shown.replaceChildren(...fresh.childNodes);
}

const events = new EventSource("/api/v1/events");
for (const kind of KINDS) {
  events.addEventListener(kind, ({ data }) => {
    if (JSON.parse(data).rental_id === rental) refresh();
  });
}
// what happened before it listened, or while it was cut off
events.addEventListener("open", refresh);
