// Points along the rim of a mask, as warp.rim_anchors takes them from OpenCV's findContours.

// The eight neighbours, counterclockwise on the screen from the right: (dx, dy).
const AROUND = [[1, 0], [1, -1], [0, -1], [-1, -1], [-1, 0], [-1, 1], [0, 1], [1, 1]];

/**
 * Points spread evenly over all borders of a mask, outer ones and holes.
 * @param {{width: number, height: number, data: Uint8Array}} raster 128 and above is inside
 * @param {number} count
 * @returns {Float32Array} x, y, x, y, ... in pixels of the raster; empty if the mask is
 */
export function rimAnchors(raster, count) {
  const rim = borders(raster);
  const length = rim.length / 2;
  if (!length) return new Float32Array(0);
  const anchors = new Float32Array(2 * count);
  for (let k = 0; k < count; k++) {
    const from = 2 * Math.floor((k * length) / count);
    anchors[2 * k] = rim[from];
    anchors[2 * k + 1] = rim[from + 1];
  }
  return anchors;
}

// Border following after Suzuki and Abe (1985), on a copy with an empty frame around it.
function borders({ width, height, data }) {
  const stride = width + 2;
  const labels = new Int8Array(stride * (height + 2)); // 1 inside, 2 seen, -2 seen with the outside on its right
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) labels[(y + 1) * stride + x + 1] = data[y * width + x] >= 128 ? 1 : 0;
  }
  const steps = AROUND.map(([dx, dy]) => dy * stride + dx);
  const rim = [];
  for (let at = stride; at < labels.length - stride; at++) {
    if (labels[at] === 1 && labels[at - 1] === 0) follow(labels, steps, stride, at, 4, rim);
    else if (labels[at] >= 1 && labels[at + 1] === 0) follow(labels, steps, stride, at, 0, rim);
  }
  return rim;
}

function follow(labels, steps, stride, start, outside, rim) {
  const add = (at) => rim.push((at % stride) - 1, Math.floor(at / stride) - 1);
  let towards = outside; // clockwise from the outside to the first neighbour inside
  do towards = (towards + 7) % 8;
  while (towards !== outside && labels[start + steps[towards]] === 0);
  if (towards === outside) {
    labels[start] = -2;
    add(start);
    return;
  }
  const last = start + steps[towards];
  let at = start;
  for (;;) {
    const came = towards;
    let passedRight = false; // counterclockwise from where we came
    do {
      towards = (towards + 1) % 8;
      if (towards === 0 && labels[at + 1] === 0) passedRight = true;
    } while (labels[at + steps[towards]] === 0 && towards !== came);
    if (passedRight) labels[at] = -2;
    else if (labels[at] === 1) labels[at] = 2;
    add(at);
    const next = at + steps[towards];
    if (next === start && at === last) return;
    at = next;
    towards = (towards + 4) % 8;
  }
}
