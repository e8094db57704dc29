// The overlay for OBS and others: the avatar alone, over nothing. The video carries the colour, multiplied by the
// matte, above, and the matte below (broadcast/outgoing/overlay.py); WebGL puts both together.
//
// In the address: size=600 (side in px; else as large as the window), fit=contain|cover, flip=1 (mirrored), key=00b140
// (over a plain colour), sound=1 (the programme's, where there is one).

import { WhepPlayer } from "./whep.js";

const MATTE_RANGE = [24, 231];  // as in broadcast/outgoing/overlay.py
const LOOK_AGAIN_MS = 250;
const FROZEN_AFTER_MS = 4000;

const CORNERS = `
attribute vec2 corner;
void main() { gl_Position = vec4(corner, 0.0, 1.0); }`;

// One pixel of the canvas is one of the video, read at its middle: nothing bleeds from one half into the other, and
// the matte is spread out again before anything is scaled. Scaling is the browser's, which keeps colours multiplied.
const PAINT = `
precision highp float;
uniform sampler2D video;
uniform float side;
uniform vec2 range;
uniform float flip;
uniform vec4 label;
void main() {
  float x = gl_FragCoord.x / side, y = 1.0 - gl_FragCoord.y / side;
  float mirrored = 1.0 - x;
  // Letters stay legible: their place, and the place that mirrors it, are not mirrored.
  float left = min(label.x, 1.0 - label.z), right = max(label.z, 1.0 - label.x);
  bool within = y > label.y && y < label.w
    && ((x > label.x && x < label.z) || (mirrored > label.x && mirrored < label.z));
  if (flip > 0.5 && !within) x = mirrored;
  vec3 colour = texture2D(video, vec2(x, y / 2.0)).rgb;
  // Its first row shares colour samples with the last one of the picture above; grey is read out of all three.
  float row = max(y, 1.5 / side);
  float grey = dot(texture2D(video, vec2(x, 0.5 + row / 2.0)).rgb, vec3(0.299, 0.587, 0.114));
  float matte = clamp((grey - range.x) / (range.y - range.x), 0.0, 1.0);
  gl_FragColor = vec4(min(colour, matte), matte);
}`;

const $ = (id) => document.getElementById(id);

// What the address asks for, and what in it is wrong, in words.
function readAddress(search) {
  const asked = new URLSearchParams(search);
  const wrong = [];
  const get = (name, pattern, example) => {
    const value = asked.get(name);
    if (value === null || pattern.test(value)) return value;
    wrong.push(`${name}=${value} is not understood: write ${name}=${example}`);
    return null;
  };
  const size = get("size", /^0*[1-9]\d{0,3}$/, "600");
  const key = get("key", /^#?([\da-f]{3}|[\da-f]{6})$/i, "00b140");
  const fit = get("fit", /^(contain|cover)$/, "contain or fit=cover") || "contain";
  const flip = get("flip", /^[01]$/, "1") === "1";
  const sound = get("sound", /^[01]$/, "1") === "1";
  return { size: size && Number(size), key: key && `#${key.replace("#", "")}`, fit, flip, sound, wrong };
}

class Painter {
  // Draws the video's pictures on a canvas. Throws where there is no WebGL.
  constructor(canvas, flip) {
    this.canvas = canvas;
    this.flip = flip;
    this.label = null;  // the label's left, top, right, bottom as parts of the side
    this.shown = false;
    this.lost = false;
    this.gl = canvas.getContext("webgl", { alpha: true, premultipliedAlpha: true, antialias: false, depth: false });
    if (!this.gl) throw new Error("no WebGL");
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();  // else it never comes back
      this.lost = true;
    });
    canvas.addEventListener("webglcontextrestored", () => {
      this.lost = false;
      this.build();
    });
    this.build();
  }

  build() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, CORNERS], [gl.FRAGMENT_SHADER, PAINT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`the overlay's shader does not link: ${gl.getProgramInfoLog(program)}`);
    }
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.bindAttribLocation(program, 0, "corner");
    gl.vertexAttribPointer(gl.getAttribLocation(program, "corner"), 2, gl.FLOAT, false, 0, 0);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    for (const way of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, way, gl.NEAREST);
    this.place = (name) => gl.getUniformLocation(program, name);
    gl.uniform2f(this.place("range"), MATTE_RANGE[0] / 255, MATTE_RANGE[1] / 255);
    gl.uniform1f(this.place("flip"), this.flip ? 1 : 0);
    gl.clearColor(0, 0, 0, 0);
  }

  draw(video) {
    const side = video.videoWidth;
    if (this.lost || !side || video.videoHeight !== 2 * side) return;  // a picture of another kind is no overlay
    const { gl, canvas } = this;
    if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
    gl.viewport(0, 0, side, side);
    gl.uniform1f(this.place("side"), side);
    gl.uniform4fv(this.place("label"), this.label || [0, 0, 0, 0]);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, video);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    this.shown = true;
  }

  clear() {
    if (this.shown && !this.lost) this.gl.clear(this.gl.COLOR_BUFFER_BIT);
    this.shown = false;
  }
}

class OverlayPlayer extends WhepPlayer {
  lockedOut() {
    super.lockedOut();
    // Words only while the overlay is being set up: on air, nothing but the avatar is ever shown.
    if (!this.shownOnce) say("This broadcast is private: add #token=... to the overlay's address.");
  }
}

function say(text) {
  $("word").textContent = text;
  $("word").hidden = !text;
}

function start() {
  const asked = readAddress(window.location.search);
  const [canvas, video] = [$("avatar"), $("packed")];
  if (asked.key) document.documentElement.style.background = asked.key;
  canvas.style.objectFit = asked.fit;
  if (asked.size) Object.assign(canvas.style, { width: `${asked.size}px`, height: `${asked.size}px` });
  say(asked.wrong.join(". "));
  let painter;
  try {
    painter = new Painter(canvas, asked.flip);
  } catch (error) {
    console.error(error);
    say("This browser has no WebGL, which the overlay needs. In OBS: Settings, Advanced, turn on browser source hardware acceleration.");
    return;
  }
  const player = new OverlayPlayer([video], {
    endpoint: "whep?picture=overlay",
    tell: () => {},
    blocked: (yes) => say(yes ? "Click to start" : asked.wrong.join(". ")),
    shown: () => {
      player.shownOnce = true;
      painter.draw(video);
    },
    refreshed: () => { painter.label = player.status?.overlay_label || null; },
  });
  player.sound = asked.sound;
  video.muted = !asked.sound;
  let live = () => player.playing;
  if (!("requestVideoFrameCallback" in HTMLVideoElement.prototype)) {
    // Such a browser does not tell of pictures, only that it plays.
    live = () => performance.now() - player.lastFrameMs < FROZEN_AFTER_MS && video.readyState >= 2;
    const step = () => {
      if (live()) painter.draw(video);
      requestAnimationFrame(step);
    };
    step();
  }
  setInterval(() => live() || painter.clear(), LOOK_AGAIN_MS);
  document.addEventListener("click", () => player.play());
  Object.assign(window, { avatarStream: player, painter });  // for whoever wants to look, tests too
  player.start();
}

start();
