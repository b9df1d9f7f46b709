// Saves reloading and typing; every page works without it.

const ANNOUNCE_EVERY_MS = 5000;
const RETRY_MS = 5000;

// A region that the server refills while work is under way. Events hold its markup; the one with this
// id is the last, and the page then has more to show than this region.
const LAST = "end";

function follow(region) {
  const status = region.parentElement.querySelector("[data-live-status]");
  const stream = new EventSource(region.dataset.live);
  let announcedAt = 0;
  const refill = (event) => {
    region.innerHTML = event.data;
    if (status && Date.now() - announcedAt >= ANNOUNCE_EVERY_MS) {
      announcedAt = Date.now();
      const words = region.querySelector(".bar") ?? region.querySelector(".job-state");
      status.textContent = words ? words.textContent : "";
    }
    if (event.lastEventId === LAST) {
      stream.close();
      location.replace(region.dataset.done);
    }
  };
  stream.addEventListener("state", refill);
  stream.addEventListener("progress", refill);
  stream.addEventListener("error", () => {
    // While the browser reconnects by itself there is nothing to do.
    if (stream.readyState === EventSource.CLOSED) {
      setTimeout(() => location.reload(), RETRY_MS);
    }
  });
}

function offerCopy(button) {
  if (!navigator.clipboard) {
    return;
  }
  const words = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = words; }, 2000);
  });
}

// n and p move through the changes of a table, unless something is being typed.
function offerKeys(changes) {
  let current = -1;
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !["n", "p"].includes(event.key)) {
      return;
    }
    current = Math.min(Math.max(current + (event.key === "n" ? 1 : -1), 0), changes.length - 1);
    changes[current].focus();
    changes[current].scrollIntoView({ block: "center" });
  });
  for (const hint of document.querySelectorAll("[data-keys]")) {
    hint.hidden = false;
  }
}

document.querySelectorAll("[data-live]").forEach(follow);
document.querySelectorAll("[data-copy]").forEach(offerCopy);
const changes = document.querySelectorAll("[data-change]");
if (changes.length > 0) {
  offerKeys(changes);
}
