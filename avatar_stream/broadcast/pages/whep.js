// Plays a broadcast by WHEP, comes back by itself, and knows how old the picture on the screen is.
//
// The delay: every picture's RTP timestamp is its capture time on the server's clock, plus a number that the server
// tells (rtp_origin). Our clock is set against the server's by asking /status: half of the shortest way there and
// back of the last minute is the error at most, well under 1 ms on one machine. requestVideoFrameCallback tells which
// picture stands on the screen and when. Browsers that do not show RTP timestamps get an estimate, marked with ~.

import { Refusal, Session } from "./session.js";
import { knownToken } from "./token.js";

const STATUS_INTERVAL_MS = 1000;
const STATUS_TIMEOUT_MS = 1500;
const FIRST_PICTURE_TIMEOUT_MS = 8000;
const FROZEN_AFTER_MS = 4000;  // the server repeats its picture twice a second even when its source is silent
const LOST_AFTER_MS = 3000;
const SILENT_AFTER_S = 2;
const CLOCK_SAMPLES = 60;
const DELAYS_SHOWN = 50;
const CROWDED = "Too many connections from this address: this page tries again by itself";
const FULL = "All places are taken: this page tries again by itself";
const PRIVATE = "This broadcast is private: open it by the address that has the token in it";

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function shortenBuffer(receiver) {
  // As little waiting as the browser allows: signing is a conversation.
  if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
}

export class WhepPlayer extends Session {
  // `videos`: one <video> for each picture asked for, the first one is watched (delay, frozen).
  // tell(text): what to show over the picture, "" for nothing.   blocked(yes): the browser wants a press before it plays.
  // refreshed(): once a second, after the server's word came (or did not).   shown(now, metadata): each picture.
  constructor(videos, { endpoint = "whep", tell, blocked = () => {}, refreshed = () => {}, shown = () => {} } = {}) {
    super(endpoint, tell);
    Object.assign(this, { videos, blocked, refreshed, shown });
    this.sound = false;      // ask for sound too, from the next `connect` on; the first video plays it
    this.serverId = null;
    this.status = null;
    this.originOf = null;    // the resource for which `status` was told
    this.clocks = [];        // {roundTripMs, offsetMs}: server's clock = performance.now() + offsetMs
    this.delaysMs = [];
    this.exact = true;
    this.lastFrameMs = 0;    // when a picture was last shown
    this.frameTimesMs = [];
  }

  // Connect, and go on until the page is left.
  start() {
    const [video] = this.videos;
    const step = (now, metadata) => {
      this.onFrame(now, metadata);
      video.requestVideoFrameCallback(step);
    };
    if ("requestVideoFrameCallback" in HTMLVideoElement.prototype) video.requestVideoFrameCallback(step);
    else video.addEventListener("timeupdate", () => this.seen());  // it plays, that is all we know
    document.addEventListener("visibilitychange", () => {
      // A page in the background is shown no pictures: that is no frozen stream.
      if (document.visibilityState === "visible") this.lastFrameMs = performance.now();
    });
    window.addEventListener("pagehide", () => this.hangUp());
    window.addEventListener("pageshow", (event) => event.persisted && this.connect());
    window.addEventListener("online", () => !this.resource && this.retry());
    window.addEventListener("hashchange", () => {
      // The address with the token, opened in the tab that asked for it: browsers do not load the page again.
      this.token = knownToken();
      if (!this.resource) this.connect();
    });
    this.connect();
    this.watch();
  }

  // ---- connection ----

  prepare(connection, current) {
    const receivers = this.videos.map(() => connection.addTransceiver("video", { direction: "recvonly" }).receiver);
    // After the pictures: other kinds of sections never stand before them.
    const heard = this.sound ? [connection.addTransceiver("audio", { direction: "recvonly" }).receiver.track] : [];
    for (const [place, video] of this.videos.entries()) {
      const { track } = receivers[place];
      shortenBuffer(receivers[place]);
      if (place > 0) video.srcObject = null;  // the first one's last picture stays until a new one comes
      // Not before something comes: a video without any picture keeps a page loading for ever.
      track.addEventListener("unmute", () => {
        if (!current()) return;
        video.srcObject = new MediaStream(place === 0 ? [track, ...heard] : [track]);
        this.play();
      });
    }
  }

  offering(sdp) {
    // Browsers hear Opus in mono unless they say otherwise (RFC 7587, 6.1).
    return sdp.replace(/(a=fmtp:\d+ minptime=10;useinbandfec=1)(?=\r?\n)/g, "$1;stereo=1");
  }

  answered() {
    this.lastFrameMs = performance.now() + FIRST_PICTURE_TIMEOUT_MS - FROZEN_AFTER_MS;
  }

  refused(error) {
    if (error.status === 401) this.lockedOut();
    return error.status === 401;
  }

  words(error) {
    return { 429: CROWDED, 503: FULL }[error.status] ?? super.words(error);
  }

  lockedOut() {
    // Shown again each second, a wrong token would close the server to everybody who comes from this address.
    this.token = "";
    this.tell(PRIVATE);
  }

  hangUp() {
    super.hangUp();
    Object.assign(this, { delaysMs: [], frameTimesMs: [], lastFrameMs: 0 });
  }

  async play() {
    for (const [place, video] of this.videos.entries()) {
      if (!video.srcObject) continue;
      try {
        await video.play();
        this.blocked(false);
      } catch (error) {
        // A browser that plays nothing by itself, not even without sound: one press is needed.
        if (place === 0 && error.name === "NotAllowedError") this.blocked(true);
      }
    }
  }

  // ---- what is on the screen ----

  // Pictures a second, or null.
  get fps() {
    if (!this.playing || this.silent) return null;
    const recent = this.frameTimesMs.filter((time) => performance.now() - time < 2000);
    return recent.length > 2 ? ((recent.length - 1) * 1000) / (recent[recent.length - 1] - recent[0]) : null;
  }

  // From the camera to this screen, or null.
  get delayMs() {
    if (!this.playing || this.silent || !this.delaysMs.length) return null;
    const delayMs = median(this.delaysMs);
    // Hours of "delay" mean that the source's times are no clock's (a file as fast as possible).
    return delayMs > -50 && delayMs < 60000 ? Math.max(0, delayMs) : null;
  }

  get delayText() {
    return this.delayMs === null ? "–" : `${this.exact ? "" : "~"}${Math.round(this.delayMs)} ms`;
  }

  get playing() {
    return this.frameTimesMs.length > 0 && performance.now() - this.lastFrameMs < FROZEN_AFTER_MS;
  }

  get silent() {
    return Boolean(this.status && this.status.silent_s !== null && this.status.silent_s > SILENT_AFTER_S);
  }

  get messages() {
    return (this.status && this.status.messages) || [];
  }

  seen() {
    this.lastFrameMs = performance.now();
    this.attempt = 0;
  }

  onFrame(now, metadata) {
    this.seen();
    this.frameTimesMs.push(now);
    if (this.frameTimesMs.length > 100) this.frameTimesMs.shift();
    const captured = this.captureMs(metadata.rtpTimestamp);
    this.exact = captured !== null;
    let delayMs = null;
    if (captured !== null) {
      delayMs = Math.max(now, metadata.presentationTime) - captured;
    } else if (this.status && Number.isFinite(this.status.sent_delay_ms)) {
      const way = this.clocks.length ? Math.min(...this.clocks.map((clock) => clock.roundTripMs)) / 2 : 0;
      const here = metadata.receiveTime ? Math.max(0, metadata.presentationTime - metadata.receiveTime) : 0;
      delayMs = this.status.sent_delay_ms + way + here;
    }
    if (delayMs !== null) {
      this.delaysMs.push(delayMs);
      if (this.delaysMs.length > DELAYS_SHOWN) this.delaysMs.shift();
    }
    this.shown(now, metadata);
  }

  // A picture's capture on our own clock, or null.
  captureMs(rtpTimestamp) {
    const { status } = this;
    const offsetMs = this.clockOffsetMs();
    if (offsetMs === null || !status || !Number.isFinite(status.rtp_origin) || !Number.isFinite(status.start_s)) return null;
    if (this.originOf !== this.resource || rtpTimestamp === undefined) return null;
    const turn = 2 ** 32;
    const elapsed = (performance.now() + offsetMs) - status.start_s * 1000;
    const expected = (elapsed / 1000) * status.ticks_per_s;
    let ticks = (((rtpTimestamp - status.rtp_origin) % turn) + turn) % turn;
    ticks += Math.round((expected - ticks) / turn) * turn;  // RTP's clock turns over every 13 hours
    return status.start_s * 1000 + (ticks / status.ticks_per_s) * 1000 - offsetMs;
  }

  clockOffsetMs() {
    let best = null;
    for (const clock of this.clocks) if (!best || clock.roundTripMs < best.roundTripMs) best = clock;
    return best && best.offsetMs;
  }

  // ---- the server's word ----

  async askStatus() {
    const { resource } = this;
    const viewer = resource ? resource.split("/").pop() : "";
    const address = new URL(`status?viewer=${viewer}`, new URL(this.endpoint, document.baseURI));
    const started = performance.now();
    const request = { headers: this.headers(), cache: "no-store", signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) };
    const response = await fetch(address, request);
    if (!response.ok) throw new Refusal(response, await response.text());
    const status = await response.json();
    const ended = performance.now();
    const anew = this.serverId !== null && status.server !== this.serverId;
    if (anew) this.clocks = [];
    this.clocks.push({ roundTripMs: ended - started, offsetMs: status.now_s * 1000 - (started + ended) / 2 });
    if (this.clocks.length > CLOCK_SAMPLES) this.clocks.shift();
    if (resource === this.resource) Object.assign(this, { status, originOf: resource });
    this.serverId = status.server;
    const forgotten = resource !== null && resource === this.resource && !status.known;
    if (this.connection && (anew || forgotten)) {
      this.attempt = 0;
      this.retry();
    }
  }

  async watch() {
    let soon = this.clocks.length < 5;
    try {
      await this.askStatus();
    } catch (error) {
      soon = error.status === undefined;  // no answer at all: ask until there is one
      if (error.status === 401) this.lockedOut();
      else if (this.frameTimesMs.length === 0 || performance.now() - this.lastFrameMs > LOST_AFTER_MS) {
        this.tell("The broadcast cannot be reached");
      }
    }
    if (this.playing) this.tell(this.silent ? "Waiting for the camera" : this.status?.frozen ? "Frozen by the signer" : "");
    if (this.resource && this.status && this.status.silent_s === null) {
      // The pipeline is still loading: no picture is no fault.
      this.lastFrameMs = performance.now();
      this.tell("Waiting for the first picture");
    }
    this.refreshed();
    const stuck = this.resource && this.lastFrameMs && performance.now() - this.lastFrameMs > FROZEN_AFTER_MS;
    if (stuck && document.visibilityState === "visible") this.retry();
    setTimeout(() => this.watch(), soon ? STATUS_INTERVAL_MS / 4 : STATUS_INTERVAL_MS);
  }
}
