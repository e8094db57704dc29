// The viewer's page: the avatar as large as the viewer wants it, the signer beside it where that is sent, figures.

import { WhepPlayer } from "./whep.js";

const SIZE_STEP = 10;
const SIZE_KEY = "avatar-stream.size";
const SIZE_KEYS = { "+": SIZE_STEP, "=": SIZE_STEP, "-": -SIZE_STEP, "_": -SIZE_STEP };
const NOTICE = document.getElementById("notice").textContent;
const HUMAN_NOTICE = "The signer's own picture, live";

const $ = (id) => document.getElementById(id);

function tell(text) {
  $("veil").textContent = text;
  $("veil").classList.toggle("gone", !text);
}

const player = new WhepPlayer([$("avatar"), $("driver")], {
  tell,
  blocked: (yes) => { $("play").hidden = !yes; },
  refreshed: () => {
    showDriver();
    showSound();
    showFigures();
  },
});
window.avatarStream = player;  // for whoever wants to look, tests too

function showDriver() {
  // "Hide" is the viewer's choice and stays; the button is there only where there is a second picture.
  const there = $("driver").srcObject !== null && $("driver").videoWidth > 0;
  const wanted = $("signer").getAttribute("aria-pressed") === "true";
  $("signer").hidden = !there;
  $("driver-figure").hidden = !(there && wanted);
}

function showSound() {
  $("sound").hidden = !player.status?.sound;
}

function toggleSound() {
  // Asked for only when somebody wants to hear it. Not remembered: browsers play nothing with sound by themselves.
  const on = $("sound").getAttribute("aria-pressed") !== "true";
  $("sound").setAttribute("aria-pressed", String(on));
  $("avatar").muted = !on;
  if (!on || player.sound) return;
  player.sound = true;
  player.connect();
}

function showFigures() {
  // A crew may cut to the signer's own picture: it must not be called generated then.
  const notice = player.status?.human ? HUMAN_NOTICE : NOTICE;
  if ($("notice").textContent !== notice) $("notice").textContent = notice;
  $("fps").textContent = player.fps === null ? "–" : player.fps.toFixed(0);
  $("delay").textContent = player.delayText;
  const texts = Array.from($("messages").children, (item) => item.textContent);
  if (texts.join("\n") !== player.messages.join("\n")) {
    $("messages").replaceChildren(...player.messages.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if ($("stage").requestFullscreen) $("stage").requestFullscreen().catch(() => {});
  else if ($("avatar").webkitEnterFullscreen) $("avatar").webkitEnterFullscreen();  // iPhones: only videos can
}

function toggleSigner() {
  const button = $("signer");
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  showDriver();
}

// ---- the picture's size: a part of the room for it, in percent ----

function setSize(percent, remember = true) {
  const { min, max } = $("size");
  const size = Math.round(Math.min(Number(max), Math.max(Number(min), percent)));
  $("size").value = size;
  $("picture").style.setProperty("--size", size / 100);
  if (!remember) return;
  try {
    localStorage.setItem(SIZE_KEY, size);
  } catch { /* a browser that keeps nothing, or a frame that may not */ }
}

function rememberedSize() {
  try {
    return Number(localStorage.getItem(SIZE_KEY)) || 100;
  } catch {
    return 100;
  }
}

function dragSize(event) {
  // The picture keeps its middle; the pointer's distance from it against the room's decides, in the larger direction.
  event.preventDefault();
  const room = $("stage").getBoundingClientRect();
  const [x, y] = [room.left + room.width / 2, room.top + room.height / 2];
  const move = ({ clientX, clientY }) => {
    setSize(100 * Math.max(Math.abs(clientX - x) / (room.width / 2), Math.abs(clientY - y) / (room.height / 2)));
  };
  $("grip").setPointerCapture(event.pointerId);
  $("grip").addEventListener("pointermove", move);
  const end = () => $("grip").removeEventListener("pointermove", move);
  for (const name of ["pointerup", "pointercancel"]) $("grip").addEventListener(name, end, { once: true });
}

$("full").addEventListener("click", toggleFullScreen);
$("signer").addEventListener("click", toggleSigner);
$("sound").addEventListener("click", toggleSound);
$("play").addEventListener("click", () => player.play());
$("avatar").addEventListener("dblclick", toggleFullScreen);
$("size").addEventListener("input", () => setSize(Number($("size").value)));
$("grip").addEventListener("pointerdown", dragSize);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "f") toggleFullScreen();
  if (event.key === "s" && !$("signer").hidden) toggleSigner();
  if (event.key === "m" && !$("sound").hidden) toggleSound();
  if (event.key in SIZE_KEYS) setSize(Number($("size").value) + SIZE_KEYS[event.key]);
  if (event.key === "0") setSize(100);
});
setSize(rememberedSize(), false);
player.start();
