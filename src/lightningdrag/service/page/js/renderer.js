// Draws the photo, warped as the drags say, with the mask around it: one pass of WebGL2.

import { MOST_DRAGS } from "./settings.js";

const VERTEX = `#version 300 es
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  gl_Position = vec4(corner * 4.0 - 1.0, 0.0, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
precision highp sampler2D;
uniform sampler2D photo, before, mask, rim;
uniform vec2 size;        // of the photo, in its pixels
uniform vec2 origin;      // of the photo on the canvas, from its top left
uniform float scale;      // canvas pixels to a photo pixel
uniform float height;     // of the canvas
uniform float divide;     // left of this the photo as it was is shown
uniform float dim;        // how dark it is outside the mask
uniform bool masked;
uniform vec4 grid;        // x and y of the first point, spacing
uniform int count;        // of drags; 0 is no warp
uniform vec4 drags[${MOST_DRAGS}];   // target, handle - target
out vec4 colour;

float distanceToRim(vec2 p) {
  ivec2 last = textureSize(rim, 0) - 1;
  vec2 at = clamp((p - grid.xy) / grid.z, vec2(0.0), vec2(last));
  ivec2 cell = min(ivec2(at), max(last - 1, 0));
  vec2 share = at - vec2(cell);
  ivec2 next = min(cell + 1, last);
  float above = mix(texelFetch(rim, cell, 0).r, texelFetch(rim, ivec2(next.x, cell.y), 0).r, share.x);
  float below = mix(texelFetch(rim, ivec2(cell.x, next.y), 0).r, texelFetch(rim, next, 0).r, share.x);
  return mix(above, below, share.y);
}

vec2 displacement(vec2 p) {
  vec2 pull = vec2(0.0);
  float sum = pow(distanceToRim(p), -3.0);
  for (int k = 0; k < count; k++) {
    vec2 away = p - drags[k].xy;
    float near = inversesqrt(max(dot(away, away), 1e-4));
    near *= near * near;
    pull += near * drags[k].zw;
    sum += near;
  }
  return pull / sum;
}

void main() {
  vec2 screen = vec2(gl_FragCoord.x, height - gl_FragCoord.y);
  vec2 p = (screen - origin) / scale - 0.5;
  vec2 uv = (p + 0.5) / size;
  if (any(lessThan(uv, vec2(0.0))) || any(greaterThan(uv, vec2(1.0)))) discard;
  bool was = screen.x < divide;
  float inside = masked ? texture(mask, uv).r : 1.0;
  vec2 d = vec2(0.0);
  if (count > 0 && !was && inside > 0.4) d = displacement(p) * smoothstep(0.4, 0.6, inside);
  vec4 seen = was ? texture(before, uv) : texture(photo, uv + d / size);
  float board = mod(floor(screen.x / 12.0) + floor(screen.y / 12.0), 2.0);
  seen.rgb = mix(vec3(0.5 + 0.1 * board), seen.rgb, seen.a);
  if (masked && !was) {
    float edge = (inside - 0.5) / max(fwidth(inside), 1e-4);
    float grey = dot(seen.rgb, vec3(0.3, 0.59, 0.11));
    seen.rgb = mix(seen.rgb, vec3(grey) * 0.5, dim * clamp(0.5 - edge, 0.0, 1.0));
    float line = clamp(1.6 - abs(edge), 0.0, 1.0) * step(0.02, dim);
    float slant = dFdx(inside) * dFdy(inside) > 0.0 ? 1.0 : -1.0; // across the dashes, never along them
    float dash = step(4.0, mod(screen.x + slant * screen.y, 9.0));
    seen.rgb = mix(seen.rgb, vec3(dash), 0.85 * line);
  }
  colour = vec4(seen.rgb, 1.0);
}`;

const UNITS = { photo: 0, before: 1, mask: 2, rim: 3 };

export class Renderer {
  /** For browsers with WebGL2; plain.js is for those without. */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, preserveDrawingBuffer: true });
    this.gl = gl;
    this.canvas = canvas;
    this.maxSide = Math.min(gl.getParameter(gl.MAX_TEXTURE_SIZE), 4096);
    this.restore();
  }

  /** Make everything anew: at first, and after the browser took the graphics context away. */
  restore() {
    const { gl } = this;
    this.program = linked(gl);
    gl.useProgram(this.program);
    this.uniforms = {};
    for (let k = gl.getProgramParameter(this.program, gl.ACTIVE_UNIFORMS) - 1; k >= 0; k--) {
      const { name } = gl.getActiveUniform(this.program, k);
      this.uniforms[name.replace("[0]", "")] = gl.getUniformLocation(this.program, name);
    }
    this.textures = {};
    this.shown = {};
    this.redrawAll();
    for (const [name, unit] of Object.entries(UNITS)) {
      this.textures[name] = gl.createTexture();
      gl.uniform1i(this.uniforms[name], unit);
      this.#bind(name);
      const wrap = name === "mask" || name === "rim" ? gl.CLAMP_TO_EDGE : gl.MIRRORED_REPEAT;
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, wrap);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, wrap);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, name === "rim" ? gl.NEAREST : gl.LINEAR);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, name === "rim" ? gl.NEAREST : gl.LINEAR);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    }
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  }

  /** The next frame is drawn whole: the canvas was emptied. */
  redrawAll() {
    this.last = null;
  }

  /** The photo to show ("photo") or to compare with ("before"). @param {ImageBitmap} bitmap */
  setImage(name, bitmap) {
    if (this.shown[name] === bitmap) return;
    this.shown[name] = bitmap;
    const { gl } = this;
    this.#bind(name);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    gl.generateMipmap(gl.TEXTURE_2D);
  }

  /** @param {import("./mask.js").Raster | null} mask */
  setMask(mask) {
    if (this.shown.mask === mask) return;
    this.shown.mask = mask;
    if (!mask) return;
    const { gl } = this;
    this.#bind("mask");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, mask.width, mask.height, 0, gl.RED, gl.UNSIGNED_BYTE, mask.data);
  }

  /** @param {object[]} drags @param {{grid: object, distance: Float32Array} | null} rim no warp where it is null */
  setWarp(drags, rim) {
    const { gl, uniforms } = this;
    gl.uniform1i(uniforms.count, rim ? Math.min(drags.length, MOST_DRAGS) : 0);
    if (!rim) {
      this.shown.rim = null;
      return;
    }
    const { grid, distance } = rim;
    const pulls = drags.slice(0, MOST_DRAGS).flatMap(({ handle: [hx, hy], target: [tx, ty] }) => [tx, ty, hx - tx, hy - ty]);
    gl.uniform4fv(uniforms.drags, new Float32Array(pulls));
    gl.uniform4f(uniforms.grid, grid.x, grid.y, grid.step, 0);
    if (this.shown.rim === rim) return;
    this.shown.rim = rim;
    this.#bind("rim");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32F, grid.width, grid.height, 0, gl.RED, gl.FLOAT, distance);
  }

  /**
   * @param {{size: number[], origin: number[], scale: number, divide: number, dim: number}} look
   *     in pixels of the canvas and the photo; divide < 0 compares with nothing
   */
  draw({ size, origin, scale, divide, dim }) {
    const { gl, uniforms, canvas } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    this.#limit({ size, origin, scale, divide, dim });
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(uniforms.size, ...size);
    gl.uniform2f(uniforms.origin, ...origin);
    gl.uniform1f(uniforms.scale, scale);
    gl.uniform1f(uniforms.height, canvas.height);
    gl.uniform1f(uniforms.divide, divide);
    gl.uniform1f(uniforms.dim, dim);
    gl.uniform1i(uniforms.masked, this.shown.mask ? 1 : 0);
    this.#filter(scale);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  clear() {
    this.redrawAll();
    this.gl.disable(this.gl.SCISSOR_TEST);
    this.gl.clearColor(0, 0, 0, 0);
    this.gl.clear(this.gl.COLOR_BUFFER_BIT);
  }

  /** While one pulls, only what the mask held or holds is drawn: machines without a graphics card keep up. */
  #limit(look) {
    const { gl, canvas, last, shown } = this;
    const box = this.#maskBox();
    const view = [...Object.values(look).flat(), shown.photo, shown.before];
    const same = last?.box && box && last.view.every((value, at) => value === view[at]);
    this.last = { box, view };
    if (!same) {
      gl.disable(gl.SCISSOR_TEST);
      return;
    }
    const { origin, scale } = look;
    const low = [0, 1].map((k) => Math.floor(Math.min(box[k], last.box[k]) * scale + origin[k]));
    const high = [0, 1].map((k) => Math.ceil(Math.max(box[k + 2], last.box[k + 2]) * scale + origin[k]));
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(low[0], canvas.height - high[1], high[0] - low[0], high[1] - low[1]);
  }

  /** What holds the mask, its rim and the line around it: x0, y0, x1, y1 in photo pixels; null where nothing is warped. */
  #maskBox() {
    const { mask, rim } = this.shown;
    if (!mask || !rim) return null;
    const { x, y, step, width, height } = rim.grid;
    const room = 3 / mask.scale;
    return [x - room, y - room, x + step * width + room, y + step * height + room];
  }

  /** Far enlarged, single pixels are shown as they are. */
  #filter(scale) {
    const { gl } = this;
    for (const name of ["photo", "before"]) {
      this.#bind(name);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, scale >= 8 ? gl.NEAREST : gl.LINEAR);
    }
  }

  #bind(name) {
    this.gl.activeTexture(this.gl.TEXTURE0 + UNITS[name]);
    this.gl.bindTexture(this.gl.TEXTURE_2D, this.textures[name]);
  }
}

function linked(gl) {
  const program = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(`The shader does not link: ${gl.getProgramInfoLog(program)}`);
  }
  return program;
}
