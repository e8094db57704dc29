// One WebRTC connection to a WHEP or WHIP endpoint: offer by POST, late candidates by PATCH, goodbye by DELETE; it
// comes back by itself. WhepPlayer (whep.js) watches with it, WhipSender (whip.js) sends with it.

import { knownToken } from "./token.js";

const GATHER_TIMEOUT_MS = 1000;
const ANSWER_TIMEOUT_MS = 6000;
// The first question of an attempt tells whether the server can be reached: asked often, so that the picture is there
// again soon after the network is; now and then with more patience, for networks that are slow.
const ASK_TIMEOUTS_MS = [1500, 1500, 4000];
const LOST_AFTER_MS = 3000;
const BACKOFF_MS = [250, 500, 1000];

// The endpoint's answer is no: `status` is HTTP's, `waitMs` how long it asks us to wait.
export class Refusal extends Error {
  constructor(response, text) {
    super(text.slice(0, 300) || `the server answered ${response.status}`);
    this.status = response.status;
    this.waitMs = 1000 * (Number(response.headers.get("Retry-After")) || 0);
  }
}

// Link headers, `<turn:turn.example.org>; rel="ice-server"; username="a"; credential="b"`, as RTCIceServer objects.
export function iceServersOf(header) {
  const servers = [];
  for (const [, urls, rest] of (header || "").matchAll(/<([^>]+)>((?:\s*;\s*[\w-]+=(?:"(?:[^"\\]|\\.)*"|[^\s;,]+))*)/g)) {
    const parameters = {};
    for (const [, name, quoted, plain] of rest.matchAll(/;\s*([\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,]+))/g)) {
      parameters[name] = quoted === undefined ? plain : quoted.replace(/\\(.)/g, "$1");
    }
    if (parameters.rel !== "ice-server") continue;
    const { username, credential } = parameters;
    servers.push(username === undefined ? { urls } : { urls, username, credential });
  }
  return servers;
}

function gathered(connection) {
  return new Promise((resolve) => {
    const done = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", done);
    setTimeout(resolve, GATHER_TIMEOUT_MS);
    done();
  });
}

export function fragment(sdp, candidates) {
  // application/trickle-ice-sdpfrag (RFC 8840). All sections share one transport, so the first one's id is enough.
  const line = (start) => sdp.split(/\r?\n/).find((each) => each.startsWith(start)) || "";
  const lines = [line("a=ice-ufrag:"), line("a=ice-pwd:"), line("m="), line("a=mid:")];
  return [...lines, ...candidates.map((candidate) => `a=${candidate.candidate}`), ""].join("\r\n");
}

export class Session {
  // `tell(text)` is given what the user should know, "" when all is well.
  constructor(endpoint, tell = () => {}) {
    this.endpoint = endpoint;
    this.tell = tell;
    this.token = knownToken();
    this.connection = null;
    this.resource = null;  // the session's address, for goodbye
    this.attempt = 0;
    this.attemptId = 0;
    this.retryTimer = 0;
  }

  // What a kind of session does itself. `prepare` adds tracks to a new connection; `current()` is false once another
  // attempt has taken its place. `offering` and `adapted` may change the offer's and the answer's SDP. `refused`: true where
  // trying again is of no use; else `words` says what is told until then.
  prepare(connection, current) {}
  offering(sdp) { return sdp; }
  adapted(answer) { return answer; }
  answered() {}
  refused(error) { return false; }
  words(error) { return "Connecting again"; }

  headers(more = {}) {
    return this.token ? { ...more, Authorization: `Bearer ${this.token}` } : more;
  }

  async connect() {
    clearTimeout(this.retryTimer);
    const attemptId = ++this.attemptId;
    const current = () => attemptId === this.attemptId;
    this.hangUp();
    this.tell(this.attempt ? "Connecting again" : "Connecting");
    try {
      const iceServers = await this.askIceServers();
      if (!current()) return;
      const connection = new RTCPeerConnection({ iceServers });
      this.connection = connection;
      await this.prepare(connection, current);
      this.watchConnection(connection, current);
      await this.negotiate(connection, current);
    } catch (error) {
      if (!current()) return;
      console.info("no connection:", error.message);
      if (this.refused(error)) this.hangUp();
      else this.retry(error.waitMs, this.words(error));
    }
  }

  async askIceServers() {
    // Before the offer is made, for browsers gather candidates with what they know then.
    const signal = AbortSignal.timeout(ASK_TIMEOUTS_MS[this.attempt % ASK_TIMEOUTS_MS.length]);
    const response = await fetch(this.endpoint, { method: "OPTIONS", headers: this.headers(), signal });
    return response.ok ? iceServersOf(response.headers.get("Link")) : [];
  }

  watchConnection(connection, current) {
    connection.addEventListener("connectionstatechange", () => {
      if (!current()) return;
      if (["failed", "closed"].includes(connection.connectionState)) this.retry();
      if (connection.connectionState === "disconnected") {
        setTimeout(() => current() && connection.connectionState === "disconnected" && this.retry(), LOST_AFTER_MS);
      }
    });
  }

  watchTransport(connection, current) {
    // A goodbye of the other side ends DTLS at once; the connection as a whole notices only seconds later.
    const [{ sender, receiver } = {}] = connection.getTransceivers();
    const transport = sender?.transport || receiver?.transport;
    transport?.addEventListener("statechange", () => current() && ["closed", "failed"].includes(transport.state) && this.retry());
  }

  async negotiate(connection, current) {
    const late = [];
    let send = (candidate) => late.push(candidate);
    let offered = false;
    connection.addEventListener("icecandidate", ({ candidate }) => offered && candidate && send(candidate));
    const offer = await connection.createOffer();
    await connection.setLocalDescription({ type: "offer", sdp: this.offering(offer.sdp) });
    await gathered(connection);
    const { sdp } = connection.localDescription;
    offered = true;
    const response = await fetch(this.endpoint, {
      method: "POST",
      headers: this.headers({ "Content-Type": "application/sdp" }),
      body: sdp,
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
    if (!response.ok) throw new Refusal(response, await response.text());
    const resource = new URL(response.headers.get("Location"), new URL(this.endpoint, document.baseURI)).href;
    if (!current()) return void this.leave(resource);
    this.resource = resource;
    await connection.setRemoteDescription({ type: "answer", sdp: this.adapted(await response.text()) });
    if (!current()) return;
    this.watchTransport(connection, current);
    const etag = response.headers.get("ETag");
    send = (candidate) => this.trickle(resource, etag, fragment(sdp, [candidate]));
    if (late.length) this.trickle(resource, etag, fragment(sdp, late));
    this.answered();
  }

  trickle(resource, etag, body) {
    const headers = this.headers({ "Content-Type": "application/trickle-ice-sdpfrag", ...(etag && { "If-Match": etag }) });
    return fetch(resource, { method: "PATCH", headers, body }).catch(() => null);
  }

  leave(resource) {
    fetch(resource, { method: "DELETE", headers: this.headers(), keepalive: true }).catch(() => {});
  }

  hangUp() {
    if (this.resource) this.leave(this.resource);
    if (this.connection) this.connection.close();
    this.connection = this.resource = null;
  }

  // No more attempts until the next `connect`.
  stop() {
    clearTimeout(this.retryTimer);
    this.attemptId += 1;
    this.attempt = 0;
    this.hangUp();
  }

  retry(leastMs = 0, text = "Connecting again") {
    this.hangUp();
    clearTimeout(this.retryTimer);
    const wait = Math.max(leastMs, BACKOFF_MS[Math.min(this.attempt, BACKOFF_MS.length - 1)]);
    this.attempt += 1;
    this.attemptId += 1;
    this.tell(text);
    this.retryTimer = setTimeout(() => this.connect(), wait * (0.8 + 0.4 * Math.random()));
  }
}
