// Plays a broadcast by WHEP, comes back by itself, and shows how old the picture on the screen is.
//
// The delay: every picture's RTP timestamp is its capture time on the server's clock, plus a number that the server
// tells (rtp_origin). Our clock is set against the server's by asking /status: half of the shortest way there and
// back of the last minute is the error at most, well under 1 ms on one machine. requestVideoFrameCallback tells which
// picture stands on the screen and when. Browsers that do not show RTP timestamps get an estimate, marked with ~.
"use strict";

const STATUS_INTERVAL_MS = 1000;
const STATUS_TIMEOUT_MS = 3000;
const GATHER_TIMEOUT_MS = 1000;
const ANSWER_TIMEOUT_MS = 8000;
const FROZEN_AFTER_MS = 4000;  // the server repeats its picture twice a second even when its source is silent
const LOST_AFTER_MS = 3000;
const SILENT_AFTER_S = 2;
const BACKOFF_MS = [250, 500, 1000, 2000, 4000];
const CLOCK_SAMPLES = 60;
const DELAYS_SHOWN = 50;

const $ = (id) => document.getElementById(id);
const state = {
  connection: null,
  resource: null,     // the WHEP resource's address, and in it our viewer's id
  serverId: null,
  status: null,
  clocks: [],         // {roundTripMs, offsetMs}: server's clock = performance.now() + offsetMs
  delaysMs: [],
  exact: true,
  lastFrameMs: 0,     // when a picture was last shown
  frameTimesMs: [],
  attempt: 0,
  attemptId: 0,
  retryTimer: 0,
};
window.avatarStream = state;  // for whoever wants to look, tests too

// ---- connection ----

function shortenBuffer(receiver) {
  // As little waiting as the browser allows: signing is a conversation.
  if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
}

function gathered(connection) {
  return new Promise((resolve) => {
    const done = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", done);
    setTimeout(resolve, GATHER_TIMEOUT_MS);
    done();
  });
}

async function connect() {
  const attemptId = ++state.attemptId;
  const current = () => attemptId === state.attemptId;
  hangUp();
  tell(state.attempt ? "Connecting again" : "Connecting");
  const connection = new RTCPeerConnection();
  state.connection = connection;
  for (const video of [$("avatar"), $("driver")]) {
    const { receiver } = connection.addTransceiver("video", { direction: "recvonly" });
    shortenBuffer(receiver);
    if (video.id === "driver") video.srcObject = null;  // the avatar's last picture stays until a new one comes
    // Not before something comes: a video without any picture keeps a page loading for ever.
    receiver.track.addEventListener("unmute", () => {
      if (!current()) return;
      video.srcObject = new MediaStream([receiver.track]);
      play();
    });
  }
  connection.addEventListener("connectionstatechange", () => {
    if (!current()) return;
    if (connection.connectionState === "failed") retry();
    if (connection.connectionState === "disconnected") {
      setTimeout(() => current() && connection.connectionState === "disconnected" && retry(), LOST_AFTER_MS);
    }
  });
  try {
    await connection.setLocalDescription(await connection.createOffer());
    await gathered(connection);
    const response = await fetch("whep", {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: connection.localDescription.sdp,
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
    if (!response.ok) throw new Error(await response.text());
    const resource = response.headers.get("Location");
    if (!current()) return void fetch(resource, { method: "DELETE" });
    state.resource = resource;
    await connection.setRemoteDescription({ type: "answer", sdp: await response.text() });
    state.lastFrameMs = performance.now() + ANSWER_TIMEOUT_MS - FROZEN_AFTER_MS;
  } catch (error) {
    if (!current()) return;
    console.info("no connection:", error.message);
    retry();
  }
}

function hangUp() {
  if (state.resource) fetch(state.resource, { method: "DELETE", keepalive: true }).catch(() => {});
  if (state.connection) state.connection.close();
  Object.assign(state, { connection: null, resource: null, delaysMs: [], frameTimesMs: [], lastFrameMs: 0 });
}

function retry() {
  hangUp();
  clearTimeout(state.retryTimer);
  const wait = BACKOFF_MS[Math.min(state.attempt, BACKOFF_MS.length - 1)];
  state.attempt += 1;
  state.attemptId += 1;
  tell("Connecting again");
  state.retryTimer = setTimeout(connect, wait * (0.8 + 0.4 * Math.random()));
}

async function play() {
  for (const video of [$("avatar"), $("driver")]) {
    if (!video.srcObject) continue;
    try {
      await video.play();
      $("play").hidden = true;
    } catch (error) {
      // A browser that plays nothing by itself, not even without sound: one press is needed.
      if (video.id === "avatar" && error.name === "NotAllowedError") $("play").hidden = false;
    }
  }
}

// ---- what is on the screen ----

function clockOffsetMs() {
  let best = null;
  for (const clock of state.clocks) if (!best || clock.roundTripMs < best.roundTripMs) best = clock;
  return best && best.offsetMs;
}

function captureMs(rtpTimestamp) {
  // On our own clock, or null.
  const { status } = state;
  const offsetMs = clockOffsetMs();
  if (offsetMs === null || !status || !Number.isFinite(status.rtp_origin) || !Number.isFinite(status.start_s)) return null;
  if (state.originOf !== state.resource || rtpTimestamp === undefined) return null;
  const turn = 2 ** 32;
  const elapsed = (performance.now() + offsetMs) - status.start_s * 1000;
  const expected = (elapsed / 1000) * status.ticks_per_s;
  let ticks = (((rtpTimestamp - status.rtp_origin) % turn) + turn) % turn;
  ticks += Math.round((expected - ticks) / turn) * turn;  // RTP's clock turns over every 13 hours
  return status.start_s * 1000 + (ticks / status.ticks_per_s) * 1000 - offsetMs;
}

function onFrame(now, metadata) {
  const video = $("avatar");
  state.lastFrameMs = performance.now();
  state.frameTimesMs.push(now);
  if (state.frameTimesMs.length > 100) state.frameTimesMs.shift();
  const captured = captureMs(metadata.rtpTimestamp);
  state.exact = captured !== null;
  let delayMs = null;
  if (captured !== null) {
    delayMs = Math.max(now, metadata.presentationTime) - captured;
  } else if (state.status && state.status.sent_delay_ms !== null) {
    const way = state.clocks.length ? Math.min(...state.clocks.map((clock) => clock.roundTripMs)) / 2 : 0;
    const here = metadata.receiveTime ? Math.max(0, metadata.presentationTime - metadata.receiveTime) : 0;
    delayMs = state.status.sent_delay_ms + way + here;
  }
  if (delayMs !== null) {
    state.delaysMs.push(delayMs);
    if (state.delaysMs.length > DELAYS_SHOWN) state.delaysMs.shift();
  }
  state.attempt = 0;
  video.requestVideoFrameCallback(onFrame);
}

function onTimeUpdate() {
  // For browsers without requestVideoFrameCallback: it plays, that is all we know.
  state.lastFrameMs = performance.now();
  state.attempt = 0;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function shownFps() {
  const recent = state.frameTimesMs.filter((time) => performance.now() - time < 2000);
  return recent.length > 2 ? ((recent.length - 1) * 1000) / (recent[recent.length - 1] - recent[0]) : null;
}

function showDriver() {
  // "Hide" is the viewer's choice and stays; the button is there only where there is a second picture.
  const there = $("driver").srcObject !== null && $("driver").videoWidth > 0;
  const wanted = $("signer").getAttribute("aria-pressed") === "true";
  $("signer").hidden = !there;
  $("driver-figure").hidden = !(there && wanted);
}

function tell(text) {
  $("veil").textContent = text || "";
  $("veil").classList.toggle("gone", !text);
}

function showFigures() {
  const { status } = state;
  const playing = state.frameTimesMs.length > 0 && performance.now() - state.lastFrameMs < FROZEN_AFTER_MS;
  const silent = status && status.silent_s !== null && status.silent_s > SILENT_AFTER_S;
  const fps = playing && !silent ? shownFps() : null;
  const delayMs = playing && !silent && state.delaysMs.length ? median(state.delaysMs) : null;
  $("fps").textContent = fps === null ? "–" : fps.toFixed(0);
  // Hours of "delay" mean that the source's times are no clock's (a file as fast as possible).
  const sane = delayMs !== null && delayMs > -50 && delayMs < 60000;
  $("delay").textContent = sane ? `${state.exact ? "" : "~"}${Math.max(0, Math.round(delayMs))} ms` : "–";
  const messages = (status && status.messages) || [];
  const texts = Array.from($("messages").children, (item) => item.textContent);
  if (texts.join("\n") !== messages.join("\n")) {
    $("messages").replaceChildren(...messages.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
  if (!playing) return;
  if (silent) tell("Waiting for the camera");
  else if (status && status.frozen) tell("Frozen by the signer");
  else tell("");
}

// ---- the server's word ----

async function askStatus() {
  const resource = state.resource;
  const viewer = resource ? resource.split("/").pop() : "";
  const started = performance.now();
  const response = await fetch(`status?viewer=${viewer}`, { cache: "no-store", signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) });
  const status = await response.json();
  const ended = performance.now();
  if (state.serverId !== null && status.server !== state.serverId) state.clocks = [];
  state.clocks.push({ roundTripMs: ended - started, offsetMs: status.now_s * 1000 - (started + ended) / 2 });
  if (state.clocks.length > CLOCK_SAMPLES) state.clocks.shift();
  if (resource === state.resource) Object.assign(state, { status, originOf: resource });
  const anew = state.serverId !== null && status.server !== state.serverId;
  state.serverId = status.server;
  const forgotten = resource !== null && resource === state.resource && !status.known;
  if (state.connection && (anew || forgotten)) {
    state.attempt = 0;
    retry();
  }
}

async function watch() {
  try {
    await askStatus();
  } catch {
    if (state.frameTimesMs.length === 0 || performance.now() - state.lastFrameMs > LOST_AFTER_MS) tell("The broadcast cannot be reached");
  }
  showDriver();
  showFigures();
  if (state.resource && state.status && state.status.silent_s === null) {
    // The pipeline is still loading: no picture is no fault.
    state.lastFrameMs = performance.now();
    tell("Waiting for the first picture");
  }
  const stuck = state.resource && state.lastFrameMs && performance.now() - state.lastFrameMs > FROZEN_AFTER_MS;
  if (stuck && document.visibilityState === "visible") retry();
  setTimeout(watch, state.clocks.length < 5 ? STATUS_INTERVAL_MS / 4 : STATUS_INTERVAL_MS);
}

// ---- buttons and keys ----

function toggleFullScreen() {
  const stage = $("stage");
  const video = $("avatar");
  if (document.fullscreenElement) document.exitFullscreen();
  else if (stage.requestFullscreen) stage.requestFullscreen().catch(() => {});
  else if (video.webkitEnterFullscreen) video.webkitEnterFullscreen();  // iPhones: only videos can
}

function toggleSigner() {
  const button = $("signer");
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  showDriver();
}

$("full").addEventListener("click", toggleFullScreen);
$("signer").addEventListener("click", toggleSigner);
$("play").addEventListener("click", play);
$("avatar").addEventListener("dblclick", toggleFullScreen);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "f") toggleFullScreen();
  if (event.key === "s" && !$("signer").hidden) toggleSigner();
});
document.addEventListener("visibilitychange", () => {
  // A page in the background is shown no pictures: that is no frozen stream.
  if (document.visibilityState === "visible") state.lastFrameMs = performance.now();
});
window.addEventListener("pagehide", hangUp);
window.addEventListener("pageshow", (event) => event.persisted && connect());
window.addEventListener("online", () => !state.resource && retry());

if ("requestVideoFrameCallback" in HTMLVideoElement.prototype) $("avatar").requestVideoFrameCallback(onFrame);
else $("avatar").addEventListener("timeupdate", onTimeUpdate);
connect();
watch();
