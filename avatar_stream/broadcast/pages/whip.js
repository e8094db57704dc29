// Sends a camera's picture by WHIP, comes back by itself, and measures how well it gets there.

import { Session } from "./session.js";

const START_KBPS = 2000, MAX_KBPS = 4000;
const FINAL = [400, 401, 403, 404, 405, 409, 415];  // asking again changes nothing

export class WhipSender extends Session {
  // tell(text, kind): what the signer should know; kind is "token", "taken" or "error" where it has given
  // up, "waiting" where it goes on trying, else "".
  constructor(endpoint, tell) {
    super(endpoint, tell);
    this.track = null;
    this.before = null;  // the last counts, to tell what happened since
  }

  async prepare(connection) {
    this.before = null;
    const { sender } = connection.addTransceiver(this.track, {
      direction: "sendonly",
      sendEncodings: [{ maxBitrate: MAX_KBPS * 1000 }],
    });
    // Fast hands need pictures more than they need pixels.
    const parameters = { ...sender.getParameters(), degradationPreference: "maintain-framerate" };
    await sender.setParameters(parameters).catch(() => {});
  }

  adapted(answer) {
    // Chromium begins with 0.3 Mbit/s and takes half a minute to what a hand needs; where the way carries less it goes
    // down within a second. Other browsers do not know the word.
    const [head, ...sections] = answer.split(/^(?=m=)/m);
    const hasten = (section) => section.replace(/^a=rtpmap:(\d+) (VP8|VP9|H264|AV1)\/90000\r?\n/gm, (line, type) => (
      section.includes(`a=fmtp:${type} `) ? line : `${line}a=fmtp:${type} x-google-start-bitrate=${START_KBPS}\r\n`
    )).replace(/^(a=fmtp:\d+ (?!apt=|x-google).*?)\r?$/gm, `$1;x-google-start-bitrate=${START_KBPS}\r`);
    return head + sections.map((section) => (section.startsWith("m=video") ? hasten(section) : section)).join("");
  }

  answered() {
    this.tell("Connecting");
  }

  refused(error) {
    if (error.status === 503) this.tell(error.message, "waiting");
    if (!FINAL.includes(error.status)) return false;
    const kinds = { 401: "token", 403: "error", 409: "taken" };
    this.tell(error.message, kinds[error.status] || "error");
    return true;
  }

  get sending() {
    return this.connection?.connectionState === "connected";
  }

  // Send another track in the place of this one.
  async replace(track) {
    this.track = track;
    const [sender] = this.connection ? this.connection.getSenders() : [];
    await sender?.replaceTrack(track);
  }

  // What happened since the last call: {roundTripMs, lost (0..1), fps, width, height, bitrateKbps, limit}; null: not yet.
  async measure() {
    if (!this.sending) return null;
    const { connection } = this;
    const report = [...(await connection.getStats()).values()];
    const out = report.find((each) => each.type === "outbound-rtp" && (each.kind || each.mediaType) === "video");
    if (!out) return null;
    const heard = report.find((each) => each.type === "remote-inbound-rtp");
    const pair = report.find((each) => each.type === "candidate-pair" && each.state === "succeeded" && each.nominated !== false);
    const { before } = this;
    this.before = { at: out.timestamp, frames: out.framesSent ?? out.framesEncoded, bytes: out.bytesSent };
    const seconds = before ? (out.timestamp - before.at) / 1000 : 0;
    if (connection !== this.connection || seconds <= 0) return null;
    const trip = pair?.currentRoundTripTime ?? heard?.roundTripTime;
    return {
      roundTripMs: trip === undefined ? null : trip * 1000,
      lost: heard?.fractionLost ?? null,
      fps: (this.before.frames - before.frames) / seconds,
      width: out.frameWidth,
      height: out.frameHeight,
      bitrateKbps: ((out.bytesSent - before.bytes) * 8) / 1000 / seconds,
      limit: out.qualityLimitationReason || "none",
    };
  }
}

// A connection in plain words: {word: "Good" | "Fair" | "Poor", advice: "" or what to do}.
export function judge({ roundTripMs, lost, fps, limit }) {
  if (lost !== null && lost > 0.05) return { word: "Poor", advice: "Much of your picture gets lost on the way: a cable, or being nearer to the Wi-Fi, helps." };
  if (fps < 12) {
    const why = limit === "cpu" ? "This device is too slow: close other programs." : "Few pictures leave this device: more light, or a better connection, helps.";
    return { word: "Poor", advice: why };
  }
  if (roundTripMs !== null && roundTripMs > 400) return { word: "Poor", advice: "The way to the server is long: your avatar follows late." };
  if (limit === "bandwidth") return { word: "Fair", advice: "The connection carries less than the camera gives: your picture is sent smaller." };
  if (limit === "cpu") return { word: "Fair", advice: "This device is busy: your picture is sent smaller." };
  if (fps < 20 || (lost !== null && lost > 0.01) || (roundTripMs !== null && roundTripMs > 150)) return { word: "Fair", advice: "" };
  return { word: "Good", advice: "" };
}
