// The signer's page: camera, own picture in a mirror, sending by WHIP, the avatar by WHEP, who signs, how it gets there.

import { keepToken, knownToken } from "./token.js";
import { WhepPlayer } from "./whep.js";
import { WhipSender, judge } from "./whip.js";

const MEASURE_INTERVAL_MS = 1000;
const WORD_KEY = "avatar_stream.signer", SENDING_KEY = "avatar_stream.sending", CAMERA_KEY = "avatar_stream.camera";
const PICTURE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const CAMERA_TROUBLES = {
  NotAllowedError: "The camera was refused. Allow it for this page (the camera sign at the address), then press the button again.",
  NotFoundError: "No camera was found. Connect one, then press the button again.",
  NotReadableError: "The camera is in use by another program. Close that one, then press the button again.",
  AbortError: "The camera did not start. Unplug it and plug it in again, then press the button again.",
};
const INSECURE = "Browsers open a camera only on pages by https, or of this machine itself. Ask for the https address"
  + " (server.certificate in the pipeline file), or open this page on the machine that makes the avatar.";

const WRONG_TOKEN = "The token is wrong: whoever runs this server has the right one.";

const $ = (id) => document.getElementById(id);
const state = {
  stream: null,      // the camera's
  lost: false,       // it was there, and went by itself
  wanted: sessionStorage.getItem(SENDING_KEY) === "yes",  // the signer wants to send; a reload goes on
  kind: "",          // why nothing is sent: "", "token", "taken", "error", "waiting"
  quality: null,
  advice: "",        // about the connection
  wake: null,
};

function word() {
  // With it the server knows that we are the one who was there a moment ago.
  let known = sessionStorage.getItem(WORD_KEY);
  if (!known) {
    known = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem(WORD_KEY, known);
  }
  return known;
}

function veil(id, text) {
  $(id).textContent = text;
  $(id).classList.toggle("gone", !text);
}

// ---- sending ----

const player = new WhepPlayer([$("avatar")], {
  tell: (text) => veil("veil", text),
  blocked: (yes) => { $("play").hidden = !yes; },
  refreshed: showAdvice,
});

const sender = new WhipSender("whip", (text, kind = "") => {
  if (kind) state.kind = kind;
  if (kind === "waiting") {
    trouble(text);
  } else if (kind) {
    want(false);
    const words = {
      token: sender.token ? WRONG_TOKEN : "This server asks for a token: whoever runs it has one for you.",
      taken: "Another signer is sending now: ask them to stop, or take over.",
    };
    trouble(words[kind] || text);
  }
  show();
});

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

function want(yes) {
  state.wanted = yes;
  sessionStorage.setItem(SENDING_KEY, yes ? "yes" : "no");
}

function send(takeover = false) {
  want(true);
  trouble("");
  state.kind = "";
  sender.track = state.stream.getVideoTracks()[0];
  sender.endpoint = `whip?signer=${word()}${takeover ? "&takeover=1" : ""}`;
  sender.attempt = 0;
  sender.connect().then(() => { sender.endpoint = `whip?signer=${word()}`; });
  holdAwake();
  show();
}

function stopSending() {
  want(false);
  sender.stop();
  state.quality = null;
  state.wake?.release().catch(() => {});
  state.wake = null;
  show();
}

async function holdAwake() {
  // A phone that goes dark while somebody signs has ended the broadcast.
  try {
    state.wake = await navigator.wakeLock.request("screen");
  } catch {
    state.wake = null;
  }
}

// ---- camera ----

async function openCamera(deviceId = localStorage.getItem(CAMERA_KEY)) {
  if (!window.isSecureContext || !navigator.mediaDevices) return trouble(INSECURE);
  trouble("");
  closeCamera();
  const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
  try {
    state.stream = await navigator.mediaDevices.getUserMedia({ video: { ...PICTURE, ...which }, audio: false });
  } catch (error) {
    if (deviceId && (error.name === "OverconstrainedError" || error.name === "NotFoundError")) {
      localStorage.removeItem(CAMERA_KEY);  // that one is not here any more
      return openCamera(null);
    }
    trouble(CAMERA_TROUBLES[error.name] || `The camera cannot be opened: ${error.message || error.name}`);
    return show();
  }
  await useCamera();
}

async function useCamera() {
  state.lost = false;
  const [track] = state.stream.getVideoTracks();
  if ("contentHint" in track) track.contentHint = "motion";
  track.addEventListener("ended", () => lostCamera(track));
  track.addEventListener("mute", show);
  track.addEventListener("unmute", show);
  const { facingMode, deviceId } = track.getSettings();
  if (deviceId) localStorage.setItem(CAMERA_KEY, deviceId);
  $("own").classList.toggle("mirrored", facingMode !== "environment");
  $("own").srcObject = state.stream;
  await listCameras(deviceId);
  if (sender.connection) await sender.replace(track);
  else if (state.wanted) send();
  show();
}

function closeCamera() {
  for (const track of state.stream?.getTracks() || []) track.stop();
  state.stream = null;
}

function lostCamera(track) {
  if (!state.stream?.getTracks().includes(track)) return;
  Object.assign(state, { stream: null, lost: true });
  trouble("The camera is gone. Connect it again: this goes on by itself.");
  show();
}

async function listCameras(chosen) {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter((device) => device.kind === "videoinput");
  const options = cameras.map((device, place) => new Option(device.label || `Camera ${place + 1}`, device.deviceId, false, device.deviceId === chosen));
  $("camera").replaceChildren(...(options.length ? options : [new Option("None yet")]));
  $("camera").disabled = cameras.length < 2;
}

async function camerasChanged() {
  if (!state.stream && !$("trouble").hidden && (state.wanted || state.lost)) await openCamera();
  else if (state.stream) await listCameras(state.stream.getVideoTracks()[0].getSettings().deviceId);
}

// ---- token ----

async function useToken(token) {
  keepToken(token);
  sender.token = player.token = token;
  trouble("");
  if (!player.resource) player.connect();
  await listAvatars();
}

// ---- avatars ----

async function listAvatars() {
  const response = await fetch("api/avatars", { headers: sender.headers() }).catch(() => null);
  if (!response) return setTimeout(listAvatars, 3000);
  if (response.status === 401) {
    state.kind = "token";
    if (sender.token) trouble(WRONG_TOKEN);
    return show();
  }
  if (state.kind === "token") state.kind = "";
  if (response.ok) showAvatars(await response.json());
  show();
}

function showAvatars(avatars) {
  const faces = avatars.map(({ name, portrait }) => {
    const label = Object.assign(document.createElement("label"), { className: "face" });
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "avatar", value: name });
    const frame = Object.assign(document.createElement("span"), { className: "frame" });
    frame.append(Object.assign(document.createElement("img"), { src: portrait.replace(/^\//, ""), alt: "" }));
    const caption = Object.assign(document.createElement("span"), { className: "name", textContent: name });
    radio.addEventListener("change", () => chooseAvatar(name));
    label.append(radio, frame, caption);
    return label;
  });
  $("avatars").replaceChildren($("avatars").querySelector("legend"), ...faces);
  $("avatars").hidden = faces.length < 2;
}

async function chooseAvatar(name) {
  state.chosen = { name, untilMs: performance.now() + 8000 };  // the status tells the old one for a moment
  const headers = sender.headers({ "Content-Type": "application/json" });
  const response = await fetch("api/avatar", { method: "POST", headers, body: JSON.stringify({ name }) }).catch(() => null);
  if (response?.ok) return;
  state.chosen = null;
  trouble((await response?.json().catch(() => null))?.error || "The server cannot be reached.");
}

function markAvatar() {
  const current = player.status?.avatar;
  if (state.chosen && (state.chosen.name === current || performance.now() > state.chosen.untilMs)) state.chosen = null;
  const name = state.chosen ? state.chosen.name : current;
  for (const radio of $("avatars").querySelectorAll("input")) radio.checked = radio.value === name;
}

// ---- what is on the screen ----

function show() {
  const [track] = state.stream?.getVideoTracks() || [];
  const live = sender.sending && state.wanted;
  if (live && state.kind) {
    state.kind = "";
    trouble("");
  }
  $("send").textContent = !track ? "Turn on the camera" : state.wanted ? "Stop sending" : "Start sending";
  $("send").setAttribute("aria-pressed", String(Boolean(track && state.wanted)));
  $("send").disabled = state.kind === "token" && !state.wanted && Boolean(track);
  $("take").hidden = state.kind !== "taken";
  $("token-form").hidden = state.kind !== "token";
  $("badge").hidden = !live;
  if (!track) veil("own-veil", "The camera is off");
  else if (track.muted) veil("own-veil", "The camera gives no picture now");
  else if (!state.wanted) veil("own-veil", "Only you see this");
  else veil("own-veil", live ? "" : sender.attempt ? "Connecting again" : "Connecting");
  showQuality();
  showAdvice();
}

function showQuality() {
  const { quality } = state;
  const judged = quality && judge(quality);
  state.advice = judged ? judged.advice : "";
  $("quality").textContent = judged ? judged.word : "–";
  $("quality").dataset.word = judged ? judged.word : "";
  $("sent").textContent = quality?.width ? `${quality.width} × ${quality.height}, ${Math.round(quality.fps)} a second` : "–";
  const trip = quality && quality.roundTripMs !== null ? `${Math.round(quality.roundTripMs)} ms` : "–";
  const lost = quality && quality.lost !== null ? `${(quality.lost * 100).toFixed(quality.lost < 0.1 && quality.lost > 0 ? 1 : 0)} %` : "–";
  $("way").textContent = quality ? `${trip}, ${lost}` : "–";
  $("delay").textContent = sender.sending ? player.delayText : "–";
}

function onAir() {
  // What viewers see in the avatar's place is the signer's business first of all.
  const { status } = player;
  if (status?.held) return ["Viewers see a hold card now, not you"];
  if (status?.human) return ["Viewers see your own picture now, not the avatar"];
  if (status?.driver) return ["Viewers see your own picture too, beside the avatar"];
  return [];
}

function showAdvice() {
  // Without a picture of ours the server's words on the signer are about nobody.
  const live = sender.sending && state.wanted;
  const lines = live ? [...new Set([...onAir(), ...player.messages, state.advice])].filter(Boolean) : [];
  const well = live && !lines.length && player.status?.fps > 0;
  $("advice").classList.toggle("well", Boolean(well));
  if (well) lines.push("You are seen well");
  const shown = Array.from($("advice").children, (item) => item.textContent);
  if (shown.join("\n") !== lines.join("\n")) {
    $("advice").replaceChildren(...lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
  markAvatar();
}

async function measure() {
  if (sender.sending) {
    const quality = await sender.measure();
    if (quality) Object.assign(state, { quality });
    sender.attempt = 0;
  } else {
    state.quality = null;
  }
  show();
  setTimeout(measure, MEASURE_INTERVAL_MS);
}

// ---- buttons and keys ----

function press() {
  if (!state.stream) return openCamera();
  return state.wanted ? stopSending() : send();
}

$("send").addEventListener("click", press);
$("take").addEventListener("click", () => send(true));
$("play").addEventListener("click", () => player.play());
$("camera").addEventListener("change", () => openCamera($("camera").value));
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token").value.trim());
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  if (event.key === "s") press();
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible" || !state.wanted) return;
  holdAwake();  // browsers let go of it with the page
  if (!state.stream) openCamera();  // phones end the camera of a page in the background
});
navigator.mediaDevices?.addEventListener("devicechange", camerasChanged);
window.addEventListener("pagehide", () => sender.hangUp());
window.addEventListener("pageshow", (event) => event.persisted && state.wanted && state.stream && send());
window.addEventListener("online", () => state.wanted && state.stream && !sender.resource && send());
window.addEventListener("hashchange", () => useToken(knownToken()));
window.avatarStream = { player, sender, state };  // for whoever wants to look, tests too

async function begin() {
  $("host").textContent = location.host;
  show();
  player.start();
  measure();
  await listAvatars();
  if (!window.isSecureContext || !navigator.mediaDevices) return trouble(INSECURE);
  // No question before the signer has asked for the camera; where it was answered before, there is none.
  const permission = await navigator.permissions?.query({ name: "camera" }).catch(() => null);
  if (permission?.state === "granted") await openCamera();
}

begin();
