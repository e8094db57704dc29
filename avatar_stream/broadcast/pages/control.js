// The crew's page: what viewers see, how the pipeline does, and the few things that must be one press away.

import { knownToken, keepToken } from "./token.js";
import { WhepPlayer } from "./whep.js";

const ASK_INTERVAL_MS = 500;
const ASK_TIMEOUT_MS = 3000;

const $ = (id) => document.getElementById(id);
// Switches by what the status calls them.
const TOLD_AS = { hold: "held", human: "human", frozen: "frozen", recording: "recording" };
const state = { token: knownToken(), status: null, avatars: [], lost: false };

const player = new WhepPlayer([$("avatar")], {
  tell(text) {
    $("veil").textContent = text || "";
    $("veil").classList.toggle("gone", !text);
  },
  blocked: (yes) => { $("play").hidden = !yes; },
});
window.avatarStream = { state, player };  // for whoever wants to look, tests too

async function ask(path, body) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const request = { headers, cache: "no-store", signal: AbortSignal.timeout(ASK_TIMEOUT_MS) };
  if (body !== undefined) {
    Object.assign(request, { method: "POST", body: JSON.stringify(body) });
    headers["Content-Type"] = "application/json";
  }
  const response = await fetch(`api/${path}`, request);
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) askForToken();
  if (!response.ok) throw new Error(answer.error || `the server answered ${response.status}`);
  return answer;
}

async function wish(path, body = {}) {
  complain("");
  try {
    await ask(path, body);
    await refresh();
  } catch (error) {
    complain(error.message);
  }
}

function complain(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

function askForToken() {
  state.token = "";  // shown at every question, a wrong one would close the server to all who come from here
  if (!$("token-form").hidden) return;
  $("token-form").hidden = false;
  $("board").inert = true;
  $("token").focus();
}

// ---- what is shown ----

function rows(body, figures, text) {
  const lines = Object.entries(figures).map(([name, value]) => {
    const row = document.createElement("tr");
    row.append(Object.assign(document.createElement("td"), { textContent: name }),
               Object.assign(document.createElement("td"), { textContent: text(value) }));
    return row;
  });
  body.replaceChildren(...lines);
}

function showAvatars(avatars) {
  state.avatars = avatars;
  $("avatars").replaceChildren(...avatars.map(({ name, portrait }) => {
    const button = document.createElement("button");
    button.dataset.avatar = name;
    const face = Object.assign(document.createElement("span"), { className: "face" });
    face.append(Object.assign(document.createElement("img"), { src: portrait, alt: "" }));
    button.append(face, Object.assign(document.createElement("span"), { textContent: name }));
    button.addEventListener("click", () => wish("avatar", { name }));
    return button;
  }));
}

function show(status) {
  state.status = status;
  for (const button of document.querySelectorAll("[data-switch]")) {
    button.setAttribute("aria-pressed", String(Boolean(status[TOLD_AS[button.dataset.switch]])));
  }
  for (const button of $("avatars").children) {
    button.setAttribute("aria-pressed", String(button.dataset.avatar === status.avatar));
  }
  $("fps").textContent = status.fps ? status.fps.toFixed(1) : "–";
  $("delay").textContent = status.delay_ms ? `${Math.round(status.delay_ms)} / ${Math.round(status.p95_ms)} ms` : "–";
  $("shown").textContent = player.delayText;
  // Beside a show every picture leaves at the same age; how well that is kept matters to the crew.
  const { target_delay_ms: target, left_ms: left, spread_ms: spread, late } = status;
  $("target-row").hidden = typeof target !== "number";
  if (typeof target === "number") {
    $("target").textContent = `${target} ms; left after ${left.toFixed(1)} ms, spread ${spread.toFixed(1)} ms; late: ${late}`;
  }
  $("viewers").textContent = status.connected === undefined ? "–" : String(status.connected);
  const onAir = status.held ? "hold card" : status.human ? "human signer" : `avatar ${status.avatar}`;
  const text = `${onAir}${status.recording ? ", recording" : ""}`;
  if ($("on-air").textContent !== text) $("on-air").textContent = text;
  $("on-air").classList.toggle("recording", status.recording);
  const messages = status.messages || [];
  if (Array.from($("messages").children, (item) => item.textContent).join("\n") !== messages.join("\n")) {
    $("messages").replaceChildren(...messages.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  }
  rows($("stages"), status.stages || {}, (value) => value.toFixed(1));
  rows($("dropped"), status.dropped || {}, String);
}

async function refresh() {
  if (!state.avatars.length) showAvatars(await ask("avatars"));
  show(await ask("status"));
  if (!player.started) {
    player.started = true;
    player.token = state.token;
    player.start();
  }
}

async function watch() {
  try {
    await refresh();
    if (state.lost) complain("");
    state.lost = false;
  } catch (error) {
    // What was said of a token or a wish stands until the next try.
    state.lost = $("token-form").hidden;
    if (state.lost) complain(`The pipeline cannot be reached: ${error.message}`);
  }
  setTimeout(watch, ASK_INTERVAL_MS);
}

// ---- buttons and keys ----

function press(button) {
  const { switch: name, deed } = button.dataset;
  if (name) wish(name, { on: button.getAttribute("aria-pressed") !== "true" });
  else if (deed === "stop") $("sure").showModal();
  else if (deed) wish(deed);
}

for (const button of document.querySelectorAll("[data-switch], [data-deed]")) {
  button.addEventListener("click", () => press(button));
}
$("sure").addEventListener("close", () => $("sure").returnValue === "yes" && wish("stop"));
$("play").addEventListener("click", () => player.play());
function useToken(token) {
  state.token = player.token = token;
  $("token-form").hidden = true;
  $("board").inert = false;
  complain("");
  refresh().catch((error) => complain(error.message));
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken($("token").value.trim());
  useToken(knownToken());
});
window.addEventListener("hashchange", () => useToken(knownToken()));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("input") || $("sure").open) return;
  const button = document.querySelector(`[aria-keyshortcuts="${CSS.escape(event.key)}"]`);
  if (button && !$("board").inert) press(button);
});
watch();
