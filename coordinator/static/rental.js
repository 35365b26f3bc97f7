// Shows a rental as it is now, whenever something happens to it. Without this the page is as it was when it was loaded.

const KINDS = [
  "rental.paid", "rental.pulling", "rental.started", "rental.extended", "rental.changed", "rental.degraded", "rental.recovered",
  "rental.stopping", "rental.oom_killed", "rental.ended", "rental.settled",
];

/** Between tries to listen again, once the browser itself has given up. */
const RETRY_MS = 10_000;

const rental = document.getElementById("live").dataset.rental;
let renewal = null;

/** Renews a sign-in whose short part is over. One at a time: the second would come with what the first has used up. */
function renew() {
  const headers = { "content-type": "application/json", "x-requested-with": "ramarket" };
  const asked = { method: "POST", headers, body: "{}", credentials: "same-origin" };
  renewal ??= fetch("/api/v1/auth/refresh", asked).finally(() => (renewal = null));
  return renewal;
}

/** The page as it is made now, or why it can't be had. */
async function page() {
  const load = () => fetch(location.href, { credentials: "same-origin" });
  const answer = await load();
  if (answer.status !== 401) return answer;
  const renewed = await renew();
  return renewed.ok ? load() : renewed;
}

/** Takes the changing part out of the page as it is made now; what can't be had stays as it is. */
async function show() {
  const answer = await page();
  if (answer.status === 401) tellOfEnd();
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
  const shown = document.getElementById("live");
  if (fresh === null || fresh.isEqualNode(shown)) return;
  shown.replaceChildren(...fresh.childNodes);
}

let isShowing = false;
let isStale = false;

/** Shows it as it is now; what happens meanwhile is shown after. */
async function refresh() {
  isStale = true;
  if (isShowing) return;
  isShowing = true;
  try {
    while (isStale) {
      isStale = false;
      await show();
    }
  } catch {
    // cut off: it is shown when the events open again
  } finally {
    isShowing = false;
  }
}

function tellOfEnd() {
  if (document.getElementById("over") !== null) return;
  const said = document.createElement("p");
  said.id = "over";
  said.setAttribute("role", "alert");
  said.textContent = "You aren't signed in any more, and this page shows what was: load it again.";
  document.getElementById("live").before(said);
}

function listen() {
  const events = new EventSource("/api/v1/events");
  for (const kind of KINDS) {
    events.addEventListener(kind, ({ data }) => {
      if (JSON.parse(data).rental_id === rental) refresh();
    });
  }
  // what happened before it listened, or while it was cut off
  events.addEventListener("open", () => {
    isFirstTry = true;
    refresh();
  });
  events.addEventListener("error", () => {
    // of a connection that broke the browser makes another one; what was refused it doesn't ask for again
    if (events.readyState === EventSource.CLOSED) listenAgain();
  });
}

let isFirstTry = true;

/** It may have been refused for the sign-in, which is renewed then, or for what passes by itself. */
async function listenAgain() {
  const answer = await page().catch(() => null);
  if (answer !== null && answer.status === 401) {
    tellOfEnd();
    return;
  }
  setTimeout(listen, isFirstTry ? 0 : RETRY_MS);
  isFirstTry = false;
}

listen();
